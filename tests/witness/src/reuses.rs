//! Reuses: tracer's on the whole machine against `pgreuse` of /proc/vmstat.

use std::{collections::HashMap, env, fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    memory::Pages,
    process::run,
    report::Report,
    trace::{Folder, Trace, count, is},
};

const LIMIT: Duration = Duration::from_secs(60);
const PAGES: usize = 4096;
const ROUNDS: usize = 100;
/// Others' reuses between our looks at the kernel's counter and the beginning and end of the trace; and those
/// that are no faults (get_user_pages).
const ALLOWED_PERMILLE: u64 = 5;

/// wp_page_reuse() counts it (mm/memory.c): in a reuse, and when a shared file page becomes writable.
pub(crate) fn witness(report: &mut Report) -> Result<()> {
    let what = "`cow.reuses` and `faults.write_notify` of the machine; vmstat `pgreuse`";
    let Some(before) = pgreuse()? else {
        report.skip(what, "this kernel has no pgreuse (5.13)");
        return Ok(());
    };
    let folder = Folder::new("reuses")?;
    let mut trace = Trace::start(folder.path(), [])?;
    trace.wait_hello(LIMIT)?;
    let begun = pgreuse()?.unwrap_or(before);
    let status = Command::new(env::current_exe()?).arg("reuses").arg(folder.path()).status()?;
    ensure!(status.success(), "the workload ended with {status}");
    let ended = pgreuse()?.context("pgreuse has gone")?;
    trace.stop()?;
    let lines = trace.end(LIMIT)?;

    let theirs = ended - begun;
    report.compare(what, reuses(&lines)?, theirs, theirs * ALLOWED_PERMILLE / 1000);
    Ok(())
}

/// Of each process the last that was told: its timeline, or the progress of one that still lives.
fn reuses(lines: &[Value]) -> Result<u64> {
    let mut last = HashMap::new();
    for line in lines {
        let reuses = match line {
            // Counts of a life whose end was not seen are null; its progress was told.
            _ if is(line, "timeline") && line.pointer("/tracer/cow").is_some_and(Value::is_object) => {
                count(line, "/tracer/cow/reuses")? + count(line, "/tracer/faults/write_notify")?
            }
            _ if is(line, "cow") => count(line, "/tracer/cow/reuses")?,
            _ => continue,
        };
        last.insert(line.pointer("/process/entity_id").context("no entity_id")?.to_string(), reuses);
    }
    Ok(last.values().sum())
}

/// The traced program: a child holds all pages for a moment, then they are written to.
pub(crate) fn work() -> Result<()> {
    let pages = Pages::anonymous(PAGES);
    pages.write();
    for _ in 0..ROUNDS {
        run("reuses.child", || {});
        pages.write();
    }
    Ok(())
}

/// The kernel's counter.
fn pgreuse() -> Result<Option<u64>> {
    let text = fs::read_to_string("/proc/vmstat").context("/proc/vmstat")?;
    let value = text.lines().find_map(|line| line.strip_prefix("pgreuse "));
    value.map(|value| value.trim().parse().context("pgreuse")).transpose()
}
