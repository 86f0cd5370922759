//! A process life as far as it is known.

use tracer_common::{
    counter::{Counters, Totals},
    event::{AutoReap, COMM_BYTES},
    place::Place,
    start::Reached,
};

use super::{
    bill::{Account, Bill},
    copies::Copies,
    image::ImageId,
    ledger::Inheritance,
    start::Replaced,
    usage::Usage,
};
use crate::record::{ForkKind, MemoryBytes, Missing, Origin, ReleasedBy};

/// Most programs that a process is remembered to have run before, the latest ones.
pub(super) const PREVIOUS: usize = 4;

/// The identity of a life within a boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) tgid: u32,
    /// Start in clock ticks since boot, as `/proc` shows it.
    pub(super) ticks: u64,
}

/// Where a life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was there before us.
    Seen,
    /// Born, and running its parent's program.
    Forked,
    /// Running a program of its own.
    Running,
    /// Ended, not reaped.
    Zombie,
    /// Reaped, or known to be gone.
    Reaped,
    /// Known from an event in the middle of its life.
    Unknown,
}

/// A program that it ran before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Previous {
    pub(super) image: ImageId,
    /// The name that it had at the exec that ended it; empty when not known.
    pub(super) comm: [u8; COMM_BYTES],
    /// What it had reached then.
    pub(super) reached: Reached,
}

/// How it was born, as the kernel told it; see [`wire::Fork`](tracer_common::event::Fork).
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    pub(super) ktime_ns: u64,
    pub(super) clone_flags: u64,
    pub(super) pgtable_bytes: u64,
    pub(super) anon_pages: u64,
    pub(super) file_pages: u64,
    pub(super) shmem_pages: u64,
    pub(super) duration_ns: u64,
    pub(super) eager_copies: u64,
    pub(super) syscall: u32,
    pub(super) vmas: u32,
    pub(super) kind: ForkKind,
    pub(super) shares_mm: bool,
}

/// The end of a parent's wait in vfork.
#[derive(Clone, Copy, Debug)]
pub(super) struct Released {
    pub(super) blocked_ns: u64,
    pub(super) by: ReleasedBy,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) ktime_ns: u64,
    /// `None` when the kernel side had no entry for it.
    pub(super) counters: Option<Counters>,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) status: u32,
    pub(super) syscall: u32,
    pub(super) core: bool,
    pub(super) real_parent: u32,
    pub(super) auto_reap: AutoReap,
    /// What its last program reached.
    pub(super) reached: Reached,
    /// The memory that it gave up.
    pub(super) memory: Option<MemoryBytes>,
    /// How long it waited for its first CPU, in ns plus one; 0 when that is not known.
    pub(super) run_delay: u64,
}

/// Who took its exit status.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaped {
    pub(super) ktime_ns: u64,
    pub(super) by: Option<u32>,
    /// The kernel did it itself.
    pub(super) auto: Option<bool>,
    pub(super) exact: bool,
}

/// What the execs of a process left. Kept apart, since a life begins without.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// What it ran before the last exec.
    last: Option<Previous>,
    /// What more than one exec left; `None` before the second.
    pub(super) earlier: Option<Box<Earlier>>,
    /// The thread that called the last exec.
    pub(super) by: Option<u32>,
    /// Of the last exec: whether the program is to distrust its surroundings, and the threads that had to end.
    pub(super) is_secure: Option<bool>,
    pub(super) threads_killed: Option<u32>,
    /// The same for all of its execs.
    pub(super) all_threads_killed: u32,
    /// Execs that the last program took.
    pub(super) tries: Option<u64>,
    /// Its totals when it began the last program.
    pub(super) at_last: Option<Totals>,
    /// The directory that the last program began in; `None` when it is not known.
    pub(super) directory: Option<Box<[u8]>>,
    /// What the last exec took and replaced.
    pub(super) replaced: Replaced,
}

