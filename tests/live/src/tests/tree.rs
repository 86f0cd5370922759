//! Compares the timelines of a run with what the workload knows about its processes.

use serde_json::Value;

use crate::{
    check::{Check, Outcome},
    harness::{Plan, Run},
    stream::{at, number},
};

/// Runs a plan and checks the tree of its processes, then what `more` checks. The row has how many of them agree.
pub(super) fn test(row: &str, plan: Plan, more: impl for<'a> FnOnce(&mut Check<'a>, &'a Run)) -> Outcome {
    let run = plan.run()?;
    let mut check = Check::new(&run);
    let same = tree(&mut check, &run);
    check.row(&format!("{row}: processes"), same, processes(&run).len());
    more(&mut check, &run);
    check.done()
}

/// The processes that the workload made, without its first one.
pub(super) fn processes(run: &Run) -> &[Value] {
    at(&run.facts, "/processes").as_array().map_or(&[], Vec::as_slice)
}

/// A row with what the workload knows of each process and what its timeline says, one after the other.
pub(super) fn each<'a>(
    check: &mut Check<'a>,
    run: &'a Run,
    row: &str,
    truth: impl Fn(&Value) -> Value,
    seen: impl Fn(&Value) -> Value,
) {
    let facts = processes(run);
    let lines = facts.iter().map(|fact| check.timeline(number(fact, "/pid")).unwrap_or(&Value::Null));
    let seen: Vec<_> = lines.map(seen).collect();
    check.row(row, seen, facts.iter().map(truth).collect::<Vec<_>>());
}

/// Takes the value at `pointer`.
pub(super) fn take(pointer: &str) -> impl Fn(&Value) -> Value {
    move |line| at(line, pointer).clone()
}

/// How many of the processes have no fault in what `test` checks of their timelines.
pub(super) fn count<'a>(
    check: &mut Check<'a>,
    run: &'a Run,
    mut test: impl FnMut(&mut Check<'a>, &'a Value, &'a Value),
) -> usize {
    let mut same = 0;
    for fact in processes(run) {
        let before = check.faults();
        if let Some(line) = check.timeline(number(fact, "/pid")) {
            test(check, line, fact);
        }
        same += usize::from(check.faults() == before);
    }
    same
}

/// Each process of the workload has exactly one timeline with the right contents, and nobody else has one. Gives the
/// number of those that have.
pub(super) fn tree<'a>(check: &mut Check<'a>, run: &'a Run) -> usize {
    check.same("exit code", run.code, Some(0));
    let processes = processes(run);
    check.same("timelines", run.stream.timelines().len(), processes.len() + 1);
    if let Some(root) = check.timeline(number(&run.facts, "/root")) {
        check.field(root, "/tracer/origin", "command");
        check.field(root, "/tracer/complete", true);
        check.field(root, "/process/exit_code", 0);
        for (key, kind) in
            [("forks", "fork"), ("vforks", "vfork"), ("spawns", "posix_spawn"), ("clones", "clone")]
        {
            let of_root = |p: &&Value| at(p, "/kind") == kind && at(p, "/parent") == at(&run.facts, "/root");
            let count = processes.iter().filter(of_root).count();
            check.field(root, &format!("/tracer/children/{key}"), count);
        }
        let followed = |p: &&Value| number(p, "/execs") > 0 && at(p, "/parent") == at(&run.facts, "/root");
        check.field(root, "/tracer/children/execs_followed", processes.iter().filter(followed).count());
    }
    count(check, run, |check, line, fact| process(check, run, line, fact))
}

fn process<'a>(check: &mut Check<'a>, run: &'a Run, line: &'a Value, fact: &Value) {
    let kind = at(fact, "/kind");
    check.field(line, "/tracer/origin", "fork");
    check.field(line, "/tracer/complete", true);
    check.field(line, "/process/parent/pid", at(fact, "/parent").clone());
    check.field(line, "/tracer/fork/kind", kind.clone());
    check.field(line, "/tracer/fork/shares_mm", kind == "vfork" || kind == "posix_spawn");
    check.field(line, "/process/exit_code", code(fact));
    check.field(line, "/tracer/exit/signal", signal(fact));
    check.field(line, "/tracer/exit/core_dumped", false);
    let via = if at(fact, "/via").is_null() { "exit_group".into() } else { at(fact, "/via").clone() };
    check.field(line, "/tracer/exit/via", via);
    check.field(line, "/tracer/exec/seq", at(fact, "/execs").clone());
    check.field(line, "/tracer/children/threads", number(fact, "/threads").max(0));
    check.field(line, "/tracer/exec/failures", number(fact, "/failures").max(0));
    let tries = at(fact, "/tries").as_i64().or((number(fact, "/execs") > 0).then_some(1));
    check.field(line, "/tracer/exec/tries", tries);
    if !at(fact, "/syscall").is_null() {
        check.field(line, "/tracer/fork/syscall", at(fact, "/syscall").clone());
    }
    reap(check, run, line, fact);
}

fn reap<'a>(check: &mut Check<'a>, run: &'a Run, line: &'a Value, fact: &Value) {
    let zombie_ms = number(fact, "/zombie_ms").max(0);
    let reaper = at(fact, "/reaper");
    // On a busy machine nobody can say whether the reap or the timeline came first.
    if reaper == "late" {
        return;
    }
    // A zombie that nobody reaps within a second gets its timeline before that.
    if zombie_ms >= 1_000 || reaper == "nobody" {
        check.field(line, "/tracer/reap", Value::Null);
        return;
    }
    self::reaper(check, line, fact);
    if reaper.is_number() {
        // Who reaps is one of the processes that are traced, or somebody else.
        let pids = processes(run).iter().map(|fact| at(fact, "/pid"));
        let inside = pids.chain([at(&run.facts, "/root")]).any(|pid| pid == reaper);
        check.field(line, "/tracer/reap/exact", inside);
    }
    let zombie = number(line, "/tracer/reap/zombie_ns");
    let (least, most) = (zombie_ms * 1_000_000, (zombie_ms + 5_000) * 1_000_000);
    check.that(
        (least..most).contains(&zombie),
        format!("pid {}: zombie for {zombie} ns, not {least} to {most}", at(fact, "/pid")),
    );
}

/// Who reaped it: a process, or the kernel itself; when only the kernel knows, its last parent is named.
pub(super) fn reaper<'a>(check: &mut Check<'a>, line: &'a Value, fact: &Value) {
    let reaper = at(fact, "/reaper");
    let (by, auto) = match reaper.as_str() {
        Some("auto") => (Value::Null, true.into()),
        Some(_) => (at(line, "/tracer/reap/by_pid").clone(), Value::Null),
        None => (reaper.clone(), false.into()),
    };
    check.field(line, "/tracer/reap/by_pid", by);
    check.field(line, "/tracer/reap/auto", auto);
}

/// The exit code that wait4 reported; null when a signal ended the process.
pub(super) fn code(fact: &Value) -> Value {
    let status = number(fact, "/status") as i32;
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status).into() } else { Value::Null }
}

/// The signal that wait4 reported, or null.
pub(super) fn signal(fact: &Value) -> Value {
    let status = number(fact, "/status") as i32;
    if libc::WIFSIGNALED(status) { signal_name(libc::WTERMSIG(status)).into() } else { Value::Null }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => "SIGKILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        _ => "another signal",
    }
}
