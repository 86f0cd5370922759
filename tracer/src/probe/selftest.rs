//! Counts known faults of our own before anything is believed: that a hook exists proves nothing.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::NonNull,
};

use tracer_common::{
    counter::{self, Class, Mode},
    event::Process,
};

use super::{
    calibrate::Pages,
    maps::{Processes, Threads},
};

const PAGES: usize = 16;
const PAGE: usize = 4096;
/// A fault of ours in between spoils a round; the first one also warms up what the later ones touch.
const ROUNDS: usize = 4;

/// Copies and upgrades counted for us.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    file: u64,
    zero: u64,
}

/// Writes to pages whose fate is known and compares the counts; the error says what did not fit.
pub(super) fn run(processes: &mut Processes, threads: &mut Threads, tree: bool) -> Result<(), String> {
    let own = std::process::id();
    if tree {
        processes.insert(own, 0).map_err(|e| e.to_string())?;
    }
    let result = rounds(processes, own);
    if tree {
        // We are not part of the tree: our further faults are nobody's.
        processes.remove(own);
        // SAFETY: no arguments, cannot fail.
        threads.remove(unsafe { libc::gettid() } as u32);
    }
    result
}

fn rounds(processes: &Processes, own: u32) -> Result<(), String> {
    let wanted = Seen { file: PAGES as u64, zero: PAGES as u64 };
    let mut last = Seen { file: 0, zero: 0 };
    for _ in 0..ROUNDS {
        let before = seen(processes.get(own));
        let private = Private::new().map_err(|e| format!("self-test: {e}"))?;
        let pages = Pages::new(PAGES).map_err(|e| format!("self-test: {e}"))?;
        for page in 0..PAGES {
            private.read(page);
            private.write(page);
        }
        for page in 0..PAGES {
            pages.read(page);
            pages.write(page, 1);
        }
        let after = seen(processes.get(own));
        last = Seen { file: after.file - before.file, zero: after.zero - before.zero };
        if last == wanted {
            return Ok(());
        }
    }
    Err(format!(
        "self-test: of {PAGES} copied file pages {} were counted, of {PAGES} zero pages {}",
        last.file, last.zero
    ))
}

fn seen(process: Option<Process>) -> Seen {
    let count = |class| process.map_or(0, |p| p.counters[counter::index(class, Mode::User) as usize]);
    Seen { file: count(Class::File), zero: count(Class::Zero) }
}

/// A private mapping of a file in memory.
struct Private {
    at: NonNull<u8>,
}

impl Private {
    fn new() -> io::Result<Self> {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"tracer-self-test".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len((PAGES * PAGE) as u64)?;
        // SAFETY: a new mapping.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGES * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        NonNull::new(at.cast())
            .filter(|at: &NonNull<u8>| at.as_ptr().cast() != libc::MAP_FAILED)
            .map(|at| Self { at })
            .ok_or_else(io::Error::last_os_error)
    }

    fn read(&self, page: usize) {
        // SAFETY: inside the mapping, whose file is as long.
        unsafe { self.at.add(page * PAGE).read_volatile() };
    }

    fn write(&self, page: usize) {
        // SAFETY: as in `read`.
        unsafe { self.at.add(page * PAGE).write_volatile(1) };
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, not used any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), PAGES * PAGE) };
    }
}
