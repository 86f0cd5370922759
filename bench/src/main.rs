//! `tracer-bench`: what tracing costs those who are traced, and what it costs itself.
//!
//! A session alternates short slices of work: with nothing, with empty BPF programs on the tracer's hooks, and with
//! the tracer. It compares CPU times within a round, and takes the median of the rounds. Nothing here fails because
//! something took long.
//!
//! | file | what |
//! |---|---|
//! | `workload/` | work of known size; a slice is a process of its own |
//! | `tool.rs`, `output.rs`, `peer.rs` | the tracer at its levels, other tools, and what they say of themselves |
//! | `bpf.rs` | empty programs and run times |
//! | `session.rs` | which slices, in which order |
//! | `daemon/` | what the daemon costs by itself |
//! | `statistics.rs`, `machine.rs`, `goals.rs`, `report.rs` | the tables |

mod bpf;
mod daemon;
mod goals;
mod machine;
mod output;
mod peer;
mod report;
mod session;
mod statistics;
mod tool;
mod workload;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::{
    daemon::Measurement,
    machine::Machine,
    report::Report,
    session::{Effort, Session, Subject},
    tool::{LEVELS, Place},
    workload::Workload,
};

#[derive(Debug, Parser)]
#[command(name = "tracer-bench", about = "Measure what tracing costs; needs root", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Compare tracer at its levels, and other tools, with no tracing
    Session(Options),
    /// Do a workload once and print what it cost; a session starts these
    #[command(hide = true)]
    Slice { workload: String, operations: u64, folder: PathBuf },
    /// Start processes that sleep until the input ends; a session needs them
    #[command(hide = true)]
    Crowd { count: u32 },
}

#[derive(Debug, clap::Args)]
struct Options {
    /// 2 rounds of short slices: whether it works, not how much it costs
    #[arg(long)]
    quick: bool,

    /// Only these workloads, and measurements of the daemon: replay, events, processes, filter, rate, idle, start,
    /// memory, lines
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,

    /// Only these levels of the tracer: off, lite, fault, full, full+calls
    #[arg(long, value_name = "LEVEL", value_delimiter = ',')]
    levels: Option<Vec<String>>,

    /// Also these tools: bpftrace, perf, forkstat
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    against: Vec<String>,

    /// Rounds, an even number; fewer than 16 are not worth a table
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    rounds: Option<u32>,

    /// The tracer to be measured
    #[arg(long, value_name = "FILE")]
    tracer: PathBuf,

    /// Where files are made
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,

    /// Where all measurements go
    #[arg(long, value_name = "FILE")]
    json: PathBuf,

    /// Put the tables into this document
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    // What the workloads execute must do nothing else.
    if env::args_os().nth(1).is_some_and(|argument| argument == workload::IDLE) {
        return ExitCode::SUCCESS;
    }
    let result = match Cli::parse().verb {
        Verb::Session(options) => session(options),
        Verb::Crowd { count } => daemon::crowd(count),
        Verb::Slice { workload, operations, folder } => slice(&workload, operations, &folder),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tracer-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn slice(workload: &str, operations: u64, folder: &std::path::Path) -> Result<()> {
    let cost = workload::find(workload)?.perform(operations, folder)?;
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn session(options: Options) -> Result<()> {
    // SAFETY: no arguments, no failure.
    ensure!(unsafe { libc::geteuid() } == 0, "not root: programs cannot be attached");
    // Before other work of this machine: the slices, and the tools beside them. A refusal only costs precision.
    // SAFETY: no memory is involved.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    let mut left_out = Vec::new();
    let start = Instant::now();
    let (workloads, measurements) = chosen(&options.only, &options.folder, &mut left_out)?;
    let machine = Machine::look();
    let effort = Effort {
        rounds: options.rounds.unwrap_or(if options.quick { 2 } else { 16 }).next_multiple_of(2),
        one_in: if options.quick { 10 } else { 1 },
    };
    let session = Session::new(Place { tracer: options.tracer, folder: options.folder }, effort)?;
    let subjects = match &*workloads {
        [] => Vec::new(),
        _ => subjects(&session, options.levels.as_deref(), &options.against, &mut left_out)?,
    };
    let mut comparisons = Vec::new();
    for workload in workloads {
        eprintln!("tracer-bench: {}: {}", workload.name, workload.about);
        match session.compare(workload, &subjects) {
            Ok(more) => comparisons.extend(more),
            // The other workloads' hours are not thrown away for it.
            Err(error) => left_out.push(format!("{}: {error:#}", workload.name)),
        }
    }
    let mut findings = Vec::new();
    for measurement in measurements {
        eprintln!("tracer-bench: {}: {}", measurement.name, measurement.about);
        match (measurement.run)(&session) {
            Ok(finding) => findings.push(finding),
            Err(error) => left_out.push(format!("{}: {error:#}", measurement.name)),
        }
    }
    let is_something = !comparisons.is_empty() || !findings.is_empty();
    ensure!(is_something, "nothing could be measured: {}", left_out.join("; "));
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let report = Report { machine, effort, minutes, comparisons, findings, left_out };
    fs::write(&options.json, serde_json::to_vec(&report)?)
        .with_context(|| options.json.display().to_string())?;
    let tables = report.tables();
    print!("{tables}");
    if let Some(path) = options.write {
        let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let new = report::insert(&document, &tables);
        fs::write(&path, new.with_context(|| format!("{} has no marks for the tables", path.display()))?)?;
    }
    Ok(())
}

/// The chosen workloads that can run here, and the chosen measurements of the daemon.
fn chosen(
    only: &[String],
    folder: &Path,
    left_out: &mut Vec<String>,
) -> Result<(Vec<&'static Workload>, Vec<&'static Measurement>)> {
    let (mut workloads, mut measurements) = (Vec::new(), Vec::new());
    if only.is_empty() {
        workloads.extend(&workload::ALL);
        measurements.extend(&daemon::ALL);
    }
    for name in only {
        match daemon::find(name) {
            Some(measurement) => measurements.push(measurement),
            None => workloads.push(workload::find(name)?),
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |needed: &&str| {
        env::split_paths(&path).chain([folder.to_owned()]).any(|folder| folder.join(needed).exists())
    };
    let runs_here = |workload: &&Workload| {
        let missing = workload.needs.iter().find(|program| !is_there(program));
        left_out.extend(missing.map(|program| format!("{}: {program} is not installed", workload.name)));
        missing.is_none()
    };
    Ok((workloads.into_iter().filter(runs_here).collect(), measurements))
}

/// The chosen levels and tools that work here.
fn subjects(
    session: &Session,
    levels: Option<&[String]>,
    against: &[String],
    left_out: &mut Vec<String>,
) -> Result<Vec<Subject>> {
    let mut tools = Vec::new();
    match levels {
        None => tools.extend(LEVELS),
        Some(names) => {
            for name in names {
                let level = LEVELS.into_iter().find(|level| level.name == name);
                tools.push(level.with_context(|| format!("no such level: {name}"))?);
            }
        }
    }
    for name in against {
        tools.push(peer::find(name)?);
    }
    let mut subjects = Vec::new();
    for tool in tools {
        match session.probe(tool) {
            Ok(Some(subject)) => subjects.push(subject),
            Ok(None) => left_out.push(format!("{}: this tracer does not know the level", tool.name)),
            Err(error) => left_out.push(format!("{}: {error:#}", tool.name)),
        }
    }
    if subjects.is_empty() {
        bail!("no tool works here: {}", left_out.join("; "));
    }
    Ok(subjects)
}
