//! Loads the object and attaches its programs.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
};

use aya::{
    Btf as KernelBtf, Ebpf, EbpfLoader,
    maps::Map,
    programs::{
        BtfTracePoint, Program, ProgramError, ProgramInfo, TracePoint, links::FdLink,
        trace_point::TracePointLink,
    },
};
use aya_log::EbpfLogger;
use tracer_common::{
    settings::{Control, FIVE_LEVELS},
    slot,
};

use crate::level::Level;

use super::{
    Capabilities, Error, HookState, Hooks, Options,
    btf::Btf,
    cast::{self, Cast},
    hooks::{self, Hook, How, Set},
    kernel, maps,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer.bpf.o"));

/// An attached program; dropping it detaches it.
enum Link {
    #[expect(dead_code, reason = "held to stay attached")]
    Typed(FdLink),
    #[expect(dead_code, reason = "held to stay attached")]
    Format(TracePointLink),
}

/// The object, with what is attached of it.
pub(super) struct Loaded {
    ebpf: Ebpf,
    /// Until all programs are loaded: it is large.
    kernel_btf: Option<KernelBtf>,
    hooks: &'static [Hook],
    /// By program.
    links: HashMap<&'static str, Link>,
    missing: Vec<&'static str>,
    can_read: bool,
    exit_before_mm: bool,
    has_run_delay: bool,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

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

/// How EPERM reads; EACCES is the verifier's.
const NOT_PERMITTED: &str = "(os error 1)";

fn load_error(e: impl std::error::Error) -> Error {
    let text = chain(&e);
    if text.contains(NOT_PERMITTED) {
        return Error::Privilege(text);
    }
    Error::Load(text)
}

/// An error and what caused it, in one line, without the verifier's log.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = e.source();
    }
    log::debug!("{text}");
    let end = text.find('\n').into_iter().chain(text.find(" Verifier output")).min();
    text.truncate(end.unwrap_or(text.len()));
    text.trim_end_matches('.').to_owned()
}

