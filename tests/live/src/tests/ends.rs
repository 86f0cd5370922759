//! Death and reaping.

use std::fs;

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use super::{
    tree::{code, count, each, processes, reaper, signal, take, test},
    trial,
};
use crate::{
    cases,
    check::{Check, Outcome},
    harness::Plan,
    machine,
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("end::signals", signals),
        trial("end::leader_first", || leader_first("0", "0")),
        trial("end::leader_first_with_codes", || leader_first("5", "6")),
        trial("end::orphan", || test("reap: orphan", Plan::workload("orphan")?, |_, _| ())),
        trial("end::daemon", || test("reap: daemon", Plan::workload("daemon")?, |_, _| ())),
        trial("end::abandoned_zombie", || {
            test("reap: zombie of an orphan", Plan::workload("abandoned")?, |_, _| ())
        }),
        trial("end::zombie", || test("reap: after 300 ms", Plan::workload("zombie")?.arg("300"), |_, _| ())),
        trial("end::late_reap", late_reap),
        trial("end::ignored_sigchld", || auto("reap: SIGCHLD is ignored", "auto-reap")),
        trial("end::no_wait_wanted", || auto("reap: SA_NOCLDWAIT, then without", "no-wait")),
        trial("end::adopted_by_who_ignores", || auto("reap: adopted by who ignores SIGCHLD", "ignorer")),
        trial("end::of_a_sibling", of_a_sibling),
        Trial::ignorable_test("end::reaped_by_flag", reaped_by_flag),
        trial("end::auto_with_base_hooks", auto_with_base_hooks),
        trial("end::zombies_by_parent", zombies_by_parent),
        Trial::ignorable_test("end::core", core),
    ]
}

/// Who forked it is not its parent.
fn of_a_sibling() -> Outcome {
    const ROW: &str = "birth: CLONE_PARENT";
    test(ROW, Plan::workload("sibling")?, |check, run| {
        let same = count(check, run, |check, line, fact| {
            let parent = if at(fact, "/exit_parent").is_null() { "/parent" } else { "/exit_parent" };
            check.field(line, "/tracer/exit/parent_pid", at(fact, parent).clone());
        });
        check.row(&format!("{ROW}: parent at the end"), same, processes(run).len());
    })
}

/// The flag is known from 7.1 on.
fn reaped_by_flag() -> Result<Completion, Failed> {
    const ROW: &str = "reap: CLONE_AUTOREAP";
    if machine::release()? < (7, 1) {
        const WHY: &str = "no CLONE_AUTOREAP before 7.1";
        for part in ["processes", "by the kernel"] {
            cases::no_row(&format!("{ROW}: {part}"), WHY);
        }
        return Ok(Completion::ignored_with(WHY));
    }
    auto(ROW, "reaped-by-flag")?;
    Ok(Completion::Completed)
}

fn signals() -> Outcome {
    test("end: by a signal", Plan::workload("signals")?, |check, run| {
        each(check, run, "end: by a signal: signals", signal, take("/tracer/exit/signal"));
    })
}

fn leader_first(first: &str, last: &str) -> Outcome {
    let row = format!("end: exit({first}) of the first thread, then exit({last}) of another");
    test(&row, Plan::workload("leader-first")?.arg(first).arg(last), |check, run| {
        each(check, run, &format!("{row}: exit code"), code, take("/process/exit_code"));
        each(check, run, &format!("{row}: via"), take("/via"), take("/tracer/exit/via"));
    })
}

/// A process that reaped it is known, or that none did, or neither.
fn auto(row: &str, workload: &str) -> Outcome {
    test(row, Plan::workload(workload)?, |check, run| {
        let truth = |fact: &Value| match at(fact, "/reaper").as_str() {
            Some("auto") => true.into(),
            Some(_) => Value::Null,
            None => false.into(),
        };
        each(check, run, &format!("{row}: by the kernel"), truth, take("/tracer/reap/auto"));
    })
}

/// Who reaped is also known without the wait calls.
fn auto_with_base_hooks() -> Outcome {
    const WORKLOADS: [&str; 4] = ["no-wait", "ignorer", "orphan", "abandoned"];
    let (mut same, mut all) = (0, 0);
    for name in WORKLOADS {
        let run = Plan::workload(name)?.option("--hooks").option("base").run()?;
        let mut check = Check::new(&run);
        check.that(!processes(&run).is_empty(), format!("{name}: no processes"));
        same += count(&mut check, &run, reaper);
        all += processes(&run).len();
        if name == WORKLOADS[3] {
            check.row("reap: with --hooks base: processes", same, all);
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
    let zombies = at(values, "/zombies").as_array().map_or(0, Vec::len);
    check.row("reap: zombies left by a parent: number", at(bye, "/tracer/unreaped/0/count").clone(), zombies);
    check.done()
}

/// Whether a core goes into the directory of the process that leaves it.
fn makes_core_files() -> bool {
    fs::read_to_string("/proc/sys/kernel/core_pattern")
        .is_ok_and(|pattern| !pattern.trim().is_empty() && !pattern.contains(['|', '/', '@']))
}

/// The file is there, wait says so, and so does the timeline.
fn core() -> Result<Completion, Failed> {
    const ROW: &str = "end: with a core file: dumped";
    if !makes_core_files() {
        let why = "this machine makes no core files";
        cases::no_row(ROW, why);
        return Ok(Completion::ignored_with(why));
    }
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
        check.row(ROW, at(line, "/tracer/exit/core_dumped").clone(), libc::WCOREDUMP(status));
        check.field(line, "/tracer/exit/signal", "SIGABRT");
        check.field(line, "/tracer/exit/via", "signal");
    }
    check.done()?;
    Ok(Completion::Completed)
}

/// The timeline does not wait for the reap, which is told in a record of its own.
fn late_reap() -> Outcome {
    const ROW: &str = "reap: after 1500 ms";
    test(ROW, Plan::workload("zombie")?.arg("1500"), |check, run| {
        let fact = &processes(run)[0];
        let reaps: Vec<_> =
            run.stream.of("reap").filter(|line| at(line, "/process/pid") == at(fact, "/pid")).collect();
        check.row(&format!("{ROW}: records of the reap"), reaps.len(), processes(run).len());
        for line in reaps {
            check.field(line, "/tracer/reap/by_pid", at(fact, "/reaper").clone());
            let zombie = number(line, "/tracer/reap/zombie_ns") / 1_000_000;
            check.that((1_500..10_000).contains(&zombie), format!("zombie for {zombie} ms, at least 1500"));
        }
    })
}
