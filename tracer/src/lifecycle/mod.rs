//! From events to process lives: a state machine without a clock, files or threads.
//!
//! Each [`Event`] changes the table in a bounded time, whatever its order: a record that does not fit
//! (an exec of a process that has ended, a second birth) is counted and survived. What is not known
//! of a life is written on its timeline.
//!
//! Lives that are over are written at the next [`Event::Tick`] only. The daemon applies the losses
//! that it knows of before each tick, so a timeline that calls itself complete was not hit by any.
//!
//! The table is bounded by [`Config::max_processes`]. When it is full, ended processes are written and
//! forgotten early, the longest ended first; when nothing has ended, a new process is refused.
//! Both are counted in [`Anomalies`].

mod bill;
mod birth;
mod cgroups;
mod closing;
mod copies;
mod cow;
mod cwd;
mod env;
mod image;
mod interpreters;
mod ledger;
mod process;
mod progress;
mod start;
mod steps;
mod story;
mod table;
mod thread;
mod usage;
mod walk;
mod zombies;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tracer_common::{counter::Totals, event as wire};

pub use self::ledger::LedgerMode;
use self::{
    cgroups::Cgroups,
    copies::Copies,
    image::{Images, Parts},
    ledger::Births,
    process::{Id, Process},
    progress::Progress,
    table::{Found, Key, Table},
    walk::Walks,
};
pub use crate::env::EnvMode;
use crate::{
    decode::{Event, Loss, LossStage},
    level::Level,
    record::{Lost, Missing, Namespaces, Record, Time, boot_hash},
};

/// How to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The boot id, as bytes.
    pub boot_id: [u8; 16],
    /// CLOCK_REALTIME less CLOCK_BOOTTIME at the start, in ns.
    pub wall_offset_ns: i64,
    /// Every step of a life is a record, not only its timeline.
    pub steps: bool,
    /// Only a tree of processes is traced.
    pub tree: bool,
    /// Most processes in the table.
    pub max_processes: usize,
    /// The system call hooks are on: wait records will come, and failures are known.
    pub full_hooks: bool,
    /// How closely copies are followed: decides what is known.
    pub cow: Level,
    /// How much is told of what a process inherits.
    #[serde(default)]
    pub ledger: LedgerMode,
    /// Tell the directories that new programs begin in.
    #[serde(default)]
    pub cwd: bool,
    /// How much is told of the environment of new programs.
    #[serde(default)]
    pub env: EnvMode,
    /// The interpreters that binfmt_misc knew at the start; `None` when that could not be read.
    #[serde(default)]
    pub misc_interpreters: Option<Vec<String>>,
    /// Clock ticks per second (`USER_HZ`), the unit of start times in `/proc`.
    pub clock_ticks_per_s: u64,
    /// Pid of the daemon: its child is the command.
    pub self_tgid: u32,
    /// The namespaces that the machine began with, as [`Place::namespaces`](tracer_common::place::Place::namespaces).
    pub namespaces: Namespaces,
    /// Processes whose descendants, and they themselves, are
    /// [in the tree](crate::record::Subject::in_tree).
    pub roots: Vec<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            boot_id: [0; 16],
            wall_offset_ns: 0,
            steps: false,
            tree: false,
            max_processes: 131_072,
            full_hooks: false,
            cow: Level::Full,
            ledger: LedgerMode::Off,
            cwd: false,
            env: EnvMode::Off,
            misc_interpreters: None,
            clock_ticks_per_s: 100,
            self_tgid: 0,
            namespaces: Namespaces::default(),
            roots: Vec::new(),
        }
    }
}

/// Takes the records as they are made.
pub trait Output {
    /// One record; what it borrows is gone after the call.
    fn record(&mut self, record: &Record<'_>);
}

impl<F: FnMut(&Record<'_>)> Output for F {
    fn record(&mut self, record: &Record<'_>) {
        self(record);
    }
}

/// What the lifecycle holds and what it met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processes that were ever known.
    pub lives: u64,
    /// Processes that run.
    pub live: u64,
    /// Processes that have ended and were not reaped.
    pub zombies: u64,
    /// Ends that were told more than once.
    pub duplicates: u64,
    /// What should not happen.
    pub anomalies: Anomalies,
}

/// Counts of what should not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Anomalies {
    pub table_full: u64,
    pub evicted: u64,
    pub unknown: u64,
    pub births_again: u64,
    pub after_end: u64,
    pub end_not_seen: u64,
    #[serde(default)]
    pub cgroups_full: u64,
}

