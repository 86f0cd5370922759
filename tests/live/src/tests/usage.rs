//! CPU time and memory, as wait4 tells them.

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    tree::{count, processes, test},
    trial,
};
use crate::{
    check::{Check, Outcome},
    harness::{Plan, Run, in_vm},
    stream::{at, number},
    workload::BURN_MS,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![trial("usage::as_wait4_says", as_wait4_says), trial("usage::with_base_hooks", with_base_hooks)]
}

fn plan() -> Result<Plan, std::io::Error> {
    let plan = Plan::workload("usage")?;
    let program = plan.dir.link_self("true")?;
    Ok(plan.arg(program))
}

fn as_wait4_says() -> Outcome {
    test("usage: seven ways to burn time", plan()?.option("--events"), |check, run| {
        compare(check, run, "usage: as wait4 tells it: processes");
        at_the_end(check, run);
    })
}

fn with_base_hooks() -> Outcome {
    let run = plan()?.option("--hooks").option("base").run()?;
    let mut check = Check::new(&run);
    check.same("processes", processes(&run).len(), 7);
    compare(&mut check, &run, "usage: as wait4 tells it, with --hooks base: processes");
    check.done()
}

/// The timelines say what wait4 said, in its units: it cuts both times to microseconds.
fn compare<'a>(check: &mut Check<'a>, run: &'a Run, row: &str) {
    let same = count(check, run, |check, line, fact| {
        let usage = at(line, "/tracer/usage");
        check.field(line, "/tracer/usage/final", true);
        let [user, system, cpu] = ["/user_ns", "/system_ns", "/cpu_ns"].map(|of| number(usage, of));
        let told = [user / 1_000, system / 1_000, number(usage, "/max_rss_bytes") / 1_024];
        let want = ["/user_us", "/system_us", "/max_rss_kib"].map(|of| number(fact, of));
        check.same(format!("pid {}: user us, system us, KiB", at(fact, "/pid")), told, want);
        check.same("user and system time, and their sum", user + system, cpu);
        let burnt = number(fact, "/burnt_ms") * 1_000_000;
        check.that(burnt >= BURN_MS as i64 && cpu >= burnt, format!("{cpu} ns of {burnt} that were burnt"));
    });
    check.row(row, same, processes(run).len());
}

/// At the end of the last thread all memory is known, and all time but the last few ticks.
fn at_the_end<'a>(check: &mut Check<'a>, run: &'a Run) {
    let ticks_ns = if in_vm() { 500_000_000 } else { 20_000_000 };
    for fact in processes(run) {
        let is_it = |line: &&Value| at(line, "/process/pid") == at(fact, "/pid");
        let (exit, timeline) = (run.stream.of("exit").find(is_it), check.timeline(number(fact, "/pid")));
        let (Some(exit), Some(timeline)) = (exit, timeline) else {
            check.fail(format!("pid {}: no exit record", at(fact, "/pid")));
            continue;
        };
        check.field(exit, "/tracer/usage/final", false);
        let rss = at(timeline, "/tracer/usage/max_rss_bytes").clone();
        check.field(exit, "/tracer/usage/max_rss_bytes", rss);
        let [then, whole] = [exit, timeline].map(|line| number(line, "/tracer/usage/cpu_ns"));
        let late = whole - then;
        let most = ticks_ns * (1 + number(fact, "/threads").max(0));
        check.that((0..=most).contains(&late), format!("pid {}: {late} ns came late", at(fact, "/pid")));
    }
}
