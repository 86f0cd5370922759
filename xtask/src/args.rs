//! The command line.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::kernels::{self, Kernel};

/// What `cargo xtask help` prints.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask TASK

  setup                       find the build tools and install the missing ones
  ebpf                        build the eBPF programs only
  build                       build target/release/tracer, one static program
  run [ARGS] [-- CMD]         build, then `tracer run ARGS -- CMD`
  clippy                      lint all crates, warnings are errors
  fmt [--check]               format all crates
  test [--no-vm] [VM OPTIONS] all tests; those on this kernel need root
  test --witness              only the comparison with the counts of Redis, stress-ng and the kernel
  test-vm [VM OPTIONS]        only the tests in virtual machines
  verifier [VM OPTIONS]       only how much of each program the kernels' verifiers go through; needs root
  bench [BENCH OPTIONS]       what tracing costs on this machine; needs root

VM options:
  --vm 5.10,6.1,6.12,newest   which kernels (default: all four)
  --tests FILTER              only the tests whose name contains FILTER
  --init FILE                 boot this static program in place of the tests
  --write-cases               write the tables in docs/cow.md, conformance.md and verifier.md, do not compare

Bench options:
  --quick                     2 short rounds: whether it works, not how much it costs
  --only NAME,..              only these workloads and measurements (docs/overhead.md)
  --levels LEVEL,..           only these levels: off, lite, fault, full, full+calls
  --against TOOL,..           also bpftrace, perf, forkstat
  --rounds N                  rounds, an even number (default: 16)
  --json FILE                 all measurements (default: bench/results.json in the target folder)
  --write                     put the tables into docs/overhead.md

Environment: TRACER_EBPF_RUSTC (a rustc with its library sources), BPF_LINKER, CARGO_TARGET_DIR
";

/// One task with its options.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    Help,
    Setup,
    Ebpf,
    Build,
    Run(Vec<OsString>),
    Clippy,
    Fmt { check: bool },
    Test(VmOptions),
    Witness,
    TestVm(VmOptions),
    Verifier(VmOptions),
    Bench(BenchOptions),
}

/// Which virtual machines to boot, and with what.
#[derive(Debug, PartialEq)]
pub(crate) struct VmOptions {
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) tests: Option<String>,
    pub(crate) init: Option<PathBuf>,
    pub(crate) write_cases: bool,
}

/// What to measure; `rest` is for the bench itself.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct BenchOptions {
    pub(crate) json: Option<PathBuf>,
    pub(crate) write: bool,
    pub(crate) rest: Vec<String>,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Task> {
    let Some(task) = arguments.next() else {
        return Ok(Task::Help);
    };
    // What follows `run` is the tracer's and may be any bytes.
    if task == "run" {
        return Ok(Task::Run(arguments.collect()));
    }
    let mut rest = Vec::new();
    for argument in arguments {
        rest.push(argument.into_string().ok().context("an argument is not UTF-8")?);
    }
    let task = task.to_string_lossy();
    let parsed = match &*task {
        "fmt" => {
            let check = rest == ["--check"];
            if check {
                rest.clear();
            }
            Task::Fmt { check }
        }
        "test" if rest == ["--witness"] => return Ok(Task::Witness),
        "test" => return Ok(Task::Test(vm_options(rest, true)?)),
        "test-vm" => return Ok(Task::TestVm(vm_options(rest, false)?)),
        "verifier" => return Ok(Task::Verifier(vm_options(rest, true)?)),
        "bench" => return Ok(Task::Bench(bench_options(rest)?)),
        "setup" => Task::Setup,
        "ebpf" => Task::Ebpf,
        "build" => Task::Build,
        "clippy" => Task::Clippy,
        "help" | "-h" | "--help" => Task::Help,
        _ => bail!("no such task: {task}"),
    };
    match rest.first() {
        Some(argument) => bail!("{task}: unexpected argument {argument}"),
        None => Ok(parsed),
    }
}

