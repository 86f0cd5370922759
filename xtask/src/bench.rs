//! Measuring what tracing costs. The work is done by the package `bench`.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;

use crate::{args::BenchOptions, host, layout::Layout, process::run_within};

/// All workloads with all levels take half an hour on a quiet machine; this is for a hang.
const LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// Builds the tracer and the bench, and runs a session.
pub(crate) fn run(layout: &Layout, options: &BenchOptions) -> Result<()> {
    let BenchOptions { json, write, rest } = options;
    let bench = host::build_with_bench(layout)?;
    let folder = layout.bench();
    fs::create_dir_all(&folder)?;
    let json = json.clone().unwrap_or_else(|| folder.join("results.json"));
    let mut command = Command::new(bench);
    command.arg("session").arg("--tracer").arg(layout.tracer()).arg("--folder").arg(folder.join("files"));
    command.arg("--json").arg(&json).args(rest);
    if *write {
        command.arg("--write").arg(layout.overhead());
    }
    run_within(&mut command, LIMIT)?;
    eprintln!("xtask: all measurements: {}", json.display());
    Ok(())
}
