//! Workloads of birth and exec: who forks whom, how, and what is run then.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use super::{
    board::Board,
    facts::{Facts, Process},
    number,
    sys::{self, Args, must, text},
};

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    match name {
        "fork" => fork(number(args, 0), facts),
        "fork-fail" => fork_fail(facts),
        "kinds" => kinds(&args[0], facts),
        "chain" => chain(args, facts),
        "exec-fail" => exec_after(args, facts),
        "execvp" => execvp(&args[0], &args[1..], facts),
        "exec-thread" => exec_thread(&args[0], facts),
        "exec" => exec(&args[0], args, facts),
        "exec-odd" => exec(&args[0], &odd_arguments(), facts),
        "exec-many" => exec(&args[0], &many_arguments(), facts),
        "exec-long" => exec(&args[0], &["true".into(), "x".repeat(100 * 1024).into()], facts),
        "threads" => threads(number(args, 0), facts),
        _ => return false,
    }
    true
}

/// Many arguments.
pub(crate) fn many_arguments() -> Vec<OsString> {
    ["true".into()].into_iter().chain((0..199).map(|number| format!("argument-{number}").into())).collect()
}

/// Arguments that are hard to print.
pub(crate) fn odd_arguments() -> Vec<OsString> {
    let bytes: [&[u8]; 9] = [
        b"true",
        b"",
        b"a b",
        b"\"quoted\"",
        b"new\nline",
        b"\x01\x1b[0m",
        b"\xff\xfe\x80",
        "\u{e9}".as_bytes(),
        b"\\",
    ];
    bytes.iter().map(|bytes| OsStr::from_bytes(bytes).to_owned()).collect()
}

/// `count` children; number k ends with k. Half of them by the C library, half by the system call.
fn fork(count: i32, facts: &mut Facts) {
    for code in 0..count {
        let pid = if code % 2 == 0 { sys::fork(|| code) } else { sys::fork_raw(|| code) };
        facts.push(Process::new("fork", pid, sys::wait(pid)));
    }
}

