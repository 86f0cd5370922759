//! `heartbeat`, `bye` and `lost`: counts that only grow, and losses that are all declared.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    line::{Account, LostField, Timeline},
    reasons::At,
};
use crate::record::Time;

/// Numbers in `heartbeat` that are no sums.
const NOT_SUMS: [&str; 2] = ["live", "zombies"];
/// How long before a loss was noticed a process must have been born, to be surely known by then.
const SURELY_KNOWN_NS: i64 = 1_000_000_000;

/// The accounts of a run until now.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    last: Option<(Time, BTreeMap<String, u64>)>,
    /// Lost by a full ring, by kind of record.
    ring: BTreeMap<String, u64>,
    recursion: u64,
    /// Lost in all.
    pub(super) lost: u64,
    /// By what a timeline says of it, when such a loss was last noticed.
    losses: BTreeMap<String, Time>,
}

impl Accounts {
    /// Something was lost.
    pub(super) fn lost(&mut self, time: Time, lost: LostField) {
        let LostField { count, stage, record } = lost;
        self.lost = self.lost.saturating_add(count);
        let missing = match (stage.as_str(), &record) {
            ("ring" | "decode" | "recursion", Some(kind)) => Some(format!("lost:{kind}")),
            ("ring" | "decode", None) => Some("lost:records".to_owned()),
            ("recursion" | "thread_table", None) => Some("lost:faults".to_owned()),
            // Of processes that say so themselves, or that are over.
            _ => None,
        };
        if let Some(missing) = missing {
            self.losses.insert(missing, time);
        }
        let sum = match (stage.as_str(), record) {
            ("ring", Some(kind)) => self.ring.entry(kind).or_default(),
            ("recursion", _) => &mut self.recursion,
            _ => return,
        };
        *sum = sum.saturating_add(count);
    }

    /// A loss is on the timeline of each process that it may have hit.
    pub(super) fn timeline(&self, at: &mut At<'_>, timeline: &Timeline) {
        if timeline.tracer.origin != "fork" {
            return;
        }
        let start = timeline.process.start.0;
        for (name, time) in &self.losses {
            at.expect(
                start.saturating_add(SURELY_KNOWN_NS) > time.0 || timeline.tracer.misses(name),
                format_args!("tracer.missing lacks {name}: that was lost while the process was known"),
            );
        }
    }

    /// A heartbeat or the `bye` of line number `sequence`, whose fields are `tracer`.
    pub(super) fn account(&mut self, at: &mut At<'_>, sequence: u64, account: &Account, tracer: &Value) {
        at.same("tracer.written", account.tracer.written, "the number of lines before", sequence - 1);
        let mut sums = BTreeMap::new();
        flatten("tracer", tracer, &mut sums);
        if let Some((time, last)) = &self.last {
            at.expect(account.time >= *time, format_args!("@timestamp is before that of the last heartbeat"));
            for (name, sum) in &sums {
                let before = last.get(name).copied().unwrap_or(0);
                at.expect(*sum >= before, format_args!("{name} is {sum}, but was {before} before"));
            }
        }
        self.last = Some((account.time, sums));
    }

    /// The last account: nothing moves any more.
    pub(super) fn bye(&self, at: &mut At<'_>, account: &Account, whole: bool) {
        let tracer = &account.tracer;
        let mut submitted: u64 = 0;
        for (kind, counts) in &tracer.records {
            submitted = submitted.saturating_add(counts.submitted);
            let told = counts.submitted.saturating_add(counts.ring_full);
            at.same(format_args!("tracer.records.{kind}.seen"), counts.seen, "submitted and ring_full", told);
            if whole {
                let lost = self.ring.get(kind).copied().unwrap_or(0);
                let name = format_args!("tracer.records.{kind}.ring_full");
                at.same(name, counts.ring_full, "the sum of its lost lines", lost);
            }
        }
        at.same("tracer.received", tracer.received, "what was submitted", submitted);
        if whole {
            let name = "tracer.recursion_misses";
            at.same(name, tracer.recursion_misses, "the sum of its lost lines", self.recursion);
        }
    }
}

/// Adds all sums in `value` by their paths.
fn flatten(path: &str, value: &Value, sums: &mut BTreeMap<String, u64>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter().filter(|(name, _)| !NOT_SUMS.contains(&name.as_str())) {
                flatten(&format!("{path}.{name}"), value, sums);
            }
        }
        value => sums.extend(value.as_u64().map(|sum| (path.to_owned(), sum))),
    }
}