fn vm_options(arguments: Vec<String>, may_skip: bool) -> Result<VmOptions> {
    let mut options =
        VmOptions { kernels: kernels::MATRIX.to_vec(), tests: None, init: None, write_cases: false };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match &*argument {
            "--no-vm" if may_skip => options.kernels.clear(),
            "--vm" => options.kernels = kernels::select(&value()?)?,
            "--tests" => {
                let filter = value()?;
                // It becomes one word of a kernel command line.
                if filter.is_empty() || filter.contains(|c: char| c.is_whitespace() || c == '"') {
                    bail!("--tests takes one word");
                }
                options.tests = Some(filter);
            }
            "--write-cases" => options.write_cases = true,
            "--init" => options.init = Some(value()?.into()),
            _ => bail!("unexpected argument {argument}"),
        }
    }
    Ok(options)
}

fn bench_options(arguments: Vec<String>) -> Result<BenchOptions> {
    let mut options = BenchOptions::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match &*argument {
            "--json" => options.json = Some(value()?.into()),
            "--write" => options.write = true,
            "--quick" => options.rest.push(argument),
            "--only" | "--levels" | "--against" | "--rounds" => {
                let value = value()?;
                options.rest.extend([argument, value]);
            }
            _ => bail!("unexpected argument {argument}"),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Task> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn run_passes_everything_on() {
        let task = parse_words(&["run", "--events", "--", "true", "--check"]).unwrap();
        assert_eq!(task, Task::Run(["--events", "--", "true", "--check"].map(Into::into).into()));
    }

    #[test]
    fn kernels_are_chosen_by_name() {
        let Task::Test(options) = parse_words(&["test", "--vm", "6.1,newest"]).unwrap() else {
            panic!("not a test task")
        };
        let names: Vec<_> = options.kernels.iter().map(|kernel| kernel.name).collect();
        assert_eq!(names, ["6.1", "newest"]);
        assert!(parse_words(&["test", "--vm", "2.6"]).is_err());
    }

    #[test]
    fn no_vm_is_for_test_only() {
        let Task::Test(options) = parse_words(&["test", "--no-vm"]).unwrap() else {
            panic!("not a test task")
        };
        assert!(options.kernels.is_empty());
        assert!(parse_words(&["test-vm", "--no-vm"]).is_err());
    }

    #[test]
    fn the_cases_are_compared_unless_they_are_to_be_written() {
        for (words, want) in [(&["test"][..], false), (&["test-vm", "--write-cases"], true)] {
            let (Task::Test(options) | Task::TestVm(options)) = parse_words(words).unwrap() else {
                panic!("not a test task")
            };
            assert_eq!(options.write_cases, want);
        }
    }

    #[test]
    fn witnesses_are_heard_alone() {
        assert_eq!(parse_words(&["test", "--witness"]).unwrap(), Task::Witness);
        assert!(parse_words(&["test", "--witness", "--no-vm"]).is_err());
        assert!(parse_words(&["test-vm", "--witness"]).is_err());
    }

    #[test]
    fn the_bench_gets_what_is_its_own() {
        let words = ["bench", "--only", "tcp,pipe", "--write", "--json", "x", "--quick"];
        let Task::Bench(BenchOptions { json, write, rest }) = parse_words(&words).unwrap() else {
            panic!("not a bench")
        };
        assert!(write && json == Some("x".into()));
        assert_eq!(rest, ["--only", "tcp,pipe", "--quick"]);
        assert!(parse_words(&["bench", "--only"]).is_err());
        assert!(parse_words(&["bench", "--fast"]).is_err());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(parse_words(&["biuld"]).is_err());
        assert!(parse_words(&["build", "now"]).is_err());
        assert!(parse_words(&["fmt", "--chekc"]).is_err());
        assert!(parse_words(&["test-vm", "--tests", "a b"]).is_err());
        assert!(parse_words(&["test-vm", "--init"]).is_err());
        assert_eq!(parse_words(&[]).unwrap(), Task::Help);
        assert_eq!(parse_words(&["fmt", "--check"]).unwrap(), Task::Fmt { check: true });
    }
}
