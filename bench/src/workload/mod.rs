//! Work of known size. Each slice of it runs in a process of its own and takes its own time.

mod build;
mod memory;
mod process;
mod server;
mod sys;
mod traffic;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub(crate) use process::IDLE;

/// What a slice has cost.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Cost {
    /// CPU time of the slice's processes in the part that is measured.
    pub(crate) cpu_ns: u64,
    /// The time on the clock of the same part.
    pub(crate) wall_ns: u64,
}

impl Cost {
    fn add(&mut self, more: Self) {
        self.cpu_ns += more.cpu_ns;
        self.wall_ns += more.wall_ns;
    }
}

/// A workload.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// What it does, for the table.
    pub(crate) about: &'static str,
    /// What is counted.
    pub(crate) unit: &'static str,
    /// Of these in a slice of about 0.3 s, a multiple of 20; where that is too much, one.
    pub(crate) operations: u64,
    /// Whether it runs on one CPU only.
    pub(crate) one_cpu: bool,
    /// Programs that it runs, and folders that it finds in that of the session.
    pub(crate) needs: &'static [&'static str],
    run: fn(operations: u64, folder: &Path) -> Result<Cost>,
}

const fn small(
    name: &'static str,
    about: &'static str,
    unit: &'static str,
    operations: u64,
    run: fn(u64, &Path) -> Result<Cost>,
) -> Workload {
    Workload { name, about, unit, operations, one_cpu: true, needs: &[], run }
}

/// All workloads, in the order of the tables.
pub(crate) const ALL: [Workload; 16] = [
    small("fork-exit", "fork, exit of the child, wait", "fork", 2_000, process::fork_exit),
    small("spawn-exec", "posix_spawn (vfork, exec) of a static program", "exec", 400, process::spawn_exec),
    small("fork-exec", "fork, exec of a dynamic program with 20 arguments", "exec", 400, process::fork_exec),
    small("cow-child", "a child writes 20,000 pages that it shares", "copy", 100_000, memory::cow_child),
    small("cow-parent", "a parent writes 20,000 pages that it shares", "copy", 100_000, memory::cow_parent),
    small("reuse", "the last owner writes 20,000 pages", "reuse", 240_000, memory::reuse),
    small(
        "first-touch",
        "anonymous pages are written for the first time",
        "fault",
        160_000,
        memory::first_touch,
    ),
    small("zero-read", "anonymous pages are read for the first time", "fault", 240_000, memory::zero_read),
    small("tmpfs", "write(2) of new pages in memory", "page", 80_000, traffic::tmpfs),
    small("page-cache", "write(2) of new pages of a file", "page", 60_000, traffic::page_cache),
    small("pipe", "write(2) to a pipe, read(2) from it, 64 KiB at a time", "page", 320_000, traffic::pipe),
    small("tcp", "4 KiB over loopback TCP", "message", 30_000, traffic::tcp),
    small("syscall", "getppid(2)", "call", 1_200_000, traffic::syscall),
    Workload {
        name: "make",
        about: "make -j2 of Lua, from nothing",
        unit: "build",
        operations: 1,
        one_cpu: false,
        needs: &["make", "cc", build::PROJECT],
        run: build::make,
    },
    Workload {
        name: "prefork",
        about: "a Python server with two forked workers answers requests",
        unit: "request",
        operations: 1_000,
        one_cpu: false,
        needs: &["python3"],
        run: server::prefork,
    },
    Workload {
        name: "redis",
        about: "writes to Redis while a BGSAVE runs",
        unit: "write",
        operations: 5_000,
        one_cpu: false,
        needs: &["redis-server"],
        run: server::redis,
    },
];

/// Finds a workload.
pub(crate) fn find(name: &str) -> Result<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name).with_context(|| format!("no such workload: {name}"))
}

impl Workload {
    /// Does it in this process. Files may be made in `folder`.
    pub(crate) fn perform(&self, operations: u64, folder: &Path) -> Result<Cost> {
        if self.one_cpu {
            sys::stay_on_one_cpu();
        }
        (self.run)(operations, folder)
    }
}
