//! What is set up once, at the start, from what was asked for and what the kernel can do.

use std::{fs, path::Path, process};

use tracer_common::state::Fates;

use super::clock;
use crate::{
    config::{self, Target},
    error::{Code, Error},
    filter::{self, Filter},
    lifecycle::{self, EnvMode, LedgerMode},
    pipeline::KernelCounts,
    probe::{self, Capabilities, Hooks, Probe, misc, procfs},
    record::{Calibration, FilterInfo, Hello, Hook, KindCounts, Namespaces, Time},
    replay::Head,
};

/// What to do when `/proc` cannot be read.
pub(super) const MOUNT_PROC: &str = "mount /proc (mount -t proc proc /proc)";

/// Unit of the start times in `/proc` (USER_HZ), the same on every x86_64 kernel.
const CLOCK_TICKS_PER_S: u64 = 100;

/// What the kernel side is asked for.
pub(super) fn options(config: &config::Run) -> probe::Options {
    probe::Options {
        tree: config.target != Target::System,
        names: filter::names(&config.comms),
        hooks: if config.full_hooks { Hooks::Full } else { Hooks::Base },
        cow: config.cow,
        ledger: config.ledger != LedgerMode::Off,
        threads: config.threads,
        env: config.env != EnvMode::Off,
        cwd: config.cwd,
        ring_bytes: config.ring_bytes,
        max_processes: config.max_processes,
    }
}

/// What is written.
pub(super) fn lines(config: &config::Run) -> Filter {
    Filter {
        pids: roots(&config.target),
        comms: config.comms.clone(),
        uids: config.uids.clone(),
        cgroup_ids: config.cgroup_ids.clone(),
    }
}

