//! The kernel side, seen from the daemon: loads and attaches the eBPF programs, finds out what works on
//! this kernel, and hands out raw records and counts. The only module that names aya.

pub mod btf;
mod calibrate;
mod hooks;
mod kernel;
mod levels;
mod loader;
mod maps;
pub mod misc;
mod patch;
pub mod procfs;
mod selftest;
mod table;
mod unavailable;

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use tracer_common::{
    event::{COMM_BYTES, KINDS, Kind},
    names::{self, Names},
    settings::{Control, TESTING},
    slot,
    state::{Process, Stats},
};

use self::{
    hooks::Skipped,
    levels::Levels,
    loader::Loaded,
    maps::{CONTROL, Controls, Counts, Processes, Threads},
};
use crate::{decode::LossStage, level::Level};

/// Which events are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// Births, execs, deaths: nothing that costs other system calls.
    Base,
    /// Also failed forks and execs and exact reaps, through `sys_exit`.
    Full,
}

/// What to trace.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Only the processes named with [`Probe::add_process`] or [`Probe::adopt_children`], and their descendants.
    pub tree: bool,
    /// Without a tree: only processes that have, or are given, one of these names. None: all.
    pub names: Names,
    /// The set of hooks.
    pub hooks: Hooks,
    /// Also what each process inherits, keeps and loses, at its fork and at each exec.
    pub ledger: bool,
    /// Also the directory that each new program begins in.
    pub cwd: bool,
    /// Also the ends of threads.
    pub threads: bool,
    /// Also the environment of each new program.
    pub env: bool,
    /// How closely copies are to be followed, if this kernel allows it.
    pub cow: Level,
    /// Bytes of the ring; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Most processes that have counters at a time.
    pub max_processes: u32,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Built by plain `cargo build`.
    #[error("this binary was built without its eBPF programs")]
    NoObject,
    /// Neither root nor CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE.
    #[error("no privilege to load eBPF programs ({0})")]
    Privilege(String),
    /// The kernel was built without CONFIG_DEBUG_INFO_BTF.
    #[error("the kernel does not offer its type information at {path} ({source})")]
    NoBtf {
        /// Where it should be.
        path: &'static str,
        /// What reading it said.
        source: std::io::Error,
    },
    /// The kernel lets nobody read its memory, and is too old for another way to find the current process (5.15).
    #[error("the kernel is locked down (lockdown=confidentiality): its memory cannot be read")]
    Lockdown,
    /// The type information makes no sense.
    #[error(transparent)]
    Btf(#[from] btf::Error),
    /// A struct has changed.
    #[error("this kernel's struct {of} has no member {member}")]
    NoField {
        /// The struct.
        of: &'static str,
        /// The member, or several names of it.
        member: &'static str,
    },
    /// A hook that nothing can be told without.
    #[error("the kernel's hook {hook} cannot be used: {reason}")]
    NoHook {
        /// The tracepoint.
        hook: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// Maps or programs could not be made.
    #[error("the eBPF object cannot be loaded: {0}")]
    Load(String),
}

/// Whether a hook is in use.
#[derive(Clone, Debug)]
pub struct HookState {
    /// The tracepoint.
    pub name: &'static str,
    /// True when its program is attached.
    pub on: bool,
    /// Why it is not.
    pub reason: Option<String>,
}

/// What works on this kernel.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// `uname -r`.
    pub kernel: String,
    /// Each hook, in the order of attachment.
    pub hooks: Vec<HookState>,
    /// How closely copies are followed.
    pub cow: Level,
    /// Why not more closely; `None` when it is as closely as possible.
    pub why_not_more: Option<String>,
    /// Page-table levels, when page tables are walked.
    pub page_table_levels: Option<u32>,
    /// Fields of the stream that are null throughout, with the reason.
    pub unavailable: Vec<(&'static str, String)>,
}

/// Events that were counted but not delivered, since they were asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where.
    pub stage: LossStage,
    /// What kind of record, where that is known.
    pub record: Option<Kind>,
    /// How many.
    pub count: u64,
}