/// Losses until now: for each reason, the number of the loss that was the last to give it.
#[derive(Debug, Default)]
struct Losses {
    count: u64,
    last: Vec<(Missing, u64)>,
}

impl Losses {
    fn add(&mut self, missing: Missing) {
        self.count += 1;
        match self.last.iter_mut().find(|(reason, _)| *reason == missing) {
            Some((_, last)) => *last = self.count,
            None => self.last.push((missing, self.count)),
        }
    }

    /// What a life misses that began when `before` losses were known.
    fn since(&self, before: u64) -> Missing {
        self.last
            .iter()
            .filter(|(_, last)| *last > before)
            .fold(Missing::default(), |all, (reason, _)| all.with(*reason))
    }
}

/// All process lives that are going on.
#[derive(Debug)]
pub struct Lifecycle {
    config: Config,
    boot: u32,
    ns_per_tick: u64,
    now_ns: u64,
    table: Table,
    images: Images,
    cgroups: Cgroups,
    births: Births,
    losses: Losses,
    anomalies: Anomalies,
    duplicates: u64,
    /// Lives that are over, with the time from which on they are written.
    closing: VecDeque<(u64, Key)>,
    /// Zombies by the time of their end, whose timelines are held for the reap.
    zombies: VecDeque<(u64, Key)>,
    /// Zombies whose timelines are written, and those that were there before us; some may be gone.
    unreaped: VecDeque<Key>,
    zombie_count: u64,
    live_count: u64,
    life_count: u64,
    progress: Progress,
    walks: Walks,
}

impl Lifecycle {
    /// Nothing is known yet.
    pub fn new(config: Config) -> Self {
        Self {
            boot: boot_hash(&config.boot_id),
            ns_per_tick: (1_000_000_000 / config.clock_ticks_per_s.max(1)).max(1),
            now_ns: 0,
            table: Table::new(config.max_processes),
            images: Images::default(),
            cgroups: Cgroups::default(),
            births: Births::default(),
            losses: Losses::default(),
            anomalies: Anomalies::default(),
            duplicates: 0,
            closing: VecDeque::new(),
            zombies: VecDeque::new(),
            unreaped: VecDeque::new(),
            zombie_count: 0,
            live_count: 0,
            life_count: 0,
            progress: Progress::default(),
            walks: Walks::default(),
            config,
        }
    }

    /// Takes one event in; what follows from it goes to `out`.
    pub fn apply(&mut self, event: &Event<'_>, out: &mut dyn Output) {
        match event {
            Event::Fork(fork) => self.fork(fork, out),
            Event::Exec { exec, path, interp, args, env } => {
                let env = self.env_of(exec, env);
                let file = Some(exec.file).filter(|file| file.inode != 0);
                let (argc, args_bytes, flags) = (exec.argc, exec.args_bytes, exec.header.flags);
                let parts = Parts { path, interp, args, argc, args_bytes, file, flags, env };
                self.exec(exec, parts, out);
            }
            Event::Exit(exit) => self.exit(exit, out),
            Event::Free(free) => self.free(free, out),
            Event::Wait(wait) => self.wait(wait),
            Event::ExecFailed { failed, path } => self.exec_failed(failed, path, out),
            Event::ForkFailed(failed) => self.fork_failed(failed, out),
            Event::Cgroup { cgroup, path } => self.cgroup(cgroup, path),
            Event::Ledger(ledger) => self.ledger(ledger),
            Event::Thread(thread) => self.thread(thread, out),
            Event::Cwd { cwd, names } => self.cwd(cwd, names, out),
            Event::CgroupFound { id, path } => self.name_cgroup(*id, path),
            Event::Snapshot(snapshot) => self.snapshot(snapshot, out),
            Event::Progress { tgid, process } => self.progress(*tgid, process),
            Event::Loss(loss) => self.loss(loss, out),
            Event::Gone { tgid, start_ticks } => self.gone(*tgid, *start_ticks),
            Event::Tick { ktime_ns } => self.tick(*ktime_ns, out),
        }
    }

    /// Writes what has ended, as there will be no more events. What still lives is only counted; its failures are told.
    pub fn finish(&mut self, out: &mut dyn Output) {
        self.write_all(out);
    }

    /// What is held and what was met.
    pub fn stats(&self) -> Stats {
        Stats {
            lives: self.life_count,
            live: self.live_count,
            zombies: self.zombie_count,
            duplicates: self.duplicates,
            anomalies: self.anomalies,
        }
    }

    /// All lives that are not known to have ended: pid and start in clock ticks since boot.
    pub fn lives(&self) -> impl Iterator<Item = (u32, u64)> {
        self.table
            .iter()
            .filter(|(_, process)| !process.has_ended())
            .map(|(_, process)| (process.id.tgid, process.id.ticks))
    }

