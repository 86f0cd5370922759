//! Workloads of forks that are refused, and of what an exec gives and ends.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use super::{
    board::Board,
    facts::{Facts, Process},
    number,
    sys::{self, Args, must, text},
};

/// A user that has no processes.
const USER: u32 = 54_321;

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    match name {
        "refused-by-user" => refused_by_user(number(args, 0), facts),
        "refused-by-cgroup" => refused_by_cgroup(Path::new(&args[0]), number(args, 1), facts),
        "exec-secure" => exec_secure(&args[0], facts),
        "exec-kills" => exec_kills(&args[0], number(args, 1), facts),
        _ => return false,
    }
    true
}

/// A child that forks until it is refused; ends with the number of its own children.
fn fork_all() -> i32 {
    for count in 0.. {
        // SAFETY: one thread; the child of it ends at once.
        match unsafe { libc::syscall(libc::SYS_fork) } {
            0 => {
                sys::pause_ms(60_000);
                sys::exit_group(0)
            }
            -1 => {
                assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN));
                // SAFETY: no handler is set; the group is that of this process and its children.
                unsafe {
                    libc::signal(libc::SIGTERM, libc::SIG_IGN);
                    must("kill", libc::kill(0, libc::SIGTERM));
                }
                for _ in 0..count {
                    sys::wait(-1);
                }
                return count;
            }
            _ => {}
        }
    }
    unreachable!("a fork is refused before the numbers end")
}

/// Of a user that may have `most` processes.
fn refused_by_user(most: i32, facts: &mut Facts) {
    let pid = sys::fork(|| {
        let limit = libc::rlimit { rlim_cur: most as u64, rlim_max: most as u64 };
        // SAFETY: the struct outlives the call; no memory is passed to the others.
        unsafe {
            must("setpgid", libc::setpgid(0, 0));
            must("setrlimit", libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit));
            must("setresuid", libc::setresuid(USER, USER, USER));
        }
        fork_all()
    });
    facts.set("forker", pid);
    facts.set("children", libc::WEXITSTATUS(sys::wait(pid)));
}

/// Of a cgroup, which is there and may have `most` processes.
fn refused_by_cgroup(cgroup: &Path, most: i32, facts: &mut Facts) {
    fs::write(cgroup.join("pids.max"), most.to_string()).expect("pids.max");
    let pid = sys::fork(|| {
        // SAFETY: no memory is passed.
        must("setpgid", unsafe { libc::setpgid(0, 0) });
        fs::write(cgroup.join("cgroup.procs"), sys::pid().to_string()).expect("cgroup.procs");
        fork_all()
    });
    facts.set("forker", pid);
    facts.set("children", libc::WEXITSTATUS(sys::wait(pid)));
}

/// A child that executes a program that belongs to another user and runs as that.
fn exec_secure(program: &OsString, facts: &mut Facts) {
    let theirs = Path::new(program).with_file_name("theirs");
    fs::copy(program, &theirs).expect("copy");
    chown(&theirs, Some(USER), None).expect("chown");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o4755)).expect("chmod");
    for (path, uid) in [(theirs.as_path(), USER), (Path::new(program), 0)] {
        let list = Args::new(["true"]);
        let path = text(path);
        let pid = sys::fork(|| sys::exec(&path, &list));
        let process = Process::new("fork", pid, sys::wait(pid)).with("execs", 1);
        facts.push(process.with("uid", uid.to_string()).with("secure", uid == USER));
    }
}

/// A child that executes a program while it has `count` threads more than the one that does so.
fn exec_kills(program: &OsString, count: i32, facts: &mut Facts) {
    let (list, path, board) = (Args::new(["true"]), text(program), Board::new());
    let pid = sys::fork(|| {
        for _ in 0..count {
            std::thread::spawn(move || {
                board.add(0, 1);
                sys::pause_ms(60_000);
            });
        }
        while board.get(0) < count {
            sys::pause_ms(1);
        }
        sys::exec(&path, &list)
    });
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("execs", 1).with("threads", count));
}
