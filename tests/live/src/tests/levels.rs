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
        trial("level::full", || level("full")),
        trial("level::fault", || level("fault")),
        trial("level::lite", || level("lite")),
        trial("level::off", || level("off")),
    ]
}

/// Pages that the child writes.
const WRITTEN: i64 = 17;

fn level(name: &str) -> Outcome {
    let mut plan = Plan::workload("cow-child")?.option("--cow").option(name);
    // The first round is to warm up, the second to compare with.
    for k in [0, 0, WRITTEN] {
        plan = plan.arg(format!("{k:04}"));
    }
    let file = plan.dir.file("data");
    let run = plan.arg(file).run()?;
    let mut check = Check::new(&run);
    tree(&mut check, &run);
    let hello = run.stream.lines.first().unwrap_or(&Value::Null);
    check.same("level", at(hello, "/tracer/cow_level").as_str(), Some(name));
    for line in run.stream.timelines() {
        nulls(&mut check, hello, line);
    }
    let more = |key: &str| {
        let [base, round] = [1, 2].map(|round| {
            let child = number(&run.facts, &format!("/values/rounds/{round}/child"));
            let line = run.stream.of("timeline").find(|line| *at(line, "/process/pid") == child);
            line.map_or(-2, |line| number(line, &format!("/tracer/cow/{key}")))
        });
        round - base
    };
    let written = if name == "off" { 0 } else { WRITTEN };
    for key in ["copies", "by/user"] {
        check.same(format!("{key} by the child"), more(key), written);
    }
    let classes = if name == "full" || name == "fault" { WRITTEN } else { 0 };
    check.same("anonymous ones", more("by_page/anon"), classes);
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
