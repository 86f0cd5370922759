//! Cost against the number of processes that live.

use anyhow::Result;

use super::{DEFAULT, Finding, crowd::Crowd, mib};
use crate::{bpf, session::Session, statistics::Spread, workload};

/// Slices beside each crowd.
const SLICES: u32 = 5;

pub(super) fn run(session: &Session) -> Result<Finding> {
    let crowds: &[u32] = if session.is_quick() { &[10, 1_000] } else { &[10, 1_000, 30_000] };
    let columns = ["sleeping processes", "programs per fork", "daemon's CPU per event", "peak RSS", "lost"];
    let mut finding = Finding::new("processes", "Cost against the number of processes", &columns);
    finding.note = "The workload fork-exit beside processes that sleep; all programs of a fork, its child's life and its \
                    reap together, with the kernel's clock (which adds its own time to each run)."
        .to_owned();
    let mut costs = Vec::new();
    for &count in crowds {
        let measured = Crowd::start(count).and_then(|_crowd| storms(session));
        let Storms { programs_ns, event_ns, rss_bytes, lost } = match measured {
            Ok(storms) => storms,
            Err(error) => {
                finding.rows.push(vec![count.to_string(), format!("left out: {error:#}")]);
                continue;
            }
        };
        let Some(programs) = Spread::of(programs_ns) else { continue };
        finding.rows.push(vec![
            count.to_string(),
            format!("{:.0} ns ({:.0} to {:.0})", programs.median, programs.low, programs.high),
            format!("{:.2} us", event_ns / 1e3),
            format!("{:.1} MiB", mib(rss_bytes)),
            lost.map_or_else(String::new, |lost| lost.to_string()),
        ]);
        costs.push(event_ns);
    }
    if let [first, .., last] = &*costs
        && !session.is_quick()
    {
        finding.figures.insert("growth", last / first);
    }
    Ok(finding)
}

/// What some slices cost that one tracer sees: it reads of all processes at its start.
struct Storms {
    /// For a fork, in each slice.
    programs_ns: Vec<f64>,
    event_ns: f64,
    rss_bytes: u64,
    lost: Option<u64>,
}

fn storms(session: &Session) -> Result<Storms> {
    let workload = workload::find("fork-exit")?;
    let operations = (workload.operations / session.effort.one_in).max(1);
    let running = session.start(&DEFAULT)?;
    let programs = session.programs_of(&running)?;
    let stats = bpf::enable_stats()?;
    let mut programs_ns = Vec::new();
    for _ in 0..if session.is_quick() { 1 } else { SLICES } {
        let before = Session::total_ns(&programs)?;
        session.slice(workload, operations)?;
        programs_ns.push((Session::total_ns(&programs)? - before) as f64 / operations as f64);
    }
    drop((stats, programs));
    let outcome = running.stop()?;
    let event_ns = outcome.cpu_ns as f64 / outcome.events.unwrap_or(0).max(1) as f64;
    Ok(Storms { programs_ns, event_ns, rss_bytes: outcome.peak_rss_bytes, lost: outcome.lost })
}
