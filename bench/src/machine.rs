//! Where the numbers come from.

use std::{fs, process::Command, thread};

use serde::Serialize;

/// What a reader must know of the machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    /// Kind of virtual machine, `none` on hardware.
    pub(crate) virtualization: String,
    /// The load of the last minute before the session: what others did.
    pub(crate) load: String,
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            virtualization: said("systemd-detect-virt", &[]),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            date: said("date", &["-u", "+%Y-%m-%d"]),
        }
    }
}

/// What a command prints; a failure of `systemd-detect-virt` is an answer, too.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    match String::from_utf8_lossy(&output).trim() {
        "" => "unknown".to_owned(),
        said => said.to_owned(),
    }
}
