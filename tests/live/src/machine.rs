//! What this machine has and is set to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A setting of the kernel's that has its old value again when this is dropped.
pub(crate) struct Setting {
    path: PathBuf,
    before: String,
}

impl Setting {
    /// Sets it.
    pub(crate) fn set(path: &str, value: &str) -> io::Result<Self> {
        let before = read(path)?;
        fs::write(path, value).map_err(|error| named(path, &error))?;
        Ok(Self { path: path.into(), before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            eprintln!("tracer-live: cannot set {} back to {}: {error}", self.path.display(), self.before);
        }
    }
}

/// The value of a setting; of one that lists all words, the one in brackets.
pub(crate) fn read(path: &str) -> io::Result<String> {
    let text = fs::read_to_string(path).map_err(|error| named(path, &error))?;
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word);
    Ok(chosen.unwrap_or(&text).trim().to_owned())
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// Major and minor number of the kernel's version.
pub(crate) fn release() -> io::Result<(u32, u32)> {
    let text = read("/proc/sys/kernel/osrelease")?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(io::Error::other(format!("no version: {text}"))),
    }
}

/// Whether the files at `path` are on a disk, or only in memory.
pub(crate) fn is_on_disk(path: &Path) -> io::Result<bool> {
    let path = crate::workload::sys::text(path);
    // SAFETY: plain data, written by the call.
    let kind = unsafe {
        let mut about: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &raw mut about) != 0 {
            return Err(io::Error::last_os_error());
        }
        about.f_type
    };
    /// RAMFS_MAGIC (include/uapi/linux/magic.h).
    const RAMFS: libc::__fsword_t = 0x8584_58f6;
    Ok(kind != libc::TMPFS_MAGIC && kind != RAMFS)
}
