//! What user space allocates: nothing for an event while the load is steady, and little for a life that goes on.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io,
};

use tracer::{
    decode::Event, filter::Filter, lifecycle::Config, pipeline::Pipeline, record::Hello, replay::Head,
    sink::Sink,
};
use tracer_common::{
    bytes,
    counter::{COUNTERS, Totals},
    event::{Exec, Exit, Fork, Free, Header, Kind, Usage, Wait},
    place::Place,
    start::{Memory, Reached},
};

thread_local! {
    /// Calls that asked for memory, and the bytes that are held: of each test by itself.
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        HELD.set(HELD.get() + layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Throws everything away.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SHELL: u32 = 2;
const MS: u64 = 1_000_000;

/// A machine on which a shell runs one command after the other.
struct Machine {
    pipeline: Pipeline<Nowhere>,
    exec: Vec<u8>,
    now_ns: u64,
    born: u32,
}

impl Machine {
    fn new(config: Config) -> Self {
        let head = Head { config, hello: Hello::default() };
        let pipeline = Pipeline::new(head, Nowhere, Filter::default(), None);
        Self { pipeline, exec: Vec::new(), now_ns: MS, born: 0 }
    }

    /// The head of a record of the process that was born at `start_ns`.
    fn header<T>(&self, kind: Kind, tgid: u32, start_ns: u64) -> Header {
        let size = size_of::<T>() as u32;
        let (ktime_ns, tid) = (self.now_ns, tgid);
        Header { kind: kind as u32, size, ktime_ns, tgid, tid, start_time_ns: start_ns, ..Header::default() }
    }

    /// The shell forks; the child's pid and start.
    fn fork(&mut self) -> (u32, u64) {
        // Pids go round, as the kernel's do.
        let tgid = 1000 + self.born % 200_000;
        self.born += 1;
        self.now_ns += MS;
        let start_ns = self.now_ns;
        let fork = Fork {
            header: self.header::<Fork>(Kind::Fork, tgid, start_ns),
            parent_start_time_ns: MS,
            parent_tgid: SHELL,
            parent_tid: SHELL,
            real_parent_tgid: SHELL,
            syscall: 56,
            vpid: tgid,
            anon_pages: 100,
            ..Fork::default()
        };
        self.pipeline.kernel(bytes(&fork));
        (tgid, start_ns)
    }

    /// A process begins a program.
    fn exec(&mut self, (tgid, start_ns): (u32, u64)) {
        const PATH: &[u8] = b"/usr/bin/true";
        const ARGS: &[u8] = b"true\0--some\0arguments\0";
        let mut header = self.header::<Exec>(Kind::Exec, tgid, start_ns);
        header.size += (PATH.len() + ARGS.len()) as u32;
        let (path_len, args_len) = (PATH.len() as u32, ARGS.len() as u32);
        let exec = Exec { header, path_len, args_len, argc: 3, args_bytes: args_len, ..Exec::default() };
        self.exec.clear();
        for part in [bytes(&exec), PATH, ARGS] {
            self.exec.extend_from_slice(part);
        }
        self.pipeline.kernel(&self.exec);
    }

    /// A process ends, and the shell reaps it.
    fn end(&mut self, (tgid, start_ns): (u32, u64)) {
        let exit = Exit {
            header: self.header::<Exit>(Kind::Exit, tgid, start_ns),
            counters: [1; COUNTERS],
            parent: Totals::default(),
            minor_faults: 50,
            major_faults: 0,
            status: 0,
            syscall: 231,
            uid: 0,
            real_parent_tgid: SHELL,
            usage: Usage::default(),
            place: Place::default(),
            reached: Reached::default(),
            memory: Memory::default(),
            run_delay: 0,
            auto_reap: 0,
            reserved: 0,
            comm: *b"true\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        self.pipeline.kernel(bytes(&exit));
        let wait = Wait { header: self.header::<Wait>(Kind::Wait, SHELL, MS), pid: tgid, initial_pid_ns: 1 };
        self.pipeline.kernel(bytes(&wait));
        let free = Free {
            header: self.header::<Free>(Kind::Free, tgid, start_ns),
            real_parent_tgid: SHELL,
            ..Free::default()
        };
        self.pipeline.kernel(bytes(&free));
    }

    fn tick(&mut self) {
        self.pipeline.event(&Event::Tick { ktime_ns: self.now_ns });
        self.pipeline.flush();
    }

    /// Whole lives, some of them at the same time.
    fn run(&mut self, lives: u32) {
        const AT_ONCE: u32 = 25;
        for _ in 0..lives / AT_ONCE {
            let young: [_; AT_ONCE as usize] = std::array::from_fn(|_| self.fork());
            for life in young {
                self.exec(life);
            }
            for life in young {
                self.end(life);
            }
            self.tick();
        }
    }
}

/// What of a life may allocate is none of this: a failed exec, a path of `--cwd`, a ledger, a cgroup, a loss.
#[test]
fn a_steady_load_allocates_nothing() {
    for steps in [false, true] {
        let mut machine = Machine::new(Config { steps, full_hooks: true, ..Config::default() });
        // Until the table of past lives is full and has grown for the last time.
        machine.run(20_000);
        let (calls, lines) = (CALLS.get(), machine.pipeline.lines().written());
        machine.run(5000);
        assert_eq!(CALLS.get() - calls, 0, "allocations for 5000 lives, steps: {steps}");
        let lines = machine.pipeline.lines().written() - lines;
        assert_eq!(lines, if steps { 5 * 5000 } else { 5000 }, "every life was told");
        let stats = machine.pipeline.lifecycle().stats();
        assert_eq!((stats.live, stats.zombies), (1, 0), "{stats:?}");
    }
}

/// Bytes of a life that was forked, and of one that runs a program of its own, with their part of all indexes.
#[test]
fn a_life_takes_little() {
    // With the shell, as many as there is room for: nothing is held for more.
    const LIVES: u32 = (1 << 17) - 1;
    for (executes, most) in [(false, 570), (true, 940)] {
        let before = HELD.get();
        let mut machine = Machine::new(Config::default());
        for _ in 0..LIVES {
            let life = machine.fork();
            if executes {
                machine.exec(life);
            }
        }
        machine.tick();
        assert_eq!(machine.pipeline.lifecycle().stats().live, u64::from(LIVES) + 1);
        let each = (HELD.get() - before) / LIVES as isize;
        assert!(each <= most, "{each} bytes for each life, exec: {executes}");
    }
}
