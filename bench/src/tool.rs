//! The tools whose cost is measured: tracer at its levels, and others.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::{output, peer};

/// How long a tool may take to start or to end, also beside many processes.
const LIMIT: Duration = Duration::from_secs(90);
/// Stands for a file of the session, in the arguments of a tool.
pub(crate) const RECORDING: &str = "RECORDING";
/// The tracer's exit status when it does not know an option.
const USAGE: i32 = 2;

/// Which program, and so how to tell that it is ready and what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The tracer, which must say this `cow_level` in its `hello`.
    Tracer { cow_level: &'static str },
    /// Another tool.
    Peer(peer::Peer),
}

/// A program with its options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Options of the tracer; a peer knows its own.
    pub(crate) args: &'static [&'static str],
    /// The workloads that can tell it from others; none stands for all.
    only: &'static [&'static str],
}

/// What the tracer ends with when the command that it runs was ended by SIGTERM.
const TERMINATED: i32 = 128 + libc::SIGTERM;

const fn level(
    name: &'static str,
    cow_level: &'static str,
    args: &'static [&'static str],
    only: &'static [&'static str],
) -> Tool {
    Tool { name, kind: Kind::Tracer { cow_level }, args, only }
}

const LITE_RUNS: [&str; 5] = ["cow-child", "cow-parent", "reuse", "first-touch", "redis"];
const FAULT_RUNS: [&str; 6] = ["cow-child", "cow-parent", "reuse", "first-touch", "zero-read", "redis"];

/// The tracer's levels, each with the workloads that can tell it from the others. One that the program does not know is left out.
pub(crate) const LEVELS: [Tool; 5] = [
    level("off", "off", &["--cow", "off"], &["fork-exit", "spawn-exec", "fork-exec", "syscall"]),
    level("lite", "lite", &["--cow", "lite"], &LITE_RUNS),
    level("fault", "fault", &["--cow", "fault"], &FAULT_RUNS),
    level("full", "full", &[], &[]),
    level("full+calls", "full", &["--hooks", "full"], &["fork-exec", "tcp", "syscall"]),
];

/// What other tools are compared by.
const PEERS_RUN: [&str; 5] = ["fork-exit", "spawn-exec", "fork-exec", "cow-child", "cow-parent"];

/// Where a tool is found and may write.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) tracer: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Place {
    /// The file that [`RECORDING`] stands for.
    pub(crate) fn recording(&self) -> PathBuf {
        self.folder.join("recording")
    }
}

/// What a tool has done during its life.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    /// CPU time from when it was ready until it had read what the slice left.
    pub(crate) cpu_ns: u64,
    /// Events that it was given; `None` when it does not say.
    pub(crate) events: Option<u64>,
    /// Events that it knows to be lost.
    pub(crate) lost: Option<u64>,
    /// Lines of its output and their bytes.
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) timelines: u64,
    /// How long these are.
    pub(crate) timeline_bytes: Option<Lengths>,
    pub(crate) peak_rss_bytes: u64,
}

/// Lengths of lines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Lengths {
    pub(crate) median: u64,
    /// The 90th percentile.
    pub(crate) high: u64,
}

/// A tool that is ready.
pub(crate) struct Running {
    tool: Tool,
    child: Guard,
    output: PathBuf,
    cpu_before: u64,
}

