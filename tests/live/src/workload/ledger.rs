//! Children that change what they hand on, and then execute a program.

use std::{
    ffi::{CStr, OsString},
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use super::{
    board::Board,
    facts::{Facts, Process},
    sys::{self, Args, must, text},
};

/// What the child that changes things sets.
pub(crate) const NICE: i32 = 3;
pub(crate) const UMASK: u32 = 0o137;
pub(crate) const SOFT_FILES: u64 = 200;
pub(crate) const HARD_FILES: u64 = 300;
/// Descriptors that it opens, for the program and for itself only.
pub(crate) const PASSED: i32 = 5;
pub(crate) const CLOSED: i32 = 3;
/// Who it becomes, and the owner of a set-user-ID program.
pub(crate) const USER: u32 = 1000;
pub(crate) const OWNER: u32 = 1234;

/// Slots of the board.
const OPEN: usize = 0;
const CLOEXEC: usize = 1;
const PASSED_ABOVE_2: usize = 2;
const CAUGHT: usize = 3;
const IGNORED: usize = 5;

/// Runs `name` if it is this one.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    if name != "ledger" {
        return false;
    }
    let program = text(&args[0]);
    let owned = set_id_copy(Path::new(&args[0]));
    facts.set("nice", nice());
    facts.set("umask", umask(None));
    facts.set("ignored", signals("SigIgn:"));
    facts.push(executes("plain", 0, &program, || ()));
    facts.push(executes("changed", 0, &program, change));
    facts.push(executes("thread", 0, &program, || open(libc::O_CLOEXEC, CLOSED)));
    facts.push(executes("ids", 0, &owned, || {
        // SAFETY: no memory is passed; -1 leaves the effective user alone.
        must("setreuid", unsafe { libc::syscall(libc::SYS_setreuid, USER, -1) });
    }));
    facts.push(executes("table", libc::CLONE_FILES, &program, || ()));
    true
}

/// A child that does `change`, notes what descriptors it has, and executes `program`; the one called `thread` from its
/// second thread.
fn executes(what: &str, clone_flags: i32, program: &CStr, change: impl FnOnce()) -> Process {
    let board = Board::new();
    // The C library catches a signal more in a process with threads.
    let run = move || {
        board.set_mask(CAUGHT, signals("SigCgt:"));
        board.set_mask(IGNORED, signals("SigIgn:"));
        sys::exec(program, &Args::new(["true"]))
    };
    let pid = sys::clone(clone_flags, || {
        change();
        note_descriptors(&board);
        match what {
            "thread" => std::thread::scope(|scope| scope.spawn(run).join().unwrap_or(98)),
            _ => run(),
        }
    });
    let kind = if clone_flags == 0 { "fork" } else { "clone" };
    Process::new(kind, pid, sys::wait(pid))
        .with("execs", 1)
        .with("threads", u64::from(what == "thread"))
        .with("what", what)
        .with("caught", board.mask(CAUGHT))
        .with("ignored", board.mask(IGNORED))
        .with("open", board.get(OPEN))
        .with("cloexec", board.get(CLOEXEC))
        .with("passed_above_2", board.get(PASSED_ABOVE_2))
}

/// Counts the caller's descriptors without opening one.
fn note_descriptors(board: &Board) {
    for fd in 0..1024 {
        // SAFETY: no memory is passed; a number that is not open is an error and nothing else.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags >= 0 {
            let is_closed = flags & libc::FD_CLOEXEC != 0;
            board.add(OPEN, 1);
            board.add(CLOEXEC, i32::from(is_closed));
            board.add(PASSED_ABOVE_2, i32::from(!is_closed && fd > 2));
        }
    }
}

/// Changes all that fork and exec hand on.
fn change() {
    extern "C" fn handler(_: i32) {}
    umask(Some(UMASK));
    let limit = libc::rlimit { rlim_cur: SOFT_FILES, rlim_max: HARD_FILES };
    // SAFETY: no memory but `limit` and the set, which outlive the calls; the handler does nothing.
    unsafe {
        must("setpriority", libc::setpriority(libc::PRIO_PROCESS, 0, NICE));
        must("setrlimit", libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit));
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t);
        libc::signal(libc::SIGTERM, handler as *const () as libc::sighandler_t);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, libc::SIGHUP);
        must("sigprocmask", libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()));
    }
    open(0, PASSED);
    open(libc::O_CLOEXEC, CLOSED);
}

fn open(flags: i32, times: i32) {
    for _ in 0..times {
        // SAFETY: a path.
        must("open", unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | flags) });
    }
}

fn nice() -> i32 {
    // SAFETY: no memory is passed.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets the mask of the caller, or only reads it.
fn umask(to: Option<u32>) -> u32 {
    // SAFETY: no memory is passed.
    unsafe {
        let old = libc::umask(to.unwrap_or(0));
        if to.is_none() {
            libc::umask(old);
        }
        old
    }
}

/// A mask of signals of the caller.
fn signals(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("read the status");
    let mask = status.lines().find_map(|line| line.strip_prefix(name));
    u64::from_str_radix(mask.expect("a mask of signals").trim(), 16).expect("a number")
}

/// A copy of a program that runs as another user.
fn set_id_copy(program: &Path) -> std::ffi::CString {
    let directory = program.with_file_name("owned");
    fs::create_dir(&directory).expect("make a directory");
    let copy = directory.join("true");
    fs::copy(program, &copy).expect("copy the program");
    chown(&copy, Some(OWNER), None).expect("chown");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).expect("chmod");
    text(copy)
}
