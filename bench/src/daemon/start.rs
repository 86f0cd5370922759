//! How long it takes until something is seen.

use std::{
    collections::BTreeSet,
    env,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{DEFAULT, Finding, crowd::Crowd};
use crate::{session::Session, statistics::Spread, workload::IDLE};

/// Between two processes that are started to be seen.
const PACE: Duration = Duration::from_millis(5);

pub(super) fn run(session: &Session) -> Result<Finding> {
    let crowds: &[u32] = if session.is_quick() { &[0, 1_000] } else { &[0, 1_000, 10_000] };
    let columns = ["processes more than the machine's own", "until hello", "until the first event", "starts"];
    let mut finding = Finding::new("start", "Start", &columns);
    finding.note = "From the spawn of tracer until its hello is in the file, and until the start of the first process that \
                    has a timeline; one is started every 5 ms."
        .to_owned();
    let starts = if session.is_quick() { 3 } else { 9 };
    for &count in crowds {
        let crowd = match Crowd::start(count) {
            Ok(crowd) => crowd,
            Err(error) => {
                finding.rows.push(vec![count.to_string(), format!("left out: {error:#}")]);
                continue;
            }
        };
        let (mut hellos, mut firsts) = (Vec::new(), Vec::new());
        for _ in 0..starts {
            let (hello, first) = once(session)?;
            hellos.push(hello);
            firsts.extend(first);
        }
        drop(crowd);
        let shown = |spread: Option<Spread>| {
            spread.map_or_else(String::new, |s| format!("{:.0} ms ({:.0} to {:.0})", s.median, s.low, s.high))
        };
        let first = Spread::of(firsts);
        if let (1_000, Some(first)) = (count, first) {
            finding.figures.insert("first_event_ms", first.median);
        }
        finding.rows.push(vec![
            count.to_string(),
            shown(Spread::of(hellos)),
            shown(first),
            starts.to_string(),
        ]);
    }
    Ok(finding)
}

/// Milliseconds until the hello and until the first event.
fn once(session: &Session) -> Result<(f64, Option<f64>)> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(IDLE).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        let sparks = scope.spawn(|| {
            let mut sparks = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let at = start.elapsed();
                let mut child = command.spawn()?;
                sparks.push((child.id(), at.as_secs_f64() * 1e3));
                child.wait()?;
                thread::sleep(PACE);
            }
            Ok::<_, std::io::Error>(sparks)
        });
        let running = session.start(&DEFAULT);
        let hello = start.elapsed().as_secs_f64() * 1e3;
        thread::sleep(10 * PACE);
        is_over.store(true, Ordering::Relaxed);
        let sparks = sparks.join().ok().context("processes to be seen cannot be started")??;
        let running = running?;
        let output = running.output().to_owned();
        running.stop()?;
        let seen = pids(&output)?;
        Ok((hello, sparks.into_iter().find(|(pid, _)| seen.contains(pid)).map(|(_, at)| at)))
    })
}

/// The processes that have a timeline.
fn pids(output: &Path) -> Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    for line in BufReader::new(File::open(output)?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if line.pointer("/event/action").and_then(Value::as_str) == Some("timeline") {
            let pid = line.pointer("/process/pid").and_then(Value::as_u64);
            pids.extend(pid.and_then(|pid| u32::try_from(pid).ok()));
        }
    }
    Ok(pids)
}
