//! The progress of live processes: what they have copied, and what they still share.
//!
//! The counters of many processes are read at about the same time, one after the other. Records are made from
//! them at the next tick, when all of them are known, since a parent's record also tells of its child.

use std::collections::VecDeque;

use tracer_common::{counter::Counters, state::Process as Counted};

use super::{Lifecycle, Output, bill, copies::Copies, cow, process::Process, table::Key};
use crate::record::{Cow, Record, Shared, SharedWith};

/// How long after a fork the first record of the two processes is due.
const FIRST_AFTER_NS: u64 = 1_000_000_000;

/// What is to be read, and what was.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Children that share memory with their parent, with the time at which their first record is due.
    young: VecDeque<(u64, Key)>,
    /// Processes whose counters should be read now.
    wanted: Vec<u32>,
    /// Those that have moved since their last record, and those that share memory with one that may have.
    moved: Vec<(Key, Counters)>,
}

impl Progress {
    /// Whether a record will be due although nothing happens.
    pub(super) fn is_waiting(&self) -> bool {
        !(self.young.is_empty() && self.wanted.is_empty() && self.moved.is_empty())
    }
}

impl Lifecycle {
    /// Processes whose counters should be read before the next tick: they began to share memory a second ago.
    pub fn wanted(&self) -> &[u32] {
        &self.progress.wanted
    }

    /// A child shares its parent's memory from now on.
    pub(super) fn expect_progress(&mut self, child: Key, ktime_ns: u64) {
        self.progress.young.push_back((ktime_ns.saturating_add(FIRST_AFTER_NS), child));
    }

    /// The counters of a live process.
    pub(super) fn progress(&mut self, tgid: u32, counted: &Counted) {
        let Some(key) = self.table.by_tgid(tgid).filter(|_| self.config.cow.has_copies()) else {
            return;
        };
        let id = self.id(tgid, counted.start_time_ns);
        let totals = Copies::from(cow::totals(&counted.counters));
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        // The kernel side does not know when processes started that were there before it.
        let same = counted.start_time_ns == 0 || process.id == id;
        if !same || process.has_ended() {
            return;
        }
        process.unshared_bytes = process.unshared_bytes.max(totals.unshared_bytes);
        let told = process.told.as_deref();
        let shares = told.is_some_and(|told| told.shared.iter().any(Option::is_some));
        if shares || totals.since(told.map(|told| told.copies).unwrap_or_default()) != Copies::default() {
            self.progress.moved.push((key, counted.counters));
        }
        bill::charge(&mut self.table, key, totals);
    }

    /// Writes what has moved, and finds out whose counters are wanted next.
    pub(super) fn write_progress(&mut self, out: &mut dyn Output) {
        let mut moved = std::mem::take(&mut self.progress.moved);
        for (key, counters) in moved.drain(..) {
            self.write_moved(key, &counters, out);
        }
        self.progress.moved = moved;
        let Progress { young, wanted, .. } = &mut self.progress;
        wanted.clear();
        while let Some((_, key)) = young.pop_front_if(|(due, _)| *due <= self.now_ns) {
            let get = |key| self.table.get(key);
            let Some(child) = get(key) else { continue };
            let Some(parent) = child.bill.parent().and_then(get) else { continue };
            // What the two say of their newest children depends on the counters of these.
            let newest = [parent, child].into_iter().filter_map(|process| get(process.newest_sharer()?));
            let both = [parent, child].into_iter();
            wanted.extend(both.chain(newest).map(|process| process.id.tgid));
        }
    }

    fn write_moved(&mut self, key: Key, counters: &Counters, out: &mut dyn Output) {
        let totals = Copies::from(cow::totals(counters));
        if self.table.get(key).is_none_or(Process::has_ended) {
            return;
        }
        let Some(told) = self.table.told(key) else { return };
        let delta = totals.since(std::mem::replace(&mut told.copies, totals));
        let told_shared = told.shared;
        let level = self.config.cow;
        let Some(process) = self.table.get(key) else { return };
        let shared = level.has_classes().then(|| self.shared(process));
        let bytes = shared.map_or([None; 2], |Shared { with_parent, with_child }| {
            [with_parent, with_child].map(|with| with.map(|with| with.bytes))
        });
        // What the other of two copies is shared no more, either.
        let is_less =
            |(now, told): (&Option<u64>, &Option<u64>)| now.is_some() && told.is_some() && now != told;
        if delta == Copies::default() && !bytes.iter().zip(&told_shared).any(is_less) {
            return;
        }
        out.record(&Record::Cow(Cow {
            time: self.wall(self.now_ns),
            subject: process.subject(),
            entity: self.process_id(process.id),
            executable: self.executable(process),
            cow: cow::counts(counters, process.at_last_exec(), level),
            delta: delta.shown(level),
            shared,
        }));
        if let Some(told) = self.table.told(key) {
            told.shared = bytes;
        }
    }

    /// What a process still shares with its parent, and with its newest child.
    fn shared(&self, process: &Process) -> Shared {
        let get = |key| self.table.get(key);
        let with = |with: &Process, bytes: Option<u64>| {
            bytes.map(|bytes| SharedWith { bytes, process: self.process_id(with.id) })
        };
        let parent = process.bill.parent().and_then(get);
        let child = process.newest_sharer().and_then(get);
        Shared {
            with_parent: parent.and_then(|parent| with(parent, process.still_shares(parent))),
            with_child: child.and_then(|child| with(child, child.still_shares(process))),
        }
    }
}
