//! What happens in a life: programs, failures, progress, the end.

use tracer_common::{
    counter::Totals,
    event::{
        AutoReap, Exec, ExecFailed, Exit, FLAG_ARGS_UNREADABLE, FLAG_CORE, FLAG_NO_COUNTERS, FLAG_NO_INTERP,
        FLAG_SECURE, FLAG_SECURE_UNKNOWN, FLAG_UNREADABLE, ForkFailed,
    },
};

use super::{
    Lifecycle, Output, bill,
    copies::Copies,
    cow,
    image::Parts,
    ledger,
    process::{End, Process, State},
    start::{self, Replaced},
    table::Key,
    usage::Usage,
};
use crate::record::{
    self, ExecStep, ExitStep, ForkLimit, Missing, NewParent, Record, ReleasedBy, Reparent, Text,
};

impl Lifecycle {
    pub(super) fn exec(&mut self, exec: &Exec, parts: Parts<'_>, out: &mut dyn Output) {
        let header = &exec.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.life(self.id_of(header), header.start_time_ns, out) else {
            return;
        };
        if self.table.get(key).is_some_and(Process::has_ended) {
            self.anomalies.after_end += 1;
            return;
        }
        let tries = self.arrive(key, parts.path, out);
        let own = (header.flags & FLAG_NO_COUNTERS == 0).then_some(exec.own);
        bill::leave(&mut self.table, key, own.map(Copies::from));
        bill::unlink(&mut self.table, key, Self::parent_totals(header, exec.parent));
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        process.release_parent(header.ktime_ns, ReleasedBy::Exec);
        if own.is_none() {
            process.missing = process.missing.with(Missing::COUNTERS);
        }
        if header.flags & (FLAG_ARGS_UNREADABLE | FLAG_UNREADABLE) == FLAG_ARGS_UNREADABLE {
            process.missing = process.missing.with(Missing::ARGS);
        }
        if header.flags & FLAG_NO_INTERP != 0 && may_be_script(parts.path, parts.args) {
            process.missing = process.missing.with(Missing::PROGRAM);
        }
        let replaced = Replaced::by(exec, process);
        let is_first = process.execs == 0;
        process.execs += 1;
        process.state = State::Running;
        process.uid = Some(exec.uid);
        process.gid = Some(exec.gid);
        process.place = Some(exec.place);
        process.comm = exec.comm;
        let directory = process.next_directory.take();
        if !is_first {
            self.begin_again(key, own);
        }
        let Some(ran) = self.table.ran(key) else {
            return;
        };
        ran.replaced = replaced;
        ran.at_last = own;
        ran.by = Some(exec.old_tid);
        ran.tries = tries;
        ran.directory = directory;
        ran.is_secure = (header.flags & FLAG_SECURE_UNKNOWN == 0).then_some(header.flags & FLAG_SECURE != 0);
        // Those from before the tracing, and all when a birth was missed, are not among them.
        ran.threads_killed = own.map(|_| exec.threads_killed.saturating_sub(ran.all_threads_killed));
        ran.all_threads_killed = ran.all_threads_killed.max(exec.threads_killed);
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        let forgotten = if header.flags & FLAG_UNREADABLE == 0 {
            process.run(self.images.insert(parts), exec.comm_before, exec.reached)
        } else {
            process.missing = process.missing.with(Missing::PROGRAM);
            process.image.take()
        };
        if let Some(forgotten) = forgotten {
            self.images.release(forgotten);
        }
        self.settle_exec(key, exec);
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        let forked_by = process.birth.and(process.parent).filter(|_| is_first && !process.is_late());
        if let Some(parent) = forked_by.and_then(|id| self.table.key(id))
            && let Some(made) = self.table.made(parent)
        {
            made.children.execs_followed += 1;
        }
        if let Some(process) = self.stepping(key) {
            out.record(&Record::Exec(ExecStep {
                time: self.wall(header.ktime_ns),
                subject: process.subject(),
                entity: self.process_id(process.id),
                executable: self.executable(process),
                args: self.args(process).unwrap_or_default(),
                args_count: exec.argc,
                previous: process.previous().next_back().map(|previous| self.program(previous)),
                working_directory: self.working_directory(process),
                env: self.env(process),
                exec: self.exec_fields(process, None),
                ledger: self.ledger_of_exec(process),
            }));
        }
    }

