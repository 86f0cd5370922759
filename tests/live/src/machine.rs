//! What this machine has and is set to.

use std::{
    fs::{self, OpenOptions},
    io::{self, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::{harness::in_vm, workload::sys::text};

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
    let path = text(path);
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

/// A disk in memory of a virtual machine, and so ours to overwrite.
pub(crate) fn disk(number: u32) -> Option<PathBuf> {
    Some(PathBuf::from(format!("/dev/ram{number}"))).filter(|path| in_vm() && path.exists())
}

/// Swap space.
pub(crate) struct Swap {
    /// Not the machine's own: there is none any more when this is dropped.
    ours: Option<PathBuf>,
}

impl Swap {
    /// The machine's own, or ours; nothing if there is neither.
    pub(crate) fn on() -> io::Result<Option<Self>> {
        if fs::read_to_string("/proc/swaps")?.lines().count() > 1 {
            return Ok(Some(Self { ours: None }));
        }
        let Some(path) = disk(0) else { return Ok(None) };
        format(&path)?;
        // SAFETY: a NUL-terminated path.
        match unsafe { libc::swapon(text(&path).as_ptr(), 0) } {
            0 => Ok(Some(Self { ours: Some(path) })),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let Some(path) = &self.ours else { return };
        // SAFETY: as in `on`.
        if unsafe { libc::swapoff(text(path).as_ptr()) } != 0 {
            eprintln!("tracer-live: swapoff {}: {}", path.display(), io::Error::last_os_error());
        }
    }
}

/// Writes what `mkswap` would: `union swap_header` (include/linux/swap.h) in the first page.
fn format(path: &Path) -> io::Result<()> {
    const PAGE: usize = 4096;
    const VERSION_AT: usize = 1024;
    const MAGIC: &[u8] = b"SWAPSPACE2";
    let mut disk = OpenOptions::new().read(true).write(true).open(path)?;
    let pages = disk.seek(SeekFrom::End(0))? / PAGE as u64;
    let last = u32::try_from(pages - 1).map_err(io::Error::other)?;
    let mut page = [0; PAGE];
    page[VERSION_AT..VERSION_AT + 4].copy_from_slice(&1_u32.to_le_bytes());
    page[VERSION_AT + 4..VERSION_AT + 8].copy_from_slice(&last.to_le_bytes());
    page[PAGE - MAGIC.len()..].copy_from_slice(MAGIC);
    disk.write_all_at(&page, 0)?;
    disk.sync_all()
}
