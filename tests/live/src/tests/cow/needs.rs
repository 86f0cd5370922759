//! What a case needs of the machine.

use std::{any::Any, io};

use libtest_mimic::Failed;

use crate::{
    machine::{self, Setting, Swap, is_on_disk, read, release},
    workload::has_soft_dirty,
};

/// Whether a case can be made here.
pub(super) enum Need {
    /// With these until it is over: each undoes itself when it is dropped.
    Met(Vec<Box<dyn Any>>),
    /// No, for this reason.
    Missing(String),
}

impl Need {
    fn missing(why: &str) -> Self {
        Self::Missing(why.to_owned())
    }

    fn settings(settings: impl IntoIterator<Item = io::Result<Setting>>) -> Result<Self, Failed> {
        let held =
            settings.into_iter().map(|setting| setting.map(|setting| Box::new(setting) as Box<dyn Any>));
        Ok(Self::Met(held.collect::<Result<_, _>>()?))
    }
}

pub(super) fn nothing() -> Result<Need, Failed> {
    Ok(Need::Met(Vec::new()))
}

/// A file whose pages can be dropped from memory.
pub(super) fn disk() -> Result<Need, Failed> {
    match is_on_disk(&std::env::temp_dir())? {
        true => nothing(),
        false => Ok(Need::missing("all files are in memory only")),
    }
}

const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Transparent huge pages where a program asks for them.
pub(super) fn transparent() -> Result<Need, Failed> {
    match read(TRANSPARENT) {
        Err(_) => Ok(Need::missing("the kernel has no transparent huge pages")),
        Ok(_) => Need::settings([Setting::set(TRANSPARENT, "madvise")]),
    }
}

/// Of these, also the zero page.
pub(super) fn transparent_zero() -> Result<Need, Failed> {
    let mut need = transparent()?;
    if let Need::Met(settings) = &mut need {
        settings.push(Box::new(Setting::set("/sys/kernel/mm/transparent_hugepage/use_zero_page", "1")?));
    }
    Ok(need)
}

/// Huge pages that are kept ready: four are used at a time.
pub(super) fn hugetlb() -> Result<Need, Failed> {
    const PAGES: &str = "/proc/sys/vm/nr_hugepages";
    const MORE: u64 = 8;
    let Ok(before) = read(PAGES) else {
        return Ok(Need::missing("the kernel has no hugetlb"));
    };
    let want = before.parse::<u64>()? + MORE;
    let setting = Setting::set(PAGES, &want.to_string())?;
    let have = read(PAGES)?;
    if have.parse::<u64>()? < want {
        return Err(format!("memory for {have} huge pages only, not {want}").into());
    }
    Ok(Need::Met(vec![Box::new(setting)]))
}

/// KSM, fast once the workload starts it.
fn ksm(zero_pages: &str) -> Result<Need, Failed> {
    const DIR: &str = "/sys/kernel/mm/ksm";
    if read(&format!("{DIR}/run")).is_err() {
        return Ok(Need::missing("the kernel has no KSM"));
    }
    let values =
        [("run", "0"), ("use_zero_pages", zero_pages), ("pages_to_scan", "20000"), ("sleep_millisecs", "1")];
    Need::settings(values.map(|(name, value)| Setting::set(&format!("{DIR}/{name}"), value)))
}

/// KSM.
pub(super) fn merging() -> Result<Need, Failed> {
    ksm("0")
}

/// KSM that replaces pages of zeros by the zero page.
pub(super) fn merging_zeros() -> Result<Need, Failed> {
    ksm("1")
}

pub(super) fn soft_dirty() -> Result<Need, Failed> {
    match has_soft_dirty() {
        true => nothing(),
        false => Ok(Need::missing("the kernel has no soft-dirty bits")),
    }
}

/// Write protection by userfaultfd.
pub(super) fn userfaultfd() -> Result<Need, Failed> {
    // SAFETY: no memory is passed; the descriptor is closed at once.
    let have = unsafe {
        let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
        libc::close(fd as i32) == 0
    };
    match have {
        true => nothing(),
        false => Ok(Need::missing("the kernel has no userfaultfd")),
    }
}

/// A file that knows direct I/O: those in memory do not.
pub(super) fn direct() -> Result<Need, Failed> {
    if machine::disk(1).is_some() { nothing() } else { disk() }
}

pub(super) fn populate() -> Result<Need, Failed> {
    match release()? < (5, 14) {
        true => Ok(Need::missing("new in Linux 5.14")),
        false => nothing(),
    }
}

pub(super) fn io_uring() -> Result<Need, Failed> {
    // SAFETY: without parameters the call fails: with EFAULT if it is there and allowed.
    unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EFAULT) => nothing(),
        _ => Ok(Need::Missing(format!("no io_uring here: {error}"))),
    }
}

pub(super) fn swap() -> Result<Need, Failed> {
    Ok(match Swap::on()? {
        Some(swap) => Need::Met(vec![Box::new(swap)]),
        None => Need::missing("no swap here"),
    })
}
