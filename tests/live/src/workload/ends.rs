//! Workloads of death: how a process ends, and who reaps it when.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use super::{
    board::Board,
    facts::{Facts, Process},
    number,
    sys::{self, must},
};

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    match name {
        "signals" => signals(facts),
        "leader-first" => leader_first(number(args, 0), number(args, 1), facts),
        "orphan" => orphan(facts),
        "daemon" => daemon(facts),
        "abandoned" => abandoned(facts),
        "zombie" => zombie(number(args, 0), facts),
        "auto-reap" => auto_reap(facts),
        "no-wait" => no_wait(facts),
        "ignorer" => ignorer(facts),
        "sibling" => sibling(facts),
        "reaped-by-flag" => reaped_by_flag(facts),
        "zombies" => zombies(number(args, 0), facts),
        "core" => core(&args[0], facts),
        _ => return false,
    }
    true
}

/// What wait4 reports for a process that ended by itself.
const fn exited(code: i32) -> i32 {
    code << 8
}

/// Children that die by a signal: two by another process, two by themselves.
fn signals(facts: &mut Facts) {
    let asleep = || {
        sys::pause_ms(60_000);
        98
    };
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let pid = sys::fork(asleep);
        // SAFETY: the child is ours and not yet reaped.
        must("kill", unsafe { libc::kill(pid, signal) });
        facts.push(Process::new("fork", pid, sys::wait(pid)).with("via", "signal"));
    }
    for signal in [libc::SIGSEGV, libc::SIGABRT] {
        let pid = sys::fork(|| {
            // SAFETY: no core file, default action; the write to address 0 is the point.
            unsafe {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                must("setrlimit", libc::setrlimit(libc::RLIMIT_CORE, &raw const none));
                libc::signal(signal, libc::SIG_DFL);
                if signal == libc::SIGSEGV {
                    std::arch::asm!("mov byte ptr [{}], 1", in(reg) 0_usize);
                }
                libc::abort()
            }
        });
        facts.push(Process::new("fork", pid, sys::wait(pid)).with("via", "signal"));
    }
}

/// A child whose first thread ends with `first`, and later its second one with `last`.
fn leader_first(first: i32, last: i32, facts: &mut Facts) {
    let pid = sys::fork(|| {
        std::thread::spawn(move || {
            sys::pause_ms(100);
            sys::exit_thread(last)
        });
        sys::exit_thread(first)
    });
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("via", "exit").with("threads", 1));
}

/// From now on, descendants of this process whose parent ends become its children.
fn adopt_orphans() {
    // SAFETY: sets a flag of this process.
    must("prctl", unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) });
}

/// A child that makes a daemon and ends: the daemon is in a session of its own, is adopted, and ends
/// with 6. Gives the daemon's pid and who adopted it.
fn make_daemon(facts: &mut Facts) -> (i32, i32) {
    const PID: usize = 0;
    const ADOPTER: usize = 1;
    let board = Board::new();
    let middle = sys::fork(|| {
        let parent = sys::pid();
        let pid = sys::fork(|| {
            // SAFETY: no arguments.
            must("setsid", unsafe { libc::setsid() });
            while sys::parent() == parent {
                sys::pause_ms(1);
            }
            board.set(ADOPTER, sys::parent());
            6
        });
        board.set(PID, pid);
        0
    });
    facts.push(Process::new("fork", middle, sys::wait(middle)));
    while board.get(ADOPTER) == 0 {
        sys::pause_ms(1);
    }
    let pid = board.get(PID);
    facts.push(Process::new("fork", pid, exited(6)).with("parent", middle));
    (pid, board.get(ADOPTER))
}

/// A daemon that this process adopts and reaps.
fn orphan(facts: &mut Facts) {
    adopt_orphans();
    let (pid, adopter) = make_daemon(facts);
    assert_eq!((adopter, sys::wait(pid)), (sys::pid(), exited(6)));
}

/// A daemon that the machine's first process, or who stands for it, adopts; it may reap it late.
fn daemon(facts: &mut Facts) {
    // Less than the second after which a timeline no longer waits for the reap.
    const SOON: Duration = Duration::from_millis(800);
    let start = Instant::now();
    let (pid, adopter) = make_daemon(facts);
    let gone = (0..60).any(|_| {
        sys::pause_ms(10);
        // SAFETY: signal 0 only asks whether the process is there, be it a zombie.
        unsafe { libc::kill(pid, 0) != 0 }
    });
    if gone && start.elapsed() > SOON {
        facts.amend("reaper", "late");
    } else if gone {
        facts.amend("reaper", adopter);
        // The kernel tells of the reap a little later.
        sys::pause_ms(200);
    } else {
        facts.amend("reaper", "nobody");
    }
}

/// A child that ends without having reaped its own child; this process reaps that.
fn abandoned(facts: &mut Facts) {
    adopt_orphans();
    let board = Board::new();
    let middle = sys::fork(|| {
        let pid = sys::fork(|| 9);
        board.set(0, pid);
        sys::wait_zombie(pid);
        sys::pause_ms(100);
        0
    });
    facts.push(Process::new("fork", middle, sys::wait(middle)));
    let pid = board.get(0);
    let process = Process::new("fork", pid, sys::wait(pid));
    facts.push(process.with("parent", middle).with("zombie_ms", 100));
}

