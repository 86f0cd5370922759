//! The first process of a virtual machine: mounts what the tests need, runs them, powers off.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::{fd::AsRawFd as _, unix::fs::symlink},
    process::{Command, ExitCode},
};

/// Set for the tests in a virtual machine, which is much slower than its host.
pub(crate) const VM: &str = "TRACER_LIVE_VM";

/// Kernel parameter: only the tests whose name contains its value.
const TESTS: &str = "tracer.tests=";

/// Here are files that are in memory, but whose shared mappings are told of the first write, as those of a disk are.
pub(crate) const RAM: &str = "/ram";

/// Type, place, and whether the tests can do without it.
const MOUNTS: &[(&str, &str, bool)] = &[
    ("proc", "/proc", false),
    ("sysfs", "/sys", false),
    ("devtmpfs", "/dev", false),
    ("devpts", "/dev/pts", false),
    ("tmpfs", "/tmp", false),
    ("ramfs", RAM, false),
    ("tracefs", "/sys/kernel/tracing", true),
    ("securityfs", "/sys/kernel/security", true),
    ("cgroup2", "/sys/fs/cgroup", true),
];

/// Where the initramfs has kernel modules.
const MODULES: &str = "/modules";
/// Of `brd`: disks in memory, `/dev/ram0` and so on, that take it only as they are written.
const DISKS: &CStr = c"rd_nr=2 rd_size=262144";
/// The kernel is to unpack the module itself (include/uapi/linux/module.h, from 5.17).
const COMPRESSED_FILE: libc::c_int = 4;

/// Runs the tests, prints their exit status, powers off.
pub(crate) fn main() -> ExitCode {
    for &(kind, place, optional) in MOUNTS {
        if let Err(error) = mount(kind, place, "")
            && !optional
            && error.raw_os_error() != Some(libc::EBUSY)
        {
            println!("tracer-live: mount {kind} on {place}: {error}");
        }
    }
    // As udev makes it: a program that is executed by its descriptor is named by a path there.
    if let Err(error) = symlink("/proc/self/fd", "/dev/fd") {
        println!("tracer-live: make /dev/fd: {error}");
    }
    if let Err(error) = load_modules() {
        println!("tracer-live: modules of the kernel: {error}");
    }
    let status = run().unwrap_or_else(|error| {
        println!("tracer-live: cannot run the tests: {error}");
        1
    });
    println!("tracer-live: exit {status}");
    // SAFETY: plain system calls; all file systems are in memory, only the console has to get its text.
    unsafe {
        libc::tcdrain(libc::STDOUT_FILENO);
        libc::reboot(libc::RB_POWER_OFF);
    }
    ExitCode::FAILURE
}

/// Mounts a file system of type `kind` on `place`, which is made if it is not there.
pub(crate) fn mount(kind: &str, place: &str, options: &str) -> io::Result<()> {
    let _ = fs::create_dir_all(place);
    let text = |s: &str| CString::new(s);
    let (kind, place, options) = (text(kind)?, text(place)?, text(options)?);
    // SAFETY: all pointers are to NUL-terminated strings that outlive the call.
    let status =
        unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Loads what is in [`MODULES`], if that is there.
fn load_modules() -> io::Result<()> {
    for entry in fs::read_dir(MODULES)? {
        let path = entry?.path();
        let flags = if path.extension().is_some_and(|kind| kind == "xz") { COMPRESSED_FILE } else { 0 };
        let file = fs::File::open(&path)?;
        // SAFETY: an open file and a NUL-terminated string.
        let status =
            unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), DISKS.as_ptr(), flags) };
        if status != 0 {
            let error = io::Error::last_os_error();
            return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        }
    }
    Ok(())
}

fn run() -> io::Result<i32> {
    let parameters = fs::read_to_string("/proc/cmdline")?;
    let filter = parameters.split_whitespace().find_map(|word| word.strip_prefix(TESTS));
    let tests = Command::new(std::env::current_exe()?)
        .args(["test", "--color", "never"])
        .args(filter)
        .env(VM, "1")
        .env("TMPDIR", "/tmp")
        .spawn()?;
    let pid = i32::try_from(tests.id()).unwrap_or(-1);
    loop {
        let mut status = 0;
        // Any child: the first process also has to reap the orphans.
        // SAFETY: `status` outlives the call.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if ended == pid {
            return Ok(if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                128 + libc::WTERMSIG(status)
            });
        }
        if ended < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                return Err(error);
            }
        }
    }
}