impl Ran {
    /// Notes a program that it does not run any more; returns one that is no longer remembered.
    fn remember(&mut self, old: Previous) -> Option<ImageId> {
        let older = self.last.replace(old)?;
        let forgotten = match &mut self.earlier {
            Some(earlier) => earlier.remember(older),
            None => Some(older),
        };
        forgotten.map(|forgotten| forgotten.image)
    }

    /// Its totals when it began the first program.
    pub(super) fn at_first(&self) -> Option<Totals> {
        self.earlier.as_ref().map_or(self.at_last, |earlier| earlier.at_first)
    }

    /// What the process had copied in the memory that the last exec dropped. The first one dropped all.
    pub(super) fn wasted(&self) -> Option<Copies> {
        self.earlier.as_ref().map_or(self.at_last.map(Copies::from), |earlier| earlier.wasted)
    }
}

/// What only a process has that called exec more than once. Kept apart, since most do not.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// What it ran before the program before the last exec.
    previous: [Option<Previous>; PREVIOUS - 1],
    /// Its totals when it began the first program.
    pub(super) at_first: Option<Totals>,
    /// What it had copied from the exec before the last one to the last one.
    pub(super) wasted: Option<Copies>,
}

impl Earlier {
    /// Notes a program; returns one that is no longer remembered.
    fn remember(&mut self, older: Previous) -> Option<Previous> {
        if let Some(slot) = self.previous.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(older);
            return None;
        }
        self.previous.rotate_left(1);
        self.previous[PREVIOUS - 2].replace(older)
    }
}

/// What only a life that is over has. Kept apart, since most lives in the table are not.
#[derive(Debug, Default)]
pub(super) struct Over {
    pub(super) end: Option<End>,
    pub(super) usage: Option<Usage>,
    pub(super) reaped: Option<Reaped>,
}

/// The children that it made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offspring {
    pub(super) forks: u64,
    pub(super) vforks: u64,
    pub(super) spawns: u64,
    pub(super) clones: u64,
    pub(super) execs_followed: u64,
}

/// What only a life has that made others. Kept apart, since most do not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    pub(super) account: Account,
    pub(super) children: Offspring,
}

/// What a life has of which progress was told: most end before.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What its last progress record said.
    pub(super) copies: Copies,
    /// The bytes that it said it shares with its parent, and with its newest child.
    pub(super) shared: [Option<u64>; 2],
}

/// Everything known of one life.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: Id,
    pub(super) start_ns: u64,
    pub(super) state: State,
    pub(super) origin: Origin,
    pub(super) missing: Missing,
    /// Losses that were known when it was entered.
    pub(super) losses_before: u64,
    pub(super) vpid: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) place: Option<Place>,
    pub(super) in_tree: bool,
    pub(super) comm: [u8; 16],
    pub(super) image: Option<ImageId>,
    /// Who forked it; of a process found in `/proc`, its parent then.
    pub(super) parent: Option<Id>,
    /// The parent that the kernel named last.
    pub(super) real_parent: Option<u32>,
    pub(super) birth: Option<Birth>,
    pub(super) released: Option<Released>,
    pub(super) bill: Bill,
    pub(super) execs: u64,
    pub(super) failures: u64,
    /// When its walk along PATH began, while it is on one.
    pub(super) walk: Option<u64>,
    /// The name that it failed to run last is not known.
    pub(super) is_nameless: bool,
    /// The directory of the program that is to be told next.
    pub(super) next_directory: Option<Box<[u8]>>,
    /// What its execs left; `None` before the first.
    pub(super) ran: Option<Box<Ran>>,
    /// What it has since it made others.
    pub(super) made: Option<Box<Made>>,
    /// Bytes that it had copied out of shared memory when its counters were read last.
    pub(super) unshared_bytes: u64,
    /// What was told of its progress; `None` before the first record.
    pub(super) told: Option<Box<Told>>,
    /// What it inherits; `None` without `--ledger`.
    pub(super) inheritance: Option<Box<Inheritance>>,
    /// How it ended; `None` while it lives.
    pub(super) over: Option<Box<Over>>,
    /// Its timeline is out.
    pub(super) written: bool,
    /// It waits for a tick to be written and forgotten.
    pub(super) closing: bool,
}

