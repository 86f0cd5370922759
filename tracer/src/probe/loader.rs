//! Loads the object and attaches its programs.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Btf as KernelBtf, Ebpf, EbpfLoader,
    maps::Map,
    programs::{
        BtfTracePoint, Program, ProgramError, TracePoint, tp_btf::BtfTracePointLinkId,
        trace_point::TracePointLink,
    },
};
use aya_log::EbpfLogger;
use tracer_common::{
    event::{KINDS, Kind},
    settings::{CAN_WALK, Control, FIVE_LEVELS, HAS_ALLOC, HAS_FLUSH},
};

use super::{Capabilities, Error, HookState, Hooks, Options, btf::Btf, kernel, maps};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer.bpf.o"));

/// When a hook's program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Lifecycle,
    Full,
    Faults,
}

/// A tracepoint and the program of the same name.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// The tracepoint.
    pub name: &'static str,
    /// The record that is lost when its program is skipped, if it makes any.
    record: Option<Kind>,
    set: Set,
}

const fn hook(name: &'static str, record: Option<Kind>, set: Set) -> Hook {
    Hook { name, record, set }
}

const ALLOC: &str = "mm_page_alloc";

/// All hooks in the order of attachment: deaths before births, so that nobody is entered into the table
/// who is not taken out again; what every fault passes last.
pub const HOOKS: [Hook; 11] = [
    hook("sched_process_free", Some(Kind::Free), Set::Lifecycle),
    hook("sched_process_exit", Some(Kind::Exit), Set::Lifecycle),
    hook("sched_process_exec", Some(Kind::Exec), Set::Lifecycle),
    hook("sched_process_fork", Some(Kind::Fork), Set::Lifecycle),
    hook("task_newtask", Some(Kind::Fork), Set::Lifecycle),
    hook("sys_exit", None, Set::Full),
    hook("signal_generate", None, Set::Faults),
    hook("tlb_flush", None, Set::Faults),
    hook(ALLOC, None, Set::Faults),
    hook("page_fault_kernel", None, Set::Faults),
    hook("page_fault_user", None, Set::Faults),
];

/// The object, with what is attached of it.
pub(super) struct Loaded {
    ebpf: Ebpf,
    kernel_btf: KernelBtf,
    links: HashMap<&'static str, BtfTracePointLinkId>,
    /// Instead of one of `links` where tracepoints can be preempted.
    alloc_link: Option<TracePointLink>,
    missing: Vec<&'static str>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Fields of the stream that come from the hooks on faults; of `tracer.faults` all but minor and major.
const NOT_COUNTED: [&str; 8] = [
    "tracer.cow",
    "tracer.delta",
    "tracer.fork.before_exec",
    "tracer.fork.by_parent",
    "tracer.fork.eager_copies",
    "tracer.fork.wasted",
    "tracer.faults",
    "tracer.children.paid",
];

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
        let settings = kernel::settings(btf, options.tree);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("OFFSETS", offsets.as_slice(), true)
            .override_global("SETTINGS", tracer_common::bytes(&settings), true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("PROCESSES", options.max_processes)
            .map_max_entries("STATS", maps::possible_cpus());
        let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
        let log = EbpfLogger::init(&mut ebpf)
            .inspect_err(|e| log::debug!("the eBPF programs cannot log: {e}"))
            .ok();
        let kernel_btf = KernelBtf::from_sys_fs().map_err(load_error)?;
        let missing = HOOKS.iter().map(|hook| hook.name).filter(|name| !btf.has_tracepoint(name)).collect();
        Ok(Self { ebpf, kernel_btf, links: HashMap::new(), alloc_link: None, missing, log })
    }

    pub(super) fn take_map(&mut self, name: &'static str) -> Result<Map, Error> {
        self.ebpf.take_map(name).ok_or_else(|| Error::Load(format!("map {name} is not in the object")))
    }

    /// Loads and attaches a program to a tracepoint.
    pub(super) fn attach(&mut self, name: &'static str, tracepoint: &str) -> Result<(), String> {
        if self.missing.contains(&tracepoint) {
            return Err(format!("this kernel has no tracepoint {tracepoint}"));
        }
        let program = typed(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program.load(tracepoint, &self.kernel_btf).map_err(|e| {
                if let ProgramError::LoadError { verifier_log, .. } = &e {
                    log::debug!("{verifier_log}");
                }
                chain(&e)
            })?;
        }
        let link = program.attach().map_err(|e| chain(&e))?;
        let verified = program.info().ok().and_then(|info| info.verified_instruction_count());
        log::debug!("{name}: attached, {} instructions verified", verified.unwrap_or_default());
        self.links.insert(name, link);
        Ok(())
    }

