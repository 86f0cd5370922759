//! One timeline by itself: its times, its identity, and what goes with what.

use serde_json::Value;

use super::{
    line::{Compact, Timeline},
    reasons::At,
};
use crate::record::{EntityId, Time};

/// A clock tick of the kernel's user interface (`USER_HZ`): identities, and starts from `/proc`, are in these.
const TICK_NS: i64 = 10_000_000;

/// What `hello` says of the boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    /// Hash of the boot id, as in identities.
    pub(super) hash: u32,
    pub(super) clock_offset_ns: i64,
}

impl Boot {
    fn since_boot_ns(self, time: Time) -> i64 {
        time.0.saturating_sub(self.clock_offset_ns)
    }

    /// The latest time at which a process began that says it began at `start`.
    pub(super) fn latest(self, start: Time) -> Time {
        let from_proc = self.since_boot_ns(start) % TICK_NS == 0;
        Time(start.0.saturating_add(if from_proc { TICK_NS - 1 } else { 0 }))
    }

    /// Each identity in `value`, which is at `path` in its line, names the boot and the pid beside it.
    pub(super) fn identities(self, at: &mut At<'_>, path: &str, value: &Value) {
        let id = value["entity_id"].as_str().and_then(EntityId::parse);
        if let (Some(id), Some(pid)) = (id, value["pid"].as_u64()) {
            let (hash, of_pid, _) = id.parts();
            at.expect(hash == self.hash, format_args!("{path}.entity_id {id} is not of this boot"));
            let is_same = u64::from(of_pid) == pid;
            at.expect(is_same, format_args!("{path}.entity_id {id} is of pid {of_pid}, not {pid}"));
        }
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields.iter().filter(|(_, inner)| inner.is_object() || inner.is_array())
                {
                    self.identities(at, &format!("{path}.{name}"), inner);
                }
            }
            Value::Array(values) => values.iter().for_each(|inner| self.identities(at, path, inner)),
            _ => {}
        }
    }
}

/// What there is to compare in a compact line.
pub(super) fn compact(at: &mut At<'_>, life: &Compact) {
    let Compact { time: _, event, process, tracer: story } = life;
    at.expect(
        story.complete == story.missing.is_empty(),
        format_args!("tracer.complete is {}, but tracer.missing is {:?}", story.complete, story.missing),
    );
    let (ended, killed) = (event.duration.is_some(), story.exit.is_some());
    at.expect(
        process.exit_code.is_some() == (ended && !killed) && (ended || !killed),
        format_args!("event.duration, process.exit_code and tracer.exit do not agree on how it ended"),
    );
}

pub(super) fn timeline(at: &mut At<'_>, boot: Option<Boot>, timeline: &Timeline) {
    let Timeline { time, event, process, tracer: story } = timeline;
    if let Some(boot) = boot {
        let (_, _, ticks) = process.entity_id.parts();
        let start = boot.since_boot_ns(process.start).div_euclid(TICK_NS);
        at.expect(
            i64::try_from(ticks) == Ok(start),
            format_args!("process.entity_id names tick {ticks}, but process.start is in tick {start}"),
        );
    }
    match process.end {
        Some(end) => {
            let ran_ns = end.0.saturating_sub(process.start.0);
            at.expect(ran_ns >= 0, format_args!("process.end is before process.start"));
            at.expect(
                u64::try_from(ran_ns).ok() == event.duration || ran_ns < 0,
                format_args!("event.duration is {:?}, but it ran for {ran_ns} ns", event.duration),
            );
            at.expect(*time == end, format_args!("@timestamp is {time}, but process.end is {end}"));
        }
        None => at.expect(
            event.duration.is_none() && process.exit_code.is_none(),
            format_args!("event.duration or process.exit_code is not null, but process.end is"),
        ),
    }
    let ended = process.end.is_some();
    at.expect(
        story.exit.is_some() == ended && story.faults.is_some() == ended,
        format_args!("tracer.exit and tracer.faults are not known as process.end is"),
    );
    at.expect(story.usage.is_some() || !ended, format_args!("tracer.usage is null, but process.end is not"));
    if let Some(exit) = &story.exit {
        let killed = exit.signal.is_some();
        at.expect(
            (exit.via == "signal") == killed && process.exit_code.is_none() == killed,
            format_args!("tracer.exit.via, tracer.exit.signal and process.exit_code do not agree"),
        );
    }
    at.expect(
        story.complete == story.missing.is_empty(),
        format_args!("tracer.complete is {}, but tracer.missing is {:?}", story.complete, story.missing),
    );
    at.expect(
        story.misses("exit") != ended,
        format_args!("tracer.missing and process.end do not agree on whether its end was seen"),
    );
    let born = matches!(story.origin.as_str(), "fork" | "command");
    at.expect(
        story.misses("birth") != born,
        format_args!("tracer.missing and tracer.origin do not agree on whether its birth was seen"),
    );
    at.expect(
        story.fork.is_some() == (story.origin == "fork"),
        format_args!("tracer.fork and tracer.origin do not agree on whether it was forked"),
    );
    at.expect(
        !born || process.parent.is_some(),
        format_args!("process.parent of a birth that was seen is null"),
    );
}
