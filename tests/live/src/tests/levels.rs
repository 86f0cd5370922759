//! Each level of counting copies counts what it says, and says null of the rest.

use libtest_mimic::Trial;
use serde_json::Value;

use super::{tree::tree, trial};
use crate::{
    check::{Check, Outcome},
    harness::Plan,
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("level::full", || level("full", 1, &[])),
        trial("level::fault", || level("fault", 1, &[])),
        trial("level::lite", || level("lite", 1, &[])),
        trial("level::off", || level("off", 1, &[])),
        // The last ones find their elements taken: dead processes keep theirs until RCU frees them, which may take
        // seconds.
        trial("level::full_in_a_small_table", || level("full", 33, &["--max-processes", "64"])),
    ]
}

/// Pages that the child writes.
const WRITTEN: i64 = 17;

fn level(name: &str, rounds: usize, options: &[&str]) -> Outcome {
    let mut plan = Plan::workload("cow-child")?.option("--cow").option(name);
    for option in options {
        plan = plan.option(option);
    }
    // The first round is to warm up, the second to compare with.
    for k in [0, 0].into_iter().chain(std::iter::repeat_n(WRITTEN, rounds)) {
        plan = plan.arg(format!("{k:04}"));
    }
    let file = plan.dir.file("data");
    let run = plan.arg(file).run()?;
    let mut check = Check::new(&run);
    tree(&mut check, &run);
    let hello = run.stream.lines.first().unwrap_or(&Value::Null);
    check.same("level", at(hello, "/tracer/cow_level").as_str(), Some(name));
    let reason = (name != "full").then(|| format!("--cow {name}"));
    check.field(hello, "/tracer/cow_level_reason", reason);
    for line in run.stream.timelines() {
        nulls(&mut check, hello, line);
    }
    let seen = |round: usize, key: &str| {
        let child = number(&run.facts, &format!("/values/rounds/{round}/child"));
        let line = run.stream.of("timeline").find(|line| *at(line, "/process/pid") == child);
        line.map_or(-2, |line| number(line, &format!("/tracer/cow/{key}")))
    };
    let written = if name == "off" { 0 } else { WRITTEN };
    let classes = if name == "full" || name == "fault" { WRITTEN } else { 0 };
    for round in 2..2 + rounds {
        for (key, want) in [("copies", written), ("by/user", written), ("by_page/anon", classes)] {
            check.same(format!("round {round}: {key} of the child"), seen(round, key) - seen(1, key), want);
        }
    }
    check.done()
}

/// What `hello` calls unavailable is null, and all else in `tracer.cow` is not.
fn nulls<'a>(check: &mut Check<'a>, hello: &Value, line: &'a Value) {
    let unavailable = at(hello, "/tracer/unavailable");
    let is_unavailable = |pointer: &str| {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        unavailable.get(field).is_some()
    };
    for field in unavailable.as_object().into_iter().flat_map(|fields| fields.keys()) {
        let pointer = format!("/{}", field.replace('.', "/"));
        // Of this object the kernel counts two fields itself.
        let pointer = if field == "tracer.faults" { "/tracer/faults/spurious".to_owned() } else { pointer };
        if !at(line, &pointer).is_null() {
            check.fail(format!("{field} is unavailable but {}", at(line, &pointer)));
            check.blame(line);
        }
    }
    let mut known = vec!["/tracer/cow".to_owned()];
    while let Some(pointer) = known.pop().filter(|pointer| !is_unavailable(pointer)) {
        match at(line, &pointer) {
            // No exec was seen.
            Value::Null if pointer == "/tracer/cow/after_exec" => {}
            Value::Null => check.fail(format!("{pointer} is null without a reason in hello")),
            Value::Object(fields) => {
                let inner = fields.keys().map(|key| format!("{pointer}/{key}"));
                known.extend(inner.filter(|pointer| !is_unavailable(pointer)));
            }
            _ => {}
        }
    }
}
