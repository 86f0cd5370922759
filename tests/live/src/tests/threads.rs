//! Lives of threads.

use libtest_mimic::Trial;
use serde_json::Value;

use super::{tree::test, trial};
use crate::{
    check::Outcome,
    harness::Plan,
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![trial("threads::told", told), trial("threads::counted", counted)]
}

const ROW: &str = "threads";

fn told() -> Outcome {
    let plan = Plan::workload("threads-end")?;
    let program = plan.dir.link_self("true")?;
    test(&format!("{ROW}: told"), plan.option("--threads").arg(program), |check, run| {
        let threads = at(&run.facts, "/values/threads").as_array().map_or(&[][..], Vec::as_slice);
        let line = |thread: &&Value| {
            let is_its = |line: &&Value| at(line, "/process/thread/id") == at(thread, "/tid");
            run.stream.of("thread").find(is_its).unwrap_or(&Value::Null)
        };
        for (key, pointer) in
            [("pid", "/process/pid"), ("name", "/process/thread/name"), ("via", "/tracer/thread/via")]
        {
            let seen: Vec<_> = threads.iter().map(|thread| at(line(&thread), pointer).clone()).collect();
            let truth: Vec<_> = threads.iter().map(|thread| at(thread, &format!("/{key}")).clone()).collect();
            if key == "pid" {
                check.same("processes of the threads", seen, truth);
            } else {
                check.row(&format!("{ROW}: {key}"), seen, truth);
            }
        }
        check.row(&format!("{ROW}: lines"), run.stream.of("thread").count(), threads.len());
        for thread in threads {
            let line = line(&thread);
            let [cpu, life] = ["/tracer/thread/cpu_ns", "/event/duration"].map(|field| number(line, field));
            let burnt = number(thread, "/burnt_ms") * 1_000_000;
            check.that(
                burnt <= cpu && cpu <= life,
                format!("burnt {burnt} ns, {cpu} in a life of {life}: {line}"),
            );
            check.that(number(line, "/tracer/thread/minor_faults") > 0, "a thread without a fault");
        }
    })
}

fn counted() -> Outcome {
    let plan = Plan::workload("threads-end")?;
    let program = plan.dir.link_self("true")?;
    test(&format!("{ROW}: counted"), plan.option("--events").arg(program), |check, run| {
        check.same("lines about threads", run.stream.of("thread").count(), 0);
    })
}
