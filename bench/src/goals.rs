//! What tracing may cost, beside what it was found to cost.

use crate::{
    daemon::Finding,
    session::{Comparison, Round},
    statistics::Spread,
};

/// A goal, and how far it is met.
#[derive(Debug, PartialEq)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) measured: String,
    pub(crate) verdict: String,
}

/// Everything that was measured.
struct Measured<'a> {
    comparisons: &'a [Comparison],
    findings: &'a [Finding],
}

/// All goals, in the order of the table.
pub(crate) fn all(comparisons: &[Comparison], findings: &[Finding]) -> Vec<Goal> {
    let m = Measured { comparisons, findings };
    let mut goals = Vec::new();
    for (hook, workload, limit) in [
        ("sched_process_fork", "fork-exit", 250.0),
        ("sched_process_exit", "fork-exit", 250.0),
        ("page_fault_user", "first-touch", 20.0),
        ("mm_page_alloc", "tmpfs", 10.0),
    ] {
        let what = format!("a run of {hook} over an empty program ({workload}, full)");
        goals.push(at_most(what, m.over_empty(hook, workload), limit, "ns"));
    }
    for (level, limit) in [("full", 1.8), ("fault", 1.8), ("lite", 1.5)] {
        let what = format!("all programs of a copy against empty ones (cow-child, {level})");
        goals.push(at_most(what, m.times_empty("cow-child", level), limit, "times"));
    }
    for workload in ["fork-exit", "spawn-exec"] {
        for level in ["off", "full"] {
            let value = m.percent_over_bare(workload, level);
            goals.push(at_most(format!("CPU time of {workload} ({level})"), value, 3.0, "% more"));
        }
        goals.push(m.less_than_bpftrace(workload, "full"));
    }
    for workload in ["cow-child", "cow-parent"] {
        for (level, limit) in [("full", 14.0), ("fault", 11.0), ("lite", 4.0)] {
            let value = m.percent_over_bare(workload, level);
            goals.push(at_most(format!("CPU time of {workload} ({level})"), value, limit, "% more"));
        }
        goals.push(m.less_than_bpftrace(workload, "fault"));
    }
    for workload in ["first-touch", "tmpfs", "pipe", "page-cache", "tcp", "syscall"] {
        let value = m.percent_over_empty(workload, "full");
        goals.push(at_most(
            format!("CPU time of {workload} over empty programs (full)"),
            value,
            2.0,
            "% more",
        ));
    }
    for (level, hook) in [
        ("lite", "page_fault_user"),
        ("lite", "mm_page_alloc"),
        ("fault", "mm_page_alloc"),
        ("full", "sys_enter"),
    ] {
        goals.push(at_most(format!("programs on {hook} ({level})"), m.programs_on(hook, level), 0.0, ""));
    }
    let wall = m.percent("make", "full", |r| Some(r.traced.wall_ns as f64 / r.bare.wall_ns as f64));
    goals.push(at_most("time on the clock of make -j2 (full)".to_owned(), wall, 1.0, "% more"));
    for (what, finding, figure, limit, unit) in [
        ("user space for a process life", "rate", "us_per_life", 2.5, "us"),
        ("1,000 lives a second", "rate", "share", 0.5, "% of a core"),
        ("resident memory when idle, without the ring", "memory", "idle_mib", 24.0, "MiB"),
        ("memory of 100,000 live processes", "memory", "many_mib", 48.0, "MiB"),
        ("CPU when idle", "idle", "share", 0.1, "% of a core"),
        ("waits ended when idle", "idle", "waits_per_second", 0.2, "a second"),
        ("start until the first event, beside 1,000 processes", "start", "first_event_ms", 300.0, "ms"),
        ("median timeline", "lines", "default", 700.0, "bytes"),
        ("median timeline with --compact", "lines", "compact", 350.0, "bytes"),
        ("CPU per event, 10^7 events against 10^4", "events", "growth", 1.1, "times"),
        ("CPU per event, 30,000 processes against 10", "processes", "growth", 1.1, "times"),
    ] {
        goals.push(at_most(what.to_owned(), m.figure(finding, figure), limit, unit));
    }
    goals.push(at_least("replay".to_owned(), m.figure("replay", "events_per_second"), 500_000.0, "events/s"));
    goals
}

