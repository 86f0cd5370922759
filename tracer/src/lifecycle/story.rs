//! What a record says of a process: read from the table, changing nothing.

use super::{
    Lifecycle, cgroups,
    copies::Copies,
    cow,
    image::Image,
    process::{self, End, Id, Made, Offspring, PREVIOUS, Previous, Process, Ran},
    start,
    table::Key,
    usage::Usage,
};
use crate::{
    level::Level,
    record::{
        Args, ByParent, Children, Container, Decimal, EntityId, Exec, Exit, ExitVia, File, Fork, ForkKind,
        Group, Leader, Missing, Namespaces, OtherNamespaces, ProcessId, Program, Reap, Signal, Start, Story,
        Subject, Terminal, Text, Timeline, User,
    },
};
use tracer_common::{counter, place::Place};

/// exit(2).
const SYS_EXIT: u32 = 60;

impl Process {
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            pid: self.id.tgid,
            comm: self.name(),
            uid: self.uid,
            cgroup_id: self.cgroup_id(),
            in_tree: self.in_tree,
        }
    }

    /// Its pid in its own pid namespace, unless that is the same.
    #[expect(clippy::option_option, reason = "the same, not known, and another one, as the field has it")]
    pub(super) fn other_vpid(&self) -> Option<Option<u32>> {
        (self.vpid != Some(self.id.tgid)).then_some(self.vpid)
    }

    pub(super) fn reap_fields(&self) -> Option<Reap> {
        self.reaped().map(|reaped| Reap {
            by_pid: reaped.by,
            zombie_ns: self.end().map(|end| reaped.ktime_ns.saturating_sub(end.ktime_ns)),
            auto: reaped.auto,
            exact: reaped.exact,
        })
    }

    /// Its copies in the program that it inherited: until its first exec, or its end.
    fn before_exec(&self) -> Option<Copies> {
        if self.is_late() {
            return None;
        }
        if self.execs > 0 {
            return self.ran.as_ref()?.at_first().map(Copies::from);
        }
        let counters = self.end()?.counters.as_ref()?;
        Some(cow::totals(counters).into())
    }

    /// How it was born and what that cost, as far as `level` knows.
    fn fork_fields(&self, level: Level) -> Option<Fork> {
        let facts = self.birth?.facts(level);
        if self.origin == crate::record::Origin::Command {
            return None;
        }
        let before_exec = self.before_exec().filter(|_| level.has_copies());
        let by_parent = self.bill.by_parent.filter(|_| level.has_copies());
        let wasted = before_exec.zip(by_parent).map(|(own, parents)| own.plus(parents).shown(level));
        let has_copy = !facts.shares_mm;
        let blocks = matches!(facts.kind, ForkKind::Vfork | ForkKind::PosixSpawn);
        Some(Fork {
            kind: facts.kind,
            clone_flags: facts.clone_flags,
            syscall: facts.syscall,
            shares_mm: facts.shares_mm,
            pgtable_bytes: facts.pgtable_bytes,
            vmas: facts.vmas,
            duration_ns: facts.duration_ns,
            run_delay_ns: self.end().and_then(End::run_delay_ns),
            ns_per_mib: facts.ns_per_mib,
            shared_anon_bytes: facts.shared_anon_bytes,
            shared_file_bytes: facts.shared_file_bytes,
            shared_shmem_bytes: facts.shared_shmem_bytes,
            parent_blocked_ns: blocks.then(|| self.released.map(|released| released.blocked_ns)),
            released_by: blocks.then(|| self.released.map(|released| released.by)),
            before_exec: before_exec.map(|copies| copies.shown(level)),
            by_parent: has_copy.then(|| {
                by_parent.map(|paid| ByParent { paid: paid.shown(level), overlapped: self.bill.overlapped })
            }),
            eager_copies: facts.eager_copies,
            wasted: (has_copy && self.execs > 0).then_some(wasted),
        })
    }
}

impl End {
    /// The exit code; `None` when a signal ended it.
    pub(super) fn exit_code(&self) -> Option<u8> {
        let [status, code, _, _] = self.status.to_le_bytes();
        (status & 0x7f == 0).then_some(code)
    }

