//! The tables.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use crate::{
    daemon::Finding,
    goals::{self, Goal},
    machine::Machine,
    session::{Comparison, Effort, HookCost, Round},
    statistics::Spread,
    workload::Cost,
};

/// Everything that a session has found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) effort: Effort,
    /// How long the session took.
    pub(crate) minutes: f64,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) findings: Vec<Finding>,
    /// What could not be measured here, and why.
    pub(crate) left_out: Vec<String>,
}

/// A program that runs less often than this per operation is not shown for it.
const OFTEN: f64 = 0.5;
/// A tool's CPU time per event needs so many events: there is a heartbeat, too.
const MANY: u64 = 1_000;

impl Comparison {
    /// A value of each round, where there is one.
    pub(crate) fn spread(&self, value: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(value))
    }

    fn per_operation(&self, cost: Cost) -> f64 {
        cost.cpu_ns as f64 / self.operations as f64
    }
}

impl Report {
    /// The tables as Markdown.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Machine { kernel, cpu, cores, memory_mib, virtualization, load, date } = &self.machine;
        let Effort { rounds, one_in } = self.effort;
        writeln!(
            text,
            "Measured {date} on Linux {kernel}, {cpu}, {cores} cores, {memory_mib} MiB, virtualization {virtualization}, \
             load {load} before; {rounds} rounds, 1/{one_in} of the operations, {:.0} minutes.\n",
            self.minutes
        )?;
        self.write_goals(text)?;
        if !self.comparisons.is_empty() {
            self.write_workloads(text)?;
            self.write_programs(text)?;
            self.write_tools(text)?;
        }
        for finding in &self.findings {
            write_finding(text, finding)?;
        }
        for reason in &self.left_out {
            writeln!(text, "Left out: {reason}")?;
        }
        Ok(())
    }

    fn write_goals(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "### Goals")?;
        writeln!(text, "| goal | measured | |\n|-|-|-|")?;
        for Goal { what, measured, verdict } in goals::all(&self.comparisons, &self.findings) {
            writeln!(text, "| {what} | {measured} | {verdict} |")?;
        }
        writeln!(text)
    }

    fn write_workloads(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "### What the workloads pay")?;
        writeln!(
            text,
            "| workload | untraced | tool | empty programs | tool | over empty | CPU time | wall time |"
        )?;
        writeln!(text, "|-|-|-|-|-|-|-|-|")?;
        for c in &self.comparisons {
            let bare = c.spread(|r| Some(c.per_operation(r.bare)));
            let over = |more: Cost, less: Cost| c.per_operation(more) - c.per_operation(less);
            let empty = c.spread(|r| Some(over(r.empty?, r.bare)));
            let traced = c.spread(|r| Some(over(r.traced, r.bare)));
            let above = c.spread(|r| Some(over(r.traced, r.empty?)));
            let cpu = c.spread(|r| Some(r.traced.cpu_ns as f64 / r.bare.cpu_ns as f64));
            let wall = c.spread(|r| Some(r.traced.wall_ns as f64 / r.bare.wall_ns as f64));
            writeln!(
                text,
                "| {} | {} ns/{} | {} | {} | {} | {} | {} | {} |",
                c.workload,
                bare.map_or_else(String::new, |bare| format!("{:.0}", bare.median)),
                c.unit,
                c.tool,
                nanoseconds(empty),
                nanoseconds(traced),
                nanoseconds(above),
                percent(cpu),
                percent(wall),
            )?;
        }
        writeln!(text)
    }

    /// A line for each program under each workload that runs it often; a column for each level.
    fn write_programs(&self, text: &mut String) -> std::fmt::Result {
        let mut levels: Vec<&str> = Vec::new();
        for c in self.comparisons.iter().filter(|c| !c.hooks.is_empty()) {
            if !levels.contains(&c.tool) {
                levels.push(c.tool);
            }
        }
        writeln!(text, "### What a run of each program takes")?;
        writeln!(text, "Beside an empty program on the same hook, both with the kernel's own clock.\n")?;
        writeln!(text, "| workload | program | runs per operation | empty | {} |", levels.join(" | "))?;
        writeln!(text, "|-|-|-|-|{}", "-|".repeat(levels.len()))?;
        for of_workload in self.comparisons.chunk_by(|a, b| a.workload == b.workload) {
            for (hook, Passed { often, costs }) in by_hook(of_workload) {
                let cell = |level: &&str| {
                    let cost = costs.iter().find(|(tool, _)| tool == level);
                    cost.map_or_else(String::new, |(_, HookCost { ns_per_run, empty_ns_per_run, .. })| {
                        let over = empty_ns_per_run
                            .map_or_else(String::new, |e| format!(" ({:+.0})", ns_per_run - e));
                        format!("{ns_per_run:.0} ns{over}")
                    })
                };
                let empty = Spread::of(costs.iter().filter_map(|(_, cost)| cost.empty_ns_per_run));
                writeln!(
                    text,
                    "| {} | {hook} | {often:.1} | {} | {} |",
                    of_workload.first().map_or("", |c| c.workload),
                    empty.map_or_else(String::new, |empty| format!("{:.0} ns", empty.median)),
                    levels.iter().map(cell).collect::<Vec<_>>().join(" | "),
                )?;
            }
        }
        writeln!(text)
    }

    fn write_tools(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "### What the tools take for themselves")?;
        writeln!(
            text,
            "| workload | tool | events a slice | CPU per event | bytes a timeline | peak RSS | lost |"
        )?;
        writeln!(text, "|-|-|-|-|-|-|-|")?;
        for c in &self.comparisons {
            let events: u64 = c.outcomes.iter().filter_map(|o| o.events).sum();
            let many = c.outcomes.iter().filter(|o| o.events.is_some_and(|events| events >= MANY));
            let each = Spread::of(many.filter_map(|o| Some(o.cpu_ns as f64 / 1e3 / o.events? as f64)));
            let lost: Option<u64> = c.outcomes.iter().map(|o| o.lost).sum();
            if each.is_none() && lost == Some(0) {
                continue;
            }
            let timeline =
                Spread::of(c.outcomes.iter().filter_map(|o| Some(o.timeline_bytes?.median as f64)));
            let rss = c.outcomes.iter().map(|o| o.peak_rss_bytes).max().unwrap_or(0) as f64;
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.1} MiB | {} |",
                c.workload,
                c.tool,
                events / c.rounds.len().max(1) as u64,
                each.map_or_else(String::new, |s| format!(
                    "{:.2} us ({:.2} to {:.2})",
                    s.median, s.low, s.high
                )),
                timeline.map_or_else(String::new, |s| format!("{:.0}", s.median)),
                rss / f64::from(1 << 20),
                lost.map_or_else(|| "does not say".to_owned(), |lost| lost.to_string()),
            )?;
        }
        writeln!(text)
    }
}

