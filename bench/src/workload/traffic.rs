//! Work of bystanders: no fork, and no fault that is a copy.

use std::{
    fs::File,
    io::{self, Read, Seek as _, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::FromRawFd as _,
    path::Path,
};

use anyhow::{Result, ensure};

use super::{
    Cost,
    sys::{PAGE, timed},
};

/// Pages of a file before it is emptied.
const FILE_PAGES: u64 = 10_000;
/// Pages that a pipe holds.
const PIPE_PAGES: u64 = 16;

pub(super) fn tmpfs(operations: u64, _: &Path) -> Result<Cost> {
    // SAFETY: a NUL-terminated name; the descriptor is new and ours.
    let file = unsafe {
        let fd = libc::memfd_create(c"bench".as_ptr(), libc::MFD_CLOEXEC);
        ensure!(fd >= 0, "memfd_create: {}", io::Error::last_os_error());
        File::from_raw_fd(fd)
    };
    fill(file, operations)
}

pub(super) fn page_cache(operations: u64, folder: &Path) -> Result<Cost> {
    fill(File::create(folder.join("pages"))?, operations)
}

/// Writes pages to `file`, which never becomes long.
fn fill(mut file: File, operations: u64) -> Result<Cost> {
    let page = [1; PAGE];
    timed(|| {
        for number in 0..operations {
            if number % FILE_PAGES == 0 {
                file.set_len(0)?;
                file.rewind()?;
            }
            file.write_all(&page)?;
        }
        file.set_len(0)?;
        Ok(())
    })
}

pub(super) fn pipe(operations: u64, _: &Path) -> Result<Cost> {
    let (mut reader, mut writer) = io::pipe()?;
    let mut pages = vec![1; PIPE_PAGES as usize * PAGE];
    timed(|| {
        for _ in 0..operations / PIPE_PAGES {
            writer.write_all(&pages)?;
            reader.read_exact(&mut pages)?;
        }
        Ok(())
    })
}

pub(super) fn tcp(operations: u64, _: &Path) -> Result<Cost> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let mut message = [1; PAGE];
    timed(|| {
        for _ in 0..operations {
            sender.write_all(&message)?;
            receiver.read_exact(&mut message)?;
        }
        Ok(())
    })
}

pub(super) fn syscall(operations: u64, _: &Path) -> Result<Cost> {
    timed(|| {
        for _ in 0..operations {
            // SAFETY: no arguments, no failure.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        Ok(())
    })
}
