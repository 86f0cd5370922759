//! The life of a thread that is not the first of its process.

use serde::{Serialize, Serializer};
use tracer_common::event::EndedBy;

use super::{Common, EntityId, Line, ProcessId, Subject, Text, Time};

/// A thread that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Thread<'a> {
    /// When it ended.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// Its process.
    pub entity: ProcessId,
    /// Its own id, in the initial pid namespace.
    pub tid: u32,
    /// Its own name.
    pub name: Text<'a>,
    /// From its birth to its end, in ns.
    pub duration_ns: u64,
    /// What it did.
    pub facts: ThreadFacts,
}

/// What is told of a thread.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct ThreadFacts {
    pub start: Time,
    #[serde(serialize_with = "name")]
    pub via: Option<EndedBy>,
    pub cpu_ns: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
}

/// The name used in the stream (`tracer.thread.via`).
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn name<S: Serializer>(by: &Option<EndedBy>, serializer: S) -> Result<S::Ok, S::Error> {
    let name = by.map(|by| match by {
        EndedBy::Kernel => "kernel",
        EndedBy::Exit => "exit",
        EndedBy::ExitGroup => "exit_group",
        EndedBy::Group => "group",
        EndedBy::Exec => "exec",
    });
    name.serialize(serializer)
}

impl Thread<'_> {
    pub(super) fn write(&self, line: Line<'_>) {
        #[derive(Serialize)]
        struct Process<'a> {
            pid: u32,
            entity_id: EntityId,
            name: Text<'a>,
            thread: Id<'a>,
        }
        #[derive(Serialize)]
        struct Id<'a> {
            id: u32,
            name: Text<'a>,
        }
        #[derive(Serialize)]
        struct Tracer {
            thread: ThreadFacts,
        }
        let ProcessId { pid, entity_id } = self.entity;
        let thread = Id { id: self.tid, name: self.name };
        let process = Process { pid, entity_id, name: Text(self.subject.comm), thread };
        let common = Common { duration: Some(Some(self.duration_ns)), ..Common::at(self.time) };
        line.write(common, Some(&process), &Tracer { thread: self.facts });
    }
}
