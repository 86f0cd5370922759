//! Death and reaping.

use libtest_mimic::Trial;

use super::{
    tree::{processes, test},
    trial,
};
use crate::{
    check::Outcome,
    harness::Plan,
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("end::signals", || test(Plan::workload("signals")?, |_, _| ())),
        trial("end::leader_first", || test(Plan::workload("leader-first")?.arg("0").arg("0"), |_, _| ())),
        trial("end::leader_first_with_codes", || {
            test(Plan::workload("leader-first")?.arg("5").arg("6"), |_, _| ())
        }),
        trial("end::orphan", || test(Plan::workload("orphan")?, |_, _| ())),
        trial("end::daemon", || test(Plan::workload("daemon")?, |_, _| ())),
        trial("end::abandoned_zombie", || test(Plan::workload("abandoned")?, |_, _| ())),
        trial("end::zombie", || test(Plan::workload("zombie")?.arg("300"), |_, _| ())),
        trial("end::late_reap", late_reap),
        trial("end::ignored_sigchld", || test(Plan::workload("auto-reap")?, |_, _| ())),
    ]
}

/// The timeline does not wait for the reap, which is told in a record of its own.
fn late_reap() -> Outcome {
    test(Plan::workload("zombie")?.arg("1500"), |check, run| {
        let fact = &processes(run)[0];
        let reaps: Vec<_> =
            run.stream.of("reap").filter(|line| at(line, "/process/pid") == at(fact, "/pid")).collect();
        check.same("reap records", reaps.len(), 1);
        for line in reaps {
            check.field(line, "/tracer/reap/by_pid", at(fact, "/reaper").clone());
            let zombie = number(line, "/tracer/reap/zombie_ns") / 1_000_000;
            check.that((1_500..10_000).contains(&zombie), format!("zombie for {zombie} ms, at least 1500"));
        }
    })
}