/// The facts of this run.
pub(super) fn head(config: &config::Run, capabilities: &Capabilities) -> Result<Head, Error> {
    let boot_id = kernel_text("random/boot_id")?;
    let wall_offset_ns = clock::wall_offset_ns();
    let namespaces = first_namespaces();
    let lifecycle = lifecycle::Config {
        boot_id: uuid(&boot_id),
        wall_offset_ns,
        steps: config.events,
        tree: config.target != Target::System,
        max_processes: config.max_processes as usize,
        full_hooks: config.full_hooks,
        cow: capabilities.cow,
        ledger: config.ledger,
        env: config.env,
        cwd: config.cwd,
        misc_interpreters: misc::interpreters(),
        clock_ticks_per_s: CLOCK_TICKS_PER_S,
        self_tgid: process::id(),
        namespaces,
        roots: roots(&config.target),
    };
    let hook =
        |hook: &probe::HookState| (hook.name.to_owned(), Hook { on: hook.on, reason: hook.reason.clone() });
    let field = |(field, reason): &(&'static str, String)| ((*field).to_owned(), reason.clone());
    let levels = capabilities.page_table_levels;
    let hello = Hello {
        time: Time::from_boot(clock::since_boot_ns(), wall_offset_ns),
        hostname: kernel_text("hostname")?,
        kernel: capabilities.kernel.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: kernel_text("random/uuid")?,
        boot_id,
        clock_offset_ns: wall_offset_ns,
        hooks: capabilities.hooks.iter().map(hook).collect(),
        namespaces,
        cow_level: capabilities.cow,
        cow_level_reason: capabilities.why_not_more.clone(),
        calibration: capabilities.cow.has_copies().then(|| Calibration {
            levels: levels.unwrap_or(0),
            walk: levels.is_some(),
            flush: true,
            alloc: capabilities.cow.has_allocations(),
        }),
        unavailable: capabilities.unavailable.iter().map(field).collect(),
        filter: FilterInfo {
            pids: roots(&config.target),
            comms: config.comms.clone(),
            uids: config.uids.clone(),
            cgroups: config.cgroups.clone(),
        },
        compact: config.compact,
        command: match &config.target {
            Target::Command(words) => {
                Some(words.iter().map(|word| word.to_string_lossy().into_owned()).collect())
            }
            _ => None,
        },
    };
    Ok(Head { config: lifecycle, hello })
}

/// Says what is in use, for `-v`.
pub(super) fn tell(capabilities: &Capabilities) {
    let Capabilities { kernel, hooks, cow, unavailable, .. } = capabilities;
    log::info!("kernel {kernel}, copy-on-write counts: {}", cow.name());
    for hook in hooks {
        match &hook.reason {
            None => log::info!("hook {}: on", hook.name),
            Some(reason) => log::info!("hook {}: off: {reason}", hook.name),
        }
    }
    for (field, reason) in unavailable {
        log::info!("not available: {field}: {reason}");
    }
}

/// The counts of the kernel side.
pub(super) fn kernel_counts(probe: &Probe) -> KernelCounts {
    let records = probe.stats().records.map(|Fates { seen, submitted, ring_full }| KindCounts {
        seen,
        submitted,
        ring_full,
    });
    KernelCounts { records, recursion_misses: probe.recursion_misses(), skipped: probe.skipped().collect() }
}

/// Says why nothing can be traced, and what to do about it.
pub(super) fn failed(error: probe::Error) -> Error {
    use probe::Error as E;
    let (code, remedy) = match &error {
        E::NoObject => (Code::Unsupported, "build it with 'cargo xtask build'"),
        E::Privilege(_) => {
            (Code::NoPrivilege, "run it as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE")
        }
        E::NoBtf { .. } => (
            Code::Unsupported,
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, 5.10 or newer, with /sys mounted",
        ),
        E::Lockdown => (Code::Unsupported, "use a kernel from 5.15, or boot with lockdown=integrity"),
        E::Btf(_) | E::NoField { .. } => {
            (Code::Unsupported, "use a newer tracer, or a kernel that it supports (5.10 to 7.x)")
        }
        E::NoHook { .. } | E::Load(_) => {
            (Code::Unsupported, "use a kernel from 5.10 to 7.x for x86_64; -vv shows the kernel's own words")
        }
    };
    Error::new(code, "trace the kernel", &error, remedy)
}

/// The processes to follow, if they are named by their pids.
pub(super) fn roots(target: &Target) -> Vec<u32> {
    match target {
        Target::Pids(pids) => pids.clone(),
        Target::System | Target::Command(_) => Vec::new(),
    }
}

/// Those of the first process; where they must not be read, our own: in a container without the right to trace
/// processes outside of it, those are the usual ones, too.
fn first_namespaces() -> Namespaces {
    let mut first = procfs::namespaces(1);
    for (first, own) in first.iter_mut().zip(procfs::namespaces(process::id())) {
        if *first == 0 {
            *first = own;
        }
    }
    Namespaces(first)
}

/// A line that the kernel shows below `/proc/sys/kernel`.
fn kernel_text(name: &str) -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel").join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(Error::io(format!("read {}", path.display()), &error, MOUNT_PROC)),
    }
}

/// The bytes of a UUID written in hexadecimal; what is no digit is skipped.
fn uuid(text: &str) -> [u8; 16] {
    let mut digits = text.chars().filter_map(|c| c.to_digit(16));
    std::array::from_fn(|_| {
        let mut digit = || digits.next().unwrap_or(0) as u8;
        digit() << 4 | digit()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_sixteen_bytes() {
        let bytes = uuid("00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(bytes, std::array::from_fn(|i| i as u8 * 0x11));
        assert_eq!(uuid("ff"), [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn each_failure_has_its_status() {
        assert_eq!(failed(probe::Error::NoObject).code, Code::Unsupported);
        assert_eq!(failed(probe::Error::Privilege("EPERM".into())).code, Code::NoPrivilege);
        let hook = probe::Error::NoHook {
            hook: "task_newtask",
            reason: "this kernel has no such tracepoint".into(),
        };
        let hook = failed(hook);
        assert_eq!(hook.code, Code::Unsupported);
        assert!(hook.to_string().contains("task_newtask"), "{hook}");
        let line = failed(probe::Error::Load("BTF\nis\nold".into())).to_string();
        assert_eq!(line.lines().count(), 1);
    }
}
