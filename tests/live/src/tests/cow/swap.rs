//! Swapped pages: `docs/cow.md` has them as cases n.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

use libtest_mimic::{Failed, Trial};

use super::{
    super::trial,
    PAGE_BYTES,
    pins::{Case, series},
};
use crate::{cases, check::Outcome, workload::sys::text};

const ANON: &str = "/tracer/cow/by_page/anon";
const SWAP: &str = "/tracer/cow/by_page/swap";

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    const SWAPPED: &str = "n1 swapped";
    const BY_CHILD: &str = "n2 swap cache, present";
    const BY_PARENT: &str = "n3 swap cache, not present";
    vec![
        trial("cow::swapped_out", || test(SWAPPED, "cow-swapped", SWAP)),
        trial("cow::swap_cache_present", || test(BY_CHILD, "cow-swap-read-by-child", ANON)),
        trial("cow::swap_cache_absent", || test(BY_PARENT, "cow-swap-read-by-parent", SWAP)),
    ]
}

fn test(id: &'static str, workload: &'static str, class: &'static str) -> Outcome {
    let _swap = match Swap::on()? {
        Some(swap) => swap,
        None => {
            cases::tell(id, "no swap here", "-");
            return Ok(());
        }
    };
    series(&Case::new(id, workload, ("child", class)), |k| {
        let bytes = k * PAGE_BYTES;
        let child = vec![
            ("/tracer/cow/copies", k),
            ("/tracer/cow/bytes", bytes),
            ("/tracer/cow/by/user", k),
            (class, k),
        ];
        vec![("child", child), ("actor", vec![])]
    })
}

/// Swap space, ours until dropped if this machine had none.
pub(crate) struct Swap {
    ours: bool,
}

impl Swap {
    /// A disk of a virtual machine that is ours to overwrite.
    const DISK: &str = "/dev/ram0";

    /// The machine's own, or ours; nothing if there is neither.
    pub(crate) fn on() -> Result<Option<Self>, Failed> {
        if fs::read_to_string("/proc/swaps")?.lines().count() > 1 {
            return Ok(Some(Self { ours: false }));
        }
        if !Path::new(Self::DISK).exists() {
            return Ok(None);
        }
        format()?;
        // SAFETY: a NUL-terminated path.
        if unsafe { libc::swapon(text(Self::DISK).as_ptr(), 0) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Some(Self { ours: true }))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if self.ours {
            // SAFETY: as in `on`.
            unsafe { libc::swapoff(text(Self::DISK).as_ptr()) };
        }
    }
}

/// Writes what `mkswap` would: `union swap_header` (include/linux/swap.h) in the first page.
fn format() -> Result<(), Failed> {
    const VERSION_AT: usize = 1024;
    const MAGIC: &[u8] = b"SWAPSPACE2";
    let disk = OpenOptions::new().read(true).write(true).open(Swap::DISK)?;
    let pages = std::io::Seek::seek(&mut &disk, std::io::SeekFrom::End(0))? / PAGE_BYTES as u64;
    let last = u32::try_from(pages - 1).map_err(|_| "a disk that is too large")?;
    let mut page = vec![0; PAGE_BYTES as usize];
    page[VERSION_AT..VERSION_AT + 4].copy_from_slice(&1_u32.to_le_bytes());
    page[VERSION_AT + 4..VERSION_AT + 8].copy_from_slice(&last.to_le_bytes());
    let end = page.len() - MAGIC.len();
    page[end..].copy_from_slice(MAGIC);
    disk.write_all_at(&page, 0)?;
    disk.sync_all()?;
    Ok(())
}
