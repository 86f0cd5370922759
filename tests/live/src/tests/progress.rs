//! The progress of processes that share memory, against what the kernel says they share.

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
        trial("progress::curve_ends_at_what_is_shared", || curve("10")),
        trial("progress::curve_at_intervals", || curve("0.3")),
    ]
}

/// Parent and child copy some of the memory that they share. With an interval longer than their lives, the only
/// records are those of the first second.
fn curve(interval: &str) -> Outcome {
    let run = Plan::workload("progress")?.option("--cow-interval").option(interval).run()?;
    let mut check = Check::new(&run);
    tree(&mut check, &run);
    let [parent, child] = ["parent", "child"].map(|role| number(&run.facts, &format!("/values/{role}")));
    let truth = number(&run.facts, "/values/shared_bytes");
    check.that(truth > 0, "the kernel says that nothing is shared");
    let mut near = 0;
    for (pid, with, whom) in [(parent, child, "with_child"), (child, parent, "with_parent")] {
        let of_pid = |line: &&Value| *at(line, "/process/pid") == pid;
        let lines: Vec<_> = run.stream.of("cow").filter(of_pid).collect();
        check.that(!lines.is_empty(), format!("pid {pid}: no progress"));
        let key = |key: &str| format!("/tracer/shared/{whom}/{key}");
        let shared: Vec<_> = lines.into_iter().filter(|line| *at(line, &key("pid")) == with).collect();
        let curve: Vec<_> = shared.iter().map(|line| number(line, &key("bytes"))).collect();
        check.that(curve.is_sorted_by(|a, b| a >= b), format!("pid {pid}: shared more again: {curve:?}"));
        let told = curve.last().copied().unwrap_or(-1);
        let is_near = (told - truth).abs() * 100 <= truth;
        check.that(is_near, format!("pid {pid}: shares {told} bytes, the kernel says {truth}"));
        near += i32::from(is_near);
    }
    let row = format!("memory: shared by two, told every {interval} s: within 1 % of smaps");
    check.row(&row, near, 2);
    check.done()
}