/// A child that is a zombie for `ms` before it is reaped.
fn zombie(ms: i32, facts: &mut Facts) {
    let pid = sys::fork(|| 4);
    sys::wait_zombie(pid);
    sys::pause_ms(ms as u64);
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("zombie_ms", ms));
}

/// Sets what becomes of SIGCHLD in this process.
fn on_child(handler: libc::sighandler_t, flags: i32) {
    // SAFETY: plain data; no handler of ours is set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        must("sigaction", libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()));
    }
}

/// Waits until there is no child `pid`, which nobody can reap.
fn wait_gone(pid: i32) {
    // SAFETY: no status wanted. It returns when there is no child any more, with an error.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    // The kernel tells of it a little later.
    sys::pause_ms(200);
}

/// A child of a parent that ignores SIGCHLD: the kernel reaps it at once.
fn auto_reap(facts: &mut Facts) {
    on_child(libc::SIG_IGN, 0);
    let pid = sys::fork(|| 3);
    wait_gone(pid);
    facts.push(Process::new("fork", pid, exited(3)).with("reaper", "auto"));
}

/// The same by SA_NOCLDWAIT. The next child is made after it is taken back.
fn no_wait(facts: &mut Facts) {
    on_child(libc::SIG_DFL, libc::SA_NOCLDWAIT);
    let pid = sys::fork(|| 3);
    wait_gone(pid);
    facts.push(Process::new("fork", pid, exited(3)).with("reaper", "auto"));
    on_child(libc::SIG_DFL, 0);
    let pid = sys::fork(|| 4);
    facts.push(Process::new("fork", pid, sys::wait(pid)));
}

/// Processes whose parent ends first, adopted by this one, which ignores SIGCHLD: one is alive then, and one a zombie,
/// of which nobody can say at its end what becomes of it.
fn ignorer(facts: &mut Facts) {
    const ALIVE: usize = 0;
    const ZOMBIE: usize = 1;
    adopt_orphans();
    on_child(libc::SIG_IGN, 0);
    let board = Board::new();
    let middle = sys::fork(|| {
        on_child(libc::SIG_DFL, 0);
        let parent = sys::pid();
        let alive = sys::fork(|| {
            while sys::parent() == parent {
                sys::pause_ms(1);
            }
            5
        });
        board.set(ALIVE, alive);
        let zombie = sys::fork(|| 9);
        board.set(ZOMBIE, zombie);
        sys::wait_zombie(zombie);
        0
    });
    wait_gone(middle);
    wait_gone(board.get(ALIVE));
    facts.push(Process::new("fork", middle, exited(0)).with("reaper", "auto"));
    let orphan = |slot, code| Process::new("fork", board.get(slot), exited(code)).with("parent", middle);
    facts.push(orphan(ALIVE, 5).with("reaper", "auto"));
    facts.push(orphan(ZOMBIE, 9).with("reaper", "unsure"));
}

/// A child that makes a sibling of its own: this process is its parent, and reaps it.
fn sibling(facts: &mut Facts) {
    let board = Board::new();
    let maker = sys::fork(|| {
        board.set(0, sys::clone(libc::CLONE_PARENT, || 3));
        0
    });
    facts.push(Process::new("fork", maker, sys::wait(maker)));
    let pid = board.get(0);
    facts.push(
        Process::new("clone", pid, sys::wait(pid)).with("parent", maker).with("exit_parent", sys::pid()),
    );
}

/// A child that the kernel reaps because it was born so (CLONE_AUTOREAP, 7.1); none where the kernel does not know that.
fn reaped_by_flag(facts: &mut Facts) {
    const CLONE_AUTOREAP: u64 = 1 << 34;
    // `struct clone_args`: flags first, all else 0. Such a process has no signal for its parent.
    let args = [CLONE_AUTOREAP, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: `args` outlives the call; the child has its own copy of the memory.
    match unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) } {
        0 => sys::exit_group(3),
        -1 => {}
        pid => {
            wait_gone(pid as i32);
            facts.push(Process::new("clone", pid as i32, exited(3)).with("reaper", "auto"));
        }
    }
}

/// A child that leaves three zombies and lives for `ms` more. This process ends before.
fn zombies(ms: i32, facts: &mut Facts) {
    const ZOMBIES: usize = 3;
    let board = Board::new();
    let parent = sys::fork(|| {
        for slot in 0..ZOMBIES {
            let pid = sys::fork(|| 4);
            sys::wait_zombie(pid);
            board.set(slot, pid);
        }
        sys::pause_ms(ms as u64);
        0
    });
    while board.get(ZOMBIES - 1) == 0 {
        sys::pause_ms(1);
    }
    sys::pause_ms(ms as u64 / 2);
    facts.set("parent", parent);
    facts.set("zombies", (0..ZOMBIES).map(|slot| board.get(slot)).collect::<Vec<_>>());
}

/// A child that leaves a core file in the directory `place`, if the machine makes such.
fn core(place: &OsString, facts: &mut Facts) {
    let pid = sys::fork(|| {
        must("chdir", std::env::set_current_dir(place).map_or(-1, |()| 0));
        // SAFETY: plain data; the default action is wanted.
        unsafe {
            let most = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            must("setrlimit", libc::setrlimit(libc::RLIMIT_CORE, &raw const most));
            libc::signal(libc::SIGABRT, libc::SIG_DFL);
            libc::abort()
        }
    });
    let status = sys::wait(pid);
    facts.push(Process::new("fork", pid, status).with("via", "signal"));
}
