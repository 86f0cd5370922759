//! What the tests share.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

pub(crate) mod schema;
mod story;

pub(crate) use story::*;
use tracer::{
    filter::Filter,
    lifecycle::Lifecycle,
    pipeline::KernelCounts,
    record::{Account, Bye, Hello, Reason, Record, Time},
    replay::{Head, Reader},
};

/// Follows a recording and returns its lines, as `tracer replay` would write them.
pub(crate) fn follow(recording: &[u8], filter: &Filter) -> String {
    follow_as(false, recording, filter)
}

/// The same, or in `compact` lines.
pub(crate) fn follow_as(compact: bool, recording: &[u8], filter: &Filter) -> String {
    let mut reader = Reader::new(recording).unwrap();
    let Head { config, hello } = reader.head().clone();
    let hello = Hello { compact, ..hello };
    let mut lifecycle = Lifecycle::new(config.clone());
    let (mut lines, mut written, mut filtered) = (Vec::new(), 0, 0);
    let mut write = |record: &Record<'_>| {
        if filter.admits(record) {
            written += 1;
            match compact {
                true => record.write_compact(&hello.hostname, written, &mut lines),
                false => record.write_json(&hello.hostname, written, &mut lines),
            }
        } else {
            filtered += 1;
        }
    };
    write(&Record::Hello(&hello));
    let mut kernel = KernelCounts::default();
    while let Some(event) = reader.next_event().unwrap() {
        kernel.count(&event);
        lifecycle.apply(&event, &mut write);
    }
    lifecycle.finish(&mut write);
    let mut account = Account {
        time: Time::from_boot(lifecycle.now_ns(), config.wall_offset_ns),
        records: kernel.records,
        received: kernel.submitted(),
        recursion_misses: kernel.recursion_misses,
        lifecycle: lifecycle.stats(),
        ..Account::default()
    };
    (account.written, account.filtered) = (written, filtered);
    let bye = Bye { account, reason: Reason::End };
    Record::Bye(&bye).write_json(&hello.hostname, written + 1, &mut lines);
    String::from_utf8(lines).expect("JSON is UTF-8")
}
