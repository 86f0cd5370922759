//! One virtual machine, from power on to power off.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::process;

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(2100);

/// What `/init` prints last, before its exit status.
const EXIT: &str = "tracer-live: exit ";

/// What a guest's console said.
#[derive(Debug, PartialEq)]
pub(crate) struct Report {
    /// Why the guest counts as failed.
    pub(crate) failure: Option<String>,
    /// The lines `test result: ...`.
    pub(crate) results: Vec<String>,
    /// All of it.
    pub(crate) console: String,
}

/// A machine to boot.
pub(crate) struct Guest<'a> {
    pub(crate) qemu: &'a Path,
    pub(crate) vmlinuz: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Only the tests whose name contains this word.
    pub(crate) tests: Option<&'a str>,
    /// Where the console goes.
    pub(crate) log: &'a Path,
}

impl Guest<'_> {
    /// Boots the machine and waits until it is off. The console decides, not QEMU's status.
    pub(crate) fn run(&self) -> Result<Report> {
        let log = File::create(self.log).with_context(|| self.log.display().to_string())?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| process::line(&command))?;
        let in_time = process::wait(&mut child, LIMIT)?.is_some();
        let console = fs::read(self.log)?;
        let mut report = read_console(&String::from_utf8_lossy(&console));
        if !in_time {
            report.failure = Some(format!("no end after {} s", LIMIT.as_secs()));
        }
        Ok(report)
    }

    fn command(&self) -> Command {
        let mut kernel = "console=ttyS0 panic=-1 quiet loglevel=3".to_owned();
        if let Some(tests) = self.tests {
            kernel.push_str(" tracer.tests=");
            kernel.push_str(tests);
        }
        let mut command = Command::new(self.qemu);
        command
            // Emulation works everywhere, also inside a virtual machine, and is the same everywhere.
            // One processor on one thread, without cmpxchg16b: the emulation of several, and of the
            // slab allocator's double-word exchange, is where guests were seen to hang.
            // Its memory is not for the host's KSM, which has tests of its own.
            .args(["-machine", "pc,mem-merge=off"])
            .args(["-accel", "tcg,thread=single", "-smp", "1", "-cpu", "max,-cx16", "-m", "1024"])
            // No network, disk, or display: the serial line is all there is.
            .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel"])
            .arg(self.vmlinuz)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &kernel]);
        command
    }
}

fn read_console(text: &str) -> Report {
    let lines = || text.lines().map(|line| line.trim_end_matches('\r'));
    let exit = lines().filter_map(|line| line.split_once(EXIT)).next_back();
    let failure = match exit.map(|(_, status)| status.trim()) {
        Some("0") => None,
        Some(status) => Some(format!("exit status {status}")),
        None => Some("the guest ended without a result".to_owned()),
    };
    let results = lines().filter_map(|line| line.find("test result: ").map(|at| &line[at..]));
    Report { failure, results: results.map(str::to_owned).collect(), console: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_decides() {
        let good = read_console("[ 0.1] boot\r\ntest result: ok. 2 passed\r\ntracer-live: exit 0\r\n");
        assert_eq!((good.failure, &*good.results), (None, &["test result: ok. 2 passed".to_owned()][..]));
        let bad = read_console("test result: FAILED\ntracer-live: exit 101\n[ 9.9] reboot: Power down");
        assert_eq!(bad.failure.as_deref(), Some("exit status 101"));
        let panic = read_console("Kernel panic - not syncing\n");
        assert!(panic.failure.is_some() && panic.results.is_empty());
    }
}
