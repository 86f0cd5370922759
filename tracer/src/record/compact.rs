//! A process life in as few bytes as will do (`--compact`): who, how long, how it ended, and what was copied.

use serde::Serialize;

use super::{
    Common, Copies, CowCounts, EntityId, ForkKind, Line, Missing, ProcessId, Signal, Text, Timeline,
    is_known_nothing, is_none_or_nothing, is_nothing,
};

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    entity_id: EntityId,
    name: Text<'a>,
    exit_code: Option<u8>,
    parent: Option<ProcessId>,
}

#[derive(Serialize)]
struct Story {
    complete: bool,
    #[serde(skip_serializing_if = "is_nothing")]
    missing: Missing,
    fork: Option<Fork>,
    cow: Option<Sum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
}

#[derive(Serialize)]
struct Fork {
    kind: ForkKind,
    /// Absent also when it is nothing.
    #[serde(skip_serializing_if = "is_none_or_nothing")]
    wasted: Option<Option<Sum>>,
}

/// [`Copies`], with reuses when there were some, or it is not known.
#[derive(PartialEq, Serialize)]
struct Sum {
    copies: u64,
    #[serde(skip_serializing_if = "is_known_nothing")]
    reuses: Option<u64>,
    bytes: u64,
}

impl From<Copies> for Sum {
    fn from(Copies { copies, reuses, bytes }: Copies) -> Self {
        Self { copies, reuses, bytes }
    }
}

impl Default for Sum {
    fn default() -> Self {
        Copies::default().into()
    }
}

/// Absent unless a signal ended it.
#[derive(Serialize)]
struct Exit {
    signal: Signal,
}

impl Timeline<'_> {
    /// The same life, in less than half of the bytes. The name of the machine is in `hello`.
    pub(super) fn write_compact(&self, line: Line<'_>) {
        let story = &self.tracer;
        let process = Process {
            pid: self.process.pid,
            entity_id: self.process.entity_id,
            name: self.process.name,
            exit_code: self.process.exit_code,
            parent: self.process.parent,
        };
        let copies = |cow: CowCounts| Sum { copies: cow.copies, reuses: cow.reuses, bytes: cow.bytes };
        let tracer = Story {
            complete: story.complete,
            missing: story.missing,
            fork: story.fork.map(|fork| Fork {
                kind: fork.kind,
                wasted: fork.wasted.map(|wasted| wasted.map(Sum::from)),
            }),
            cow: story.cow.map(copies),
            exit: story.exit.and_then(|exit| exit.signal).map(|signal| Exit { signal }),
        };
        let common = Common { duration: Some(self.duration_ns), ..Common::at(self.time) };
        Line { host: None, ..line }.write(common, Some(&process), &tracer);
    }
}
