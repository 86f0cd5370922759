//! What fork hands on and exec keeps or resets: ids, nice, umask, signals, descriptors, limits, and the sizes of what
//! is in the memory.

use tracer_common::{
    event::TAIL_BYTES,
    ledger::{
        FD_WORDS, FDS, Facts, KNOWS_FDS, KNOWS_LIMITS, KNOWS_MEMORY, KNOWS_SIGNALS, LIMITS, Limit, SIGNALS,
    },
};

use super::{Pointer, Task, copy_kernel, offset};

/// `struct k_sigaction` of x86_64 (include/linux/signal_types.h).
#[repr(C)]
pub(crate) struct SigAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
/// Position of SIGCHLD among the handlers.
const CHLD: u32 = 16;

/// All handlers.
pub(crate) type Actions = [SigAction; SIGNALS];
const _: () = assert!(size_of::<Actions>() <= TAIL_BYTES);

impl<P: Pointer> Task<P> {
    /// Writes all of `to`; `actions` is room for the handlers.
    ///
    /// # Safety
    /// Both are memory of ours that nothing else uses at the moment.
    #[inline(always)]
    pub(crate) unsafe fn facts(self, to: *mut Facts, actions: *mut Actions) {
        let cred = self.follow(offset!(task_cred));
        // SAFETY: the caller's.
        unsafe {
            (*to).uid = cred.read(offset!(cred_uid));
            (*to).gid = cred.read(offset!(cred_gid));
            (*to).euid = cred.read(offset!(cred_euid));
            (*to).egid = cred.read(offset!(cred_egid));
            (*to).static_prio = self.0.read(offset!(task_static_prio));
            (*to).umask = self.follow(offset!(task_fs)).read(offset!(fs_umask));
            (*to).blocked = self.0.read(offset!(task_blocked));
            let mut known = 0;
            if self.limits(to) {
                known |= KNOWS_LIMITS;
            }
            if self.signals(to, actions) {
                known |= KNOWS_SIGNALS;
            }
            if self.descriptors(to) {
                known |= KNOWS_FDS;
            }
            if self.memory(to) {
                known |= KNOWS_MEMORY;
            }
            (*to).known = known;
        }
    }

    /// These return `false` when it cannot be read.
    ///
    /// # Safety
    /// As of [`Self::facts`], here and below.
    #[inline(always)]
    unsafe fn limits(self, to: *mut Facts) -> bool {
        const BYTES: u32 = (LIMITS * size_of::<Limit>()) as u32;
        let signal = self.follow(offset!(task_signal));
        // SAFETY: the caller's.
        unsafe {
            let from = signal.number(&raw mut (*to).text_bytes) + u64::from(offset!(signal_limits));
            copy_kernel(&raw mut (*to).limits, BYTES, from)
        }
    }

    #[inline(always)]
    unsafe fn signals(self, to: *mut Facts, actions: *mut Actions) -> bool {
        let handlers = self.follow(offset!(task_sighand));
        // SAFETY: the caller's. Masks are kept in memory, about which the verifier knows nothing: so it follows each
        // turn of the loop once.
        unsafe {
            let ignored = &raw mut (*to).ignored;
            let caught = &raw mut (*to).caught;
            let from = handlers.number(ignored) + u64::from(offset!(sighand_action));
            ignored.write_volatile(0);
            caught.write_volatile(0);
            // Where the handler of SIGCHLD is says that the elements have the size that is assumed.
            if offset!(sighand_child_handler)
                != offset!(sighand_action) + CHLD * size_of::<SigAction>() as u32
                || !copy_kernel(actions, size_of::<Actions>() as u32, from)
            {
                return false;
            }
            let mut signal = 0;
            while signal < SIGNALS {
                let handler = (&raw const (*actions.cast::<SigAction>().add(signal)).handler).read_volatile();
                if handler != SIG_DFL {
                    let mask = if handler == SIG_IGN { ignored } else { caught };
                    mask.write_volatile(mask.read_volatile() | 1 << signal);
                }
                signal += 1;
            }
        }
        true
    }

    #[inline(always)]
    unsafe fn descriptors(self, to: *mut Facts) -> bool {
        let files = self.follow(offset!(task_files));
        if files.address() == 0 {
            return false;
        }
        let table = files.follow(offset!(files_table));
        if table.address() == 0 {
            return false;
        }
        let max_fds: u32 = table.read(offset!(table_max_fds));
        // The table has room for whole words.
        let bytes = if max_fds > FDS { FDS / 8 } else { max_fds / 64 * 8 };
        // SAFETY: the caller's.
        unsafe {
            (*to).max_fds = max_fds;
            (*to).open = [0; FD_WORDS];
            (*to).cloexec = [0; FD_WORDS];
            copy_kernel(&raw mut (*to).open, bytes, table.read(offset!(table_open)))
                && copy_kernel(&raw mut (*to).cloexec, bytes, table.read(offset!(table_cloexec)))
        }
    }

    #[inline(always)]
    unsafe fn memory(self, to: *mut Facts) -> bool {
        let bytes = |(start, end): (u64, u64)| end.saturating_sub(start);
        let mm = self.mm();
        // SAFETY: the caller's.
        unsafe {
            let Some(mm) = mm else {
                (*to).text_bytes = 0;
                (*to).data_bytes = 0;
                (*to).args_bytes = 0;
                (*to).environment_bytes = 0;
                return false;
            };
            (*to).text_bytes = bytes(mm.text());
            (*to).data_bytes = bytes(mm.data());
            (*to).args_bytes = bytes(mm.args());
            (*to).environment_bytes = bytes(mm.environment());
        }
        true
    }
}
