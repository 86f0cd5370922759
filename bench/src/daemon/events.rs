//! Cost and memory against the length of a stream.

use anyhow::Result;

use super::{
    Finding, mib,
    replay::{replay, storm},
};
use crate::session::Session;

pub(super) fn run(session: &Session) -> Result<Finding> {
    let lengths: &[u64] =
        if session.is_quick() { &[10_000, 100_000] } else { &[10_000, 100_000, 1_000_000, 10_000_000] };
    let recording = storm(session, 2)?;
    let mut finding =
        Finding::new("events", "Cost against the number of events", &["events", "CPU per event", "peak RSS"]);
    finding.note = format!(
        "Replays of one storm of {} events, repeated with later times and cut to length.",
        recording.len()
    );
    let mut costs = Vec::new();
    for &events in lengths {
        let replayed = replay(&session.place.tracer, |out| Ok(recording.repeat(events, out)?))?;
        let each = replayed.cpu_ns as f64 / events as f64;
        finding.rows.push(vec![
            events.to_string(),
            format!("{:.2} us", each / 1e3),
            format!("{:.1} MiB", mib(replayed.peak_rss_bytes)),
        ]);
        costs.push(each);
    }
    if let [first, .., last] = &*costs
        && !session.is_quick()
    {
        finding.figures.insert("growth", last / first);
    }
    Ok(finding)
}
