//! A daemon with nothing to do.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{DEFAULT, Finding};
use crate::{session::Session, tool::Tool};

/// The tracer's heartbeat and its report of live processes come together, every 10 s.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What others do on the machine reaches only one that is not told whom to follow.
const TOOLS: [Tool; 2] =
    [DEFAULT, Tool::tracer("run -- sleep", "full", &["--hooks", "base", "--", "sleep", "3600"])];

pub(super) fn run(session: &Session) -> Result<Finding> {
    let columns =
        ["filter", "seconds", "CPU", "of a core", "waits ended", "heartbeats", "events in the whole run"];
    let mut finding = Finding::new("idle", "Idle", &columns);
    finding.note = "Waits are voluntary context switches of all threads. Each process that others start on the machine adds \
                    events, CPU time and waits without a filter; the goal is for `run -- sleep`, which none of them reaches."
        .to_owned();
    for tool in TOOLS {
        finding.rows.push(row(session, &tool, &mut finding.figures)?);
    }
    Ok(finding)
}

/// The figures of the last one stay.
fn row(session: &Session, tool: &Tool, figures: &mut BTreeMap<&'static str, f64>) -> Result<Vec<String>> {
    let span = if session.is_quick() { HEARTBEAT } else { 3 * HEARTBEAT };
    let running = session.start(tool)?;
    // What the start leaves is done by then.
    thread::sleep(Duration::from_secs(1));
    let (cpu, switches, start) = (running.cpu_ns()?, switches(running.pid())?, Instant::now());
    thread::sleep(span);
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (running.cpu_ns()? - cpu) as f64;
    let switches = self::switches(running.pid())? - switches;
    let outcome = running.stop()?;
    let share = cpu / 1e9 / seconds * 100.0;
    figures.insert("share", share);
    figures.insert("waits_per_second", switches as f64 / seconds);
    Ok(vec![
        tool.name.to_owned(),
        format!("{seconds:.0}"),
        format!("{:.2} ms", cpu / 1e6),
        format!("{share:.3} %"),
        switches.to_string(),
        (span.as_secs() / HEARTBEAT.as_secs()).to_string(),
        outcome.events.map_or_else(String::new, |events| events.to_string()),
    ])
}

/// Voluntary context switches of all threads.
fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += voluntary(&fs::read_to_string(task?.path().join("status"))?).unwrap_or(0);
    }
    Ok(sum)
}

fn voluntary(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forced_ones_are_not_meant() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t99\n";
        assert_eq!(voluntary(status), Some(12));
    }
}
