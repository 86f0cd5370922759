//! How a program began, and the memory of a process at a moment.

use serde::{Deserialize, Serialize};

/// From an exec to the program's first own instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Start {
    pub first_ns: u64,
    pub entry_ns: Option<u64>,
    pub minor: Option<u32>,
    pub major: Option<u32>,
}

/// Memory that a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct MemoryBytes {
    pub anon_bytes: Option<u64>,
    pub file_bytes: Option<u64>,
    pub shmem_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub pgtable_bytes: Option<u64>,
}
