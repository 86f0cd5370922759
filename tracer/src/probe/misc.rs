//! What binfmt_misc knows: the interpreters of files that neither run by themselves nor name one.

use std::{
    fs,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process, ptr,
};

use super::procfs;
use tracer_common::place::NAMESPACES;

const MOUNT: &str = "/proc/sys/fs/binfmt_misc";

/// Inode number of the machine's first user namespace (PROC_USER_INIT_INO in include/linux/proc_ns.h).
const FIRST_USER_NS: u32 = 0xefff_fffd;

/// The interpreters that are registered with the machine; `None` when that cannot be told.
pub fn interpreters() -> Option<Vec<String>> {
    let is_there =
        fs::read_to_string("/proc/filesystems").ok()?.lines().any(|line| line.ends_with("\tbinfmt_misc"));
    if !is_there {
        return Some(Vec::new());
    }
    if Path::new(MOUNT).join("status").exists() {
        return read(Path::new(MOUNT));
    }
    let mount = mount()?;
    read(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd())))
}

/// Another mount may have been made where we do not see it, or was taken away: this one shows the same, is nowhere
/// among the directories, and is gone when it is closed. Only where it makes no instance of its own, as it does in
/// other user namespaces (6.7).
fn mount() -> Option<OwnedFd> {
    // include/uapi/linux/mount.h, 5.2.
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const CLOEXEC: libc::c_uint = 1;
    let own = NAMESPACES.iter().zip(procfs::namespaces(process::id())).find(|(name, _)| **name == "user");
    if own.is_none_or(|(_, inode)| inode != FIRST_USER_NS) {
        return None;
    }
    let owned = |fd: libc::c_long| {
        // SAFETY: a descriptor that was just made, or none.
        i32::try_from(fd).ok().filter(|&fd| fd >= 0).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: a NUL-terminated name.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"binfmt_misc".as_ptr(), CLOEXEC) })?;
    let none = ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let made =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) };
    if made != 0 {
        return None;
    }
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, 0) })
}

fn read(mount: &Path) -> Option<Vec<String>> {
    if fs::read_to_string(mount.join("status")).ok()?.trim_end() != "enabled" {
        return Some(Vec::new());
    }
    // Among them `register`, which cannot be read.
    let entries = fs::read_dir(mount).ok()?.flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Some(texts.filter_map(|text| interpreter(&text).map(str::to_owned)).collect())
}

/// The interpreter of an entry that is in use.
fn interpreter(entry: &str) -> Option<&str> {
    let mut lines = entry.lines();
    (lines.next()? == "enabled").then(|| lines.find_map(|line| line.strip_prefix("interpreter ")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let entry = "enabled\ninterpreter /usr/bin/qemu-arm\nflags: OC\noffset 0\nmagic 7f454c46\n";
        assert_eq!(interpreter(entry), Some("/usr/bin/qemu-arm"));
        assert_eq!(interpreter(&entry.replace("enabled", "disabled")), None);
        assert_eq!(interpreter("enabled"), None);
        assert_eq!(interpreter(""), None);
    }
}
