//! What the running kernel has: its release, its types, and from them the constants of the programs.

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use tracer_common::{
    constant::CONSTANTS,
    names::Names,
    offsets::{MISSING, OFFSETS, SOURCES},
    settings::Settings,
};

use super::{Error, Hooks, Options, btf::Btf, hooks, patch::Cast, unavailable::NOT_READABLE};

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Offsets that some supported kernels do not have, or leave out by their configuration; the programs do without them.
const OPTIONAL: [&str; 11] = [
    "mm_global_asid",
    "nsproxy_time",
    "time_ns_inode",
    "signal_tty",
    "cred_ucounts",
    "ucounts_processes",
    "user_processes",
    "pids_counter",
    "pids_limit",
    "task_runs",
    "task_run_delay",
];

/// Bytes of a kernel stack on x86_64 (THREAD_SIZE, without KASAN).
const STACK_BYTES: u32 = 16 << 10;

/// Bytes of the ring that may fill before the reader is woken.
const WATERMARK_BYTES: u32 = 64 << 10;

/// The kernel's type information as bytes.
pub(super) fn read_btf() -> Result<Vec<u8>, Error> {
    std::fs::read(BTF_PATH).map_err(|source| Error::NoBtf { path: BTF_PATH, source })
}

/// The offset of each field that the programs read.
pub(super) fn offsets(btf: &Btf<'_>) -> Result<[u32; OFFSETS], Error> {
    let mut offsets = [MISSING; OFFSETS];
    for (offset, (name, of, members)) in offsets.iter_mut().zip(SOURCES) {
        let found = if members.is_empty() {
            btf.size(of)
        } else {
            members.split('|').find_map(|member| match member.strip_suffix(":bit") {
                Some(field) => btf.bit(of, field),
                None => btf.member(of, member),
            })
        };
        match found {
            Some(found) => *offset = found,
            None if OPTIONAL.contains(&name) => {}
            None => return Err(Error::NoField { of, member: members }),
        }
    }
    Ok(offsets)
}

/// The settings for this kernel.
pub(super) fn settings(
    btf: &Btf<'_>,
    options: &Options,
    names: &Names,
    slots: u32,
    cast: Option<Cast>,
) -> Settings {
    let has = |helper| btf.enumerator("bpf_func_id", helper).is_some();
    Settings {
        tree: u32::from(options.tree),
        typed_current: u32::from(has("BPF_FUNC_get_current_task_btf") && has("BPF_FUNC_task_pt_regs")),
        stack_bytes: STACK_BYTES,
        watermark_bytes: WATERMARK_BYTES,
        // The change that moved the tracepoint before exit_mm() also gave it `group_dead` (kernel/exit.c).
        exit_before_mm: u32::from(btf.tracepoint_arguments("sched_process_exit") == Some(2)),
        self_tgid: std::process::id(),
        can_read: u32::from(can_read()),
        typed_rss: u32::from(btf.member("mm_struct", "rss_stat[0].count").is_some()),
        slot_mask: slots - 1,
        cast_type: cast.map_or(0, |cast| cast.of),
        task_type: cast.map_or(0, |cast| cast.task),
        pids_controller: btf
            .member("pids_cgroup", "limit")
            .and_then(|_| btf.enumerator("cgroup_subsys_id", "pids_cgrp_id"))
            .unwrap_or(MISSING),
        env: u32::from(options.env),
        threads: u32::from(options.cow.has_classes() || options.hooks == Hooks::Full),
        names: names.count(),
    }
}

/// The names that the kernel side tells processes apart by: those asked for, if it can see all of them.
pub(super) fn names(options: &Options) -> Names {
    if options.tree || options.names == Names::NONE {
        return Names::NONE;
    }
    let can_see = match can_read() {
        true => hooks::check_rename(&release()),
        false => Err(NOT_READABLE.to_owned()),
    };
    match can_see {
        Ok(()) => options.names,
        Err(why) => {
            log::info!("--comm is applied in user space only: {why}");
            Names::NONE
        }
    }
}

/// All constants, in the order of [`Constants`](tracer_common::constant::Constants).
pub(super) fn constants(offsets: &[u32; OFFSETS], settings: &Settings) -> [u32; CONSTANTS] {
    let mut constants = [0; CONSTANTS];
    let (of_offsets, of_settings) = constants.split_at_mut(OFFSETS);
    of_offsets.copy_from_slice(offsets);
    for (to, from) in of_settings.iter_mut().zip(tracer_common::bytes(settings).as_chunks().0) {
        *to = u32::from_ne_bytes(*from);
    }
    constants
}

/// False under lockdown=confidentiality (`bpf_tracing_func_proto()` in kernel/trace/bpf_trace.c): the kernel's memory
/// must not be read. That of processes may, but aya then puts older helpers in the place of those for it, which must
/// not be used either. A kernel that does not let us ask will say more when the programs are loaded.
pub(super) fn can_read() -> bool {
    is_helper_supported(ProgramType::RawTracePoint, BpfHelper::BPF_FUNC_probe_read_kernel).unwrap_or(true)
}

/// `uname -r`.
pub(super) fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |release| release.trim_end().to_owned())
}