    /// An exec that is not the first of its process, which had copied `own` until then. Told before it is counted.
    fn begin_again(&mut self, key: Key, own: Option<Totals>) {
        let Some(ran) = self.table.ran(key) else {
            return;
        };
        let (first, last) = (ran.at_first(), ran.at_last);
        if let Some(earlier) = self.table.earlier(key) {
            earlier.at_first = first;
            earlier.wasted = own.zip(last).map(|(own, last)| Copies::from(own).since(last.into()));
        }
    }

    pub(super) fn exec_failed(&mut self, failed: &ExecFailed, path: &[u8], out: &mut dyn Output) {
        let header = &failed.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.life(self.id_of(header), header.start_time_ns, out) else {
            return;
        };
        if self.table.get(key).is_some_and(Process::has_ended) {
            self.anomalies.after_end += 1;
            return;
        }
        if let Some(process) = self.table.get_mut(key) {
            ledger::forget_call(process);
        }
        self.try_failed(key, failed, path, out);
    }

    pub(super) fn fork_failed(&mut self, failed: &ForkFailed, out: &mut dyn Output) {
        let header = &failed.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.life(self.id_of(header), header.start_time_ns, out) else {
            return;
        };
        if self.table.get(key).is_some_and(Process::has_ended) {
            self.anomalies.after_end += 1;
            return;
        }
        if let Some(process) = self.stepping(key) {
            out.record(&Record::ForkFailed(record::ForkFailed {
                time: self.wall(header.ktime_ns),
                subject: process.subject(),
                entity: self.process_id(process.id),
                errno: failed.errno,
                syscall: failed.syscall,
                limit: limit(failed),
            }));
        }
    }

    pub(super) fn exit(&mut self, exit: &Exit, out: &mut dyn Output) {
        let header = &exit.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.life(self.id_of(header), header.start_time_ns, out) else {
            return;
        };
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        if process.written || process.end().is_some() {
            self.duplicates += 1;
            let was_written = process.written;
            if let Some(over) = process.over.as_mut() {
                if let Some(end) = over.end.as_mut().filter(|_| !was_written) {
                    end.merge(&End::of(exit));
                }
                if let Some(usage) = over.usage.as_mut().filter(|usage| !usage.is_final) {
                    usage.merge(&exit.usage);
                }
            }
            return;
        }
        self.end_walk(key, out);
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        process.release_parent(header.ktime_ns, ReleasedBy::Exit);
        process.uid = Some(exit.uid);
        process.place = Some(exit.place);
        process.comm = exit.comm;
        let mut end = End::of(exit);
        if process.shares_memory() {
            // That is its parent's, and stays.
            end.memory = None;
        }
        if end.counters.is_none() {
            process.missing = process.missing.with(Missing::COUNTERS);
        }
        process.missing = process.missing.without(Missing::EXIT);
        let vpid = process.vpid.filter(|&vpid| vpid != process.id.tgid);
        if !process.has_ended() {
            process.state = State::Zombie;
            self.live_count -= 1;
            self.zombie_count += 1;
            self.zombies.push_back((header.ktime_ns, key));
        }
        let Some(over) = self.table.over(key) else {
            return;
        };
        over.usage.get_or_insert(Usage { counted: exit.usage, is_final: false });
        let end = over.end.insert(end);
        let own = end.counters.as_ref().map(|counters| Copies::from(cow::totals(counters)));
        bill::leave(&mut self.table, key, own);
        bill::unlink(&mut self.table, key, Self::parent_totals(header, exit.parent));
        if let Some(vpid) = vpid {
            self.table.index_vpid(exit.real_parent_tgid, vpid, key);
        }
        self.reparent(key, exit.real_parent_tgid, header.ktime_ns, out);
        if let Some(process) = self.stepping(key)
            && let (Some(end), Some(usage)) = (process.end(), process.usage())
        {
            out.record(&Record::Exit(ExitStep {
                time: self.wall(header.ktime_ns),
                subject: process.subject(),
                entity: self.process_id(process.id),
                exit_code: end.exit_code(),
                exit: end.fields(),
                usage: usage.fields(),
            }));
        }
    }

