//! Counts known faults of our own before anything is believed: that a hook exists proves nothing.
//!
//! We copy pages of a file and upgrade zero pages, a child copies pages that it shares with us, and when it is gone
//! we reuse others. What became of these is told by the frames in /proc/self/pagemap.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::NonNull,
};

use tracer_common::{
    counter::{self, Class, DEMAND_ZERO, Mode, UNSORTED},
    state::Process,
};

use super::{
    calibrate::{Pages, frame},
    maps::{Processes, Threads},
};
use crate::level::Level;

const PAGES: usize = 16;
const PAGE: usize = 4096;
/// A fault of ours within a round spoils it; the first ones also warm up what the later ones touch.
const ROUNDS: usize = 6;

/// What was counted for a process.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    anon: u64,
    file: u64,
    zero: u64,
    reuse: u64,
    demand_zero: u64,
    unsorted: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { anon, file, zero, reuse, demand_zero, unsorted } = self;
        write!(f, "{anon} copies of anonymous pages, {file} of file pages, {zero} zero pages replaced, ")?;
        write!(f, "{reuse} reuses, {demand_zero} first touches, {unsorted} unsorted copies")
    }
}

impl Seen {
    /// What `level` counts of this.
    fn at(self, level: Level) -> Self {
        if level == Level::Lite {
            return Self { unsorted: self.anon + self.file + self.zero, ..Self::default() };
        }
        Self { demand_zero: if level.has_allocations() { self.demand_zero } else { 0 }, ..self }
    }

    fn since(self, before: Self) -> Self {
        Self {
            anon: self.anon - before.anon,
            file: self.file - before.file,
            zero: self.zero - before.zero,
            reuse: self.reuse - before.reuse,
            demand_zero: self.demand_zero - before.demand_zero,
            unsorted: self.unsorted - before.unsorted,
        }
    }
}

/// Makes faults whose fate is known and compares the counts; the error says what did not fit.
pub(super) fn run(processes: &mut Processes, threads: &mut Threads, level: Level) -> Result<(), String> {
    let own = std::process::id();
    processes.enter(own, 0, false).map_err(|e| e.to_string())?;
    let mut test = Test { processes, threads, level, own };
    let result = test.own_pages().and_then(|()| test.shared_pages());
    test.forget(own);
    result.map_err(|reason| format!("self-test: {reason}"))
}

struct Test<'a> {
    processes: &'a mut Processes,
    threads: &'a mut Threads,
    level: Level,
    own: u32,
}

