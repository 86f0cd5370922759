//! Loads the object and attaches its programs.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
};

use aya::{
    Btf as KernelBtf, Ebpf, EbpfLoader, Endianness,
    maps::Map,
    programs::{
        BtfTracePoint, Program, ProgramError, ProgramInfo, TracePoint, links::FdLink,
        trace_point::TracePointLink,
    },
};
use aya_log::EbpfLogger;
use tracer_common::{names::Names, slot};

use crate::level::Level;

use super::{
    Error, Options,
    btf::Btf,
    calibrate,
    hooks::{self, Hook, How, Set},
    kernel, maps,
    patch::{self, Cast},
    unavailable::Offered,
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
    offered: Offered,
    /// Those that processes are told apart by.
    names: Names,
    /// By program.
    links: HashMap<&'static str, Link>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// How EPERM reads; EACCES is the verifier's.
const NOT_PERMITTED: &str = "(os error 1)";

fn load_error(e: impl std::error::Error) -> Error {
    let text = chain(&e);
    if text.contains(NOT_PERMITTED) {
        return Error::Privilege(text);
    }
    Error::Load(text)
}

/// What is made from the kernel's type information, side by side: each takes as long as the verification of a large
/// program.
fn parse(blob: &[u8]) -> Result<(EbpfLoader<'static>, KernelBtf, Btf<'_>), Error> {
    thread::scope(|scope| {
        let loader = scope.spawn(|| {
            // It reads the types by itself; the programs have no relocations that need them.
            let mut loader = EbpfLoader::new();
            loader.btf(None);
            loader
        });
        let kernel_btf = scope.spawn(|| KernelBtf::parse(blob, Endianness::default()));
        let btf = Btf::parse(blob)?;
        let died = |_| Error::Load("a thread that parsed the kernel's BTF panicked".to_owned());
        let kernel_btf = kernel_btf.join().map_err(died)?.map_err(load_error)?;
        Ok((loader.join().map_err(died)?, kernel_btf, btf))
    })
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
    /// Makes the maps and fills in the constants; no program is in the kernel yet. `blob` is the kernel's type
    /// information.
    pub(super) fn new(blob: &[u8], options: &Options) -> Result<Self, Error> {
        if OBJECT.is_empty() {
            return Err(Error::NoObject);
        }
        let (mut loader, kernel_btf, btf) = parse(blob)?;
        let offsets = kernel::offsets(&btf)?;
        let slots = slot::slots(options.max_processes);
        let overflow = slot::overflow(options.max_processes);
        let cast = Cast::of_kernel(&btf);
        let names = kernel::names(options);
        let settings = kernel::settings(&btf, options, &names, slots, cast);
        if settings.typed_current == 0 && settings.can_read == 0 {
            return Err(Error::Lockdown);
        }
        loader
            .override_global("NAMES", tracer_common::bytes(&names), true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("PROCESSES", slots)
            .map_max_entries("PROCESS_OVERFLOW", overflow)
            .map_max_entries("THREADS", slots)
            .map_max_entries("THREAD_OVERFLOW", overflow)
            .map_max_entries("STATS", maps::possible_cpus());
        let object = patch::patched(OBJECT, &kernel::constants(&offsets, &settings), cast);
        let mut ebpf = loader.load(&object).map_err(load_error)?;
        let log = EbpfLogger::init(&mut ebpf)
            .inspect_err(|e| log::debug!("the eBPF programs cannot log: {e}"))
            .ok();
        Ok(Self {
            ebpf,
            kernel_btf: Some(kernel_btf),
            offered: Offered::new(&btf, &settings),
            names,
            links: HashMap::new(),
            log,
        })
    }

    /// Has the kernel verify the programs that will be attached, side by side: most of a start is this. One that is
    /// refused says why when it is attached.
    pub(super) fn load_all(&mut self, options: &Options) {
        let wanted: Vec<_> = self
            .offered
            .hooks
            .iter()
            .filter(|hook| match hook.set.is_of_faults() {
                true => self.offered.can_read && hook.set.is_of(options.cow),
                false => self.offered.not_wanted(hook, options).is_none(),
            })
            .collect();
        let calibrates = self.offered.can_read && options.cow.has_copies();
        let wanted = wanted.into_iter().map(|hook| (hook.program, hook.name));
        let wanted = wanted.chain(calibrate::PROGRAMS.into_iter().filter(|_| calibrates));
        let (missing, kernel_btf) = (&self.offered.missing, self.kernel_btf.as_ref());
        let mut programs: HashMap<_, _> = self.ebpf.programs_mut().collect();
        thread::scope(|scope| {
            for (program, tracepoint) in wanted.filter(|(_, tracepoint)| !missing.contains(tracepoint)) {
                let program = programs.remove(program);
                scope.spawn(move || match program {
                    Some(Program::BtfTracePoint(program)) => load_typed(program, tracepoint, kernel_btf),
                    Some(Program::TracePoint(program)) => load_format(program),
                    _ => Ok(()),
                });
            }
        });
    }

    /// What this kernel has.
    pub(super) fn offered(&self) -> &Offered {
        &self.offered
    }

    /// The names that processes are told apart by.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn take_map(&mut self, name: &'static str) -> Result<Map, Error> {
        self.ebpf.take_map(name).ok_or_else(|| Error::Load(format!("map {name} is not in the object")))
    }

    /// Loads and attaches a program to a tracepoint.
    pub(super) fn attach(&mut self, name: &'static str, tracepoint: &str) -> Result<(), String> {
        if self.offered.missing.contains(&tracepoint) {
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

    /// Attaches what is not for counting copies.
    pub(super) fn attach_lifecycle(&mut self, options: &Options) -> Result<(), Error> {
        for hook in self.offered.hooks {
            if !hook.set.is_of_faults() && self.offered.not_wanted(hook, options).is_none() {
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
        for hook in self.offered.hooks.iter().filter(|hook| hook.set.is_of(level)) {
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
        for hook in self.offered.hooks.iter().rev().filter(|hook| set(hook.set)) {
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
        self.offered.hooks.iter().filter_map(move |hook| {
            let fd = fd(hook.program)?;
            Some((hook, recursion_misses(fd.as_fd().as_raw_fd())))
        })
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