    pub(super) fn fields(&self) -> Exit {
        let [status, ..] = self.status.to_le_bytes();
        let signal = Some(status & 0x7f).filter(|&signal| signal != 0).map(Signal);
        // A thread may be in exit(2) already when another one calls exit_group, and end after it.
        let by_group = self.counters.is_some_and(|counters| counters[counter::ENDED_GROUP as usize] > 0);
        let via = match (signal, self.syscall) {
            (Some(_), _) => ExitVia::Signal,
            (None, SYS_EXIT) if !by_group => ExitVia::Exit,
            // In any other call, or in none, a thread ends because another one called exit_group.
            (None, _) => ExitVia::ExitGroup,
        };
        Exit {
            via,
            signal,
            core_dumped: self.core || status & 0x80 != 0,
            parent_pid: (self.real_parent != 0).then_some(self.real_parent),
            memory: self.memory,
        }
    }
}

impl Lifecycle {
    /// The process, when steps are to be written.
    pub(super) fn stepping(&self, key: Key) -> Option<&Process> {
        self.table.get(key).filter(|_| self.config.steps)
    }

    pub(super) fn process_id(&self, id: Id) -> ProcessId {
        ProcessId { pid: id.tgid, entity_id: EntityId::new(self.boot, id.tgid, id.ticks) }
    }

    /// What it has instead of the machine's first namespaces.
    fn namespaces(&self, place: &Place) -> Option<OtherNamespaces> {
        let own = Namespaces(place.namespaces);
        (own != Namespaces::default()).then_some(OtherNamespaces { own, first: self.config.namespaces })
    }

    pub(super) fn image(&self, process: &Process) -> Option<&Image> {
        process.image.map(|image| self.images.get(image))
    }

