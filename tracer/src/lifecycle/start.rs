//! How a process and its programs begin, and what memory it has before an exec and at its end.

use tracer_common::{
    counter::PAGE_BYTES,
    event::Exec,
    start::{self as wire, Reached},
};

use super::process::{End, Process};
use crate::{
    level::Level,
    record::{MemoryBytes, Start},
};

/// What the last exec of a process took and replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replaced {
    /// From its point of no return to the new program.
    pub(super) load_ns: Option<u64>,
    /// The memory that it dropped.
    pub(super) memory: wire::Memory,
    /// It was its own, not its parent's, where that is still there.
    pub(super) was_own: bool,
}

impl Replaced {
    /// What `exec` replaced of a process. Asked before it is counted.
    pub(super) fn by(exec: &Exec, process: &Process) -> Self {
        let was_own = !process.shares_memory();
        let load_ns = exec.header.ktime_ns.checked_sub(exec.prepared_ns);
        Self { load_ns: load_ns.filter(|_| exec.prepared_ns != 0), memory: exec.dropped, was_own }
    }
}

impl Process {
    /// It runs in the memory of its parent, as far as is known. One that was left out until now may have run a program since.
    pub(super) fn shares_memory(&self) -> bool {
        self.execs == 0 && !self.is_late() && self.birth.is_some_and(|birth| birth.shares_mm)
    }
}

/// How a program began that has `reached` that; `None` when no instruction of it was seen to be fetched.
pub(super) fn of_program(reached: &Reached, level: Level) -> Option<Start> {
    let Reached { first_ns, entry_ns, minor, major } = *reached;
    let has_entry = entry_ns != 0;
    (level.has_classes() && first_ns != 0).then(|| Start {
        first_ns,
        entry_ns: has_entry.then_some(entry_ns),
        minor: has_entry.then_some(minor),
        major: has_entry.then_some(major),
    })
}

impl End {
    /// How long it waited for its first CPU.
    pub(super) fn run_delay_ns(&self) -> Option<u64> {
        self.run_delay.checked_sub(1)
    }
}

/// Memory as the stream tells it.
pub(super) fn memory(pages: &wire::Memory) -> Option<MemoryBytes> {
    let bytes = |pages| (pages != wire::Memory::UNKNOWN).then_some(u64::from(pages) * PAGE_BYTES);
    (pages.is_known != 0).then(|| MemoryBytes {
        anon_bytes: bytes(pages.anon),
        file_bytes: bytes(pages.file),
        shmem_bytes: bytes(pages.shmem),
        swap_bytes: bytes(pages.swap),
        pgtable_bytes: bytes(pages.pgtables),
    })
}
