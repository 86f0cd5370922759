//! Workloads of how a process and its program begin, and of the memory that goes with an exec and an end.

use std::{
    ffi::{CStr, OsString},
    fs,
    time::{Duration, Instant},
};

use super::{
    board::Board,
    facts::{Facts, Process},
    memory::{self, Buffer, PAGE},
    number,
    sys::{self, Args, must, text},
};

/// How long a program is held before its first instruction, and a child from its first CPU.
const HELD_MS: u64 = 50;

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    match name {
        "start-programs" => programs(args, facts),
        "start-drops" => drops(&args[0], number(args, 1), facts),
        "start-segments" => segments(number(args, 0), facts),
        "start-delayed" => delayed(facts),
        _ => return false,
    }
    true
}

/// ns since `begin`.
fn since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Children that execute a program: the first of `args`, which is static; the same, held before its first instruction;
/// killed there; after vfork; and the others of `args`, which are dynamic.
fn programs(args: &[OsString], facts: &mut Facts) {
    let list = Args::new(["true"]);
    let own = text(&args[0]);
    let mut run = |program: &CStr, kind: &str, what: &str| {
        let begin = Instant::now();
        let pid = match what {
            "vfork" => sys::vfork_exec(program, &list),
            _ => sys::fork(|| {
                if what == "held" || what == "killed" {
                    // SAFETY: no memory is passed.
                    must("ptrace", unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) });
                }
                sys::exec(program, &list)
            }),
        };
        let mut held = 0;
        if what == "held" || what == "killed" {
            // Stopped by the exec, and not yet in user mode.
            assert!(libc::WIFSTOPPED(sys::wait(pid)), "{what}: the child ended instead");
            let stopped = Instant::now();
            sys::pause_ms(HELD_MS);
            held = since(stopped);
            // SAFETY: no memory is passed.
            unsafe {
                match what {
                    "held" => must("ptrace", libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0)),
                    _ => must("kill", i64::from(libc::kill(pid, libc::SIGKILL))),
                };
            }
        }
        let process = Process::new(kind, pid, sys::wait(pid)).with("execs", 1);
        let process = if what == "killed" { process.with("via", "signal") } else { process };
        facts.push(process.with("what", what).with("held_ns", held).with("took_ns", since(begin)));
    };
    run(&own, "fork", "static");
    run(&own, "fork", "held");
    run(&own, "fork", "killed");
    run(&own, "vfork", "vfork");
    for program in &args[1..] {
        run(&text(program), "fork", "dynamic");
    }
}

/// A child of a parent with `pages` written pages, of which it writes a half, executes a program.
fn drops(program: &OsString, pages: i32, facts: &mut Facts) {
    let (list, path) = (Args::new(["true"]), text(program));
    let pages = usize::try_from(pages).expect("a number of pages");
    let buffer = memory::filled(pages);
    let pid = sys::fork(|| {
        buffer.write(0, pages / 2);
        buffer.settle();
        sys::exec(&path, &list)
    });
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("execs", 1));
}

/// For a POSIX, a System V and a memfd segment: written by the parent, then by a child that has it since the fork.
fn segments(pages: i32, facts: &mut Facts) {
    const NAME: &CStr = c"/tracer-live";
    let pages = usize::try_from(pages).expect("a number of pages");
    fs::create_dir_all("/dev/shm").expect("/dev/shm");
    for what in ["posix", "sysv", "memfd"] {
        // SAFETY: names that end in a NUL; new mappings at addresses of the kernel's choice.
        let buffer = unsafe {
            let file = match what {
                "posix" => {
                    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
                    let file = must("shm_open", libc::shm_open(NAME.as_ptr(), flags, 0o600));
                    must("shm_unlink", libc::shm_unlink(NAME.as_ptr()));
                    Some(file)
                }
                "memfd" => Some(must("memfd_create", libc::memfd_create(NAME.as_ptr(), 0))),
                _ => None,
            };
            match file {
                Some(file) => {
                    must("ftruncate", libc::ftruncate(file, (pages * PAGE) as libc::off_t));
                    Buffer::map(pages, libc::MAP_SHARED, file)
                }
                None => {
                    let segment = must("shmget", libc::shmget(libc::IPC_PRIVATE, pages * PAGE, 0o600));
                    let at = libc::shmat(segment, std::ptr::null(), 0);
                    must("shmat", at as isize);
                    must("shmctl", libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()));
                    Buffer::within(at.cast(), pages)
                }
            }
        };
        let pid = sys::fork(|| {
            let child = sys::fork(|| {
                buffer.write(0, pages);
                buffer.settle();
                0
            });
            buffer.write(0, pages);
            buffer.settle();
            libc::WEXITSTATUS(sys::wait(child))
        });
        facts.push(Process::new("fork", pid, sys::wait(pid)).with("what", what));
    }
}

/// A child on the CPU that its parent keeps busy under SCHED_FIFO, and one on a CPU that is left at once.
fn delayed(facts: &mut Facts) {
    sys::end_with_parent();
    // SAFETY: the structs are plain data and outlive the calls; 0 is the calling thread.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        let cpu = must("sched_getcpu", libc::sched_getcpu());
        libc::CPU_SET(usize::try_from(cpu).unwrap_or(0), &mut cpus);
        must("sched_setaffinity", libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus));
        let first = libc::sched_param { sched_priority: 1 };
        must("sched_setscheduler", libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first));
    }
    let board = Board::new();
    let begin = Instant::now();
    for held_ms in [HELD_MS, 0] {
        let called = since(begin);
        let pid = sys::fork(|| {
            board.set_mask(0, since(begin));
            0
        });
        let returned = Instant::now();
        while returned.elapsed() < Duration::from_millis(held_ms) {
            std::hint::spin_loop();
        }
        let held = since(returned);
        let process = Process::new("fork", pid, sys::wait(pid));
        let ran = board.mask(0).saturating_sub(called);
        facts.push(process.with("held_ns", if held_ms == 0 { 0 } else { held }).with("ran_ns", ran));
    }
}
