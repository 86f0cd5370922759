//! While nothing happens, the daemon sleeps; when something does, it is told soon.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
};

use libtest_mimic::{Failed, Trial};

use super::{filters::stop, trial};
use crate::{
    check::{Check, Outcome},
    harness::{Live, Plan, Workload},
    stream::at,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("idle::woken_by_timers_only", timers),
        trial("idle::woken_by_one_record", record),
        trial("idle::woken_by_the_end_of_the_reader", reader),
    ]
}

/// A process that sleeps, and a plan to follow it without timers.
fn sleeper() -> Result<(Workload, Plan), Failed> {
    let plan = Plan::new()?;
    let sleeper = Workload::start(plan.dir.file("facts"), 1, 0)?;
    let plan = plan.option("--pid").option(sleeper.pid().to_string());
    Ok((sleeper, plan.option("--cow-interval").option("0").option("--heartbeat")))
}

/// How often the daemon has gone to sleep.
fn sleeps(live: &Live) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{}/status", live.pid()))?;
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(count.ok_or("no voluntary_ctxt_switches")?.trim().parse()?)
}

/// It would wake 80 times if there were ticks.
fn timers() -> Outcome {
    const HEARTBEATS: usize = 4;
    let (mut sleeper, plan) = sleeper()?;
    let mut live = plan.option("1").start()?;
    live.wait_lines("heartbeat", 1)?;
    let before = sleeps(&live)?;
    live.wait_lines("heartbeat", 1 + HEARTBEATS)?;
    let sleeps = sleeps(&live)? - before;
    let run = stop(live)?;
    sleeper.finish()?;
    let mut check = Check::new(&run);
    // One for each heartbeat; more when it is woken by what is not a reason to write.
    check.that(sleeps <= 4 * HEARTBEATS as u64, format!("woken {sleeps} times for {HEARTBEATS} heartbeats"));
    check.done()
}

/// No timer and no second record helps.
fn record() -> Outcome {
    let (mut sleeper, plan) = sleeper()?;
    let mut live = plan.option("0").option("--events").start()?;
    live.wait_lines("hello", 1)?;
    // Until it sleeps.
    std::thread::sleep(std::time::Duration::from_millis(500));
    sleeper.finish()?;
    let run = live.end()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    check.timeline(i64::from(sleeper.pid()));
    check.done()
}

/// Nothing is written that could fail.
fn reader() -> Outcome {
    let (mut sleeper, plan) = sleeper()?;
    let (read, write) = std::io::pipe()?;
    let live = plan.option("0").start_with(PathBuf::new(), Some(write.into()))?;
    let mut reader = BufReader::new(read);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(reader);
    let run = live.end()?;
    sleeper.finish()?;
    let mut check = Check::bare(&run);
    check.same("exit code", run.code, Some(0));
    let hello: serde_json::Value = serde_json::from_str(&line)?;
    check.same("action", at(&hello, "/event/action").as_str(), Some("hello"));
    check.done()
}