    /// All lives that have ended and are not known to be reaped: pid and start in clock ticks since boot.
    pub fn unreaped(&self) -> impl Iterator<Item = (u32, u64)> {
        self.table
            .iter()
            .filter(|(_, process)| process.state == process::State::Zombie)
            .map(|(_, process)| (process.id.tgid, process.id.ticks))
    }

    /// The latest time of any event, in ns of CLOCK_BOOTTIME.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn advance(&mut self, ktime_ns: u64) {
        self.now_ns = self.now_ns.max(ktime_ns);
    }

    fn wall(&self, ktime_ns: u64) -> Time {
        Time::from_boot(ktime_ns, self.config.wall_offset_ns)
    }

    fn id(&self, tgid: u32, start_time_ns: u64) -> Id {
        Id { tgid, ticks: start_time_ns / self.ns_per_tick }
    }

    fn id_of(&self, header: &wire::Header) -> Id {
        self.id(header.tgid, header.start_time_ns)
    }

    /// The life that an event is about, entered now when it is new; `None` when it is past or there
    /// is no room.
    fn life(&mut self, id: Id, start_ns: u64, out: &mut dyn Output) -> Option<Key> {
        if let Some(key) = self.vacate(id)? {
            return Some(key);
        }
        let key = self.enter(Process::new(id, start_ns), out)?;
        self.anomalies.unknown += 1;
        self.mark_root(key);
        Some(key)
    }

    /// The life with this identity; `Some(None)` when there is none and its pid is free for it, which
    /// may close an older life. `None` when the life is past.
    #[expect(clippy::option_option, reason = "past, new and known; each caller takes them apart at once")]
    fn vacate(&mut self, id: Id) -> Option<Option<Key>> {
        match self.table.find(id) {
            Found::Life(key) => Some(Some(key)),
            Found::Past => None,
            Found::Nothing => Some(None),
            Found::Predecessor(key) => {
                self.succeed(key);
                Some(None)
            }
        }
    }

    /// Puts a process into the table, making room when it must.
    fn enter(&mut self, mut process: Process, out: &mut dyn Output) -> Option<Key> {
        if self.table.is_full() && !self.make_room(out) {
            self.anomalies.table_full += 1;
            return None;
        }
        process.losses_before = self.losses.count;
        let key = self.table.insert(process)?;
        self.live_count += 1;
        self.life_count += 1;
        Some(key)
    }

    fn mark_root(&mut self, key: Key) {
        if let Some(process) = self.table.get_mut(key)
            && self.config.roots.contains(&process.id.tgid)
        {
            process.in_tree = true;
        }
    }

    fn cgroup(&mut self, cgroup: &wire::Cgroup, path: &[u8]) {
        self.advance(cgroup.header.ktime_ns);
        if cgroup.removed != 0 {
            self.cgroups.remove(cgroup.id);
        } else {
            self.name_cgroup(cgroup.id, path);
        }
    }

    fn name_cgroup(&mut self, id: u64, path: &[u8]) {
        if !path.is_empty() && !self.cgroups.insert(id, path) {
            self.anomalies.cgroups_full += 1;
        }
    }

    fn loss(&mut self, loss: &Loss, out: &mut dyn Output) {
        self.advance(loss.ktime_ns);
        let missing = match (loss.stage, loss.record) {
            // Records that should be there: whichever life they belong to, it is among the present ones.
            (LossStage::Ring | LossStage::Decode | LossStage::Recursion, Some(kind)) => {
                Some(Missing::lost(kind))
            }
            (LossStage::Ring | LossStage::Decode, None) => Some(Missing::LOST_RECORDS),
            (LossStage::Recursion | LossStage::ThreadTable, _) => Some(Missing::LOST_FAULTS),
            // The process's own records say that it has no counters.
            (LossStage::ProcessTable, _) => None,
            // These faults belong to lives that are over: they are in no timeline.
            (LossStage::Late, _) => None,
            // It is known which life it was.
            (LossStage::Untold, _) => None,
        };
        if let Some(missing) = missing {
            self.losses.add(missing);
        }
        out.record(&Record::Lost(Lost {
            time: self.wall(loss.ktime_ns),
            count: loss.count,
            stage: loss.stage,
            record: loss.record,
        }));
    }

    /// The totals of the fork-time parent, when the record has them.
    fn parent_totals(header: &wire::Header, totals: Totals) -> Option<Copies> {
        (header.flags & wire::FLAG_NO_PARENT == 0).then(|| totals.into())
    }
}
