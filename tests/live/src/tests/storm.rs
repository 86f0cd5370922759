//! Many short processes.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use super::trial;
use crate::{
    check::{Check, Outcome},
    harness::{Plan, in_vm},
    stream::{at, number},
    workload::STORM,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![trial("storm::every_child_has_one_timeline", storm)]
}

fn storm() -> Outcome {
    let count = if in_vm() { 2_000 } else { 20_000 };
    let plan = Plan::new()?.simple("storm")?;
    let program = plan.dir.link_self(STORM)?;
    let run = plan.arg(program).arg(count.to_string()).limit(Duration::from_secs(600)).run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    let mut found = vec![0_u32; count];
    for line in run.stream.of("timeline").filter(|line| at(line, "/tracer/origin") != "command") {
        check.field(line, "/process/name", STORM);
        check.field(line, "/tracer/complete", true);
        check.field(line, "/process/exit_code", 0);
        let child = at(line, "/process/args/1").as_str().and_then(|text| text.parse::<usize>().ok());
        match child.and_then(|child| found.get_mut(child)) {
            Some(times) => *times += 1,
            None => check.field(line, "/process/args/1", json!("a number of a child")),
        }
        check.field(line, "/process/args/0", STORM);
    }
    let wrong: Vec<_> = found.iter().enumerate().filter(|&(_, &times)| times != 1).take(10).collect();
    check.that(wrong.is_empty(), format!("children without exactly one timeline: {wrong:?}"));
    if let Some(bye) = run.stream.lines.last() {
        // The command itself was born, executed and ended, too.
        for (kind, own) in [("fork", 0), ("exec", 1), ("exit", 1)] {
            let get = |what: &str| number(bye, &format!("/tracer/records/{kind}/{what}"));
            check.that(get("seen") >= (count + own) as i64, format!("{kind}: seen {}", get("seen")));
            check.same(format!("{kind}: submitted"), get("submitted"), get("seen"));
            check.same(format!("{kind}: ring_full"), get("ring_full"), 0);
        }
    }
    check.done()
}
