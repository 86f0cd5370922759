//! Compares what tracer tells with counters that others wrote: those of Redis and stress-ng, and the kernel's own.
//!
//! `tracer-witness [redis | faults | lives | reuses | stressors]` runs one or all comparisons and prints a table of them;
//! TRACER_BIN names the tracer, REDIS_SERVER the Redis and STRESS_NG the stress-ng. `README.md` beside `src` says what is compared and why it must agree.

mod acct;
mod faults;
mod lives;
mod memory;
mod perf;
mod process;
mod redis;
mod report;
mod resp;
mod reuses;
mod stressors;
mod trace;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};

use report::Report;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    if called.is_some_and(|name| name.starts_with(lives::PROGRAM)) {
        return ExitCode::SUCCESS;
    }
    let result = match &args[..] {
        [_] => witnesses(None),
        [_, only] => witnesses(only.to_str()),
        [_, workload, folder] => work(workload, folder.into()).map(|()| ExitCode::SUCCESS),
        _ => Ok(ExitCode::from(2)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tracer-witness: {error:#}");
        ExitCode::FAILURE
    })
}

/// Every witness is heard, also when one before it disagrees or cannot be asked.
fn witnesses(only: Option<&str>) -> Result<ExitCode> {
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        bail!("tracing needs root");
    }
    let mut report = Report::default();
    for (name, witness) in [
        ("redis", redis::witness as fn(&mut Report) -> Result<()>),
        ("faults", faults::witness),
        ("lives", lives::witness),
        ("reuses", reuses::witness),
        ("stressors", stressors::witness),
    ] {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        if let Err(error) = witness(&mut report) {
            report.failed(name, &error);
        }
    }
    print!("{report}");
    Ok(if report.all_agree() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The programs that are traced; what they know they write to files in `folder`.
fn work(workload: &OsStr, folder: PathBuf) -> Result<()> {
    process::end_on_panic();
    match workload.to_str() {
        Some("faults") => faults::work(&folder),
        Some("lives") => lives::work(&folder),
        Some("reuses") => reuses::work(),
        _ => bail!("no such workload: {}", workload.display()),
    }
}
