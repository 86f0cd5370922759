//! How a program began, and the memory of a process at a moment.

use serde::{Deserialize, Serialize};

use super::{is_known_nothing, known_nothing};

/// From an exec to the program's first own instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Start {
    pub first_ns: u64,
    pub entry_ns: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing", default = "known_nothing")]
    pub minor: Option<u32>,
    #[serde(skip_serializing_if = "is_known_nothing", default = "known_nothing")]
    pub major: Option<u32>,
}

/// Memory that a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct MemoryBytes {
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub swap_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub pgtable_bytes: Option<u64>,
}
