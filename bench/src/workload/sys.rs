//! Clocks, processes and memory for the workloads.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::AsRawFd as _,
    ptr::NonNull,
};

use anyhow::{Context as _, Result, ensure};

use super::Cost;

pub(crate) const PAGE: usize = 4096;

/// Runs `work` and takes the CPU time of this process and of the children that it reaped meanwhile.
pub(super) fn timed(work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let before = now();
    work()?;
    let after = now();
    Ok(Cost { cpu_ns: after.cpu_ns - before.cpu_ns, wall_ns: after.wall_ns - before.wall_ns })
}

fn now() -> Cost {
    Cost {
        cpu_ns: clock(libc::CLOCK_PROCESS_CPUTIME_ID) + children_ns(),
        wall_ns: clock(libc::CLOCK_MONOTONIC),
    }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which cannot fail for these clocks.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn children_ns() -> u64 {
    // SAFETY: plain integers, written by the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|t| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000)
        .sum()
}

/// Keeps this process and its children on one CPU, and others off it: real-time scheduling is heeded across groups of
/// processes, which a nice value is not. A refusal only costs precision.
pub(super) fn stay_on_one_cpu() {
    // SAFETY: plain integers that outlive the calls; 0 is the calling thread.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&cpus), &raw mut cpus) == 0
            && let Some(last) = (0..libc::CPU_SETSIZE as usize).rev().find(|&cpu| libc::CPU_ISSET(cpu, &cpus))
        {
            libc::CPU_ZERO(&mut cpus);
            libc::CPU_SET(last, &mut cpus);
            libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus);
        }
        let first = libc::sched_param { sched_priority: 1 };
        libc::sched_setscheduler(0, libc::SCHED_RR, &raw const first);
    }
}

/// Forks; the child does `work` and ends.
pub(super) fn fork(work: impl FnOnce() -> Result<()>) -> Result<libc::pid_t> {
    // SAFETY: a slice has a single thread.
    match unsafe { libc::fork() } {
        0 => {
            let code = i32::from(work().is_err());
            // SAFETY: ends the child without running what the parent has registered.
            unsafe { libc::_exit(code) }
        }
        pid => {
            ensure!(pid > 0, "fork: {}", io::Error::last_os_error());
            Ok(pid)
        }
    }
}

/// Reaps a child, which must have succeeded.
pub(super) fn wait(pid: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    ensure!(reaped == pid && status == 0, "child {pid} ended with status {status}");
    Ok(())
}

/// A child that lives until it is let go, and can tell one number.
pub(super) struct Held {
    pid: libc::pid_t,
    answer: PipeReader,
    hold: PipeWriter,
}

impl Held {
    /// Forks a child that does `work`, tells its result, and then waits.
    pub(super) fn fork(work: impl FnOnce() -> Result<Cost>) -> Result<Self> {
        let (answer, mut tell) = io::pipe()?;
        let (mut held, hold) = io::pipe()?;
        let hold_fd = hold.as_raw_fd();
        let pid = fork(|| {
            // SAFETY: the child's copy, which it does not use: with it, it would wait for itself.
            unsafe { libc::close(hold_fd) };
            let Cost { cpu_ns, wall_ns } = work()?;
            tell.write_all(&[cpu_ns.to_ne_bytes(), wall_ns.to_ne_bytes()].concat())?;
            held.read_to_end(&mut Vec::new())?;
            Ok(())
        })?;
        Ok(Self { pid, answer, hold })
    }

    /// Waits for what it tells.
    pub(super) fn cost(&mut self) -> Result<Cost> {
        let mut words = [[0; 8]; 2];
        self.answer.read_exact(words.as_flattened_mut()).context("a child failed")?;
        let [cpu_ns, wall_ns] = words.map(u64::from_ne_bytes);
        Ok(Cost { cpu_ns, wall_ns })
    }

    /// Lets it end.
    pub(super) fn release(self) -> Result<()> {
        let Self { pid, answer: _, hold } = self;
        drop(hold);
        wait(pid)
    }
}

/// A private mapping in small pages.
pub(super) struct Pages {
    start: NonNull<u8>,
    count: usize,
}

impl Pages {
    /// Anonymous memory, not yet touched.
    pub(super) fn untouched(count: usize) -> Result<Self> {
        Self::map(count, 0)
    }

    /// Anonymous memory that is there, without a fault for it.
    pub(super) fn filled(count: usize) -> Result<Self> {
        Self::map(count, libc::MAP_POPULATE)
    }

    fn map(count: usize, flags: i32) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        // SAFETY: a new mapping at an address of the kernel's choice. Without huge pages in this process and its
        // children, if there are any: a kernel that has none refuses, which is as good.
        let start = unsafe {
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
            libc::mmap(std::ptr::null_mut(), count * PAGE, access, flags, -1, 0)
        };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let start = NonNull::new(start.cast()).context("mmap gave no address")?;
        Ok(Self { start, count })
    }

    /// Writes a byte to each page.
    pub(super) fn write(&self) {
        for page in 0..self.count {
            // SAFETY: inside the mapping.
            unsafe { self.start.add(page * PAGE).write_volatile(1) };
        }
    }

    /// Reads a byte of each page.
    pub(super) fn read(&self) {
        for page in 0..self.count {
            // SAFETY: inside the mapping.
            unsafe { self.start.add(page * PAGE).read_volatile() };
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, not used any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * PAGE) };
    }
}
