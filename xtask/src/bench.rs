//! Measuring what tracing costs. The work is done by the package `bench`.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;

use crate::{args::BenchOptions, host, layout::Layout, process::run_within, project};

/// All workloads with all levels take half an hour on a quiet machine; this is for a hang.
const LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// Builds the tracer and the bench, and runs a session.
pub(crate) fn run(layout: &Layout, options: &BenchOptions) -> Result<()> {
    let BenchOptions { json, write, rest } = options;
    let bench = host::build_with_bench(layout)?;
    let folder = layout.bench();
    fs::create_dir_all(&folder)?;
    let files = folder.join("files");
    fs::create_dir_all(&files)?;
    if rest.iter().all(|argument| argument != "--only") || rest.iter().any(|argument| names(argument, "make"))
    {
        // What is missing is left out, and the bench says so.
        if let Err(error) = project::ensure(&files) {
            eprintln!("xtask: warning: {error:#}");
        }
    }
    let json = json.clone().unwrap_or_else(|| folder.join("results.json"));
    let mut command = Command::new(bench);
    command.arg("session").arg("--tracer").arg(layout.tracer()).arg("--folder").arg(files);
    command.arg("--json").arg(&json).args(rest);
    if *write {
        command.arg("--write").arg(layout.overhead());
    }
    run_within(&mut command, LIMIT)?;
    eprintln!("xtask: all measurements: {}", json.display());
    Ok(())
}

/// Whether `argument` is a list that has `name` in it.
fn names(argument: &str, name: &str) -> bool {
    argument.split(',').any(|part| part == name)
}
