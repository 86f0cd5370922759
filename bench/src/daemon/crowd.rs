//! Many processes that sleep.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// Process ids that are left to the rest of the machine.
const SPARE: u64 = 2_000;
/// Memory that one of them takes at most: page tables, stacks and what the kernel knows of it.
const EACH_KIB: u64 = 200;

/// Sleeping processes; they end with it.
pub(super) struct Crowd {
    leader: Child,
}

impl Crowd {
    /// Starts so many, when this machine has room for them.
    pub(super) fn start(count: u32) -> Result<Self> {
        let number = |path: &str| -> Result<u64> {
            fs::read_to_string(path)?.trim().parse().with_context(|| path.to_owned())
        };
        let now = fs::read_dir("/proc")?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
            .count() as u64;
        let wanted = u64::from(count) + now + SPARE;
        for limit in ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"] {
            ensure!(number(limit)? >= wanted, "no room for {count} processes: {limit}");
        }
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let free = meminfo.lines().find_map(|line| {
            line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse::<u64>().ok()
        });
        ensure!(
            free.is_some_and(|kib| kib / 2 > u64::from(count) * EACH_KIB),
            "not enough memory for {count} processes"
        );
        let mut command = Command::new(env::current_exe()?);
        command.args(["crowd", &count.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut crowd = Self { leader: command.spawn()? };
        let mut ready = [0];
        let stdout = crowd.leader.stdout.as_mut().context("no output of the crowd")?;
        stdout.read_exact(&mut ready).with_context(|| format!("{count} processes cannot be started"))?;
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // The end of its input lets it end its children.
        drop(self.leader.stdin.take());
        let _ = self.leader.wait();
    }
}

/// The crowd's leader: starts `count` sleepers, and ends them when its input ends.
pub(crate) fn crowd(count: u32) -> Result<()> {
    let mut pids = Vec::new();
    let started = (0..count).try_for_each(|_| {
        // SAFETY: this process has a single thread; the child makes system calls only.
        match unsafe { libc::fork() } {
            0 => sleeper(),
            pid if pid > 0 => {
                pids.push(pid);
                Ok(())
            }
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    if started.is_ok() {
        std::io::stdout().write_all(b"r")?;
        std::io::stdout().flush()?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    for &pid in &pids {
        // SAFETY: a child that was not reaped yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    for pid in pids {
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
    started.context("fork")
}

fn sleeper() -> ! {
    // SAFETY: system calls without effect on memory. It also ends when the leader is killed.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}
