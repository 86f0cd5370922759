//! Typed reads of kernel objects: the only pointer arithmetic on them.
//!
//! The offsets come from the running kernel's BTF ([`tracer_common::offsets`]); the verifier checks each
//! typed load against the same BTF, so a wrong one fails to load instead of reading garbage.

mod ledger;
mod mm;
mod place;
mod task;

use core::{arch::asm, hint::assert_unchecked};

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, bpf_probe_read_user, generated},
    programs::BtfTracePointContext,
};
use tracer_common::{
    constant::placeholder,
    names::{MOST, Name, Names, Words},
    settings::{CAST_CALL, Control},
};

pub(crate) use self::{
    mm::Mm,
    task::{CpuTime, Regs, Signal, Task},
};

/// Filled in by the daemon before the load.
#[unsafe(no_mangle)]
pub(crate) static NAMES: Names = Names::NONE;

/// Written by the daemon, at any time.
#[unsafe(no_mangle)]
pub(crate) static mut CONTROL: Control =
    Control { page_offset: 0, vmemmap: 0, zero_pfn: 0, flags: 0, adopt: 0, regs_offset: 0, dirty: 0 };

/// The constant at this byte of [`Constants`](tracer_common::constant::Constants).
#[inline(always)]
pub(crate) fn constant<const BYTE: usize>() -> u32 {
    let value: u64;
    // SAFETY: a load of a constant, which the daemon makes one of 32 bits.
    unsafe {
        asm!(
            "{value} = {placeholder} ll",
            value = lateout(reg) value,
            placeholder = const placeholder(BYTE),
            options(pure, nomem, nostack),
        );
        assert_unchecked(value <= u32::MAX as u64);
    }
    value as u32
}

/// An offset by its name.
macro_rules! offset {
    ($field:ident) => {
        crate::kernel::constant::<
            { core::mem::offset_of!(tracer_common::constant::Constants, offsets.$field) },
        >()
    };
}

/// A setting by its name.
macro_rules! setting {
    ($field:ident) => {
        crate::kernel::constant::<
            { core::mem::offset_of!(tracer_common::constant::Constants, settings.$field) },
        >()
    };
}

/// A field of [`CONTROL`].
macro_rules! control {
    ($field:ident) => {{
        // SAFETY: an initialised integer; volatile, as it changes.
        unsafe { (&raw const crate::kernel::CONTROL.$field).read_volatile() }
    }};
}
pub(crate) use {control, offset, setting};

/// True when a process of this name may be asked for.
#[inline(always)]
pub(crate) fn is_wanted(name: Words) -> bool {
    for number in 0..MOST {
        if number as u32 >= setting!(names) {
            break;
        }
        // SAFETY: an element of an initialised static. Volatile, as in `constant`.
        if unsafe { (&raw const NAMES.all).cast::<Name>().add(number).read_volatile() }.may_be(name) {
            return true;
        }
    }
    false
}