/// A child that does not outlive the session.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Does nothing when the child was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Tool {
    /// The tracer with these options, for all workloads.
    pub(crate) const fn tracer(
        name: &'static str,
        cow_level: &'static str,
        args: &'static [&'static str],
    ) -> Self {
        level(name, cow_level, args, &[])
    }

    /// One of other people, with the job of following processes and write faults.
    pub(crate) const fn peer(name: &'static str, peer: peer::Peer) -> Self {
        Self { name, kind: Kind::Peer(peer), args: &[], only: &PEERS_RUN }
    }

    /// Whether a workload can tell it from others.
    pub(crate) fn matters_to(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.contains(&workload)
    }

    fn command(&self, place: &Place, output: &Path) -> Result<Command> {
        match self.kind {
            Kind::Tracer { .. } => {
                let mut command = Command::new(&place.tracer);
                let words: [OsString; 3] = ["run".into(), "--output".into(), output.into()];
                command.args(words).stdout(Stdio::null());
                for &argument in self.args {
                    match argument {
                        RECORDING => command.arg(place.recording()),
                        _ => command.arg(argument),
                    };
                }
                Ok(command)
            }
            Kind::Peer(peer) => {
                let mut command = peer.command();
                command.stdout(File::create(output)?);
                Ok(command)
            }
        }
    }

    /// Starts it and waits until it sees everything; `None` when the tracer does not know the level.
    pub(crate) fn start(&self, place: &Place) -> Result<Option<Running>> {
        let output = place.folder.join("output");
        // The tracer keeps an older file of this name.
        remove(&output)?;
        let errors = place.folder.join("errors");
        let mut command = self.command(place, &output)?;
        command.stdin(Stdio::null()).stderr(File::create(&errors)?);
        // SAFETY: one system call without effect on memory. A session that is killed leaves no tool behind.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let mut child = Guard(command.spawn().with_context(|| format!("{:?}", command.get_program()))?);
        let end = Instant::now() + LIMIT;
        let said = || fs::read_to_string(&errors).unwrap_or_default();
        while !self.is_ready(&output)? {
            if let Some(status) = child.0.try_wait()? {
                if matches!(self.kind, Kind::Tracer { .. }) && status.code() == Some(USAGE) {
                    return Ok(None);
                }
                bail!("{} ended with {status}: {}", self.name, said().trim());
            }
            ensure!(Instant::now() < end, "{} is not ready after {LIMIT:?}: {}", self.name, said().trim());
            thread::sleep(Duration::from_millis(2));
        }
        match self.kind {
            Kind::Tracer { cow_level } => {
                let said = output::hello(&output)?.cow_level;
                ensure!(said == cow_level, "level {}: the tracer says {said}", self.name);
            }
            Kind::Peer(peer) => thread::sleep(peer.settling()),
        }
        let cpu_before = cpu_ns(child.0.id())?;
        Ok(Some(Running { tool: *self, child, output, cpu_before }))
    }

    fn is_ready(&self, output: &Path) -> Result<bool> {
        match self.kind {
            Kind::Tracer { .. } => output::has_line(output),
            Kind::Peer(peer) => peer.is_ready(output),
        }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Its CPU time so far.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        cpu_ns(self.pid())
    }

    /// Where it writes.
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }

    /// Lets it read what is left, then ends it as a person would.
    pub(crate) fn stop(mut self) -> Result<Outcome> {
        /// The tracer reads what is below its watermark every 50 ms.
        const REST: Duration = Duration::from_millis(120);
        thread::sleep(REST);
        let pid = self.pid();
        let cpu_ns = cpu_ns(pid)? - self.cpu_before;
        let peak_rss_bytes = peak_rss_bytes(pid)?;
        // With a command of its own, the tracer hands the signal on, and ends as the command does.
        let runs_command = self.tool.args.contains(&"--");
        let signal = if runs_command { libc::SIGTERM } else { libc::SIGINT };
        // SAFETY: a child of ours that was not reaped yet.
        unsafe { libc::kill(pid as libc::pid_t, signal) };
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.0.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < end, "{} does not end after signal {signal}", self.tool.name);
            thread::sleep(Duration::from_millis(2));
        };
        ensure!(
            status.success()
                || status.signal() == Some(libc::SIGINT)
                || (runs_command && status.code() == Some(TERMINATED))
                || matches!(self.tool.kind, Kind::Peer(_)),
            "{} ended with {status}",
            self.tool.name
        );
        let mut outcome = Outcome { cpu_ns, peak_rss_bytes, ..Outcome::default() };
        match self.tool.kind {
            Kind::Tracer { .. } => output::read(&self.output, &mut outcome)?,
            Kind::Peer(peer) => peer.read(&self.output, &mut outcome)?,
        }
        Ok(outcome)
    }
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// CPU time of all threads of a process.
fn cpu_ns(pid: u32) -> Result<u64> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both outlive the calls.
    let result = unsafe {
        match libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) {
            0 => libc::clock_gettime(clock, &raw mut time),
            error => error,
        }
    };
    ensure!(result == 0, "the CPU time of process {pid} cannot be read");
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn peak_rss_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    kib.map(|kib: u64| kib * 1024).context("/proc/PID/status has no VmHWM")
}
