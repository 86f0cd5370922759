//! System calls as the workloads need them: each does one thing to the process tree, and nothing else.

use std::{
    arch::asm,
    ffi::{CStr, CString, OsStr},
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt},
    time::Duration,
};

/// The value of a call, or an end with its error: a workload that cannot do its part must not go on.
pub(crate) fn must<T: Default + PartialOrd + Copy>(what: &str, value: T) -> T {
    assert!(value >= T::default(), "{what}: {}", io::Error::last_os_error());
    value
}

/// `fork(2)` as the C library does it; the child ends with what `child` returns.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the workload has a single thread when it forks.
    in_child(unsafe { libc::fork() }, child)
}

/// The system call `fork`.
pub(crate) fn fork_raw(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: as in `fork`.
    in_child(unsafe { libc::syscall(libc::SYS_fork) as i32 }, child)
}

/// The system call `clone` with `flags` that do not share memory.
pub(crate) fn clone(flags: i32, child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: as in `fork`; the child has its own copy of the memory and keeps the stack.
    in_child(unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) as i32 }, child)
}

/// The system call `clone3` with `flags` that do not share memory.
pub(crate) fn clone3(flags: i32, child: impl FnOnce() -> i32) -> i32 {
    // The first 64 bytes, the size of the first version: flags, pidfd, child_tid, parent_tid, exit_signal, ...
    let args = [flags as u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    // SAFETY: `args` outlives the call, the rest as in `clone`.
    in_child(unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) as i32 }, child)
}

fn in_child(pid: i32, child: impl FnOnce() -> i32) -> i32 {
    if must("fork", pid) == 0 { exit_group(child()) } else { pid }
}

/// The system call `vfork`, after which the child ends with `code`.
pub(crate) fn vfork_exit(code: i32) -> i32 {
    let pid: i64;
    // SAFETY: the child uses registers only and never leaves this block.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 231", // exit_group
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_vfork => pid,
            in("rdi") i64::from(code),
            out("rcx") _, out("r11") _,
        );
    }
    must("vfork", pid as i32)
}

/// The system call `vfork`, after which the child executes `program`.
pub(crate) fn vfork_exec(program: &CStr, args: &Args) -> i32 {
    let pid: i64;
    // SAFETY: the child uses registers only and never leaves this block; strings outlive it, because
    // the parent is held until the exec.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 59", // execve
            "syscall",
            "mov edi, 127",
            "mov eax, 231", // exit_group
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_vfork => pid,
            in("rdi") program.as_ptr(), in("rsi") args.pointers.as_ptr(), in("rdx") EMPTY.as_ptr(),
            out("rcx") _, out("r11") _,
        );
    }
    must("vfork", pid as i32)
}

/// `posix_spawn(3)`.
pub(crate) fn spawn(program: &CStr, args: &Args) -> i32 {
    let mut pid = 0;
    // SAFETY: all pointers are valid for the call; no attributes, no file actions.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            args.pointers.as_ptr().cast(),
            EMPTY.as_ptr().cast(),
        )
    };
    assert_eq!(error, 0, "posix_spawn");
    pid
}

/// An environment with nothing in it.
const EMPTY: [usize; 1] = [0];