/// Skipped runs of programs by what is lost.
#[derive(Clone, Copy, Debug, Default)]
struct Misses {
    records: [u64; KINDS],
    faults: u64,
}

impl Misses {
    fn of(loaded: &Loaded) -> Self {
        let mut sum = Self::default();
        for (hook, misses) in loaded.misses() {
            match hook.skipped {
                Skipped::Record(kind) => sum.records[kind as usize] += misses,
                Skipped::Fault => sum.faults += misses,
                Skipped::Nothing => {}
            }
        }
        sum
    }

    fn total(&self) -> u64 {
        self.records.iter().sum::<u64>() + self.faults
    }
}

/// The words of a name as `/proc` shows it, which may be longer than the kernel's own.
fn words(comm: &[u8]) -> names::Words {
    let mut name = [0; COMM_BYTES];
    name.iter_mut().zip(comm).for_each(|(to, from)| *to = *from);
    names::words(name)
}

/// Attached programs and their maps. Dropping it detaches them.
pub struct Probe {
    loaded: Loaded,
    ring: RingBuf<MapData>,
    counts: Counts,
    processes: Processes,
    controls: Controls,
    control: Control,
    capabilities: Capabilities,
    reported: Stats,
    reported_misses: Misses,
    /// Skipped runs of the self-test: nothing of the trace was lost by them.
    misses_before: u64,
}

impl Probe {
    /// Loads the programs, attaches them, and finds out what works.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let mut loaded = Loaded::new(&kernel::read_btf()?, options)?;
        loaded.load_all(options);
        let counts = Counts::new(loaded.take_map("STATS")?)?;
        let slots = slot::slots(options.max_processes);
        let mut table = |names: [&'static str; 2]| -> Result<_, Error> {
            Ok(([loaded.take_map(names[0])?, loaded.take_map(names[1])?], names))
        };
        let (maps, names) = table(["PROCESSES", "PROCESS_OVERFLOW"])?;
        let mut processes = Processes::new(maps, names, slots)?;
        let (maps, names) = table(["THREADS", "THREAD_OVERFLOW"])?;
        let mut threads = Threads::new(maps, names, slots)?;
        let mut controls = Controls::new(loaded.take_map(CONTROL)?)?;