    pub(super) fn executable(&self, process: &Process) -> Option<Text<'_>> {
        self.image(process).map(|image| Text(image.executable()))
    }

    pub(super) fn args(&self, process: &Process) -> Option<Args<'_>> {
        self.image(process).map(|image| Args(image.args()))
    }

    /// A program that a process ran before.
    pub(super) fn program<'a>(&'a self, previous: &'a Previous) -> Program<'a> {
        let image = self.images.get(previous.image);
        let name = Some(Text(process::text_of(&previous.comm))).filter(|name| !name.0.is_empty());
        let start = start::of_program(&previous.reached, self.config.cow);
        Program { executable: Text(image.executable()), name, args_count: image.argc, start }
    }

    /// With `start` in a timeline only: it is not known before.
    pub(super) fn exec_fields(&self, process: &Process, start: Option<Option<Start>>) -> Exec<'_> {
        let (image, level) = (self.image(process), self.config.cow);
        let ran = process.ran.as_deref();
        let replaced = ran.map(|ran| ran.replaced).unwrap_or_default();
        let chain = image.map(Image::chain).unwrap_or_default();
        let is_other = image.is_none_or(|image| image.path() != image.executable());
        let has_run = process.execs > 0;
        // The memory that the first exec of a late one dropped was not followed.
        let is_known = level.has_copies() && !(process.is_late() && process.execs == 1);
        let wasted = ran.and_then(Ran::wasted).filter(|_| is_known);
        let registered = self.config.misc_interpreters.as_deref();
        Exec {
            seq: process.execs,
            path: is_other.then(|| image.map(|image| Text(image.path()))),
            interpreters: chain.interpreters,
            interpreters_exact: (!chain.is_exact && image.is_some()).then_some(false),
            format: image.and_then(|image| chain.format(image.flags, registered)),
            args_bytes: Some(image.map(|image| image.args_bytes)),
            args_truncated: image.is_some_and(|image| image.args().len() < image.args_bytes as usize),
            env: self.env_size(process),
            from_tid: ran.and_then(|ran| ran.by).filter(|&tid| tid != process.id.tgid),
            secure: ran.and_then(|ran| ran.is_secure),
            threads_killed: ran.and_then(|ran| ran.threads_killed),
            file: image.and_then(|image| image.file.as_ref()).map(File::from),
            failures: self.config.full_hooks.then_some(process.failures),
            tries: has_run.then(|| ran.and_then(|ran| ran.tries).filter(|_| self.config.full_hooks)),
            load_ns: has_run.then_some(replaced.load_ns),
            dropped: (has_run && replaced.was_own).then(|| start::memory(&replaced.memory)),
            wasted: (has_run && replaced.was_own).then(|| wasted.map(|copies| copies.shown(level))),
            start: start.filter(|_| has_run),
        }
    }

    /// The whole life, as known now; `previous` is room for what it ran before.
    pub(super) fn timeline<'a>(
        &'a self,
        process: &'a Process,
        previous: &'a mut [Program<'a>; PREVIOUS],
    ) -> Timeline<'a> {
        let mut ran = 0;
        for (program, ended) in previous.iter_mut().zip(process.previous()) {
            *program = self.program(ended);
            ran += 1;
        }
        let ProcessId { pid, entity_id } = self.process_id(process.id);
        let end = process.end();
        let end_time = end.map(|end| self.wall(end.ktime_ns));
        let missing =
            process.missing.with(process.missing_program()).with(self.losses.since(process.losses_before));
        let counters = end.and_then(|end| end.counters.as_ref());
        // All counters but that of threads come from the fault hooks.
        let level = self.config.cow;
        let of_faults = counters.filter(|_| level.has_copies());
        let start = end.filter(|_| process.execs > 0).and_then(|end| start::of_program(&end.reached, level));
        let Made { account, children } = process.made.as_deref().copied().unwrap_or_default();
        let Offspring { forks, vforks, spawns, clones, execs_followed } = children;
        let cgroup_id = process.cgroup_id();
        let cgroup_path = cgroup_id.and_then(|id| self.cgroups.get(id));
        Timeline {
            time: end_time.unwrap_or_else(|| self.wall(self.now_ns)),
            duration_ns: end.map(|end| end.ktime_ns.saturating_sub(process.start_ns)),
            subject: process.subject(),
            process: crate::record::Process {
                pid,
                vpid: process.other_vpid(),
                entity_id,
                name: Text(process.name()),
                executable: self.executable(process),
                args: self.args(process),
                args_count: self.image(process).map(|image| image.argc),
                exit_code: end.and_then(End::exit_code),
                start: self.wall(process.start_ns),
                end: end_time,
                parent: process.parent.map(|id| self.process_id(id)),
                session_leader: process.place.and_then(|place| Leader::new(place.session)),
                group_leader: process.place.and_then(|place| Leader::new(place.group)),
                tty: match process.place.map(|place| Terminal::new(place.tty)) {
                    Some(None) => None,
                    terminal => Some(terminal.flatten()),
                },
                previous: &previous[..ran],
                env_vars: self.env(process),
                working_directory: self.working_directory(process),
            },
            user: User { id: process.uid.map(Decimal), group: Group { id: process.gid.map(Decimal) } },
            tracer: Story {
                origin: process.origin,
                complete: missing.is_empty(),
                missing,
                fork: process.fork_fields(level),
                exec: self.exec_fields(process, Some(start)),
                cow: of_faults.map(|counters| cow::counts(counters, process.at_last_exec(), level)),
                faults: end.map(|end| cow::faults(end.minor_faults, end.major_faults, of_faults, level)),
                children: Children {
                    forks,
                    vforks,
                    spawns,
                    clones,
                    execs_followed,
                    threads: counters.map(|counters| counters[counter::THREADS as usize]),
                    paid: level.has_copies().then(|| account.paid.shown(level)),
                },
                exit: end.map(End::fields),
                usage: process.usage().map(Usage::fields),
                reap: process.reap_fields(),
                cgroup_id,
                cgroup_path: cgroup_path.map(Text),
                namespaces: process.place.and_then(|place| self.namespaces(&place)),
                ledger: self.ledger_of_exec(process),
                args_b64: None,
            },
            container: cgroup_path.and_then(cgroups::container_id).map(|id| Container { id }),
        }
    }
}

impl Process {
    /// A process that another one's system call made runs a program; a kernel thread runs none.
    fn missing_program(&self) -> Missing {
        let made_by_call = self.birth.is_some_and(|birth| birth.syscall().is_some());
        if made_by_call && self.image.is_none() { Missing::PROGRAM } else { Missing::default() }
    }
}
