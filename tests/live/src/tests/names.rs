//! System-wide runs that leave processes out by their names, in the kernel.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{
    filters::{exactly, stop},
    trial,
};
use crate::{
    check::{Check, Outcome},
    harness::{Plan, Run, in_vm},
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("names::whole", || {
            among_others(&["--comm", "tlive-in", "--comm", "tlive-in-prctl"], Where::Kernel)
        }),
        trial("names::prefix", || among_others(&["--comm", "tl?ve-in*"], Where::Kernel)),
        trial("names::suffix", || among_others(&["--comm", "*live-in*"], Where::UserSpace)),
        trial("names::full_hooks", full_hooks),
        trial("names::were_there_before", were_there_before),
    ]
}

/// Where processes are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Kernel,
    UserSpace,
}

/// Pages that are copied.
const PAGES: i64 = 300;

/// Processes that are outside, in vain.
fn others() -> i64 {
    if in_vm() { 60 } else { 300 }
}

/// Runs the workload beside a tracer; the facts of all that are asked for, what the first one made included.
fn beside(plan: Plan) -> Result<(Run, Vec<Value>), Failed> {
    let (inside, outside) = (plan.dir.link_self("tlive-in")?, plan.dir.link_self("tlive-out")?);
    let (facts, copies) = (plan.dir.file("facts"), plan.dir.file("facts.copies"));
    let mut live = plan.start()?;
    live.wait_hello()?;
    let status = Command::new(&outside)
        .args(["workload", "names"])
        .arg(facts)
        .args([inside, outside.clone()])
        .args([others().to_string(), PAGES.to_string()])
        .status()?;
    if !status.success() {
        return Err(format!("the workload ended with {status}").into());
    }
    live.wait_lines("timeline", 7)?;
    let copies: Value = serde_json::from_slice(&fs::read(copies)?)?;
    let run = stop(live)?;
    let both = [&run.facts, &copies].map(|facts| at(facts, "/processes").as_array().cloned());
    let processes = both.into_iter().flatten().flatten().collect();
    Ok((run, processes))
}

/// Those that are asked for have their timelines and nobody else has, and nothing of others has left the kernel.
fn among_others(filter: &[&str], place: Where) -> Outcome {
    let plan = filter.iter().fold(Plan::new()?, |plan, word| plan.option(*word));
    let (run, processes) = beside(plan)?;
    let mut check = Check::new(&run);
    let pids = processes.iter().map(|process| number(process, "/pid"));
    exactly(&mut check, &run, &filter.join(" "), pids);
    let mut copied = Vec::new();
    for process in &processes {
        let Some(line) = check.timeline(number(process, "/pid")) else { continue };
        let joined = place == Where::Kernel
            && ["exec", "prctl"].contains(&at(process, "/what").as_str().unwrap_or(""));
        // The one that took its name with prctl(2) runs a program that is not known then, and so does its child.
        let no_program = place == Where::Kernel
            && ["prctl", "child"].contains(&at(process, "/what").as_str().unwrap_or(""));
        let missing: Vec<_> = [(no_program, "program"), (joined, "before_match")]
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, name)| name)
            .collect();
        check.field(line, "/tracer/origin", "fork");
        check.field(line, "/tracer/missing", json!(missing));
        check.field(line, "/tracer/complete", missing.is_empty());
        check.field(line, "/tracer/fork/kind", at(process, "/kind").clone());
        check.field(line, "/process/parent/pid", at(process, "/parent").clone());
        check.field(line, "/tracer/exec/seq", at(process, "/execs").clone());
        check.field(line, "/process/exit_code", 0);
        for unknown in ["/tracer/fork/pgtable_bytes", "/tracer/fork/vmas", "/tracer/fork/before_exec"] {
            check.that(at(line, unknown).is_null() == joined, format!("{unknown}: {}", at(line, unknown)));
        }
        if !at(process, "/written").is_null() {
            // Of the stack and the heap, who writes first copies: the parent or the child.
            copied.push(number(line, "/tracer/cow/by_region/anon"));
        }
    }
    check.row(
        &format!("filter: {}: pages copied", filter.join(" ")),
        copied.last().zip(copied.get(1)).map(|(all, base)| all - base),
        PAGES,
    );
    let bye = run.stream.of("bye").next().unwrap_or(&Value::Null);
    let seen = |kind: &str| number(bye, &format!("/tracer/records/{kind}/seen"));
    if place == Where::Kernel {
        for (kind, count) in [("fork", 7), ("exec", 2), ("exit", 7), ("free", 7)] {
            check.same(format!("{kind} records"), seen(kind), count);
        }
        check.same("lives", number(bye, "/tracer/lives"), 7);
        check.same("lines kept back", number(bye, "/tracer/filtered"), 0);
    } else {
        check.that(seen("exec") > others(), format!("{} exec records", seen("exec")));
    }
    check.done()
}

