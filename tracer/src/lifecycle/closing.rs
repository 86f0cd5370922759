//! How lives leave the table: reaped, gone, or pushed out because the table is full.

use tracer_common::event::{Free, Wait};

use super::{
    Lifecycle, Output, bill,
    process::{Id, Process, Reaped, State},
    table::Key,
};
use crate::record::{Missing, Program, ReapStep, Record};

/// How long the timeline of a process that nobody reaps is held.
const REAP_WITHIN_NS: u64 = 1_000_000_000;
/// How long the record of a wait call may come after the free record of the same reap.
const WAIT_WITHIN_NS: u64 = 50_000_000;

impl Lifecycle {
    /// The kernel dropped a process: the upper bound of when it was reaped, by its last parent.
    pub(super) fn free(&mut self, free: &Free, out: &mut dyn Output) {
        let header = &free.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.table.key(self.id_of(header)) else {
            return;
        };
        if self.table.get(key).is_none_or(|process| process.closing) {
            return;
        }
        self.reparent(key, free.real_parent_tgid, header.ktime_ns, out);
        let hold = if self.config.full_hooks { WAIT_WITHIN_NS } else { 0 };
        let reaped = Reaped {
            ktime_ns: header.ktime_ns,
            by: (free.real_parent_tgid != 0).then_some(free.real_parent_tgid),
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
        if !process.has_ended() || process.reaped.is_some_and(|reaped| reaped.exact) {
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
        let reaped = Reaped { ktime_ns: header.ktime_ns, by: Some(waiter), exact: true };
        if process.closing {
            if let Some(process) = self.table.get_mut(key) {
                process.reaped = Some(reaped);
            }
        } else {
            self.close(key, Some(reaped), header.ktime_ns);
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
        process.end.is_some().then_some(Reaped { ktime_ns: self.now_ns, by: None, exact: false })
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
        if process.end.is_none() {
            self.anomalies.end_not_seen += 1;
            process.missing = process.missing.with(Missing::EXIT);
        }
        process.state = State::Reaped;
        process.reaped = reaped;
        process.closing = true;
        self.closing.push_back((due_ns, key));
        bill::leave(&mut self.table, key, None);
        bill::unlink(&mut self.table, key, None);
    }

    /// Writes the lives that are over, and the timelines of zombies that nobody reaped in time.
    pub(super) fn tick(&mut self, ktime_ns: u64, out: &mut dyn Output) {
        self.advance(ktime_ns);
        let now = self.now_ns;
        self.write_progress(out);
        while let Some((_, key)) = self.closing.pop_front_if(|(due, _)| *due <= now) {
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

    /// Writes everything that has ended.
    pub(super) fn write_all(&mut self, out: &mut dyn Output) {
        self.write_progress(out);
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
            && let (Some(reap), Some(reaped)) = (process.reap_fields(), process.reaped)
        {
            out.record(&Record::Reap(ReapStep {
                time: self.wall(reaped.ktime_ns),
                subject: process.subject(),
                entity: self.process_id(process.id),
                reap,
            }));
        }
        self.forget(key);
    }

    fn write_timeline(&mut self, key: Key, out: &mut dyn Output) {
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
        if let Some(process) = self.table.remove(key) {
            for image in process.previous.into_iter().chain([process.image]).flatten() {
                self.images.release(image);
            }
        }
    }
}
