//! A directory that is removed at the end of a test.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Set to keep the files of the tests.
const KEEP: &str = "TRACER_LIVE_KEEP";

/// A directory of its own for each test.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Makes one; the length of its path is always the same within a process.
    pub(crate) fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tracer-live-{}-{number:04}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Path of `name` in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A name in it for this program: what it is called by decides what it does.
    pub(crate) fn link_self(&self, name: &str) -> io::Result<PathBuf> {
        let link = self.file(name);
        std::os::unix::fs::symlink(std::env::current_exe()?, &link)?;
        Ok(link)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_none() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
