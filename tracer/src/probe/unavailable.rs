//! What this kernel offers, and why the rest of it is not available.

use tracer_common::settings::{Control, FIVE_LEVELS, Settings};

use super::{
    Capabilities, HookState, Hooks, Options,
    btf::Btf,
    hooks::{self, Hook, Set},
    kernel,
};
use crate::level::Level;

/// Why nothing is known that lies in memory.
pub(super) const NOT_READABLE: &str = "lockdown=confidentiality: eBPF programs cannot read memory";

/// What only memory tells of a process.
const IN_MEMORY: [&str; 10] = [
    "process.vpid",
    "process.executable",
    "process.args",
    "process.working_directory",
    "tracer.exec.path",
    "tracer.exec.format",
    "tracer.exec.file.name",
    "tracer.exec.tries",
    "tracer.exec_failed.path",
    "tracer.cgroup_path",
];

/// The same of the ledger.
const OF_MEMORY_IN_LEDGER: [&str; 6] = [
    "tracer.ledger.signals",
    "tracer.ledger.fds",
    "tracer.ledger.changed.limits",
    "tracer.ledger.all.signals",
    "tracer.ledger.all.fds",
    "tracer.ledger.all.limits",
];

/// What only the hooks of system calls tell.
const OF_CALLS: [&str; 7] = [
    "tracer.fork.duration_ns",
    "tracer.fork.ns_per_mib",
    RUN_DELAY,
    "tracer.exec.failures",
    "tracer.exec.tries",
    "exec_failed",
    "fork_failed",
];

const RUN_DELAY: &str = "tracer.fork.run_delay_ns";

/// What only `sched_prepare_exec` tells of an exec.
const OF_PREPARE: [&str; 2] = ["tracer.exec.load_ns", "tracer.exec.dropped"];

/// What of the ledger only the state before an exec tells.
const OF_BEFORE: [&str; 3] =
    ["tracer.ledger.signals.reset", "tracer.ledger.fds.closed", "tracer.ledger.by_exec"];

/// What this kernel has of what is asked for.
pub(super) struct Offered {
    pub(super) hooks: &'static [Hook],
    /// Tracepoints that it does not have.
    pub(super) missing: Vec<&'static str>,
    /// False when it forbids programs to read memory by its address.
    pub(super) can_read: bool,
    exit_before_mm: bool,
    has_run_delay: bool,
}

impl Offered {
    pub(super) fn new(btf: &Btf<'_>, settings: &Settings) -> Self {
        let hooks = hooks::hooks(&kernel::release());
        let missing = hooks.iter().map(|hook| hook.name).filter(|name| !btf.has_tracepoint(name)).collect();
        Self {
            hooks,
            missing,
            can_read: settings.can_read != 0,
            exit_before_mm: settings.exit_before_mm != 0,
            has_run_delay: btf.member("task_struct", "sched_info.pcount").is_some(),
        }
    }

    /// Why a program is not wanted that has nothing to do with counting copies; `None` when it is.
    pub(super) fn not_wanted(&self, hook: &Hook, options: &Options) -> Option<&'static str> {
        let is_full = options.hooks == Hooks::Full;
        let has_before = !self.missing.contains(&hooks::BEFORE_EXEC);
        match hook.set {
            Set::Calls if !is_full => Some("only with --hooks full"),
            Set::Cwd if !options.cwd => Some("only with --cwd"),
            Set::Threads if !options.threads => Some("only with --threads"),
            Set::Prepare | Set::LedgerBefore if !has_before => {
                Some("this kernel has no such tracepoint (6.10)")
            }
            Set::Ledger | Set::LedgerBefore | Set::LedgerCalls if !options.ledger => {
                Some("only with --ledger changes or full")
            }
            Set::LedgerCalls if !is_full => Some("only with --hooks full"),
            Set::LedgerCalls if has_before => Some("sched_prepare_exec tells it"),
            _ => None,
        }
    }

    /// What works; `why_not_more` says why the level is lower than it could be, and is empty when it is not.
    pub(super) fn capabilities(
        &self,
        options: &Options,
        control: &Control,
        level: Level,
        why_not_more: &str,
    ) -> Capabilities {
        // The reason itself may be long, and there are many fields.
        let not_at_level = format!("tracer.cow_level is {}", level.name());
        let mut hooks: Vec<HookState> = Vec::new();
        for hook in self.hooks {
            let reason = match hook.set.is_of_faults() {
                true => (!hook.set.is_of(level)).then_some(&*not_at_level),
                false => self.not_wanted(hook, options),
            };
            let reason = reason.map(str::to_owned);
            let state = HookState { name: hook.name, on: reason.is_none(), reason };
            match hooks.iter_mut().find(|other| other.name == hook.name) {
                // Several programs on one tracepoint.
                Some(other) if state.on => *other = state,
                Some(_) => {}
                None => hooks.push(state),
            }
        }
        let mut unavailable = Vec::new();
        if options.hooks == Hooks::Base {
            for field in OF_CALLS {
                unavailable.push((field, "only with --hooks full".to_owned()));
            }
        }
        let is_before = |hook: &&Hook| matches!(hook.set, Set::LedgerBefore | Set::LedgerCalls);
        let tells_before = |hook: &Hook| self.not_wanted(hook, options).is_none();
        if options.ledger && !self.hooks.iter().filter(is_before).any(tells_before) {
            const WHY: &str =
                "this kernel tells the state before an exec only with --hooks full (before 6.10)";
            unavailable.extend(OF_BEFORE.map(|field| (field, WHY.to_owned())));
        }
        if self.missing.contains(&hooks::BEFORE_EXEC) {
            let why = "this kernel does not tell the moment before an exec replaces the memory (before 6.10)";
            unavailable.extend(OF_PREPARE.map(|field| (field, why.to_owned())));
        }
        if !self.exit_before_mm {
            let why = "this kernel gives the memory up before it tells of the end (before 6.16)";
            unavailable.push(("tracer.exit.memory", why.to_owned()));
        }
        if options.hooks == Hooks::Full && !self.has_run_delay {
            unavailable.push((RUN_DELAY, "this kernel does not keep it (CONFIG_SCHED_INFO)".to_owned()));
        }
        if options.ledger && !self.can_read {
            unavailable.extend(OF_MEMORY_IN_LEDGER.map(|field| (field, NOT_READABLE.to_owned())));
        }
        if !self.can_read {
            unavailable.extend(IN_MEMORY.map(|field| (field, NOT_READABLE.to_owned())));
            unavailable.extend(options.env.then(|| ("process.env_vars", NOT_READABLE.to_owned())));
        }
        unavailable.extend(level.unknown().iter().map(|&field| (field, not_at_level.clone())));
        let levels = if control.flags & FIVE_LEVELS != 0 { 5 } else { 4 };
        Capabilities {
            kernel: kernel::release(),
            hooks,
            cow: level,
            why_not_more: Some(why_not_more.to_owned()).filter(|why| !why.is_empty()),
            page_table_levels: level.has_classes().then_some(levels),
            unavailable,
        }
    }
}
