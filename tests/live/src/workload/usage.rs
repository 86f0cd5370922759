//! Workloads of known cost: what wait4 says of a child that has no children is what must be told of it.

use std::{
    ffi::OsString,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    facts::{Facts, Process},
    sys::{self, Args, must, text},
};

/// CPU time that each thread burns, at least.
pub(crate) const BURN_MS: u64 = 30;
/// Memory that the largest child touches, more than the others have.
const LARGE_BYTES: usize = 32 << 20;

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    if name != "usage" {
        return false;
    }
    let burners = |process: Process, threads: u64| process.with("burnt_ms", threads * BURN_MS);
    facts.push(burners(child(large), 1));
    facts.push(burners(child(asks), 1));
    facts.push(burners(child(leader_first), 3).with("via", "exit").with("threads", 2));
    facts.push(burners(child(at_once), 4).with("via", "exit").with("threads", 3));
    facts.push(burners(child(at_once_as_group), 4).with("threads", 3));
    facts.push(burners(child(killed), 1).with("via", "signal"));
    facts.push(burners(child(|| killed_by_exec(&args[0])), 2).with("threads", 1).with("execs", 1));
    true
}

/// A child that is off the CPU for good when it is waited for, with what wait4 says.
fn child(work: impl FnOnce() -> i32) -> Process {
    let pid = sys::fork(work);
    sys::wait_zombie(pid);
    sys::wait_off_cpu();
    let mut status = 0;
    // SAFETY: plain data, written by the kernel.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both outlive the call.
    must("wait4", unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) });
    let us = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    Process::new("fork", pid, status)
        .with("user_us", us(usage.ru_utime))
        .with("system_us", us(usage.ru_stime))
        .with("max_rss_kib", usage.ru_maxrss)
}

/// Burns CPU time of the calling thread.
pub(super) fn burn() {
    let burnt = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` outlives the call.
        must("clock_gettime", unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) });
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let end = burnt() + Duration::from_millis(BURN_MS);
    while burnt() < end {
        black_box((0..1_000).fold(0_u64, |sum, number| black_box(sum ^ number)));
    }
}

/// Touches memory, gives it back, and burns.
fn large() -> i32 {
    drop(black_box(vec![1_u8; LARGE_BYTES]));
    burn();
    0
}

/// Asks for its own time in between, which the kernel must not tell less of later.
fn asks() -> i32 {
    // SAFETY: plain data, written by the kernel; it outlives the call.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        must("getrusage", libc::getrusage(libc::RUSAGE_SELF, &raw mut usage));
    }
    burn();
    0
}

/// The first thread ends before the two others have worked.
fn leader_first() -> i32 {
    for _ in 0..2 {
        std::thread::spawn(|| {
            sys::pause_ms(3 * BURN_MS);
            burn();
            sys::exit_thread(0)
        });
    }
    burn();
    sys::exit_thread(0)
}

/// Runs `end` in four threads at once, after each has worked; the first one is number 0.
fn all_at_once(end: fn(usize)) -> i32 {
    const THREADS: usize = 4;
    let ready = Arc::new(AtomicI32::new(0));
    let work = move |number: usize, ready: &AtomicI32| {
        burn();
        ready.fetch_add(1, Ordering::SeqCst);
        let limit = Instant::now() + Duration::from_secs(60);
        while ready.load(Ordering::SeqCst) < THREADS as i32 && Instant::now() < limit {
            std::hint::spin_loop();
        }
        end(number);
    };
    for number in 1..THREADS {
        let ready = Arc::clone(&ready);
        std::thread::spawn(move || work(number, &ready));
    }
    work(0, &ready);
    98
}

/// All threads end by exit(2) at once.
fn at_once() -> i32 {
    all_at_once(|_| sys::exit_thread(0))
}

/// The first thread ends them all while the others end by themselves.
fn at_once_as_group() -> i32 {
    all_at_once(|number| if number == 0 { sys::exit_group(7) } else { sys::exit_thread(0) })
}

/// Works until its own SIGKILL.
fn killed() -> i32 {
    burn();
    // SAFETY: a signal to itself.
    must("kill", unsafe { libc::kill(sys::pid(), libc::SIGKILL) });
    98
}

/// Two threads work, then the second executes `program`, which ends the first.
fn killed_by_exec(program: &OsString) -> i32 {
    burn();
    let first = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            burn();
            sys::exec(&text(program), &Args::new([program]))
        });
        second.join()
    });
    first.unwrap_or(98)
}