/// Arguments in the form that exec wants them.
pub(crate) struct Args {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Args {
    /// From anything that can be bytes.
    pub(crate) fn new<T: AsRef<OsStr>>(args: impl IntoIterator<Item = T>) -> Self {
        let strings: Vec<CString> = args.into_iter().map(|arg| text(arg.as_ref())).collect();
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Self { strings, pointers }
    }
}

/// A string for the kernel.
pub(crate) fn text(s: impl AsRef<OsStr>) -> CString {
    CString::new(s.as_ref().as_bytes()).expect("no NUL in a string")
}

/// `execve(2)` without environment; returns the error number, if it returns.
pub(crate) fn exec(program: &CStr, args: &Args) -> i32 {
    // SAFETY: NUL-terminated strings and a null-terminated list that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.pointers.as_ptr(), EMPTY.as_ptr().cast()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `execve(2)` with these variables; returns the error number, if it returns.
pub(crate) fn exec_with(program: &CStr, args: &Args, environment: &Args) -> i32 {
    // SAFETY: as in `exec`.
    unsafe { libc::execve(program.as_ptr(), args.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `execveat(2)` of a file itself, without environment; returns the error number, if it returns.
pub(crate) fn exec_fd(file: &File, args: &Args) -> i32 {
    let (list, environment) = (args.pointers.as_ptr(), EMPTY.as_ptr());
    // SAFETY: as in `exec`.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            list,
            environment,
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `execvp(3)` with these directories as `PATH`; returns the error number, if it returns.
pub(crate) fn exec_in_path(directories: &OsStr, program: &CStr, args: &Args) -> i32 {
    // SAFETY: the workload has a single thread.
    unsafe { std::env::set_var("PATH", directories) };
    // SAFETY: as in `exec`.
    unsafe { libc::execvp(program.as_ptr(), args.pointers.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `execve(2)` of this program again, with an environment that makes all strings together whole pages: its stack, which
/// lies below them, then begins at the same place in a page whatever the strings are. Nor does it register for `rseq`:
/// the kernel would write to its memory whenever it goes on after another task ran. Returns the error number, if it
/// returns.
pub(crate) fn exec_again(program: &CStr, args: &Args) -> i32 {
    const PAGE: usize = 4096;
    const NO_RSEQ: &CStr = c"GLIBC_TUNABLES=glibc.pthread.rseq=0";
    let name = "PAD=";
    let bytes = |s: &CStr| s.to_bytes_with_nul().len();
    let fixed = bytes(program) + bytes(NO_RSEQ) + name.len() + 1;
    let strings = fixed + args.strings.iter().map(|s| bytes(s)).sum::<usize>();
    let pad = text(name.to_owned() + &"-".repeat(strings.next_multiple_of(PAGE) - strings));
    let environment = [NO_RSEQ.as_ptr(), pad.as_ptr(), std::ptr::null()];
    // SAFETY: as in `exec`.
    unsafe { libc::execve(program.as_ptr(), args.pointers.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Waits for `pid` and returns its status as the kernel gives it.
pub(crate) fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    must("waitpid", unsafe { libc::waitpid(pid, &raw mut status, 0) });
    status
}

/// Waits until `pid` is a zombie, and leaves it one.
pub(crate) fn wait_zombie(pid: i32) {
    // SAFETY: `siginfo_t` is plain data, written by the kernel.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        must("waitid", libc::waitid(libc::P_PID, pid as u32, &raw mut info, libc::WEXITED | libc::WNOWAIT));
    }
}

/// Waits until what has ended uses no more CPU time: after it became a zombie, it still has to leave its CPU.
pub(crate) fn wait_off_cpu() {
    /// Returns when each CPU has switched to another task, or runs a program (include/uapi/linux/membarrier.h, 4.3).
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // Whoever was preempted on the way runs while this sleeps.
    for _ in 0..5 {
        // SAFETY: no memory is passed.
        must("membarrier", unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) }
            as i32);
        pause_ms(10);
    }
}

/// Ends all threads.
pub(crate) fn exit_group(code: i32) -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(code) }
}

/// Ends the calling thread only, and does not come back.
pub(crate) fn exit_thread(code: i32) -> ! {
    loop {
        // SAFETY: the thread's stack is never used again and is not freed by anyone.
        unsafe { libc::syscall(libc::SYS_exit, code) };
    }
}

/// Sleeps.
pub(crate) fn pause_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Kills the caller when its parent ends: a workload that changes settings must not go on after its test.
pub(crate) fn end_with_parent() {
    // SAFETY: no memory is passed.
    must("prctl", unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) });
}

/// Pid of the caller.
pub(crate) fn pid() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getpid() }
}

/// Pid of the caller's parent.
pub(crate) fn parent() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getppid() }
}

/// A pipe: what to read from, what to write to.
pub(crate) fn pipe() -> (i32, i32) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    must("pipe", unsafe { libc::pipe(ends.as_mut_ptr()) });
    (ends[0], ends[1])
}