fn write_finding(text: &mut String, finding: &Finding) -> std::fmt::Result {
    let Finding { name: _, title, note, columns, rows, figures: _ } = finding;
    writeln!(text, "### {title}")?;
    if !note.is_empty() {
        writeln!(text, "{note}\n")?;
    }
    writeln!(text, "| {} |\n|{}", columns.join(" | "), "-|".repeat(columns.len()))?;
    for row in rows {
        // A reason in place of a measurement leaves the rest of its row empty.
        let cells = row.iter().map(String::as_str).chain(std::iter::repeat("")).take(columns.len());
        writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "))?;
    }
    writeln!(text)
}

/// A hook under a workload.
#[derive(Default)]
struct Passed<'a> {
    /// Runs per operation, the most of any level.
    often: f64,
    /// What each level paid.
    costs: Vec<(&'static str, &'a HookCost)>,
}

/// The hooks that are passed often.
fn by_hook(comparisons: &[Comparison]) -> BTreeMap<&str, Passed<'_>> {
    let mut hooks: BTreeMap<&str, Passed<'_>> = BTreeMap::new();
    for c in comparisons {
        for cost in &c.hooks {
            let passed = hooks.entry(&cost.hook).or_default();
            passed.often = passed.often.max(cost.runs as f64 / c.operations as f64);
            passed.costs.push((c.tool, cost));
        }
    }
    hooks.retain(|_, passed| passed.often >= OFTEN);
    hooks
}

fn nanoseconds(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |s| format!("{:+.0} ns ({:+.0} to {:+.0})", s.median, s.low, s.high))
}

/// A ratio as a difference.
pub(crate) fn percent(ratio: Option<Spread>) -> String {
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    ratio.map_or_else(String::new, |s| {
        format!("{:+.1} % ({:+.1} to {:+.1})", percent(s.median), percent(s.low), percent(s.high))
    })
}

/// Puts `tables` between the two marks of a document.
pub(crate) fn insert(document: &str, tables: &str) -> Option<String> {
    const BEGIN: &str = "<!-- measured: begin -->\n";
    const END: &str = "<!-- measured: end -->";
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{tables}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cpu_ns: u64) -> Cost {
        Cost { cpu_ns, wall_ns: cpu_ns }
    }

    #[test]
    fn differences_are_taken_within_a_round() {
        let round =
            |bare| Round { bare: cost(bare), empty: Some(cost(bare + 100)), traced: cost(bare + 300) };
        let comparison = Comparison {
            workload: "w",
            about: "",
            unit: "op",
            tool: "full",
            operations: 10,
            // The machine gets slower; what the tool costs does not.
            rounds: vec![round(1_000), round(2_000), round(3_000)],
            outcomes: Vec::new(),
            hooks: Vec::new(),
        };
        let machine = Machine {
            kernel: String::new(),
            cpu: String::new(),
            cores: 1,
            memory_mib: 1,
            virtualization: String::new(),
            load: String::new(),
            date: String::new(),
        };
        let effort = Effort { rounds: 3, one_in: 1 };
        let report = Report {
            machine,
            effort,
            minutes: 1.0,
            comparisons: vec![comparison],
            findings: Vec::new(),
            left_out: Vec::new(),
        };
        let row = "| w | 200 ns/op | full | +10 ns (+10 to +10) | +30 ns (+30 to +30) | +20 ns (+20 to +20) | +15.0 %";
        assert!(report.tables().contains(row), "{}", report.tables());
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = "head\n<!-- measured: begin -->\nold\n<!-- measured: end -->\ntail\n";
        let new = insert(document, "new\n").unwrap();
        assert_eq!(new, "head\n<!-- measured: begin -->\nnew\n<!-- measured: end -->\ntail\n");
        assert_eq!(insert("no marks", "new"), None);
    }
}
