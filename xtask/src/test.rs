//! All tests, in stages. A failed stage does not stop the others; it decides the exit status.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    args::VmOptions,
    cases::{self, Column},
    host,
    layout::Layout,
    process::{find, is_root, run, run_and_keep, run_within},
    setup,
    toolchain::Toolchain,
    vm,
};

/// The live tests on this kernel take seconds; this is for a hang.
const LIVE_LIMIT: Duration = Duration::from_secs(900);
/// The witnesses take a minute, two when others work, too; this is for a hang.
const WITNESS_LIMIT: Duration = Duration::from_secs(300);

/// A finished part of the tests.
pub(crate) struct Stage {
    name: String,
    time: Duration,
    failure: Option<String>,
    /// The cases that its tests told.
    cases: Vec<Column>,
}

impl Stage {
    /// Ends the part that began at `start`.
    pub(crate) fn new(name: String, start: Instant, failure: Option<String>) -> Self {
        Self { name, time: start.elapsed(), failure, cases: Vec::new() }
    }

    /// With the cases that its tests told.
    pub(crate) fn with(self, cases: Vec<Column>) -> Self {
        Self { cases, ..self }
    }

    fn of(name: &str, work: impl FnOnce() -> Result<()>) -> Self {
        let start = Instant::now();
        let failure = work().err().map(|error| format!("{error:#}"));
        Self::new(name.to_owned(), start, failure)
    }
}

/// The tests on this kernel, in virtual machines, and last those that need no root.
///
/// These come last so that the output ends with the closing lines of their runner; after them is only what failed before.
pub(crate) fn all(layout: &Layout, vms: &VmOptions) -> Result<ExitCode> {
    let live = host::build_with_live_tests(layout)?;
    let mut stages = vec![live_tests(layout, vms, &live), witnesses(layout)];
    stages.extend(boot(layout, vms, &live));
    stages.extend(tables_of_cases(layout, vms, &stages));
    if find("cargo-nextest").is_some() {
        // nextest leaves out the examples in the documentation.
        stages.push(Stage::of("examples in the documentation", || {
            run(layout.cargo("test").args(["--workspace", "--doc", "--quiet"]))
        }));
    }
    print_table(&stages);
    let pure = Stage::of("tests without root", || pure_tests(layout));
    stages.retain(|stage| stage.failure.is_some());
    stages.push(pure);
    if stages.iter().any(|stage| stage.failure.is_some()) {
        print_table(&stages);
    }
    Ok(exit_code(&stages))
}

/// Only the sizes of the programs, here and in virtual machines.
pub(crate) fn verifier(layout: &Layout, vms: VmOptions) -> Result<ExitCode> {
    let vms = VmOptions { tests: Some("verifier::".to_owned()), ..vms };
    let live = host::build_with_live_tests(layout)?;
    let mut stages = vec![live_tests(layout, &vms, &live)];
    stages.extend(boot(layout, &vms, &live));
    stages.extend(tables_of_cases(layout, &vms, &stages));
    print_table(&stages);
    Ok(exit_code(&stages))
}

/// Only the comparison with the counts of others.
pub(crate) fn witnesses_only(layout: &Layout) -> Result<ExitCode> {
    let stages = [witnesses(layout)];
    print_table(&stages);
    Ok(exit_code(&stages))
}

/// Only the tests in virtual machines.
pub(crate) fn vms_only(layout: &Layout, vms: &VmOptions) -> Result<ExitCode> {
    let init = match &vms.init {
        Some(init) => init.clone(),
        None => host::build_with_live_tests(layout)?,
    };
    let mut stages = boot(layout, vms, &init);
    stages.extend(tables_of_cases(layout, vms, &stages));
    print_table(&stages);
    Ok(exit_code(&stages))
}

fn boot(layout: &Layout, vms: &VmOptions, live: &Path) -> Vec<Stage> {
    if vms.kernels.is_empty() {
        return Vec::new();
    }
    let start = Instant::now();
    let init = vms.init.as_deref().unwrap_or(live);
    vm::run(layout, vms, init)
        .unwrap_or_else(|error| vec![Stage::new("vm".to_owned(), start, Some(format!("{error:#}")))])
}

