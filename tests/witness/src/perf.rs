//! The kernel's own counts of page faults, as perf reads them.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _},
    path::Path,
};

use anyhow::{Context as _, Result};

// include/uapi/linux/perf_event.h
const TYPE_SOFTWARE: u64 = 1;
const TYPE_TRACEPOINT: u64 = 2;
const PAGE_FAULTS_MIN: u64 = 5;
const PAGE_FAULTS_MAJ: u64 = 6;
const FLAG_DISABLED: u64 = 1 << 0;
const FLAG_INHERIT: u64 = 1 << 1;
/// PERF_FLAG_FD_CLOEXEC
const FLAG_CLOEXEC: u64 = 1 << 3;
/// PERF_ATTR_SIZE_VER5, in words of 8 bytes: every field after the flags stays zero.
const ATTR_WORDS: usize = 14;
/// `_IOW('$', 6, char *)`
const SET_FILTER: libc::Ioctl = 0x4008_2406;

/// Where tracefs is expected.
pub(crate) const TRACEFS: &str = "/sys/kernel/tracing";

/// Counts an event in all descendants of this process that are born from now on, and not in itself.
///
/// There is no event of that kind. So it is counted twice, with and without the descendants.
pub(crate) struct Counter {
    with_descendants: File,
    own: File,
}

impl Counter {
    /// Successful faults without I/O, but for those that the kernel provokes itself (get_user_pages).
    pub(crate) fn minor() -> io::Result<Self> {
        Self::open(TYPE_SOFTWARE, PAGE_FAULTS_MIN, None)
    }

    /// The same with I/O.
    pub(crate) fn major() -> io::Result<Self> {
        Self::open(TYPE_SOFTWARE, PAGE_FAULTS_MAJ, None)
    }

    /// Page fault exceptions at user addresses, successful or not, in user or kernel mode.
    pub(crate) fn exceptions(mode: &str, writes: bool) -> Result<Self> {
        let path = Path::new(TRACEFS).join("events/exceptions").join(mode).join("id");
        let id = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // Bit 1 of the error code: a write.
        let access = if writes { "error_code & 2" } else { "!(error_code & 2)" };
        let filter = format!("{access} && address < 0x800000000000\0");
        Ok(Self::open(TYPE_TRACEPOINT, id.trim().parse()?, Some(&filter))?)
    }

    fn open(kind: u64, config: u64, filter: Option<&str>) -> io::Result<Self> {
        let open = |flags| open(kind, config, flags, filter);
        Ok(Self { with_descendants: open(FLAG_DISABLED | FLAG_INHERIT)?, own: open(FLAG_DISABLED)? })
    }

    /// The count until now.
    pub(crate) fn read(&self) -> io::Result<u64> {
        let Self { with_descendants, own } = self;
        let read = |mut file: &File| {
            let mut value = [0; 8];
            file.read_exact(&mut value).map(|()| u64::from_ne_bytes(value))
        };
        // Its own first: a fault between the two must not be missing in the difference.
        let own = read(own)?;
        Ok(read(with_descendants)? - own)
    }
}

/// Starts all counters of this process in the same moment, or stops them.
pub(crate) fn enable(on: bool) {
    let option = if on { libc::PR_TASK_PERF_EVENTS_ENABLE } else { libc::PR_TASK_PERF_EVENTS_DISABLE };
    // SAFETY: a plain system call that cannot fail.
    unsafe { libc::prctl(option) };
}

fn open(kind: u64, config: u64, flags: u64, filter: Option<&str>) -> io::Result<File> {
    let mut attr = [0_u64; ATTR_WORDS];
    attr[0] = kind | (size_of_val(&attr) as u64) << 32;
    attr[1] = config;
    attr[5] = flags;
    let (this_process, any_cpu, no_group) = (0, -1, -1);
    // SAFETY: `attr` outlives the call and holds its own size.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), this_process, any_cpu, no_group, FLAG_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else has it.
    let file = unsafe { File::from_raw_fd(fd as i32) };
    if let Some(filter) = filter {
        // SAFETY: a NUL-terminated string that outlives the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), SET_FILTER, filter.as_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(file)
}