impl Process {
    /// A life of which nothing is known but its identity.
    pub(super) fn new(id: Id, start_ns: u64) -> Self {
        Self {
            id,
            start_ns,
            state: State::Unknown,
            origin: Origin::Unknown,
            missing: Missing::BIRTH,
            losses_before: 0,
            vpid: None,
            uid: None,
            gid: None,
            place: None,
            in_tree: false,
            comm: [0; 16],
            image: None,
            parent: None,
            real_parent: None,
            birth: None,
            released: None,
            bill: Bill::default(),
            execs: 0,
            failures: 0,
            walk: None,
            is_nameless: false,
            next_directory: None,
            ran: None,
            made: None,
            unshared_bytes: 0,
            told: None,
            inheritance: None,
            over: None,
            written: false,
            closing: false,
        }
    }

    /// Its end was seen, or it is known to be gone.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Zombie | State::Reaped)
    }

    /// No other record of its reap will come: its wait and its freeing were seen.
    pub(super) fn is_settled(&self) -> bool {
        self.reaped().is_some_and(|reaped| reaped.exact) && self.usage().is_some_and(|usage| usage.is_final)
    }

    /// The name without its padding.
    pub(super) fn name(&self) -> &[u8] {
        text_of(&self.comm)
    }

    /// It was left out by its name at first.
    pub(super) fn is_late(&self) -> bool {
        self.missing.has(Missing::BEFORE_MATCH)
    }

    /// Notes that its parent was waiting for it until `ktime_ns`, if it was. Of one that was left out until now that is
    /// not known: it may have run another program before.
    pub(super) fn release_parent(&mut self, ktime_ns: u64, by: ReleasedBy) {
        if let Some(birth) = self.birth
            && !self.is_late()
            && matches!(birth.kind, ForkKind::Vfork | ForkKind::PosixSpawn)
            && self.released.is_none()
        {
            self.released = Some(Released { blocked_ns: ktime_ns.saturating_sub(birth.ktime_ns), by });
        }
    }

    /// Its cgroup, when known.
    pub(super) fn cgroup_id(&self) -> Option<u64> {
        self.place.map(|place| place.cgroup_id).filter(|&id| id != 0)
    }

    /// Makes `image` its program, until when it had the name `comm_before` and the last one had `reached` that; returns
    /// one that is no longer remembered.
    pub(super) fn run(
        &mut self,
        image: ImageId,
        comm_before: [u8; COMM_BYTES],
        reached: Reached,
    ) -> Option<ImageId> {
        let old = Previous { image: self.image.replace(image)?, comm: comm_before, reached };
        self.ran.as_mut()?.remember(old)
    }

    /// The programs that it ran before its last exec, the oldest first.
    pub(super) fn previous(&self) -> impl DoubleEndedIterator<Item = &Previous> {
        self.ran
            .iter()
            .flat_map(|ran| ran.earlier.iter().flat_map(|earlier| &earlier.previous).chain([&ran.last]))
            .flatten()
    }

    /// How it ended.
    pub(super) fn end(&self) -> Option<&End> {
        self.over.as_ref()?.end.as_ref()
    }

    /// The time and memory that it used.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.over.as_ref()?.usage.as_ref()
    }

    /// Who took its exit status.
    pub(super) fn reaped(&self) -> Option<Reaped> {
        self.over.as_ref()?.reaped
    }

    /// Its totals when it began the program that it ran last.
    pub(super) fn at_last_exec(&self) -> Option<Totals> {
        self.ran.as_ref()?.at_last
    }
}

/// The text of a name, which ends at the first NUL.
pub(super) fn text_of(comm: &[u8; COMM_BYTES]) -> &[u8] {
    comm.split(|&byte| byte == 0).next().unwrap_or_default()
}
