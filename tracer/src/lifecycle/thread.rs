//! Threads: each is told when it ends, and nothing of it is held before.

use tracer_common::event::{EndedBy, Thread};

use super::{Lifecycle, Output};
use crate::record::{self, Record, Text, ThreadFacts};

impl Lifecycle {
    pub(super) fn thread(&mut self, thread: &Thread, out: &mut dyn Output) {
        let header = &thread.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.life(self.id_of(header), header.start_time_ns, out) else {
            return;
        };
        // Of two threads that end at once, the other one may have told the end of the process already.
        let Some(process) = self.table.get(key) else {
            return;
        };
        out.record(&Record::Thread(record::Thread {
            time: self.wall(header.ktime_ns),
            subject: process.subject(),
            entity: self.process_id(process.id),
            tid: header.tid,
            name: Text(thread.comm.split(|&byte| byte == 0).next().unwrap_or_default()),
            duration_ns: header.ktime_ns.saturating_sub(thread.start_time_ns),
            facts: ThreadFacts {
                start: self.wall(thread.start_time_ns),
                via: EndedBy::ALL.get(thread.ended_by as usize).copied(),
                cpu_ns: thread.cpu_ns,
                minor_faults: thread.minor_faults,
                major_faults: thread.major_faults,
            },
        }));
    }
}
