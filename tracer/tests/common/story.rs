//! Writes recordings as a story is told.

use std::collections::HashMap;

use tracer::{
    decode::{Event, Loss, LossStage, Snapshot},
    level::Level,
    lifecycle::Config,
    record::{Hello, Hook, Namespaces, Time},
    replay::{Head, Recorder},
};
use tracer_common::{
    counter::{COUNTERS, Class, Counters, Mode, Totals, index},
    event::{
        AutoReap, Cwd, EndedBy, Exec, ExecFailed, Exit, FLAG_ELF, FLAG_NO_PARENT, Fork, ForkFailed, Free,
        Header, Kind, Thread, Usage, Wait,
    },
    ledger::{Facts, Ledger, Phase},
    place::{FILE_NAME_BYTES, File, Place, device_number},
    start::{Memory, Reached, Start},
    state::Process,
};

/// 2026-01-01, as CLOCK_REALTIME less CLOCK_BOOTTIME.
pub(crate) const WALL_OFFSET_NS: i64 = 1_767_225_600_000_000_000;
pub(crate) const MS: u64 = 1_000_000;

pub(crate) const SYS_CLONE: u32 = 56;
pub(crate) const SYS_FORK: u32 = 57;
pub(crate) const SYS_VFORK: u32 = 58;
pub(crate) const SYS_EXIT: u32 = 60;
pub(crate) const SYS_EXIT_GROUP: u32 = 231;
pub(crate) const SYS_CLONE3: u32 = 435;
pub(crate) const CLONE_VM_VFORK: u64 = 0x4100;

/// What the story knows of a process.
#[derive(Clone, Copy)]
struct Life {
    start_ns: u64,
    parent: u32,
    parent_start_ns: u64,
    ended: bool,
    counters: Counters,
}

/// A recording in the making. Times are in ms since boot; each event takes place "now".
pub(crate) struct Story {
    recorder: Recorder<Vec<u8>>,
    now_ns: u64,
    lives: HashMap<u32, Life>,
}

/// The namespaces that the machine began with.
pub(crate) const NAMESPACES: Namespaces = Namespaces([
    0xefff_fffb,
    0xefff_ffff,
    0xefff_fff8,
    0xefff_fff9,
    0xefff_fffc,
    0xefff_fffa,
    0xefff_fffd,
    0xefff_fffe,
]);

pub(crate) fn config() -> Config {
    Config {
        boot_id: *b"a boot of a test",
        wall_offset_ns: WALL_OFFSET_NS,
        self_tgid: 1000,
        namespaces: NAMESPACES,
        ..Config::default()
    }
}

/// With all steps and the system call hooks.
pub(crate) fn full() -> Config {
    Config { steps: true, full_hooks: true, ..config() }
}

fn hello(config: &Config) -> Hello {
    let hook = |on, reason: Option<&str>| Hook { on, reason: reason.map(String::from) };
    Hello {
        time: Time(WALL_OFFSET_NS),
        hostname: "box".into(),
        kernel: "6.12.0-test".into(),
        version: "0.0.0".into(),
        run_id: "00112233445566778899aabbccddeeff".into(),
        boot_id: "6120626f-6f74-206f-6620-612074657374".into(),
        clock_offset_ns: WALL_OFFSET_NS,
        hooks: [
            ("sched_process_fork".to_owned(), hook(true, None)),
            ("sys_exit".to_owned(), hook(false, Some("base hooks"))),
        ]
        .into(),
        cow_level: config.cow,
        cow_level_reason: (config.cow < Level::Full).then(|| format!("--cow {}", config.cow.name())),
        namespaces: config.namespaces,
        unavailable: [("tracer.fork.duration_ns".to_owned(), "not traced".to_owned())].into(),
        ..Hello::default()
    }
}

impl Story {
    pub(crate) fn new(config: Config) -> Self {
        let head = Head { hello: hello(&config), config };
        Self { recorder: Recorder::new(Vec::new(), &head).unwrap(), now_ns: 0, lives: HashMap::new() }
    }