        // Copies first: their self-test makes processes that are nobody's business. What every fault passes is
        // idle until births, execs and deaths are seen, too.
        let mut levels = Levels {
            loaded: &mut loaded,
            processes: &mut processes,
            threads: &mut threads,
            controls: &mut controls,
        };
        let (level, mut control, why_not_more) = levels.find(options.cow);
        // What is lost from here on is of the trace, although nobody takes records from the ring yet.
        let (reported, reported_misses) = (counts.total(), Misses::of(&loaded));
        loaded.attach_lifecycle(options)?;
        if !options.tree {
            // From here on each process is either born in sight or was there before. The latter have their place in
            // the table before their first fault is seen, since several of their threads may fault at once. One that
            // finds no room is counted as lost when it does something.
            let mut tgids = procfs::tgids().map_err(|e| Error::Load(format!("/proc: {e}")))?;
            tgids.sort_unstable_by_key(|&tgid| processes.index(tgid));
            for tgid in tgids {
                // The kernel side sees each name that it is given from here on.
                let is_outside = match *loaded.names() {
                    Names::NONE => false,
                    names => !procfs::comm(tgid).is_some_and(|comm| names.may_be(words(&comm))),
                };
                if let Err(full) = processes.enter(tgid, 0, is_outside) {
                    log::debug!("process {tgid}: {full}");
                }
            }
        }
        control.flags &= !TESTING;
        controls.set(&control)?;
        loaded.shrink();
        // Its pages count as ours when it is mapped: only after what starting needed was given back.
        let ring = RingBuf::try_from(loaded.take_map("EVENTS")?)
            .map_err(|e| Error::Load(format!("map EVENTS: {e}")))?;
        let capabilities = loaded.offered().capabilities(options, &control, level, &why_not_more);
        Ok(Self {
            loaded,
            ring,
            counts,
            processes,
            controls,
            control,
            capabilities,
            reported,
            misses_before: reported_misses.total(),
            reported_misses,
        })
    }

    /// What works on this kernel.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// While on, processes that the daemon forks are roots of the tree.
    pub fn adopt_children(&mut self, on: bool) -> Result<(), Error> {
        self.control.adopt = u32::from(on);
        self.controls.set(&self.control)
    }

    /// Adds a living process to the tree; `start_time_ns` may be 0 when only its 10 ms tick is known.
    pub fn add_process(&mut self, tgid: u32, start_time_ns: u64) -> Result<(), Error> {
        self.processes.enter(tgid, start_time_ns, false)
    }

    /// Whether the kernel side tells of a process of this name.
    pub fn tells_of(&mut self, tgid: u32, comm: &[u8]) -> bool {
        let names = *self.loaded.names();
        if names == Names::NONE {
            return true;
        }
        match self.processes.get(tgid) {
            Some(process) => process.outside == 0,
            // It has just ended, or found no room.
            None => names.may_be(words(comm)),
        }
    }

    /// Becomes readable when the ring passes its watermark.
    pub fn ring(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Hands out each record that is in the ring now; the number of them.
    pub fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        let mut count = 0;
        while let Some(record) = self.ring.next() {
            each(&record);
            count += 1;
        }
        self.loaded.flush_log();
        count
    }

    /// Hands out what was lost since the last call.
    pub fn losses(&mut self, each: &mut dyn FnMut(Lost)) {
        let (total, misses) = (self.counts.total(), Misses::of(&self.loaded));
        let last = std::mem::replace(&mut self.reported, total);
        let last_misses = std::mem::replace(&mut self.reported_misses, misses);
        let mut lost = |stage, record, now: u64, before: u64| {
            let count = now.saturating_sub(before);
            if count > 0 {
                each(Lost { stage, record, count });
            }
        };
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            lost(LossStage::Ring, Some(kind), total.records[i].ring_full, last.records[i].ring_full);
            lost(LossStage::Recursion, Some(kind), misses.records[i], last_misses.records[i]);
        }
        lost(LossStage::Recursion, None, misses.faults, last_misses.faults);
        lost(LossStage::ProcessTable, None, total.process_full, last.process_full);
        lost(LossStage::ThreadTable, None, total.thread_full, last.thread_full);
        lost(LossStage::Late, None, total.late, last.late);
    }

    /// Counts of the kernel side since the start, all CPUs.
    pub fn stats(&self) -> Stats {
        self.counts.total()
    }

    /// Runs that the kernel skipped (`recursion_misses`) and whose event is lost by that, since the start.
    pub fn recursion_misses(&self) -> u64 {
        Misses::of(&self.loaded).total().saturating_sub(self.misses_before)
    }

    /// Runs that the kernel skipped, for each program in use, since the start.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.loaded.misses().map(|(hook, misses)| (hook.program, misses))
    }

    /// Puts pids into the order in which asking for their counters costs least.
    pub fn order(&self, tgids: &mut [u32]) {
        tgids.sort_unstable_by_key(|&tgid| self.processes.index(tgid));
    }

    /// The counters of a process, if it has any.
    pub fn process(&mut self, tgid: u32) -> Option<Process> {
        self.processes.get(tgid)
    }

    /// Detaches all programs: nothing is recorded from here on. What is in the ring can still be drained.
    pub fn detach(&mut self) {
        self.loaded.detach_faults();
        self.loaded.detach_lifecycle();
    }
}
