//! What those pay who are not asked for.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{DEFAULT, Finding};
use crate::{
    session::{Effort, Session, Subject},
    statistics::Spread,
    tool::Tool,
    workload,
};

/// No filter, a tree that is elsewhere, a name that nobody has.
const TOOLS: [Tool; 3] = [
    DEFAULT,
    Tool::tracer("run -- sleep", "full", &["--hooks", "base", "--", "sleep", "3600"]),
    Tool::tracer("--comm", "full", &["--comm", "nothing-has-this-name"]),
];

pub(super) fn run(session: &Session) -> Result<Finding> {
    let columns =
        ["workload", "filter", "CPU time", "programs per operation", "daemon's CPU per operation", "events"];
    let mut finding = Finding::new("filter", "Processes that a filter leaves out", &columns);
    finding.note = "The storms are outside of the tree of `run -- sleep`, and not of the name asked for; `default` has no \
                    filter. CPU time is that of the workload, over nothing; events are those that reached user space in \
                    two slices."
        .to_owned();
    let subjects: Vec<Subject> =
        TOOLS.into_iter().filter_map(|tool| session.probe(tool).transpose()).collect::<Result<_>>()?;
    let rounds = session.effort.rounds.min(6);
    let short = session.with_effort(Effort { rounds, ..session.effort });
    for name in ["fork-exit", "fork-exec"] {
        for c in short.compare(workload::find(name)?, &subjects)? {
            let ratio = c.spread(|r| Some(r.traced.cpu_ns as f64 / r.bare.cpu_ns as f64));
            let programs: f64 = c.hooks.iter().map(|hook| hook.runs as f64 * hook.ns_per_run).sum();
            let cpu = Spread::of(c.outcomes.iter().map(|o| o.cpu_ns as f64 / (2 * c.operations) as f64));
            let events = Spread::of(c.outcomes.iter().filter_map(|o| Some(o.events? as f64)));
            let shown = |spread: Option<Spread>, unit: &str| {
                spread.map_or_else(String::new, |s| format!("{:.0}{unit}", s.median))
            };
            finding.rows.push(vec![
                name.to_owned(),
                c.tool.to_owned(),
                crate::report::percent(ratio),
                format!("{:.0} ns", programs / c.operations as f64),
                shown(cpu, " ns"),
                shown(events, ""),
            ]);
        }
    }
    let measured: BTreeSet<_> = finding.rows.iter().filter_map(|row| row.get(1)).collect();
    let left_out: Vec<_> = TOOLS.iter().filter(|tool| !measured.contains(&tool.name.to_owned())).collect();
    for tool in left_out {
        finding.note.push_str(&format!(" Not known to this tracer: {}.", tool.name));
    }
    Ok(finding)
}