impl Test<'_> {
    fn seen(&mut self, tgid: u32) -> Seen {
        let process: Option<Process> = self.processes.get(tgid);
        let count = |counter: u32| process.map_or(0, |p| p.counters[counter as usize]);
        let class = |class| count(counter::index(class, Mode::User));
        Seen {
            anon: class(Class::Anon),
            file: class(Class::File),
            zero: class(Class::Zero),
            reuse: class(Class::Reuse),
            demand_zero: count(DEMAND_ZERO),
            unsorted: count(UNSORTED),
        }
    }

    /// Drops what is held of a single-threaded process.
    fn forget(&mut self, tgid: u32) {
        self.processes.remove(tgid);
        self.threads.remove(tgid);
    }

    /// Repeats `faults` of process `tgid` until they are counted as it says. The argument is the round.
    fn rounds(
        &mut self,
        tgid: u32,
        mut faults: impl FnMut(usize) -> Result<Seen, String>,
    ) -> Result<(), String> {
        let mut what = String::new();
        let untouched = Pages::new(ROUNDS).map_err(|e| format!("mmap: {e}"))?;
        for round in 0..ROUNDS {
            // A fault of ours between two rounds is settled by the next one, and must not be in the round.
            untouched.read(round);
            let before = self.seen(tgid);
            let made = faults(round)?.at(self.level);
            let seen = self.seen(tgid).since(before);
            if seen == made {
                return Ok(());
            }
            what = format!("made {made}; counted {seen}");
        }
        Err(what)
    }

    /// Private pages of a file that were read before, zero pages, and pages that were not touched before.
    fn own_pages(&mut self) -> Result<(), String> {
        let count = PAGES as u64;
        self.rounds(self.own, |_| {
            let private = Private::new().map_err(|e| e.to_string())?;
            let zero = Pages::new(PAGES).map_err(|e| e.to_string())?;
            let fresh = Pages::new(PAGES + 1).map_err(|e| e.to_string())?;
            for page in 0..PAGES {
                private.read(page);
                private.write(page);
            }
            for page in 0..PAGES {
                zero.read(page);
                zero.write(page, 1);
            }
            for page in 0..PAGES {
                fresh.write(page, 1);
            }
            fresh.read(PAGES);
            Ok(Seen { file: count, zero: count, demand_zero: count, ..Seen::default() })
        })
    }

    /// Pages that a fork shared: a child of ours copies some, and we reuse others when it is gone.
    fn shared_pages(&mut self) -> Result<(), String> {
        let pagemap = File::open("/proc/self/pagemap").map_err(|e| format!("/proc/self/pagemap: {e}"))?;
        let pages = || Pages::new(PAGES + 2).map_err(|e| format!("mmap: {e}"));
        let mut shared = Vec::new();
        for _ in 0..2 * ROUNDS {
            shared.push(pages()?);
        }
        let (to_copy, to_reuse) = shared.split_at(ROUNDS);
        shared.iter().for_each(|pages| fill(pages, PAGES));
        let child = Child::fork(to_copy).map_err(|e| format!("fork: {e}"))?;
        let entered = self.processes.enter(child.pid, 0, false).map_err(|e| e.to_string());
        let copied = entered.and_then(|()| {
            self.rounds(child.pid, |_| {
                child.write_next().map_err(|e| format!("the child: {e}"))?;
                Ok(Seen { anon: PAGES as u64, ..Seen::default() })
            })
        });
        let pid = child.pid;
        drop(child);
        self.forget(pid);
        copied?;
        let mut reused = 0;
        self.rounds(self.own, |round| {
            let pages = &to_reuse[round];
            let before = frames(&pagemap, pages)?;
            fill(pages, PAGES + 1);
            let after = frames(&pagemap, pages)?;
            let anon = before.iter().zip(&after).filter(|(before, after)| before != after).count() as u64;
            reused += PAGES as u64 - anon;
            Ok(Seen { anon, reuse: PAGES as u64 - anon, ..Seen::default() })
        })?;
        if reused == 0 { Err("no page was reused".to_owned()) } else { Ok(()) }
    }
}

/// Writes the first [`PAGES`] pages. `untouched` is one behind them that was not even read until now: to read it makes
/// the fault that settles the last one of the writes.
fn fill(pages: &Pages, untouched: usize) {
    for page in 0..PAGES {
        pages.write(page, 1);
    }
    pages.read(untouched);
}

fn frames(pagemap: &File, pages: &Pages) -> Result<[u64; PAGES], String> {
    let mut frames = [0; PAGES];
    for (page, to) in frames.iter_mut().enumerate() {
        *to = frame(pagemap, pages.word(page) as u64)?;
    }
    Ok(frames)
}

/// A child that shares our memory and writes to it when it is told to.
struct Child {
    pid: u32,
    orders: OwnedFd,
    answers: OwnedFd,
}

impl Child {
    /// The child has this process's only thread, and does nothing but read, write and end.
    fn fork(pages: &[Pages]) -> io::Result<Self> {
        let (order, orders) = pipe()?;
        let (answers, answer) = pipe()?;
        // SAFETY: this process has one thread; the child allocates nothing and ends in the block below.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            // The child would keep itself waiting.
            drop(orders);
            for pages in pages {
                if receive(&order).is_err() {
                    break;
                }
                fill(pages, PAGES + 1);
                if send(&answer).is_err() {
                    break;
                }
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) };
        }
        Ok(Self { pid: pid as u32, orders, answers })
    }

    fn write_next(&self) -> io::Result<()> {
        send(&self.orders)?;
        receive(&self.answers)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The child may be at its end already.
        let mut status = 0;
        // SAFETY: our own child, not yet reaped; `status` outlives the call.
        unsafe {
            libc::kill(self.pid as libc::pid_t, libc::SIGKILL);
            libc::waitpid(self.pid as libc::pid_t, &raw mut status, 0);
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

fn send(to: &OwnedFd) -> io::Result<()> {
    let byte = 0u8;
    // SAFETY: one byte of ours.
    done(unsafe { libc::write(to.as_raw_fd(), (&raw const byte).cast(), 1) })
}

fn receive(from: &OwnedFd) -> io::Result<()> {
    let mut byte = 0u8;
    // SAFETY: one byte of ours.
    done(unsafe { libc::read(from.as_raw_fd(), (&raw mut byte).cast(), 1) })
}

fn done(bytes: isize) -> io::Result<()> {
    match bytes {
        1 => Ok(()),
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(io::Error::last_os_error()),
    }
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
