//! Signals as an input like any other: the handler writes each into a pipe, the loop reads it.
//!
//! The signal mask is left alone and handlers end at exec, so that a command that we start finds its
//! signals as we found them.

use std::{
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd},
    sync::atomic::{AtomicI32, Ordering},
};

use libc::{c_int, c_void, siginfo_t};

/// Signals that are passed on to a command.
pub(super) const FORWARDED: [c_int; 7] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// Those of them that ask a program to end.
pub(super) const ENDING: [c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The writing end of the pipe, which lives as long as the program: a handler may use it any time.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// A signal that was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    /// Its number.
    pub(super) number: c_int,
    /// It was sent by a process, not by the kernel. What a terminal sends, as for Ctrl-C, comes
    /// from the kernel and has reached the command already.
    pub(super) by_process: bool,
}

/// The pipe of caught signals.
#[derive(Debug)]
pub(super) struct Signals {
    pipe: io::PipeReader,
}

impl Signals {
    /// Catches `always`, and those of `unless_ignored` that are not ignored (as under nohup).
    pub(super) fn catch(always: &[c_int], unless_ignored: &[c_int]) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        set_nonblocking(reader.as_fd())?;
        set_nonblocking(writer.as_fd())?;
        PIPE.store(OwnedFd::from(writer).into_raw_fd(), Ordering::Release);
        for &number in always {
            catch(number)?;
        }
        for &number in unless_ignored {
            if !is_ignored(number)? {
                catch(number)?;
            }
        }
        Ok(Self { pipe: reader })
    }

    /// The next signal, if there is one.
    pub(super) fn next(&self) -> Option<Signal> {
        let mut bytes = [0; 2];
        // Both bytes of a signal are written at once, so they can be read at once.
        match (&self.pipe).read(&mut bytes) {
            Ok(2) => Some(Signal { number: bytes[0].into(), by_process: bytes[1] != 0 }),
            _ => None,
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

extern "C" fn handle(number: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler set with SA_SIGINFO.
    let by_process = unsafe { (*info).si_code } <= 0;
    // Signal numbers are at most 64.
    let bytes = [number as u8, by_process.into()];
    // SAFETY: write and errno may be used in a signal handler; errno is put back for the code that
    // was interrupted. A full pipe holds thousands of signals: one more makes no difference.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(PIPE.load(Ordering::Acquire), bytes.as_ptr().cast(), bytes.len());
        *libc::__errno_location() = errno;
    }
}

fn catch(number: c_int) -> io::Result<()> {
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = handle;
    // SAFETY: all zeroes is a valid sigaction (no flags, an empty mask); the handler has the type
    // that SA_SIGINFO asks for and does only what a handler may do.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(number, &action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn is_ignored(number: c_int) -> io::Result<bool> {
    // SAFETY: only reads the present action into a valid struct.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(number, std::ptr::null(), &mut action) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(action.sa_sigaction == libc::SIG_IGN)
    }
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain system calls on a descriptor that is open.
    let result = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sent_by_a_process_is_told_as_such() {
        let signals = Signals::catch(&[libc::SIGUSR1], &[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.next(), None);
        // SAFETY: the signal is caught by the handler set above.
        unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
        let caught = loop {
            if let Some(caught) = signals.next() {
                break caught;
            }
            std::thread::yield_now();
        };
        assert_eq!(caught, Signal { number: libc::SIGUSR1, by_process: true });
        assert_eq!(signals.next(), None);
    }
}