    /// Moves on to `ms` after boot.
    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        self.now_ns = ms * MS;
        self
    }

    pub(crate) fn event(&mut self, event: Event<'_>) -> &mut Self {
        self.recorder.event(&event).unwrap();
        self
    }

    fn life(&self, pid: u32) -> Life {
        *self.lives.get(&pid).expect("the story has told of it")
    }

    fn header<T>(&self, kind: Kind, pid: u32, tail: usize) -> Header {
        Header {
            kind: kind as u32,
            flags: 0,
            cpu: 0,
            tid: pid,
            tgid: pid,
            size: (size_of::<T>() + tail) as u32,
            ktime_ns: self.now_ns,
            start_time_ns: self.life(pid).start_ns,
        }
    }

    /// Totals of the parent that `pid` was born with, while it lives.
    fn parent_totals(&self, pid: u32, header: &mut Header) -> Totals {
        let life = self.life(pid);
        let parent = self.lives.get(&life.parent);
        match parent.filter(|p| p.start_ns == life.parent_start_ns && !p.ended) {
            Some(parent) => Totals::of(&parent.counters),
            None => {
                header.flags |= FLAG_NO_PARENT;
                Totals::default()
            }
        }
    }

    /// A process from before, started at `start_ms`.
    pub(crate) fn existing(&mut self, pid: u32, start_ms: u64) -> &mut Self {
        self.lives.insert(
            pid,
            Life {
                start_ns: start_ms * MS,
                parent: 0,
                parent_start_ns: 0,
                ended: false,
                counters: [0; COUNTERS],
            },
        );
        self
    }

    /// The same, and it is found in /proc. There, processes start at the tick of their pid.
    pub(crate) fn snapshot(&mut self, pid: u32, ppid: u32, exe: &str, args: &str) -> &mut Self {
        self.existing(pid, u64::from(pid) * 10);
        let name = exe.rsplit('/').next().unwrap();
        self.event(Event::Snapshot(Snapshot {
            tgid: pid,
            ppid,
            start_ticks: u64::from(pid),
            parent_start_ticks: u64::from(ppid),
            vpid: pid,
            uid: 1000,
            gid: 100,
            threads: 1,
            comm: name.as_bytes(),
            exe: exe.as_bytes(),
            args: args.replace(' ', "\0").as_bytes(),
            file: Some(file(name)),
            place: place(pid),
            ..Snapshot::default()
        }))
    }

    /// `pid` copies pages because they are shared.
    pub(crate) fn copies(&mut self, pid: u32, pages: u64) -> &mut Self {
        self.count(pid, index(Class::Anon, Mode::User), pages)
    }

    pub(crate) fn count(&mut self, pid: u32, counter: u32, by: u64) -> &mut Self {
        self.lives.get_mut(&pid).unwrap().counters[counter as usize] += by;
        self
    }

    pub(crate) fn fork(&mut self, parent: u32, child: u32) -> &mut Self {
        self.fork_as(parent, child, 0x120_0000, SYS_CLONE)
    }

    pub(crate) fn fork_as(&mut self, parent: u32, child: u32, clone_flags: u64, call: u32) -> &mut Self {
        self.fork_with(parent, child, |fork| {
            fork.clone_flags = clone_flags;
            fork.syscall = call;
            fork.shares_mm = u32::from(clone_flags & 0x100 != 0);
        })
    }

    pub(crate) fn fork_with(&mut self, parent: u32, child: u32, change: impl FnOnce(&mut Fork)) -> &mut Self {
        let start_ns = self.now_ns;
        let from = self.life(parent);
        self.lives.insert(
            child,
            Life { start_ns, parent, parent_start_ns: from.start_ns, ended: false, counters: [0; COUNTERS] },
        );
        let mut fork = Fork {
            header: self.header::<Fork>(Kind::Fork, child, 0),
            parent_start_time_ns: from.start_ns,
            pgtable_bytes: 94_208,
            place: place(parent),
            mappings: 21,
            parent: Totals::of(&from.counters),
            parent_tgid: parent,
            parent_tid: parent,
            real_parent_tgid: parent,
            syscall: SYS_FORK,
            uid: 1000,
            gid: 100,
            vpid: child,
            comm: comm("sh"),
            ..Fork::default()
        };
        change(&mut fork);
        self.event(Event::Fork(fork))
    }

    /// Runs `path`; `args` are parted by spaces.
    pub(crate) fn exec(&mut self, pid: u32, path: &str, args: &str) -> &mut Self {
        let args: Vec<u8> = args.split(' ').flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        self.exec_with(pid, path, "", &args, |_| {})
    }

    pub(crate) fn exec_with(
        &mut self,
        pid: u32,
        path: &str,
        interp: &str,
        args: &[u8],
        change: impl FnOnce(&mut Exec),
    ) -> &mut Self {
        self.exec_of(pid, [path.as_bytes(), interp.as_bytes(), args, b""], change)
    }

    fn exec_of(
        &mut self,
        pid: u32,
        [path, interp, args, env]: [&[u8]; 4],
        change: impl FnOnce(&mut Exec),
    ) -> &mut Self {
        let mut header = self.header::<Exec>(Kind::Exec, pid, path.len() + interp.len() + args.len());
        let name = String::from_utf8_lossy(path.rsplit(|&byte| byte == b'/').next().unwrap()).into_owned();
        let parent = self.parent_totals(pid, &mut header);
        let mut exec = Exec {
            header,
            place: place(pid),
            file: file(&name),
            own: Totals::of(&self.life(pid).counters),
            parent,
            old_tid: pid,
            argc: args.split_inclusive(|&byte| byte == 0).count() as u32,
            args_bytes: args.len() as u32,
            uid: 1000,
            gid: 100,
            path_len: path.len() as u32,
            interp_len: interp.len() as u32,
            args_len: args.len() as u32,
            prepared_ns: 0,
            dropped: Memory::NONE,
            reached: Reached::default(),
            threads_killed: 0,
            env_len: 0,
            env_count: 0,
            env_bytes: 0,
            comm: comm(&name),
            comm_before: [0; 16],
        };
        exec.header.flags |= FLAG_ELF;
        change(&mut exec);
        self.event(Event::Exec { exec, path, interp, args, env })
    }

    /// Runs `path` with an environment.
    pub(crate) fn exec_env(
        &mut self,
        pid: u32,
        path: &str,
        env: &[u8],
        change: impl FnOnce(&mut Exec),
    ) -> &mut Self {
        let args = [path.as_bytes(), b"\0"].concat();
        let change = |exec: &mut Exec| {
            exec.header.size += env.len() as u32;
            (exec.env_len, exec.env_bytes) = (env.len() as u32, env.len() as u32);
            exec.env_count = env.split_inclusive(|&byte| byte == 0).count() as u32;
            change(exec);
        };
        self.exec_of(pid, [path.as_bytes(), b"", &args, env], change)
    }

    pub(crate) fn exec_failed(&mut self, pid: u32, path: &str, errno: u32) -> &mut Self {
        let failed = ExecFailed {
            header: self.header::<ExecFailed>(Kind::ExecFailed, pid, path.len()),
            errno,
            path_len: path.len() as u32,
        };
        self.event(Event::ExecFailed { failed, path: path.as_bytes() })
    }

    pub(crate) fn fork_failed(&mut self, pid: u32, errno: u32) -> &mut Self {
        let failed = ForkFailed {
            header: self.header::<ForkFailed>(Kind::ForkFailed, pid, 0),
            errno,
            syscall: SYS_CLONE,
            uid: 1000,
            reserved: 0,
            user_processes: 30,
            max_user_processes: 30,
            cgroup_limit: 0,
        };
        self.event(Event::ForkFailed(failed))
    }

    /// Is in a directory when it runs a program next; the names begin with the directory's own.
    pub(crate) fn cwd(&mut self, pid: u32, names: &[u8], change: impl FnOnce(&mut Cwd)) -> &mut Self {
        let mut cwd = Cwd {
            header: self.header::<Cwd>(Kind::Cwd, pid, names.len()),
            names_len: names.len() as u64,
            deleted: 0,
        };
        change(&mut cwd);
        self.event(Event::Cwd { cwd, names })
    }

    pub(crate) fn thread(&mut self, pid: u32, tid: u32, ended_by: EndedBy) -> &mut Self {
        let mut header = self.header::<Thread>(Kind::Thread, pid, 0);
        header.tid = tid;
        let thread = Thread {
            header,
            start_time_ns: header.ktime_ns - 1_500_000,
            cpu_ns: 900_000,
            minor_faults: 12,
            major_faults: 1,
            ended_by: ended_by as u32,
            reserved: 0,
            comm: comm("worker"),
        };
        self.event(Event::Thread(thread))
    }

    pub(crate) fn exit(&mut self, pid: u32, code: u32) -> &mut Self {
        let name = "true";
        self.exit_with(pid, |exit| {
            exit.status = code << 8;
            exit.comm = comm(name);
        })
    }

    pub(crate) fn kill(&mut self, pid: u32, signal: u32) -> &mut Self {
        self.exit_with(pid, |exit| {
            exit.status = signal;
            exit.syscall = u32::MAX;
        })
    }

    pub(crate) fn exit_with(&mut self, pid: u32, change: impl FnOnce(&mut Exit)) -> &mut Self {
        let mut header = self.header::<Exit>(Kind::Exit, pid, 0);
        let parent = self.parent_totals(pid, &mut header);
        let life = self.life(pid);
        let mut exit = Exit {
            header,
            counters: life.counters,
            parent,
            minor_faults: 40,
            major_faults: 1,
            usage: used(),
            place: place(pid),
            reached: Reached::default(),
            memory: Memory::NONE,
            run_delay: 0,
            status: 0,
            syscall: SYS_EXIT_GROUP,
            uid: 1000,
            real_parent_tgid: life.parent,
            auto_reap: AutoReap::No as u32,
            reserved: 0,
            comm: comm("sh"),
        };
        change(&mut exit);
        self.event(Event::Exit(exit))
    }

    /// `waiter` reaps `pid`, and knows that pid by the global number.
    pub(crate) fn wait(&mut self, waiter: u32, pid: u32) -> &mut Self {
        self.wait_with(waiter, |wait| wait.pid = pid)
    }

    pub(crate) fn wait_with(&mut self, waiter: u32, change: impl FnOnce(&mut Wait)) -> &mut Self {
        let mut wait = Wait { header: self.header::<Wait>(Kind::Wait, waiter, 0), pid: 0, initial_pid_ns: 1 };
        change(&mut wait);
        self.event(Event::Wait(wait))
    }

    pub(crate) fn free(&mut self, pid: u32, last_parent: u32) -> &mut Self {
        self.free_with(pid, |free| free.real_parent_tgid = last_parent)
    }

    /// After its end, `pid` has used half a millisecond more.
    pub(crate) fn free_with(&mut self, pid: u32, change: impl FnOnce(&mut Free)) -> &mut Self {
        let mut free = Free {
            header: self.header::<Free>(Kind::Free, pid, 0),
            usage: Usage { cpu_ns: 2_500_000, ..used() },
            real_parent_tgid: 0,
            auto_reap: AutoReap::No as u32,
        };
        change(&mut free);
        self.event(Event::Free(free))
    }

    /// The state of `pid`, which may be about to be born.
    pub(crate) fn ledger(&mut self, pid: u32, phase: Phase, facts: Facts) -> &mut Self {
        if !self.lives.contains_key(&pid) {
            self.existing(pid, self.now_ns / MS);
        }
        let header = self.header::<Ledger>(Kind::Ledger, pid, 0);
        self.event(Event::Ledger(Ledger { header, phase: phase as u32, reserved: 0, facts }))
    }

    pub(crate) fn progress(&mut self, pid: u32) -> &mut Self {
        let life = self.life(pid);
        self.event(Event::Progress {
            tgid: pid,
            process: Process {
                start_time_ns: life.start_ns,
                clone_flags: 0,
                parent_start_time_ns: 0,
                exec_mm: 0,
                mm: 0,
                mm_totals: Totals::default(),
                parent_tgid: life.parent,
                outside: 0,
                comm_before: [0; 16],
                counters: life.counters,
                start: Start::default(),
                run_delay: 0,
            },
        })
    }

    pub(crate) fn lost(&mut self, stage: LossStage, record: Option<Kind>, count: u64) -> &mut Self {
        let ktime_ns = self.now_ns;
        self.event(Event::Loss(Loss { ktime_ns, stage, record, count }))
    }

    pub(crate) fn tick(&mut self) -> &mut Self {
        let ktime_ns = self.now_ns;
        self.event(Event::Tick { ktime_ns })
    }

    /// A process has ended: the kernel side has no counters of it any more.
    pub(crate) fn forget(&mut self, pid: u32) -> &mut Self {
        if let Some(life) = self.lives.get_mut(&pid) {
            life.ended = true;
        }
        self
    }

    pub(crate) fn recording(self) -> Vec<u8> {
        self.recorder.into_inner()
    }
}

/// Each process is in one cgroup, in the session of the machine's first process, and its own group.
pub(crate) fn place(pid: u32) -> Place {
    Place { cgroup_id: 77, namespaces: NAMESPACES.0, session: 1, group: pid, ..Place::default() }
}

/// A file on the disk.
fn file(name: &str) -> File {
    let mut bytes = [0; FILE_NAME_BYTES];
    let len = name.len().min(FILE_NAME_BYTES - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    File { inode: 4_711, device: device_number(254, 1), links: 1, name: bytes }
}

/// What each process has used at its end: one tick in user mode, three in the kernel.
fn used() -> Usage {
    Usage {
        user_ns: 4_000_000,
        system_ns: 12_000_000,
        cpu_ns: 2_000_000,
        max_rss_bytes: 1_200_128,
        ..Usage::default()
    }
}

pub(crate) fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    let len = name.len().min(15);
    comm[..len].copy_from_slice(&name.as_bytes()[..len]);
    comm
}
