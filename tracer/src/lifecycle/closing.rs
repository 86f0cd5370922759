//! How lives leave the table: reaped, gone, or pushed out because the table is full.

use tracer_common::event::{AutoReap, Free, Wait};

use super::{
    Lifecycle, Output, bill,
    process::{Id, Process, Reaped, State},
    steps::auto_reap,
    table::Key,
    usage::Usage,
};
use crate::record::{Missing, Program, ReapStep, Record};

/// How long the timeline of a process that nobody reaps is held.
pub(super) const REAP_WITHIN_NS: u64 = 1_000_000_000;
/// How long the record of a wait call may come after the free record of the same reap.
const WAIT_WITHIN_NS: u64 = 50_000_000;
/// How long the free record may come after that of the wait call, for the timeline to have what only it knows.
const FREE_WITHIN_NS: u64 = 500_000_000;
/// Made with it, a process is reaped by the kernel whatever its parent wants (7.1, include/uapi/linux/sched.h).
const CLONE_AUTOREAP: u64 = 1 << 34;

impl Lifecycle {
    /// The kernel dropped a process: the upper bound of when it was reaped, by its last parent.
    pub(super) fn free(&mut self, free: &Free, out: &mut dyn Output) {
        let header = &free.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.table.key(self.id_of(header)) else {
            return;
        };
        if let Some(over) = self.table.over(key) {
            over.usage = Some(Usage { counted: free.usage, is_final: true });
        }
        let Some(process) = self.table.get(key) else {
            return;
        };
        if process.closing {
            return;
        }
        let auto = process.was_auto_reaped(auto_reap(free.auto_reap));
        self.reparent(key, free.real_parent_tgid, header.ktime_ns, out);
        let hold = if self.config.full_hooks { WAIT_WITHIN_NS } else { 0 };
        let reaped = Reaped {
            ktime_ns: header.ktime_ns,
            by: Some(free.real_parent_tgid).filter(|&tgid| tgid != 0 && auto != Some(true)),
            auto,
            exact: false,
        };
        self.close(key, Some(reaped), header.ktime_ns.saturating_add(hold));
    }

    /// A wait call returned a process: the reap, when that is a zombie of the waiter.
    pub(super) fn wait(&mut self, wait: &Wait) {
        let header = &wait.header;
        self.advance(header.ktime_ns);
        let waiter = header.tgid;
        let key = if wait.initial_pid_ns != 0 {
            self.table.by_tgid(wait.pid)
        } else {
            self.table.by_vpid(waiter, wait.pid).or_else(|| {
                // A pid that is the same in both namespaces.
                let key = self.table.by_tgid(wait.pid)?;
                let process = self.table.get(key)?;
                (process.vpid == Some(wait.pid)).then_some(key)
            })
        };
        let Some((key, process)) = key.and_then(|key| Some((key, self.table.get(key)?))) else {
            return;
        };
        if !process.has_ended() || process.reaped().is_some_and(|reaped| reaped.exact) {
            return;
        }
        // A debugger's wait takes nothing away; a process whose parent has ended may have a new one.
        let parent = process.real_parent;
        let has_other_parent = parent != Some(waiter)
            && parent
                .and_then(|tgid| self.table.by_tgid(tgid))
                .and_then(|key| self.table.get(key))
                .is_some_and(|parent| !parent.has_ended());
        if has_other_parent {
            return;
        }
        let reaped = Reaped { ktime_ns: header.ktime_ns, by: Some(waiter), auto: Some(false), exact: true };
        if process.closing {
            if let Some(over) = self.table.over(key) {
                over.reaped = Some(reaped);
            }
        } else {
            self.close(key, Some(reaped), header.ktime_ns.saturating_add(FREE_WITHIN_NS));
        }
    }

    /// The daemon did not find a process any more.
    pub(super) fn gone(&mut self, tgid: u32, start_ticks: u64) {
        let id = Id { tgid, ticks: start_ticks };
        if let Some(key) = self.table.key(id) {
            let reaped = self.reaped_by_nobody_known(key);
            self.close(key, reaped, self.now_ns);
        }
    }

    /// The pid of a life was given to another one: it must be over.
    pub(super) fn succeed(&mut self, key: Key) {
        let reaped = self.reaped_by_nobody_known(key);
        self.close(key, reaped, self.now_ns);
        self.table.displace(key);
    }

    /// The reap of a zombie that must have happened by now.
    fn reaped_by_nobody_known(&self, key: Key) -> Option<Reaped> {
        let process = self.table.get(key)?;
        let reaped = Reaped { ktime_ns: self.now_ns, by: None, auto: None, exact: false };
        process.end().is_some().then_some(reaped)
    }

    /// A life is over; it is written at the first tick from `due_ns` on.
    fn close(&mut self, key: Key, reaped: Option<Reaped>, due_ns: u64) {
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        if process.closing {
            return;
        }
        if process.has_ended() {
            self.zombie_count -= 1;
        } else {
            self.live_count -= 1;
        }
        if process.end().is_none() {
            self.anomalies.end_not_seen += 1;
            process.missing = process.missing.with(Missing::EXIT);
        }
        process.state = State::Reaped;
        process.closing = true;
        if let Some(reaped) = reaped
            && let Some(over) = self.table.over(key)
        {
            over.reaped = Some(reaped);
        }
        self.closing.push_back((due_ns, key));
        bill::leave(&mut self.table, key, None);
        bill::unlink(&mut self.table, key, None);
    }