impl Measured<'_> {
    fn comparison(&self, workload: &str, tool: &str) -> Option<&Comparison> {
        self.comparisons.iter().find(|c| c.workload == workload && c.tool == tool)
    }

    fn figure(&self, finding: &str, figure: &str) -> Option<f64> {
        let finding = self.findings.iter().find(|f| f.name == finding)?;
        finding.figures.get(figure).copied()
    }

    /// The median of a ratio, as a difference.
    fn percent(&self, workload: &str, tool: &str, ratio: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let spread: Spread = self.comparison(workload, tool)?.spread(ratio)?;
        Some((spread.median - 1.0) * 100.0)
    }

    fn percent_over_bare(&self, workload: &str, tool: &str) -> Option<f64> {
        self.percent(workload, tool, |r| Some(r.traced.cpu_ns as f64 / r.bare.cpu_ns as f64))
    }

    fn percent_over_empty(&self, workload: &str, tool: &str) -> Option<f64> {
        self.percent(workload, tool, |r| Some(r.traced.cpu_ns as f64 / r.empty?.cpu_ns as f64))
    }

    /// What a run of a program takes over an empty one, in ns.
    fn over_empty(&self, hook: &str, workload: &str) -> Option<f64> {
        let hooks = &self.comparison(workload, "full")?.hooks;
        let cost = hooks.iter().find(|cost| cost.hook == hook)?;
        Some(cost.ns_per_run - cost.empty_ns_per_run?)
    }

    /// All programs against empty ones, each as often as an operation passes it, but not more than once: before the
    /// operations, pages are allocated for them.
    fn times_empty(&self, workload: &str, level: &str) -> Option<f64> {
        let comparison = self.comparison(workload, level)?;
        let sums = comparison.hooks.iter().filter_map(|cost| {
            let runs = cost.runs.min(comparison.operations) as f64;
            Some((runs * cost.ns_per_run, runs * cost.empty_ns_per_run?))
        });
        let (own, empty) = sums.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (empty > 0.0).then(|| own / empty)
    }

    /// How many programs there were on a hook in any of the workloads.
    fn programs_on(&self, hook: &str, level: &str) -> Option<f64> {
        let mut comparisons = self.comparisons.iter().filter(|c| c.tool == level).peekable();
        comparisons.peek()?;
        Some(comparisons.filter(|c| c.hooks.iter().any(|cost| cost.hook == hook)).count() as f64)
    }

    fn less_than_bpftrace(&self, workload: &str, level: &str) -> Goal {
        let what = format!("{workload} ({level}): less than with bpftrace");
        let pair = (self.percent_over_bare(workload, level), self.percent_over_bare(workload, "bpftrace"));
        let (Some(own), Some(other)) = pair else { return unknown(what) };
        let verdict = if own < other { "met".to_owned() } else { format!("not met: {:+.1} %", own - other) };
        Goal { what, measured: format!("{own:+.1} % against {other:+.1} %"), verdict }
    }
}

fn unknown(what: String) -> Goal {
    Goal { what, measured: "not measured".to_owned(), verdict: String::new() }
}

fn at_most(what: String, value: Option<f64>, limit: f64, unit: &str) -> Goal {
    judge(format!("{what}: at most {} {unit}", shown(limit)), value, limit, unit, |value| value <= limit)
}

fn at_least(what: String, value: Option<f64>, limit: f64, unit: &str) -> Goal {
    judge(format!("{what}: at least {} {unit}", shown(limit)), value, limit, unit, |value| value >= limit)
}

fn judge(what: String, value: Option<f64>, limit: f64, unit: &str, is_met: impl Fn(f64) -> bool) -> Goal {
    let what = what.trim_end().to_owned();
    let Some(value) = value else { return unknown(what) };
    let measured = format!("{} {unit}", shown(value)).trim_end().to_owned();
    let apart = shown((value - limit).abs());
    let verdict = if is_met(value) {
        "met".to_owned()
    } else {
        let side = if value > limit { "too much" } else { "too little" };
        format!("not met: {apart} {unit} {side}")
            .replace("  ", " ")
            .replace("% more too much", "points too much")
    };
    Goal { what, measured, verdict }
}

/// With as many decimals as its size deserves, and none that is 0.
fn shown(value: f64) -> String {
    let text = match value.abs() {
        large if large >= 100.0 => return format!("{value:.0}"),
        small if small < 1.0 => format!("{value:.3}"),
        _ => format!("{value:.2}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{session::HookCost, workload::Cost};

    fn comparison(tool: &'static str, traced: u64) -> Comparison {
        let cost = |cpu_ns| Cost { cpu_ns, wall_ns: cpu_ns };
        let hook = |hook: &str, runs, ns_per_run| HookCost {
            hook: hook.to_owned(),
            runs,
            ns_per_run,
            empty_ns_per_run: Some(80.0),
        };
        Comparison {
            workload: "cow-child",
            about: "",
            unit: "copy",
            tool,
            operations: 10,
            rounds: vec![Round { bare: cost(1_000), empty: Some(cost(1_050)), traced: cost(traced) }],
            outcomes: Vec::new(),
            hooks: vec![hook("page_fault_user", 10, 160.0), hook("tlb_flush", 30, 80.0)],
        }
    }

    fn goal(comparisons: &[Comparison], findings: &[Finding], begin: &str) -> (String, String) {
        let goals = all(comparisons, findings);
        let goal = goals.into_iter().find(|goal| goal.what.starts_with(begin)).unwrap();
        (goal.measured, goal.verdict)
    }

    #[test]
    fn each_goal_is_met_or_not_or_not_measured() {
        let comparisons =
            [comparison("full", 1_200), comparison("fault", 1_100), comparison("bpftrace", 1_150)];
        let of = |begin: &str| goal(&comparisons, &[], begin);
        assert_eq!(
            of("CPU time of cow-child (full)"),
            ("20 % more".into(), "not met: 6 points too much".into())
        );
        assert_eq!(of("CPU time of cow-child (fault)").1, "met");
        assert_eq!(of("cow-child (fault): less"), ("+10.0 % against +15.0 %".into(), "met".into()));
        // 10 x 160 + 10 x 80 against 20 x 80.
        assert_eq!(of("all programs of a copy against empty ones (cow-child, full)").0, "1.5 times");
        assert_eq!(of("CPU time of cow-child (lite)"), ("not measured".into(), String::new()));
        assert_eq!(of("programs on mm_page_alloc (fault)"), ("0".into(), "met".into()));
        assert_eq!(of("programs on mm_page_alloc (lite)").0, "not measured");
    }

    #[test]
    fn a_speed_may_not_be_too_low() {
        let finding = Finding {
            name: "replay",
            title: "",
            note: String::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            figures: BTreeMap::from([("events_per_second", 200_000.0)]),
        };
        let expected = ("200000 events/s".into(), "not met: 300000 events/s too little".into());
        assert_eq!(goal(&[], &[finding], "replay"), expected);
    }
}
