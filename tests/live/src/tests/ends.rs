//! Death and reaping.

use std::fs;

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use super::{
    tree::{processes, reaper, test},
    trial,
};
use crate::{
    check::{Check, Outcome},
    harness::Plan,
    machine,
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
        trial("end::no_wait_wanted", || test(Plan::workload("no-wait")?, |_, _| ())),
        trial("end::adopted_by_who_ignores", || test(Plan::workload("ignorer")?, |_, _| ())),
        trial("end::of_a_sibling", of_a_sibling),
        Trial::ignorable_test("end::reaped_by_flag", reaped_by_flag),
        trial("end::auto_with_base_hooks", auto_with_base_hooks),
        trial("end::zombies_by_parent", zombies_by_parent),
        trial("end::core", core).with_ignored_flag(!makes_core_files()),
    ]
}

/// Who forked it is not its parent.
fn of_a_sibling() -> Outcome {
    test(Plan::workload("sibling")?, |check, run| {
        let fact = &processes(run)[1];
        let line = check.timeline(number(fact, "/pid")).unwrap_or(&Value::Null);
        check.field(line, "/tracer/exit/parent_pid", at(fact, "/exit_parent").clone());
    })
}

/// The flag is known from 7.1 on.
fn reaped_by_flag() -> Result<Completion, Failed> {
    let is_known = machine::release()? >= (7, 1);
    test(Plan::workload("reaped-by-flag")?, |check, run| {
        check.same("processes", processes(run).len(), usize::from(is_known));
    })?;
    Ok(if is_known {
        Completion::Completed
    } else {
        Completion::ignored_with("no CLONE_AUTOREAP before 7.1")
    })
}

/// Who reaped is also known without the wait calls.
fn auto_with_base_hooks() -> Outcome {
    for name in ["no-wait", "ignorer", "orphan", "abandoned"] {
        let run = Plan::workload(name)?.option("--hooks").option("base").run()?;
        let mut check = Check::new(&run);
        check.that(!processes(&run).is_empty(), format!("{name}: no processes"));
        for fact in processes(&run) {
            if let Some(line) = check.timeline(number(fact, "/pid")) {
                reaper(&mut check, line, fact);
            }
        }
        check.done()?;
    }
    Ok(())
}

/// While they are there, each heartbeat names the parent of zombies, and so does the last line.
fn zombies_by_parent() -> Outcome {
    const MS: u32 = 4_000;
    let plan = Plan::workload("zombies")?.arg(MS.to_string());
    let run = plan.option("--heartbeat").option("0.1").run()?;
    let mut check = Check::new(&run);
    let values = at(&run.facts, "/values");
    let accounts = run.stream.lines.iter().filter(|line| at(line, "/tracer/unreaped").is_array());
    let naming: Vec<_> = accounts.filter(|line| !at(line, "/tracer/unreaped/0").is_null()).collect();
    // A second after their end, and until half of the time is over.
    check.that(naming.len() >= 3, format!("{} lines name them", naming.len()));
    check.same("last line", naming.last().map(|line| at(line, "/event/action")), Some(&"bye".into()));
    let mut before = 1_000_000_000;
    for line in naming {
        check.field(line, "/tracer/unreaped/1", Value::Null);
        check.field(line, "/tracer/unreaped/0/parent/pid", at(values, "/parent").clone());
        check.field(line, "/tracer/unreaped/0/oldest/pid", at(values, "/zombies/0").clone());
        let (count, all) = (number(line, "/tracer/unreaped/0/count"), number(line, "/tracer/zombies"));
        check.that((1..=3).contains(&count) && all == 3, format!("{count} of {all} zombies"));
        let age = number(line, "/tracer/unreaped/0/oldest/zombie_ns");
        check.that(age >= before, format!("{age} ns after {before} ns"));
        before = age;
    }
    let bye = run.stream.lines.last().unwrap_or(&Value::Null);
    check.field(bye, "/tracer/unreaped/0/count", 3);
    check.done()
}

/// Whether a core goes into the directory of the process that leaves it.
fn makes_core_files() -> bool {
    fs::read_to_string("/proc/sys/kernel/core_pattern")
        .is_ok_and(|pattern| !pattern.trim().is_empty() && !pattern.contains(['|', '/', '@']))
}

/// The file is there, wait says so, and so does the timeline.
fn core() -> Outcome {
    let plan = Plan::workload("core")?;
    let place = plan.dir.file("cores");
    fs::create_dir(&place)?;
    let run = plan.arg(&place).run()?;
    let mut check = Check::new(&run);
    let fact = processes(&run).first().unwrap_or(&Value::Null);
    let status = number(fact, "/status") as i32;
    check.that(libc::WCOREDUMP(status), format!("no core was dumped: {status:#x}"));
    check.same("core files", fs::read_dir(&place)?.count(), 1);
    if let Some(line) = check.timeline(number(fact, "/pid")) {
        check.field(line, "/tracer/exit/core_dumped", true);
        check.field(line, "/tracer/exit/signal", "SIGABRT");
        check.field(line, "/tracer/exit/via", "signal");
    }
    check.done()
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