/// Reads the kernel's memory at an address that the verifier knows nothing of; `None` when that failed, or is
/// forbidden.
#[inline(always)]
pub(crate) fn read_kernel<T>(address: u64) -> Option<T> {
    if setting!(can_read) == 0 {
        return None;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Copies `bytes` bytes of the kernel's memory as [`read_kernel`] reads it; `false` when that failed, or is forbidden.
///
/// # Safety
/// `to` has room for them.
#[inline(always)]
pub(crate) unsafe fn copy_kernel<T>(to: *mut T, bytes: u32, address: u64) -> bool {
    // SAFETY: the caller's; the helper checks the address.
    setting!(can_read) != 0
        && unsafe { generated::bpf_probe_read_kernel(to.cast(), bytes, address as *const _) } == 0
}

/// Reads a word of the kernel's memory as [`read_kernel`] does, but much cheaper where the kernel can cast. There, 0 is
/// read where nothing is mapped.
#[inline(always)]
pub(crate) fn read_word(address: u64) -> Option<u64> {
    let cast_type = setting!(cast_type);
    if cast_type == 0 {
        return read_kernel(address);
    }
    let word = cast(address, cast_type).cast::<u64>();
    // SAFETY: the kernel makes a fault in it read 0.
    Some(unsafe { word.read_volatile() })
}

/// The address as a pointer to the type of this id in the kernel's BTF. What it points to may be gone, for all that the
/// verifier knows: a fault reads 0.
#[inline(always)]
fn cast(address: u64, type_id: u32) -> *const u8 {
    let pointer: *const u8;
    // SAFETY: the arguments and the result are those of `bpf_rdonly_cast`, which clobbers as any call does.
    unsafe {
        asm!(
            ".8byte {call}",
            call = const CAST_CALL,
            out("r0") pointer,
            inlateout("r1") address => _,
            inlateout("r2") u64::from(type_id) => _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
            options(nomem, nostack),
        );
    }
    pointer
}

/// Reads the current process's memory; `None` when that failed, or is forbidden.
#[inline(always)]
pub(crate) fn read_user<T>(address: u64) -> Option<T> {
    if setting!(can_read) == 0 {
        return None;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// How the memory behind a kernel pointer is read.
pub(crate) trait Pointer: Copy {
    /// Reads the `T` at `offset`.
    fn read<T: Copy + Default>(self, offset: u32) -> T;
    /// The pointer found at `offset`.
    fn follow(self, offset: u32) -> Self;
    /// The address, for comparison.
    fn address(self) -> u64;
    /// The same pointer as one to the type of this id in the kernel's BTF, which the verifier does not trust.
    fn untrusted(self, type_id: u32) -> Self;
    /// The address as a number. The verifier forbids most arithmetic on a typed pointer; one that was
    /// written to memory of ours (a map's or a record's) and is read back is a number to it.
    #[inline(always)]
    fn number(self, through: *mut u64) -> u64 {
        // SAFETY: the caller's memory, which nothing else uses at the moment.
        unsafe {
            through.write_volatile(self.address());
            through.read_volatile()
        }
    }
}

/// A pointer whose type the verifier knows: argument of a tp_btf program, or reached from one.
#[derive(Clone, Copy)]
pub(crate) struct Typed(*const u8);

impl Pointer for Typed {
    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u32) -> T {
        // SAFETY: the verifier accepts the load only where the kernel's BTF has such a field; the
        // kernel makes a fault in it read 0.
        unsafe { self.0.add(offset as usize).cast::<T>().read_volatile() }
    }
    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        // SAFETY: as in `read`.
        Self(unsafe { self.0.add(offset as usize).cast::<*const u8>().read_volatile() })
    }
    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }
    #[inline(always)]
    fn untrusted(self, type_id: u32) -> Self {
        Self(cast(self.address(), type_id))
    }
}

/// A pointer reached from the current task: typed on kernels that have the helpers for it, else read
/// through `bpf_probe_read_kernel`. The verifier sees only one of the two.
#[derive(Clone, Copy)]
pub(crate) struct Reached(*const u8);

impl Pointer for Reached {
    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u32) -> T {
        if setting!(typed_current) != 0 {
            return Typed(self.0).read(offset);
        }
        read_kernel(self.0 as u64 + u64::from(offset)).unwrap_or_default()
    }
    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        if setting!(typed_current) != 0 {
            return Self(Typed(self.0).follow(offset).0);
        }
        Self(self.read::<u64>(offset) as *const u8)
    }
    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }
    #[inline(always)]
    fn untrusted(self, type_id: u32) -> Self {
        Self(cast(self.address(), type_id))
    }
}

/// Argument `n` of a tp_btf program, as a pointer.
#[inline(always)]
pub(crate) fn argument(ctx: &BtfTracePointContext, n: usize) -> Typed {
    Typed(ctx.arg(n))
}

/// Argument `n` of a tp_btf program, as a task.
#[inline(always)]
pub(crate) fn task_argument(ctx: &BtfTracePointContext, n: usize) -> Task<Typed> {
    Task(Typed(ctx.arg(n)))
}

/// Tgid and tid of the thread that runs the program.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}
