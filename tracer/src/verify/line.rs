//! What is read of a line that is as the schema says.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    lifecycle::Anomalies,
    record::{
        Children, Copies, CowCounts, EntityId, KindCounts, ProcessId, Start, Time, Usage, known_nothing,
    },
};

/// The first line.
#[derive(Debug, Deserialize)]
pub(super) struct Hello {
    pub(super) tracer: HelloFields,
}

#[derive(Debug, Deserialize)]
pub(super) struct HelloFields {
    pub(super) boot_id: String,
    pub(super) clock_offset_ns: i64,
    #[serde(default)]
    pub(super) compact: bool,
}

/// `heartbeat` and `bye`.
#[derive(Debug, Deserialize)]
pub(super) struct Account {
    #[serde(rename = "@timestamp")]
    pub(super) time: Time,
    pub(super) tracer: AccountFields,
}

#[derive(Debug, Deserialize)]
pub(super) struct AccountFields {
    pub(super) records: BTreeMap<String, KindCounts>,
    pub(super) received: u64,
    pub(super) written: u64,
    pub(super) filtered: u64,
    pub(super) lives: u64,
    pub(super) live: u64,
    pub(super) zombies: u64,
    pub(super) anomalies: Anomalies,
    pub(super) recursion_misses: u64,
}

/// `lost`.
#[derive(Debug, Deserialize)]
pub(super) struct Lost {
    #[serde(rename = "@timestamp")]
    pub(super) time: Time,
    pub(super) tracer: LostFields,
}

#[derive(Debug, Deserialize)]
pub(super) struct LostFields {
    pub(super) lost: LostField,
}

#[derive(Debug, Deserialize)]
pub(super) struct LostField {
    pub(super) count: u64,
    pub(super) stage: String,
    pub(super) record: Option<String>,
}

/// A step of a process, and the progress of one.
#[derive(Debug, Deserialize)]
pub(super) struct Step {
    #[serde(rename = "@timestamp")]
    pub(super) time: Time,
    pub(super) process: Who,
    pub(super) tracer: StepFields,
}

#[derive(Debug, Deserialize)]
pub(super) struct Who {
    pub(super) pid: u32,
    pub(super) entity_id: EntityId,
}

/// Each kind has what it needs.
#[derive(Debug, Deserialize)]
pub(super) struct StepFields {
    pub(super) exec: Option<Exec>,
    pub(super) exec_failed: Option<ExecFailed>,
    pub(super) reap: Option<Reap>,
    pub(super) usage: Option<Usage>,
    pub(super) cow: Option<CowCounts>,
    pub(super) delta: Option<Copies>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExecFailed {
    pub(super) tries: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reap {
    pub(super) zombie_ns: Option<u64>,
}

/// `timeline`.
#[derive(Debug, Deserialize)]
pub(super) struct Timeline {
    #[serde(rename = "@timestamp")]
    pub(super) time: Time,
    pub(super) event: TimelineEvent,
    pub(super) process: Process,
    pub(super) tracer: Story,
}

#[derive(Debug, Deserialize)]
pub(super) struct TimelineEvent {
    pub(super) duration: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) entity_id: EntityId,
    pub(super) exit_code: Option<u8>,
    pub(super) start: Time,
    pub(super) end: Option<Time>,
    pub(super) parent: Option<ProcessId>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Story {
    pub(super) origin: String,
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) missing: Vec<String>,
    pub(super) fork: Option<Fork>,
    pub(super) exec: Exec,
    pub(super) cow: Option<CowCounts>,
    pub(super) faults: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    pub(super) children: Children,
    pub(super) exit: Option<Exit>,
    pub(super) usage: Option<Usage>,
    pub(super) reap: Option<serde::de::IgnoredAny>,
}

/// `timeline` of a compact stream.
#[derive(Debug, Deserialize)]
pub(super) struct Compact {
    #[serde(rename = "@timestamp")]
    pub(super) time: Time,
    pub(super) event: TimelineEvent,
    pub(super) process: CompactProcess,
    pub(super) tracer: CompactStory,
}

#[derive(Debug, Deserialize)]
pub(super) struct CompactProcess {
    pub(super) pid: u32,
    pub(super) entity_id: EntityId,
    pub(super) exit_code: Option<u8>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CompactStory {
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) missing: Vec<String>,
    pub(super) exit: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Fork {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) shares_mm: bool,
    #[serde(default = "known_nothing")]
    pub(super) before_exec: Option<Copies>,
    pub(super) by_parent: Option<Copies>,
    pub(super) wasted: Option<Copies>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Exec {
    pub(super) seq: u64,
    #[serde(default = "known_nothing")]
    pub(super) failures: Option<u64>,
    pub(super) tries: Option<u64>,
    pub(super) wasted: Option<Copies>,
    pub(super) start: Option<Start>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Exit {
    pub(super) via: String,
    pub(super) signal: Option<String>,
}

impl StepFields {
    /// Failed execs that it tells of.
    pub(super) fn failures(&self) -> u64 {
        let failed = self.exec_failed.as_ref().map_or(0, |failed| failed.tries);
        let before = self.exec.as_ref().map_or(0, Exec::failures_before);
        failed.saturating_add(before)
    }
}

impl Exec {
    /// Failures that its tries tell of: all but the last one.
    pub(super) fn failures_before(&self) -> u64 {
        self.tries.map_or(0, |tries| tries.saturating_sub(1))
    }
}

impl Story {
    /// Whether it misses this.
    pub(super) fn misses(&self, name: &str) -> bool {
        self.missing.iter().any(|missing| missing == name)
    }
}