fn live_tests(layout: &Layout, vms: &VmOptions, live: &Path) -> Stage {
    let mut cases = Vec::new();
    let stage = as_root("tests on this kernel", || {
        let mut command = Command::new(live);
        command.arg("test").args(&vms.tests).env("TRACER_BIN", layout.tracer());
        let (result, printed) = run_and_keep(&mut command, LIVE_LIMIT);
        cases = Column::read(&fs::read_to_string("/proc/sys/kernel/osrelease")?, &printed);
        result
    });
    stage.with(cases)
}

/// Compares or writes what the tests told of the cases. Nothing is written of a kernel whose tests failed.
fn tables_of_cases(layout: &Layout, vms: &VmOptions, stages: &[Stage]) -> Vec<Stage> {
    let wanted = |stage: &&Stage| stage.failure.is_none() || !vms.write_cases;
    let columns: Vec<_> = stages.iter().filter(wanted).flat_map(|stage| &stage.cases).collect();
    let stages = cases::TABLES.into_iter().filter_map(|(word, file)| {
        let columns: Vec<_> = columns.iter().copied().filter(|column| column.word == word).collect();
        // One test tells all sizes.
        let whole = vms.tests.is_none() || word == cases::SIZE;
        let work = || match word {
            cases::SIZE if !is_same_compiler(layout, &layout.doc(file), vms.write_cases)? => Ok(()),
            _ => cases::settle(word, &layout.doc(file), &columns, whole, vms.write_cases),
        };
        (!columns.is_empty()).then(|| Stage::of(&format!("table in docs/{file}"), work))
    });
    stages.collect()
}

/// Whether the sizes in `file` are those of this compiler's programs; when `write`, says there that they are.
fn is_same_compiler(layout: &Layout, file: &Path, write: bool) -> Result<bool> {
    const LINE: &str = "Compiled by ";
    let Toolchain { release, llvm, .. } = setup::tools(layout)?.toolchain;
    let line = format!("{LINE}rustc {release}, LLVM {llvm}.");
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let known = text.lines().find(|line| line.starts_with(LINE)).context("no line says by which compiler")?;
    if write {
        fs::write(file, text.replace(known, &line))?;
    } else if known != line {
        eprintln!("xtask: the sizes in {} are not compared: {known}", file.display());
    }
    Ok(write || known == line)
}

fn witnesses(layout: &Layout) -> Stage {
    as_root("witnesses", || {
        let mut command = Command::new(host::build_with_witnesses(layout)?);
        command.env("TRACER_BIN", layout.tracer());
        command.env("REDIS_SERVER", setup::redis(layout)?).env("STRESS_NG", setup::stress_ng()?);
        run_within(&mut command, WITNESS_LIMIT)
    })
}

/// A stage that needs root; without, it is left out.
fn as_root(name: &str, work: impl FnOnce() -> Result<()>) -> Stage {
    if is_root() {
        return Stage::of(name, work);
    }
    eprintln!("xtask: not root: {name}: left out");
    Stage::new(format!("{name} (left out)"), Instant::now(), None)
}

fn pure_tests(layout: &Layout) -> Result<()> {
    if find("cargo-nextest").is_some() {
        run(layout.cargo("nextest").args(["run", "--workspace"]))
    } else {
        run(layout.cargo("test").args(["--workspace", "--no-fail-fast"]))
    }
}

fn print_table(stages: &[Stage]) {
    for Stage { name, time, failure, cases: _ } in stages {
        let seconds = time.as_secs_f64();
        match failure {
            None => eprintln!("xtask: {name}: ok, {seconds:.1} s"),
            Some(why) => eprintln!("xtask: {name}: FAILED, {seconds:.1} s: {why}"),
        }
    }
}

fn exit_code(stages: &[Stage]) -> ExitCode {
    match stages.iter().all(|stage| stage.failure.is_none()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