    /// Writes the lives that are over, and the timelines of zombies that nobody reaped in time.
    pub(super) fn tick(&mut self, ktime_ns: u64, out: &mut dyn Output) {
        self.advance(ktime_ns);
        let now = self.now_ns;
        self.write_progress(out);
        self.end_old_walks(out);
        self.forget_old_births();
        while let Some(key) = self.next_closed() {
            self.write_closed(key, out);
        }
        let ended_before = now.saturating_sub(REAP_WITHIN_NS);
        while let Some((_, key)) = self.zombies.pop_front_if(|(end, _)| *end <= ended_before) {
            self.write_zombie(key, out);
        }
        // Those that were reaped since are dropped when they are most of the list.
        if self.unreaped.len() > 64 && self.unreaped.len() as u64 > 2 * self.zombie_count {
            let table = &self.table;
            self.unreaped.retain(|&key| table.get(key).is_some());
        }
    }

    /// Whether a tick will find something to do although nothing happens until then.
    pub fn is_waiting(&self) -> bool {
        let is_empty = self.closing.is_empty() && self.zombies.is_empty();
        !is_empty || self.progress.is_waiting() || self.walks.is_waiting()
    }

    /// The next life that is over and due: its time has come, or there is nothing to wait for.
    fn next_closed(&mut self) -> Option<Key> {
        let (now, table) = (self.now_ns, &self.table);
        let is_due =
            |(due, key): &mut (u64, Key)| *due <= now || table.get(*key).is_none_or(Process::is_settled);
        self.closing.pop_front_if(is_due).map(|(_, key)| key)
    }

    /// Writes everything that has ended, and what failed.
    pub(super) fn write_all(&mut self, out: &mut dyn Output) {
        self.write_progress(out);
        self.end_all_walks(out);
        while let Some((_, key)) = self.closing.pop_front() {
            self.write_closed(key, out);
        }
        while let Some((_, key)) = self.zombies.pop_front() {
            self.write_zombie(key, out);
        }
    }

    /// Makes room in a full table; false when nothing in it has ended.
    pub(super) fn make_room(&mut self, out: &mut dyn Output) -> bool {
        if let Some((_, key)) = self.closing.pop_front() {
            self.write_closed(key, out);
            return true;
        }
        let is_zombie = |process: &Process| process.state == State::Zombie;
        while let Some(key) = self.unreaped.pop_front() {
            if self.table.get(key).is_some_and(is_zombie) {
                if self.table.get(key).is_some_and(|process| !process.written) {
                    self.write_timeline(key, out);
                }
                self.evict(key);
                return true;
            }
        }
        while let Some((_, key)) = self.zombies.pop_front() {
            if self.table.get(key).is_some_and(is_zombie) {
                self.write_timeline(key, out);
                self.evict(key);
                return true;
            }
        }
        false
    }

    fn evict(&mut self, key: Key) {
        self.anomalies.evicted += 1;
        self.zombie_count -= 1;
        // Of one that was found to be a zombie, the end has not done it.
        bill::leave(&mut self.table, key, None);
        bill::unlink(&mut self.table, key, None);
        self.forget(key);
    }

    fn write_zombie(&mut self, key: Key, out: &mut dyn Output) {
        if self.table.get(key).is_some_and(|process| process.state == State::Zombie && !process.written) {
            self.write_timeline(key, out);
            self.unreaped.push_back(key);
        }
    }

    /// Writes what is not yet written of a life that is over, and forgets it.
    fn write_closed(&mut self, key: Key, out: &mut dyn Output) {
        let Some(process) = self.table.get(key) else {
            return;
        };
        let was_written = process.written;
        if !was_written {
            self.write_timeline(key, out);
        }
        if (was_written || self.config.steps)
            && let Some(process) = self.table.get(key)
            && let (Some(reap), Some(reaped)) = (process.reap_fields(), process.reaped())
        {
            out.record(&Record::Reap(ReapStep {
                time: self.wall(reaped.ktime_ns),
                subject: process.subject(),
                entity: self.process_id(process.id),
                reap,
                usage: process.usage().map(Usage::fields),
            }));
        }
        self.forget(key);
    }

    fn write_timeline(&mut self, key: Key, out: &mut dyn Output) {
        // Its end was not seen.
        self.end_walk(key, out);
        if let Some(process) = self.table.get(key) {
            let mut previous = [Program::default(); super::process::PREVIOUS];
            let timeline = self.timeline(process, &mut previous);
            out.record(&Record::Timeline(timeline));
        }
        if let Some(process) = self.table.get_mut(key) {
            process.written = true;
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(process) = self.table.get(key) {
            let previous = process.previous().map(|previous| previous.image);
            for image in previous.chain(process.image) {
                self.images.release(image);
            }
            self.table.remove(key);
        }
    }
}

impl Process {
    /// Whether the kernel reaped it itself, as no wait was seen: its parent said so at the end, and its last one at the
    /// reap. `None` when they do not say the same.
    fn was_auto_reaped(&self, at_reap: AutoReap) -> Option<bool> {
        let end = self.end()?;
        let clone_flags = self.birth.and_then(|birth| birth.clone_flags());
        if clone_flags.is_some_and(|flags| flags & CLONE_AUTOREAP != 0) {
            return Some(true);
        }
        match (end.auto_reap, at_reap) {
            // The parent may be gone by then.
            (AutoReap::Yes, AutoReap::Yes | AutoReap::Unknown) => Some(true),
            (AutoReap::No, AutoReap::No | AutoReap::Unknown) => Some(false),
            _ => None,
        }
    }
}