/// A reap is told exactly also when who reaps is outside; failures and threads of others are not told.
fn full_hooks() -> Outcome {
    let plan = Plan::new()?
        .option("--comm")
        .option("tlive-in*")
        .option("--hooks")
        .option("full")
        .option("--threads");
    let (run, processes) =
        beside(plan.option("--ledger").option("changes").option("--cwd").option("--events"))?;
    let mut check = Check::new(&run);
    exactly(&mut check, &run, "full hooks", processes.iter().map(|process| number(process, "/pid")));
    for process in processes.iter().filter(|process| *at(process, "/reaper") != "late") {
        if let Some(line) = check.timeline(number(process, "/pid")) {
            check.field(line, "/tracer/reap/exact", true);
            check.field(line, "/tracer/reap/by_pid", at(process, "/parent").clone());
        }
    }
    let bye = run.stream.of("bye").next().unwrap_or(&Value::Null);
    let seen = |kind: &str| number(bye, &format!("/tracer/records/{kind}/seen"));
    // Two for each birth that was in sight, and around each exec as far as this kernel tells.
    for (kind, count) in
        [("fork", 7), ("exec", 2), ("exit", 7), ("free", 7), ("wait", 7), ("cwd", 2), ("thread", 0)]
    {
        check.same(format!("{kind} records"), seen(kind), count);
    }
    check.that((10..=12).contains(&seen("ledger")), format!("{} ledger records", seen("ledger")));
    check.done()
}

/// Of two processes that were there before, one has the name, and the other gets it.
fn were_there_before() -> Outcome {
    let plan = Plan::new()?;
    let (inside, outside) = (plan.dir.link_self("tlive-in")?, plan.dir.link_self("tlive-out")?);
    let start = |program: &PathBuf, next: &[&PathBuf]| -> std::io::Result<Child> {
        let mut command = Command::new(program);
        command.args(["workload", "next-on-demand"]).args(next).stdin(Stdio::piped()).spawn()
    };
    let mut processes = [start(&inside, &[])?, start(&outside, &[&inside])?, start(&outside, &[])?];
    let pids = processes.each_ref().map(|process| i64::from(process.id()));
    // Until they have their names.
    std::thread::sleep(Duration::from_millis(if in_vm() { 2_000 } else { 300 }));
    let mut live = plan.option("--comm").option("tlive-in").start()?;
    live.wait_hello()?;
    for process in &mut processes {
        process.stdin.take().ok_or("no stdin")?.write_all(b"x")?;
        process.wait()?;
    }
    live.wait_lines("timeline", 2)?;
    let run = stop(live)?;
    let mut check = Check::new(&run);
    exactly(&mut check, &run, "there before", pids[..2].iter().copied());
    for (pid, missing, execs) in
        [(pids[0], json!(["birth"]), 0), (pids[1], json!(["birth", "before_match"]), 1)]
    {
        if let Some(line) = check.timeline(pid) {
            check.field(line, "/tracer/origin", "snapshot");
            check.field(line, "/tracer/missing", missing);
            check.field(line, "/tracer/fork", Value::Null);
            check.field(line, "/tracer/exec/seq", execs);
            check.field(line, "/process/exit_code", 5);
            check.field(line, "/process/args/1", "workload");
        }
    }
    let bye = run.stream.of("bye").next().unwrap_or(&Value::Null);
    check.same("anomalies", at(bye, "/tracer/anomalies/unknown"), &json!(0));
    check.same("exit records", number(bye, "/tracer/records/exit/seen"), 2);
    check.done()
}
