//! The few bpf(2) calls that a measurement needs: empty programs, run times, and nothing of the tracer's.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya_obj::{
    btf::{Btf, BtfKind},
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info, bpf_prog_type, bpf_stats_type},
};

/// What a program has cost so far, while the kernel took the time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

impl Runs {
    /// `None` when it did not run.
    pub(crate) fn ns_per_run(self) -> Option<f64> {
        (self.count > 0).then(|| self.ns as f64 / self.count as f64)
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.count += more.count;
        self.ns += more.ns;
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, ns: self.ns - before.ns }
    }
}

/// An empty program on a tracepoint, for as long as it is held.
pub(crate) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    /// Attaches `return 0` to the tracepoint `hook`, by BTF as the tracer attaches its own.
    pub(crate) fn attach(btf: &Btf, hook: &str) -> Result<Self> {
        let type_id = tracepoint_id(btf, hook)?;
        let program = load_empty(type_id).with_context(|| format!("empty program for {hook}"))?;
        let mut attr = zeroed();
        attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
        let link = bpf_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
            .with_context(|| format!("attaching an empty program to {hook}"))?;
        Ok(Self { program, _link: link })
    }

    pub(crate) fn runs(&self) -> Result<Runs> {
        Ok(info(&self.program)?.0)
    }
}

/// A program of somebody else.
pub(crate) struct Program {
    fd: OwnedFd,
}

impl Program {
    pub(crate) fn open(id: u32) -> Result<Self> {
        let mut attr = zeroed();
        attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
        let fd =
            bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr).with_context(|| format!("program {id}"))?;
        Ok(Self { fd })
    }

    pub(crate) fn runs(&self) -> Result<Runs> {
        Ok(info(&self.fd)?.0)
    }

    /// Its name, of which the kernel keeps 15 characters.
    pub(crate) fn name(&self) -> Result<String> {
        Ok(info(&self.fd)?.1)
    }

    /// The type of the tracepoint it was loaded for (5.19); 0 when there is none.
    pub(crate) fn type_id(&self) -> Result<u32> {
        Ok(info(&self.fd)?.2)
    }
}

/// The type by which a typed program names its tracepoint.
pub(crate) fn tracepoint_id(btf: &Btf, hook: &str) -> Result<u32> {
    btf.id_by_type_name_kind(&format!("btf_trace_{hook}"), BtfKind::Typedef)
        .with_context(|| format!("this kernel has no tracepoint {hook}"))
}

/// Lets the kernel take the time of all programs until the result is dropped, also by a crash (5.8).
pub(crate) fn enable_stats() -> Result<OwnedFd> {
    let mut attr = zeroed();
    attr.enable_stats.type_ = bpf_stats_type::BPF_STATS_RUN_TIME as u32;
    bpf_fd(bpf_cmd::BPF_ENABLE_STATS, &mut attr).context("run times of BPF programs")
}

fn load_empty(type_id: u32) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"GPL";
    /// `r0 = 0` and `exit` (Documentation/bpf/standardization/instruction-set.rst).
    const MOV_R0: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let instruction =
        |code| bpf_insn { code, _bitfield_align_1: [], _bitfield_1: Default::default(), off: 0, imm: 0 };
    let program = [instruction(MOV_R0), instruction(EXIT)];
    let mut attr = zeroed();
    attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    attr.__bindgen_anon_3.expected_attach_type = bpf_attach_type::BPF_TRACE_RAW_TP as u32;
    attr.__bindgen_anon_3.insns = program.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = program.len() as u32;
    attr.__bindgen_anon_3.license = LICENSE.as_ptr() as u64;
    attr.__bindgen_anon_3.attach_btf_id = type_id;
    bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

fn info(program: &OwnedFd) -> Result<(Runs, String, u32)> {
    // SAFETY: plain integers.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of_val(&info) as u32;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).context("what the kernel knows of a program")?;
    let name = info.name.iter().take_while(|&&c| c != 0).map(|&c| char::from(c as u8)).collect();
    Ok((Runs { count: info.run_cnt, ns: info.run_time_ns }, name, info.attach_btf_id))
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers; the kernel wants what is not used to be zero.
    unsafe { std::mem::zeroed() }
}

fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: a descriptor that this command has just made.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` and what it points to outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