impl Loaded {
    /// Makes the maps and fills in the constants; no program is in the kernel yet.
    pub(super) fn new(btf: &Btf<'_>, options: &Options) -> Result<Self, Error> {
        if OBJECT.is_empty() {
            return Err(Error::NoObject);
        }
        let offsets = kernel::offsets(btf)?;
        let slots = slot::slots(options.max_processes);
        let overflow = slot::overflow(options.max_processes);
        let cast = Cast::of_kernel(btf);
        let settings = kernel::settings(btf, options, slots, cast);
        if settings.typed_current == 0 && settings.can_read == 0 {
            return Err(Error::Lockdown);
        }
        let mut loader = EbpfLoader::new();
        loader
            .override_global("OFFSETS", offsets.as_slice(), true)
            .override_global("SETTINGS", tracer_common::bytes(&settings), true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("PROCESSES", slots)
            .map_max_entries("PROCESS_OVERFLOW", overflow)
            .map_max_entries("THREADS", slots)
            .map_max_entries("THREAD_OVERFLOW", overflow)
            .map_max_entries("STATS", maps::possible_cpus());
        let mut ebpf = loader.load(&cast::patched(OBJECT, cast)).map_err(load_error)?;
        let log = EbpfLogger::init(&mut ebpf)
            .inspect_err(|e| log::debug!("the eBPF programs cannot log: {e}"))
            .ok();
        let hooks = hooks::hooks(&kernel::release());
        let kernel_btf = KernelBtf::from_sys_fs().map_err(load_error)?;
        let missing = hooks.iter().map(|hook| hook.name).filter(|name| !btf.has_tracepoint(name)).collect();
        Ok(Self {
            ebpf,
            kernel_btf: Some(kernel_btf),
            hooks,
            links: HashMap::new(),
            missing,
            can_read: settings.can_read != 0,
            exit_before_mm: settings.exit_before_mm != 0,
            has_run_delay: btf.member("task_struct", "sched_info.pcount").is_some(),
            log,
        })
    }

    /// Has the kernel verify the programs that will be attached, side by side: most of a start is this. One that is
    /// refused says why when it is attached.
    pub(super) fn load_all(&mut self, options: &Options) {
        let wanted: Vec<_> = self
            .hooks
            .iter()
            .filter(|hook| match hook.set.is_of_faults() {
                true => self.can_read && hook.set.is_of(options.cow),
                false => self.not_wanted(hook, options).is_none(),
            })
            .collect();
        let (missing, kernel_btf) = (&self.missing, self.kernel_btf.as_ref());
        let mut programs: HashMap<_, _> = self.ebpf.programs_mut().collect();
        thread::scope(|scope| {
            for hook in wanted.into_iter().filter(|hook| !missing.contains(&hook.name)) {
                let program = programs.remove(hook.program);
                scope.spawn(move || match program {
                    Some(Program::BtfTracePoint(program)) => load_typed(program, hook.name, kernel_btf),
                    Some(Program::TracePoint(program)) => load_format(program),
                    _ => Ok(()),
                });
            }
        });
    }

    /// False when the kernel forbids programs to read memory by its address.
    pub(super) fn can_read(&self) -> bool {
        self.can_read
    }

    pub(super) fn take_map(&mut self, name: &'static str) -> Result<Map, Error> {
        self.ebpf.take_map(name).ok_or_else(|| Error::Load(format!("map {name} is not in the object")))
    }

    /// Loads and attaches a program to a tracepoint.
    pub(super) fn attach(&mut self, name: &'static str, tracepoint: &str) -> Result<(), String> {
        if self.missing.contains(&tracepoint) {
            return Err(format!("this kernel has no tracepoint {tracepoint}"));
        }
        let program: &mut BtfTracePoint =
            program(&mut self.ebpf, name)?.try_into().map_err(|e: ProgramError| e.to_string())?;
        load_typed(program, tracepoint, self.kernel_btf.as_ref()).map_err(|e| load_failed(&e))?;
        let link = program.attach().map_err(|e| chain(&e))?;
        let link = program.take_link(link).map_err(|e| chain(&e))?;
        log::debug!("{name}: attached, {} instructions verified", verified(program.info()));
        self.links.insert(name, Link::Typed(link.into()));
        Ok(())
    }

    /// Attaches a program to a tracepoint as perf does, after a look at the tracepoint's record.
    fn attach_format(&mut self, hook: &Hook, category: &str, fields: &[&str]) -> Result<(), String> {
        hooks::check_format(category, hook.name, fields)?;
        let program: &mut TracePoint =
            program(&mut self.ebpf, hook.program)?.try_into().map_err(|e: ProgramError| e.to_string())?;
        load_format(program).map_err(|e| load_failed(&e))?;
        let link = program.attach(category, hook.name).map_err(|e| chain(&e))?;
        let link = program.take_link(link).map_err(|e| chain(&e))?;
        log::debug!("{}: attached, {} instructions verified", hook.program, verified(program.info()));
        self.links.insert(hook.program, Link::Format(link));
        Ok(())
    }

    /// Unhooks a program. It stays loaded, so that its counts can still be read.
    pub(super) fn detach(&mut self, program: &str) {
        self.links.remove(program);
    }

    fn attach_hook(&mut self, hook: &Hook) -> Result<(), String> {
        match hook.how {
            How::Typed => self.attach(hook.program, hook.name),
            How::Format { category, fields } => self.attach_format(hook, category, fields),
        }
    }

    /// Why a program is not wanted that has nothing to do with counting copies; `None` when it is.
    fn not_wanted(&self, hook: &Hook, options: &Options) -> Option<&'static str> {
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

    /// Attaches what is not for counting copies.
    pub(super) fn attach_lifecycle(&mut self, options: &Options) -> Result<(), Error> {
        for hook in self.hooks {
            if !hook.set.is_of_faults() && self.not_wanted(hook, options).is_none() {
                self.attach_hook(hook).map_err(|reason| {
                    if reason.contains(NOT_PERMITTED) {
                        Error::Privilege(reason)
                    } else {
                        Error::NoHook { hook: hook.name, reason }
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Gives back the memory that only loading needed. From here on no program can be loaded.
    pub(super) fn shrink(&mut self) {
        self.kernel_btf = None;
        #[cfg(target_env = "gnu")]
        // SAFETY: no arguments of consequence, no failure.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// Attaches what counts copies at this level. All of it or nothing.
    pub(super) fn attach_faults(&mut self, level: Level) -> Result<(), String> {
        for hook in self.hooks.iter().filter(|hook| hook.set.is_of(level)) {
            self.attach_hook(hook).map_err(|e| format!("{}: {e}", hook.name))?;
        }
        Ok(())
    }

    pub(super) fn detach_faults(&mut self) {
        self.detach_set(Set::is_of_faults);
    }

    pub(super) fn detach_lifecycle(&mut self) {
        self.detach_set(|set| !set.is_of_faults());
    }

    /// Unhooks in the reverse order of attachment.
    fn detach_set(&mut self, set: impl Fn(Set) -> bool) {
        for hook in self.hooks.iter().rev().filter(|hook| set(hook.set)) {
            self.detach(hook.program);
        }
    }

    /// Hands what the programs logged to the `log` crate.
    pub(super) fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Runs that the kernel skipped (5.12), for each program in use.
    pub(super) fn misses(&self) -> impl Iterator<Item = (&'static Hook, u64)> {
        let fd = |name| match self.ebpf.program(name)? {
            Program::BtfTracePoint(program) => program.fd().ok(),
            Program::TracePoint(program) => program.fd().ok(),
            _ => None,
        };
        self.hooks.iter().filter_map(move |hook| {
            let fd = fd(hook.program)?;
            Some((hook, recursion_misses(fd.as_fd().as_raw_fd())))
        })
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

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, String> {
    ebpf.program_mut(name).ok_or_else(|| format!("program {name} is not in the object"))
}

/// Gives a program to the kernel, if that has not been done.
fn load_typed(
    program: &mut BtfTracePoint,
    tracepoint: &str,
    btf: Option<&KernelBtf>,
) -> Result<(), ProgramError> {
    match btf {
        Some(btf) if program.fd().is_err() => program.load(tracepoint, btf),
        _ => Ok(()),
    }
}

/// The same.
fn load_format(program: &mut TracePoint) -> Result<(), ProgramError> {
    if program.fd().is_ok() { Ok(()) } else { program.load() }
}

/// Why a program was refused; what the verifier said goes to the log.
fn load_failed(e: &ProgramError) -> String {
    if let ProgramError::LoadError { verifier_log, .. } = e {
        log::debug!("{verifier_log}");
    }
    chain(e)
}

/// Instructions that the verifier went through (5.16); 0 before.
fn verified(info: Result<ProgramInfo, ProgramError>) -> u32 {
    info.ok().and_then(|info| info.verified_instruction_count()).unwrap_or_default()
}

/// `bpf_prog_info.recursion_misses` (include/uapi/linux/bpf.h, since 5.12); 0 before. aya does not read it.
fn recursion_misses(fd: i32) -> u64 {
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    const MISSES: usize = 208 / 8;
    let mut info = [0u64; MISSES + 2];
    // The `info` member of union bpf_attr: fd, length, address.
    let mut attr = [0u64; 2];
    attr[0] = fd as u64 | (size_of_val(&info) as u64) << 32;
    attr[1] = info.as_mut_ptr() as u64;
    // SAFETY: both arrays outlive the call, their sizes are those given.
    let rc = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, attr.as_mut_ptr(), size_of_val(&attr))
    };
    if rc == 0 { info[MISSES] } else { 0 }
}
