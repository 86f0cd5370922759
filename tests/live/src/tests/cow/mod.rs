//! Copy-on-write: exact counts, as differences to a run of the same workload that writes nothing.

mod compare;
mod needs;
mod programs;
mod table;

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use super::{tree::tree, trial};
use crate::{
    cases,
    check::Check,
    harness::{Plan, Run, in_vm},
    init, machine,
    stream::number,
    workload::PAGES,
};

use compare::{Difference, compare, seen};
use needs::Need;

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    let cases = table::all().map(|case| Trial::ignorable_test(case.test, || case.run()));
    cases
        .chain([trial("cow::wasted", programs::wasted), trial("cow::vfork_exec", programs::vfork_exec)])
        .collect()
}

const PAGE_BYTES: i64 = 4096;

/// A workload that writes k pages in one known way, and what tracer says of it.
struct Case {
    /// Its row in `docs/cow.md`.
    name: &'static str,
    test: &'static str,
    workload: &'static str,
    /// The numbers of pages that are written; what is told is of the last one.
    steps: &'static [i64],
    /// How many frames were seen to change in `/proc/PID/pagemap`.
    truth: fn(i64) -> i64,
    needs: fn() -> Result<Need, Failed>,
    /// By the role of the process: how its counters differ from a run with k = 0.
    differences: fn(i64) -> Vec<(&'static str, Difference)>,
    /// What else must hold in a round.
    more: for<'a> fn(&mut Check<'a>, &'a Run, usize),
}

impl Case {
    /// Runs the workload with k = 0 and with each of the steps, each in a process of its own.
    fn run(&self) -> Result<Completion, Failed> {
        // Held until the end.
        let _held = match (self.needs)()? {
            Need::Met(held) => held,
            Need::Missing(why) => {
                cases::tell(self.name, &why, "-");
                return Ok(Completion::ignored_with(why));
            }
        };
        let steps = steps(self.steps);
        let words = [0, 0].iter().chain(steps).map(|k| format!("{k:04}"));
        let run = run(self.workload, words)?;
        let mut check = Check::new(&run);
        tree(&mut check, &run);
        check.same("frames that changed without a write", truth(&run, BASE), 0);
        let mut told = (0, Vec::new());
        for (&k, round) in steps.iter().zip(BASE + 1..) {
            let truth = truth(&run, round);
            check.same(format!("k={k}: frames that changed"), truth, (self.truth)(k));
            told = (truth, Vec::new());
            for (role, difference) in (self.differences)(k) {
                let lines = [BASE, round].map(|round| of(&mut check, &run, round, role));
                compare(&mut check, &format!("{} k={k} {role}", self.workload), lines, &difference);
                told.1.extend(seen(lines, &difference));
            }
            (self.more)(&mut check, &run, round);
        }
        let (truth, seen) = told;
        let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
        cases::tell(self.name, format_args!("new frames {truth}"), seen);
        check.done()?;
        Ok(Completion::Completed)
    }
}

/// The steps for this machine: only the last one where everything takes long.
fn steps<T>(all: &[T]) -> &[T] {
    let last = all.len().saturating_sub(1);
    if in_vm() { &all[last..] } else { all }
}

/// The round with k = 0 that the others are compared with, after the one to warm up.
const BASE: usize = 1;

const KSM_LIMIT: Duration = Duration::from_secs(600);

/// A run with a round for each of these words; they have as many digits whatever they are, as the stack holds them.
fn run(name: &str, words: impl IntoIterator<Item = String>) -> Result<Run, Failed> {
    let mut plan = Plan::workload(name)?;
    for word in words {
        plan = plan.arg(word);
    }
    if name.starts_with("cow-merged") {
        // KSM also looks at the memory of others, as of virtual machines, and as slowly as they let it.
        plan = plan.limit(KSM_LIMIT);
    }
    let last = match name {
        "cow-wasted" => plan.dir.link_self("true")?,
        _ => data(&plan, name)?,
    };
    Ok(plan.arg(last).run()?)
}

/// A file with some pages more than are mapped.
fn data(plan: &Plan, name: &str) -> Result<PathBuf, Failed> {
    // In a virtual machine the directory is shared memory.
    let place = match in_vm() {
        // Files there know no direct I/O.
        true if name.starts_with("cow-direct") => machine::disk(1),
        // Only a shared mapping of a real file is told of the first write to each page.
        true if name.starts_with("cow-shared") => Some(Path::new(init::RAM).join("data")),
        _ => None,
    };
    let path = place.unwrap_or_else(|| plan.dir.file("data"));
    let mut file = File::create(&path)?;
    for _ in 0..PAGES + 8 {
        // One page at a time, so that the kernel keeps them in single pages and maps one for a fault.
        file.write_all(&[b'f'; PAGE_BYTES as usize])?;
    }
    Ok(path)
}

/// How many frames were seen to change in a round.
fn truth(run: &Run, round: usize) -> i64 {
    number(&run.facts, &format!("/values/rounds/{round}/truth"))
}

/// The timeline of the process that the workload calls `role` in a round.
fn of<'a>(check: &mut Check<'a>, run: &'a Run, round: usize, role: &str) -> &'a Value {
    let pid = number(&run.facts, &format!("/values/rounds/{round}/{role}"));
    check.timeline(pid).unwrap_or(&Value::Null)
}
