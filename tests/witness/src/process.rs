//! Processes as the workloads need them.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    panic,
    process::{ExitStatus, abort},
};

use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};

/// What wait4(2) says of a process that has ended, with all descendants that it waited for itself.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) minor: u64,
    pub(crate) major: u64,
}

impl Ended {
    /// As facts about the process called `name`.
    pub(crate) fn facts(&self, name: &str) -> Value {
        json!({ "name": name, "minor": self.minor, "major": self.major })
    }
}

/// A child that fails must end there and not go on as a second copy of its parent.
pub(crate) fn end_on_panic() {
    panic::set_hook(Box::new(|why| {
        eprintln!("workload: {why}");
        exit(99);
    }));
}

/// The result of a system call, or the end: a workload that cannot do its part must not go on.
pub(crate) fn must<T: Default + PartialOrd>(what: &str, value: T) -> T {
    assert!(value >= T::default(), "{what}: {}", io::Error::last_os_error());
    value
}

/// Forks a child that calls itself `name` and ends with what `work` returns.
pub(crate) fn fork(name: &str, work: impl FnOnce() -> i32) -> libc::pid_t {
    let name = CString::new(name).expect("no NUL in a name");
    // SAFETY: this process has a single thread.
    let pid = must("fork", unsafe { libc::fork() });
    if pid == 0 {
        // SAFETY: a NUL-terminated string.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
        exit(work());
    }
    pid
}

/// Forks such a child and waits for its end, which must be a good one.
pub(crate) fn run(name: &str, work: impl FnOnce()) -> Ended {
    let ended = wait(fork(name, || {
        work();
        0
    }));
    assert!(ended.status.success(), "{name}: {}", ended.status);
    ended
}

/// Waits for the end of a child.
pub(crate) fn wait(pid: libc::pid_t) -> Ended {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both outlive the call, which fills them.
    let usage = unsafe {
        must("wait4", libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()));
        usage.assume_init()
    };
    Ended {
        status: ExitStatus::from_raw(status),
        minor: usage.ru_minflt as u64,
        major: usage.ru_majflt as u64,
    }
}

/// Ends this process and runs nothing more of it.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Sends a signal to this very process that must end it.
pub(crate) fn die_of(signal: i32) -> ! {
    // SAFETY: plain system calls.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    abort()
}

/// The end of the parent is to be the end of this process, too.
pub(crate) fn end_with_parent() {
    // SAFETY: a plain system call.
    must("prctl", unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) });
}