/// A child of which each fork fails: its user may have one process, and a shared table of handlers needs shared memory.
fn fork_fail(facts: &mut Facts) {
    const UID: libc::uid_t = 54_322;
    const CALLS: [(i64, i32); 3] =
        [(libc::SYS_fork, 0), (libc::SYS_clone, 0), (libc::SYS_clone, libc::CLONE_SIGHAND)];
    let board = Board::new();
    let pid = sys::fork(|| {
        let most = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        // SAFETY: plain data and numbers.
        unsafe {
            must("setrlimit", libc::setrlimit(libc::RLIMIT_NPROC, &raw const most));
            must("setresuid", libc::setresuid(UID, UID, UID));
        }
        for (slot, (call, flags)) in CALLS.into_iter().enumerate() {
            // SAFETY: it makes no process; should it, both have a copy of the memory and end.
            let result = unsafe { libc::syscall(call, flags | libc::SIGCHLD, 0, 0, 0, 0) };
            assert_eq!(result, -1, "a fork that should fail");
            board.set(slot, io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        0
    });
    let process =
        Process::new("fork", pid, sys::wait(pid)).with("calls", CALLS.map(|(call, _)| call).to_vec());
    facts.push(process.with("errors", [0, 1, 2].map(|slot| board.get(slot)).to_vec()));
}

/// One child by each way there is to make one.
fn kinds(program: &OsString, facts: &mut Facts) {
    let path = text(program);
    let args = Args::new([program]);
    let children = [
        ("fork", sys::fork(|| 1), libc::SYS_clone, 0),
        ("fork", sys::fork_raw(|| 2), libc::SYS_fork, 0),
        ("fork", sys::clone(0, || 3), libc::SYS_clone, 0),
        ("fork", sys::clone3(0, || 4), libc::SYS_clone3, 0),
        ("clone", sys::clone(libc::CLONE_FS, || 5), libc::SYS_clone, 0),
        ("clone", sys::clone3(libc::CLONE_FILES, || 6), libc::SYS_clone3, 0),
        ("vfork", sys::vfork_exit(7), libc::SYS_vfork, 0),
        ("vfork", sys::vfork_exec(&path, &args), libc::SYS_vfork, 1),
        // The C library chooses the call.
        ("posix_spawn", sys::spawn(&path, &args), 0, 1),
    ];
    for (kind, pid, syscall, execs) in children {
        let process = Process::new(kind, pid, sys::wait(pid)).with("execs", execs);
        facts.push(if syscall == 0 { process } else { process.with("syscall", syscall) });
    }
}

/// A child that runs the programs one after the other.
fn chain(programs: &[OsString], facts: &mut Facts) {
    let head = [programs[0].clone(), "workload".into(), "next".into()];
    let args = Args::new(head.iter().chain(&programs[1..]));
    let path = text(&programs[0]);
    let pid = sys::fork(|| sys::exec(&path, &args));
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("execs", programs.len()));
}

/// A child that tries to execute each of the programs until it succeeds with the last.
fn exec_after(programs: &[OsString], facts: &mut Facts) {
    let tries: Vec<_> = programs.iter().map(|program| (text(program), Args::new([program]))).collect();
    let board = Board::new();
    let pid = sys::fork(|| {
        for (slot, (path, args)) in tries.iter().enumerate() {
            board.set(slot, sys::exec(path, args));
        }
        98
    });
    let name = |program: &OsString| Path::new(program).file_name().map(OsStr::to_owned);
    let last = programs.last().and_then(name);
    let tries = programs.iter().rev().take_while(|program| name(program) == last).count();
    let process = Process::new("fork", pid, sys::wait(pid)).with("execs", 1);
    let errors: Vec<_> = (0..programs.len() - 1).map(|slot| board.get(slot)).collect();
    facts.push(process.with("failures", errors.len()).with("tries", tries).with("errors", errors));
}

/// For each name a child that executes it with `directories` as `PATH`, and ends with the error number if that fails.
/// After the name stands how many of the directories do not have it.
fn execvp(directories: &OsString, names: &[OsString], facts: &mut Facts) {
    for (index, pair) in names.chunks(2).enumerate() {
        let (program, args) = (text(&pair[0]), Args::new([&pair[0]]));
        let pid = sys::fork(|| sys::exec_in_path(directories, &program, &args));
        let status = sys::wait(pid);
        let failures = number(names, 2 * index + 1);
        let process = Process::new("fork", pid, status).with("failures", failures);
        let is_found = status == 0;
        facts.push(if is_found { process.with("execs", 1).with("tries", failures + 1) } else { process });
    }
}

/// A child that executes `program` from a thread that is not its first.
fn exec_thread(program: &OsString, facts: &mut Facts) {
    let pid = sys::fork(|| {
        let (path, program) = (text(program), program.clone());
        let thread = std::thread::spawn(move || sys::exec(&path, &Args::new([program])));
        thread.join().unwrap_or(-1)
    });
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("execs", 1).with("threads", 1));
}

/// A child that executes `program` with exactly `args`.
fn exec(program: &OsString, args: &[OsString], facts: &mut Facts) {
    let (path, list) = (text(program), Args::new(args));
    let pid = sys::fork(|| sys::exec(&path, &list));
    let bytes: usize = args.iter().map(|arg| arg.len() + 1).sum();
    let process = Process::new("fork", pid, sys::wait(pid)).with("execs", 1);
    facts.push(process.with("args_count", args.len()).with("args_bytes", bytes));
}

/// A child with `count` threads more than its first.
fn threads(count: i32, facts: &mut Facts) {
    let pid = sys::fork(|| {
        let threads: Vec<_> = (0..count).map(|_| std::thread::spawn(|| sys::pause_ms(20))).collect();
        i32::from(threads.into_iter().any(|thread| thread.join().is_err()))
    });
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("threads", count));
}