    /// Notes the parent that the kernel names now.
    pub(super) fn reparent(&mut self, key: Key, to: u32, ktime_ns: u64, out: &mut dyn Output) {
        let Some(process) = self.table.get_mut(key) else {
            return;
        };
        let from = process.real_parent.replace(to);
        if let Some(from_pid) = from.filter(|&from| from != to)
            && let Some(process) = self.stepping(key)
        {
            out.record(&Record::Reparent(Reparent {
                time: self.wall(ktime_ns),
                subject: process.subject(),
                entity: self.process_id(process.id),
                from_pid,
                to_pid: to,
                to: self.new_parent(to),
            }));
        }
    }
}

impl Lifecycle {
    /// Who takes orphans in: only the first process of a pid namespace and a subreaper do (find_new_reaper() in
    /// kernel/exit.c).
    fn new_parent(&self, tgid: u32) -> NewParent<'_> {
        let process = self.table.by_tgid(tgid).and_then(|key| self.table.get(key));
        NewParent {
            name: process.map(|process| Text(process.name())).filter(|name| !name.0.is_empty()),
            entity_id: process.map(|process| self.process_id(process.id).entity_id),
            role: match (tgid, process.and_then(|process| process.vpid)) {
                (1, _) | (_, Some(1)) => Some("init"),
                (_, Some(_)) => Some("subreaper"),
                (_, None) => None,
            },
        }
    }
}

impl End {
    fn of(exit: &Exit) -> Self {
        let flags = exit.header.flags;
        Self {
            ktime_ns: exit.header.ktime_ns,
            counters: (flags & FLAG_NO_COUNTERS == 0).then_some(exit.counters),
            minor_faults: exit.minor_faults,
            major_faults: exit.major_faults,
            status: exit.status,
            syscall: exit.syscall,
            core: flags & FLAG_CORE != 0,
            real_parent: exit.real_parent_tgid,
            auto_reap: auto_reap(exit.auto_reap),
            reached: exit.reached,
            memory: start::memory(&exit.memory),
            run_delay: exit.run_delay,
        }
    }

    /// Takes over what a second record of the same end counted more.
    fn merge(&mut self, other: &Self) {
        self.minor_faults = self.minor_faults.max(other.minor_faults);
        self.major_faults = self.major_faults.max(other.major_faults);
        if let (Some(counters), Some(others)) = (&mut self.counters, &other.counters) {
            for (counter, other) in counters.iter_mut().zip(others) {
                *counter = (*counter).max(*other);
            }
        }
    }
}

/// The limit that a fork was likely refused for: one that is reached, and for which the kernel gives this error
/// (copy_process() in kernel/fork.c, pids_can_fork() in kernel/cgroup/pids.c).
fn limit(failed: &ForkFailed) -> Option<ForkLimit> {
    const EAGAIN: u32 = 11;
    const ROOT: u32 = 0;
    if failed.errno != EAGAIN {
        return None;
    }
    // The limit of a user is none for root.
    if failed.uid != ROOT && failed.user_processes != 0 && failed.user_processes >= failed.max_user_processes
    {
        return Some(ForkLimit { name: "rlimit_nproc", value: failed.max_user_processes });
    }
    (failed.cgroup_limit != 0).then_some(ForkLimit { name: "pids_max", value: failed.cgroup_limit })
}

/// What a record says of the kernel's own reaping.
pub(super) const fn auto_reap(wire: u32) -> AutoReap {
    const NO: u32 = AutoReap::No as u32;
    const YES: u32 = AutoReap::Yes as u32;
    match wire {
        NO => AutoReap::No,
        YES => AutoReap::Yes,
        _ => AutoReap::Unknown,
    }
}

/// The kernel runs a script as `INTERPRETER [ARGUMENT] PATH ...` (fs/binfmt_script.c): without its path there, it
/// is none.
fn may_be_script(path: &[u8], args: &[u8]) -> bool {
    args.split(|&b| b == 0).skip(1).take(2).any(|arg| arg == path)
}
