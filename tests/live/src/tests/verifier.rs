//! How much of each program the kernel's verifier goes through: its limits are what a program must stay below.

use std::collections::BTreeMap;

use libtest_mimic::{Completion, Failed, Trial};

use super::filters::stop;
use crate::{cases, check::Check, harness::Plan, machine};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![Trial::ignorable_test("verifier::sizes", sizes)]
}

/// What attaches each program in at least one run. Each is run for a command and for the whole machine: the verifier
/// goes through other branches.
const RUNS: [&[&str]; 2] = [
    &["--hooks", "full", "--ledger", "full", "--threads", "--env", "values", "--cwd"],
    &["--hooks", "base", "--cow", "lite"],
];

fn sizes() -> Result<Completion, Failed> {
    // `bpf_prog_info.verified_insns` is new then.
    if machine::release()? < (5, 16) {
        return Ok(Completion::ignored_with("this kernel does not tell (5.16)"));
    }
    let mut sizes = BTreeMap::new();
    for (options, is_tree) in RUNS.iter().flat_map(|&options| [(options, true), (options, false)]) {
        let plan = if is_tree { Plan::workload("fork")?.arg("1") } else { Plan::new()? };
        let mut live =
            options.iter().fold(plan.option("-vv"), |plan, &option| plan.option(option)).start()?;
        let run = if is_tree {
            live.end()?
        } else {
            live.wait_lines("hello", 1)?;
            stop(live)?
        };
        let mut check = Check::new(&run);
        check.same("exit code", run.code, Some(0));
        let told: Vec<_> = run.stderr.lines().filter_map(size).collect();
        check.that(!told.is_empty(), "no program tells its size");
        for (program, size) in told {
            check.that(size > 0, format!("{program} has no size"));
            let most = sizes.entry(program.to_owned()).or_insert(size);
            *most = size.max(*most);
        }
        check.done()?;
    }
    for (program, size) in sizes {
        cases::size(&program, size);
    }
    Ok(Completion::Completed)
}

/// `tracer: debug: PROGRAM: attached, N instructions verified`.
fn size(line: &str) -> Option<(&str, u64)> {
    let (before, after) = line.split_once(": attached, ")?;
    let program = before.rsplit(' ').next()?;
    Some((program, after.strip_suffix(" instructions verified")?.parse().ok()?))
}
