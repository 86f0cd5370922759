//! Where there is more than there is room for: tracer starts all the same, and declares what it lacks.

use libtest_mimic::{Completion, Failed, Trial};

use super::{filters::stop, trial};
use crate::{
    check::{Check, Outcome},
    harness::{Guard, Plan, Workload, in_vm},
    stream::{at, number},
    workload::STORM,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("full::table_from_the_start", table),
        Trial::ignorable_test("full::ring_before_it_is_read", ring),
    ]
}

/// The least size of the table.
const PROCESSES: usize = 64;

/// More processes are there than the table holds, also with the hash beside it.
fn table() -> Outcome {
    let plan = Plan::new()?.option("--max-processes").option(PROCESSES.to_string());
    let facts = |n| plan.dir.file(&format!("facts-{n}"));
    let started: Result<Vec<_>, _> = (0..2 * PROCESSES).map(|n| Workload::start(facts(n), 1, 0)).collect();
    let mut before = started?;
    let mut live = plan.start()?;
    live.wait_hello()?;
    for workload in &mut before {
        workload.finish()?;
    }
    live.wait_line("processes without room", |line| at(line, "/tracer/lost/stage") == "process_table")?;
    let run = stop(live)?;
    let mut check = Check::lossy(&run);
    check.same("exit code", run.code, Some(0));
    if let Some(bye) = run.stream.lines.last() {
        let refused = number(bye, "/tracer/anomalies/table_full");
        check.that(refused >= PROCESSES as i64, format!("{refused} processes were refused"));
    }
    check.done()
}

/// Records that find the ring full before tracer takes any.
fn ring() -> Result<Completion, Failed> {
    if in_vm() {
        return Ok(Completion::ignored_with("too slow to fill a ring while tracer starts"));
    }
    let plan = Plan::new()?.option("--ring-bytes").option("64K");
    let program = plan.dir.link_self(STORM)?;
    // More than there is time for, and more than the ring holds while tracer starts.
    let storm = Guard::workload(["wordy-storm".into(), program.into_os_string(), "1000000".into()])?;
    let mut live = plan.start()?;
    live.wait_line("a full ring", |line| at(line, "/tracer/lost/stage") == "ring")?;
    drop(storm);
    let run = stop(live)?;
    let mut check = Check::lossy(&run);
    check.same("exit code", run.code, Some(0));
    check.done()?;
    Ok(Completion::Completed)
}
