//! Other tools, each with the job that comes nearest to the tracer's.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use crate::tool::{Outcome, Tool};

/// A tool that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Counts forks, execs, exits and write-protection faults by process.
    Bpftrace,
    /// Prints forks, execs and exits.
    Perf,
    /// Prints forks, execs and exits, from the kernel's process connector.
    Forkstat,
}

const ALL: [(&str, Peer); 3] =
    [("bpftrace", Peer::Bpftrace), ("perf", Peer::Perf), ("forkstat", Peer::Forkstat)];

/// The last probe tells that all are attached.
const SCRIPT: &str = "
tracepoint:sched:sched_process_fork { @forks[pid] = count(); }
tracepoint:sched:sched_process_exec { @execs[pid] = count(); }
tracepoint:sched:sched_process_exit { @exits[pid] = count(); }
tracepoint:exceptions:page_fault_user /(args->error_code & 3) == 3/ { @faults[pid] = count(); }
interval:ms:100 { if (@ready == 0) { printf(\"ready\\n\"); @ready = 1; } }
";

/// Releases before 0.18 look for tracepoints in debugfs only, which not every machine mounts.
const IN_DEBUGFS: &str = "mount -t debugfs none /sys/kernel/debug; exec bpftrace -e \"$0\"";

/// Finds a tool by name.
pub(crate) fn find(name: &str) -> Result<Tool> {
    let found = ALL.into_iter().find(|(known, _)| *known == name);
    let (name, peer) = found.with_context(|| format!("nothing is known of {name}"))?;
    Ok(Tool::peer(name, peer))
}

impl Peer {
    /// How it is started.
    pub(crate) fn command(self) -> Command {
        let (program, args): (_, &[&str]) = match self {
            Self::Bpftrace => ("unshare", &["--mount", "sh", "-c", IN_DEBUGFS, SCRIPT]),
            Self::Perf => {
                ("perf", &["trace", "--all-cpus", "--no-syscalls", "--output", "/dev/stdout", "--event"])
            }
            Self::Forkstat => ("forkstat", &["-l", "-e", "fork,exec,exit"]),
        };
        let mut command = Command::new(program);
        command.args(args);
        if self == Self::Perf {
            command.arg("sched:sched_process_fork,sched:sched_process_exec,sched:sched_process_exit");
        }
        command
    }

    /// How long it takes from when it says that it is ready.
    pub(crate) const fn settling(self) -> Duration {
        match self {
            Self::Bpftrace | Self::Forkstat => Duration::from_millis(50),
            // It says nothing.
            Self::Perf => Duration::from_millis(1_500),
        }
    }

    /// Whether it says so.
    pub(crate) fn is_ready(self, output: &Path) -> Result<bool> {
        let said = fs::read_to_string(output).unwrap_or_default();
        Ok(match self {
            Self::Bpftrace => said.contains("ready"),
            Self::Perf => true,
            Self::Forkstat => said.contains("Event"),
        })
    }

    /// Reads what it has written.
    pub(crate) fn read(self, output: &Path, outcome: &mut Outcome) -> Result<()> {
        let text = fs::read(output)?;
        let text = String::from_utf8_lossy(&text);
        outcome.bytes = text.len() as u64;
        outcome.lines = text.lines().count() as u64;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let events = match self {
            Self::Bpftrace => {
                text.lines().filter_map(|line| number(line.strip_prefix('@')?.split_once("]:")?.1)).sum()
            }
            Self::Perf => text.lines().filter(|line| line.contains("sched:sched_process_")).count() as u64,
            Self::Forkstat => {
                let is_event =
                    |line: &&str| ["fork", "exec", "exit"].iter().any(|event| line.contains(event));
                text.lines().filter(is_event).count() as u64
            }
        };
        outcome.events = Some(events);
        // "LOST 12 events!"
        let lost = |line: &str| number(line.split_once("LOST ")?.1.split_once(" events")?.0);
        outcome.lost = (self == Self::Perf).then(|| text.lines().filter_map(lost).sum());
        Ok(())
    }
}
