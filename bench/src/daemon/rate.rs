//! A busy machine: 1,000 lives a second.

use std::{
    env,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{DEFAULT, Finding};
use crate::{session::Session, workload::IDLE};

const PER_SECOND: u32 = 1_000;

pub(super) fn run(session: &Session) -> Result<Finding> {
    let span = Duration::from_secs(if session.is_quick() { 1 } else { 10 });
    let running = session.start(&DEFAULT)?;
    let start = Instant::now();
    let mut command = Command::new(env::current_exe()?);
    command.arg(IDLE).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let mut lives = 0;
    while start.elapsed() < span {
        ensure!(command.status()?.success(), "a process of the storm failed");
        lives += 1;
        let due = Duration::from_secs(1) / PER_SECOND * lives;
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    let seconds = start.elapsed().as_secs_f64();
    let outcome = running.stop()?;
    // Others live on the machine, too.
    let lives = f64::from(lives).max(outcome.timelines as f64);
    let (each_us, rate) = (outcome.cpu_ns as f64 / 1e3 / lives, lives / seconds);
    let columns = ["lives", "rate", "daemon's CPU per life", "of a core at 1,000 a second", "lost"];
    let mut finding = Finding::new("rate", "1,000 lives a second", &columns);
    finding.note =
        "posix_spawn of a static program that ends at once; the rate is what this machine reached."
            .to_owned();
    let share = each_us * f64::from(PER_SECOND) / 1e6 * 100.0;
    finding.rows.push(vec![
        format!("{lives:.0}"),
        format!("{rate:.0}/s"),
        format!("{each_us:.2} us"),
        format!("{share:.2} %"),
        outcome.lost.map_or_else(String::new, |lost| lost.to_string()),
    ]);
    finding.figures.insert("us_per_life", each_us);
    finding.figures.insert("share", share);
    Ok(finding)
}
