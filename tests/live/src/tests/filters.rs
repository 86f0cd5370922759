//! System-wide runs that write only some of the processes.

use std::{collections::BTreeSet, fs, process::Command};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::trial;
use crate::{
    check::{Check, Outcome},
    harness::{Live, Plan, Run, Workload},
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("filter::none", everybody),
        trial("filter::pid_and_descendants", pid),
        trial("filter::comm", || comm("tlive-b")),
        trial("filter::comm_glob", || comm("*live-b")),
        trial("filter::uid", uid),
    ]
}

/// Ends a system-wide run and gives what it wrote.
pub(super) fn stop(live: Live) -> Result<Run, Failed> {
    live.signal(libc::SIGINT)?;
    Ok(live.end()?)
}

/// Children of a workload, from its facts.
pub(super) fn children(live: &Live, name: &str) -> Result<Vec<i64>, Failed> {
    let facts: Value = serde_json::from_slice(&fs::read(live.dir.file(name))?)?;
    let processes = at(&facts, "/processes").as_array().cloned().unwrap_or_default();
    Ok(processes.iter().map(|process| number(process, "/pid")).collect())
}

/// Exactly these processes have a timeline, each one. The row tells which part of the timelines is of them.
pub(super) fn exactly(check: &mut Check<'_>, run: &Run, filter: &str, want: impl IntoIterator<Item = i64>) {
    let mut have: Vec<_> = run.stream.of("timeline").map(|line| number(line, "/process/pid")).collect();
    let mut want: Vec<_> = want.into_iter().collect();
    have.sort_unstable();
    want.sort_unstable();
    let wanted = have.iter().filter(|pid| want.contains(pid)).count();
    let (seen, truth) = (format!("{wanted} of {}", have.len()), format!("{0} of {0}", want.len()));
    check.row(&format!("filter: {filter}: timelines"), seen, truth);
    check.same("processes with a timeline", have, want);
}

/// Without a filter, a process that has nothing to do with tracer is seen, and one that was there before.
fn everybody() -> Outcome {
    let plan = Plan::new()?;
    let facts = plan.dir.file("facts-1");
    let mut before = Workload::start(facts, 3, 0)?;
    let mut live = plan.start()?;
    live.wait_hello()?;
    let pid = i64::from(before.pid());
    before.finish()?;
    let children = children(&live, "facts-1")?;
    live.wait_line("the timeline of the workload", |line| {
        at(line, "/event/action") == "timeline" && *at(line, "/process/pid") == pid
    })?;
    let run = stop(live)?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    if let Some(line) = check.timeline(pid) {
        check.field(line, "/tracer/origin", "snapshot");
        check.field(line, "/tracer/complete", false);
        check.field(line, "/tracer/missing/0", "birth");
        check.field(line, "/tracer/children/forks", 3);
        check.field(line, "/process/args/1", "workload");
        check.field(line, "/process/parent/pid", std::process::id());
        check.field(line, "/process/exit_code", 0);
        check.field(line, "/tracer/reap/by_pid", std::process::id());
    }
    let all = children.len();
    let mut codes = Vec::new();
    for pid in children {
        if let Some(line) = check.timeline(pid) {
            check.field(line, "/tracer/complete", true);
            codes.push(at(line, "/process/exit_code").clone());
        }
    }
    check.row("filter: none: exit codes of children", codes, (0..all).collect::<Vec<_>>());
    check.done()
}

fn pid() -> Outcome {
    let plan = Plan::new()?;
    let (first, second) = (plan.dir.file("facts-1"), plan.dir.file("facts-2"));
    let mut wanted = Workload::start(first, 3, 0)?;
    let mut other = Workload::start(second, 2, 0)?;
    let mut live = plan.option("--pid").option(wanted.pid().to_string()).start()?;
    live.wait_hello()?;
    let pid = i64::from(wanted.pid());
    other.finish()?;
    wanted.finish()?;
    let children = children(&live, "facts-1")?;
    // It ends by itself, as all it was to follow has ended.
    let run = live.end()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    exactly(&mut check, &run, "--pid", children.into_iter().chain([pid]));
    check.done()
}

fn comm(pattern: &str) -> Outcome {
    let plan = Plan::new()?;
    let programs = [plan.dir.link_self("tlive-a")?, plan.dir.link_self("tlive-b")?];
    let mut live = plan.option("--comm").option(pattern).start()?;
    live.wait_hello()?;
    let mut want = BTreeSet::new();
    for program in programs.iter().cycle().take(6) {
        let mut child = Command::new(program).args(["workload", "exit", "0"]).spawn()?;
        if program.ends_with("tlive-b") {
            want.insert(i64::from(child.id()));
        }
        child.wait()?;
    }
    let run = stop(live)?;
    let mut check = Check::new(&run);
    exactly(&mut check, &run, &format!("--comm {pattern}"), want);
    check.done()
}

fn uid() -> Outcome {
    const UID: u32 = 54_321;
    let plan = Plan::new()?;
    let (first, second) = (plan.dir.file("facts-1"), plan.dir.file("facts-2"));
    let mut wanted = Workload::start(first, 3, UID)?;
    let mut other = Workload::start(second, 2, UID + 1)?;
    let mut live = plan.option("--uid").option(UID.to_string()).start()?;
    live.wait_hello()?;
    other.finish()?;
    wanted.finish()?;
    let children = children(&live, "facts-1")?;
    let run = stop(live)?;
    let mut check = Check::new(&run);
    exactly(&mut check, &run, "--uid", children);
    for line in run.stream.of("timeline") {
        check.field(line, "/user/id", UID.to_string());
    }
    check.done()
}