    /// Attaches the program that sees page allocations.
    fn attach_alloc(&mut self) -> Result<(), String> {
        if !kernel::has_preemptible_tracepoints() {
            return self.attach(ALLOC, ALLOC);
        }
        kernel::check_alloc_format()?;
        let program: &mut TracePoint = self
            .ebpf
            .program_mut("mm_page_alloc_format")
            .ok_or("program mm_page_alloc_format is not in the object")?
            .try_into()
            .map_err(|e: ProgramError| e.to_string())?;
        program.load().map_err(|e| chain(&e))?;
        let link = program.attach("kmem", ALLOC).map_err(|e| chain(&e))?;
        self.alloc_link = Some(program.take_link(link).map_err(|e| chain(&e))?);
        Ok(())
    }

    /// Unhooks a program. It stays loaded, so that its counts can still be read.
    pub(super) fn detach(&mut self, name: &str) {
        if let Some(link) = self.links.remove(name)
            && let Ok(program) = typed(&mut self.ebpf, name)
        {
            // The link was ours alone: there is nothing that could have taken it away.
            let _ = program.detach(link);
        }
    }

    pub(super) fn attach_lifecycle(&mut self, hooks: Hooks) -> Result<(), Error> {
        for hook in HOOKS {
            if hook.set == Set::Lifecycle || (hook.set == Set::Full && hooks == Hooks::Full) {
                self.attach(hook.name, hook.name).map_err(|reason| {
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

    /// Attaches what counts copies. All of it or nothing.
    pub(super) fn attach_faults(&mut self, control: &mut Control) -> Result<(), String> {
        for hook in HOOKS.iter().filter(|hook| hook.set == Set::Faults) {
            let attached =
                if hook.name == ALLOC { self.attach_alloc() } else { self.attach(hook.name, hook.name) };
            attached.map_err(|e| format!("{}: {e}", hook.name))?;
        }
        control.flags |= HAS_FLUSH | HAS_ALLOC;
        Ok(())
    }

    pub(super) fn detach_faults(&mut self) {
        self.alloc_link = None;
        self.detach_set(|set| set == Set::Faults);
    }

    pub(super) fn detach_lifecycle(&mut self) {
        self.detach_set(|set| set != Set::Faults);
    }

    /// Unhooks in the reverse order of attachment.
    fn detach_set(&mut self, set: impl Fn(Set) -> bool) {
        for hook in HOOKS.iter().rev().filter(|hook| set(hook.set)) {
            self.detach(hook.name);
        }
    }

    /// Hands what the programs logged to the `log` crate.
    pub(super) fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Runs of the programs that make records which the kernel skipped, by record (5.12).
    pub(super) fn lifecycle_misses(&self) -> [u64; KINDS] {
        let mut misses = [0; KINDS];
        for hook in HOOKS {
            if let Some(kind) = hook.record
                && let Some(Program::BtfTracePoint(program)) = self.ebpf.program(hook.name)
                && let Ok(fd) = program.fd()
            {
                misses[kind as usize] += recursion_misses(fd.as_fd().as_raw_fd());
            }
        }
        misses
    }

    pub(super) fn capabilities(
        &self,
        options: &Options,
        control: &Control,
        no_cow: Option<String>,
    ) -> Capabilities {
        let state = |hook: &Hook| {
            let reason = match hook.set {
                Set::Lifecycle => None,
                Set::Full if options.hooks == Hooks::Full => None,
                Set::Full => Some("only with --hooks full".to_owned()),
                Set::Faults => no_cow.clone(),
            };
            HookState { name: hook.name, on: reason.is_none(), reason }
        };
        let cow = no_cow.is_none();
        let walk = cow && control.flags & CAN_WALK != 0;
        let mut unavailable = vec![
            ("tracer.fork.duration_ns", "no hook at the entry of system calls is attached".to_owned()),
            ("tracer.fork.shared_anon_bytes", "not read from the kernel by this version".to_owned()),
            ("tracer.reap.auto", "not told apart by this version".to_owned()),
        ];
        if options.hooks == Hooks::Base {
            for field in ["tracer.exec.failures", "exec_failed", "fork_failed"] {
                unavailable.push((field, "only with --hooks full".to_owned()));
            }
        }
        if let Some(reason) = &no_cow {
            for field in NOT_COUNTED {
                unavailable.push((field, reason.clone()));
            }
        }
        Capabilities {
            kernel: kernel::release(),
            hooks: HOOKS.iter().map(state).collect(),
            cow_level: if cow { "full" } else { "off" },
            page_table_levels: walk.then_some(if control.flags & FIVE_LEVELS != 0 { 5 } else { 4 }),
            has_flush: cow && control.flags & HAS_FLUSH != 0,
            has_alloc: cow && control.flags & HAS_ALLOC != 0,
            unavailable,
        }
    }
}

fn typed<'a>(ebpf: &'a mut Ebpf, program: &str) -> Result<&'a mut BtfTracePoint, String> {
    let program =
        ebpf.program_mut(program).ok_or_else(|| format!("program {program} is not in the object"))?;
    program.try_into().map_err(|e: ProgramError| e.to_string())
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
