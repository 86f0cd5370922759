//! Copy-on-write: exact counts, as differences to a run of the same workload that writes nothing.

mod compare;
mod needs;
mod programs;
mod table;

use std::{fs::File, io::Write as _, path::PathBuf};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use super::{tree::tree, trial};
use crate::{
    cases,
    check::Check,
    harness::{Plan, Run, in_vm},
    init,
    stream::number,
    workload::PAGES,
};

use compare::{Difference, compare, seen};
use needs::Need;

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    let cases = table::ALL.iter().map(|case| Trial::ignorable_test(case.test, || case.run()));
    cases.chain([trial("cow::wasted", programs::wasted), trial("cow::vfork_exec", programs::vfork_exec)]).collect()
}

const PAGE_BYTES: i64 = 4096;

/// A workload that writes k pages in one known way, and what tracer says of it.
struct Case {
    /// Its row in `docs/cow.md`.
    name: &'static str,
    test: &'static str,
    workload: &'static str,
    /// The numbers of pages that are written; the last one is told.
    steps: &'static [i64],
    /// How many frames were seen to change in `/proc/PID/pagemap`.
    truth: fn(i64) -> i64,
    needs: fn() -> Result<Need, Failed>,
    /// By the role of the process: how its counters differ from a run with k = 0.
    differences: fn(i64) -> Vec<(&'static str, Difference)>,
    /// What else must hold.
    more: for<'a> fn(&mut Check<'a>, &'a Run),
}

impl Case {
    /// Runs the workload with k = 0 and with each of the steps.
    fn run(&self) -> Result<Completion, Failed> {
        // Held until the end.
        let _settings = match (self.needs)()? {
            Need::Met(settings) => settings,
            Need::Missing(why) => {
                cases::tell(self.name, &why, "-");
                return Ok(Completion::ignored_with(why));
            }
        };
        let base = run(self.workload, &[0])?;
        let mut check = Check::new(&base);
        tree(&mut check, &base);
        check.same("frames that changed without a write", number(&base.facts, "/values/truth"), 0);
        check.done()?;
        for (&k, is_last) in steps(self.steps) {
            let run = run(self.workload, &[k])?;
            let mut check = Check::new(&run);
            tree(&mut check, &run);
            let truth = number(&run.facts, "/values/truth");
            check.same("frames that changed", truth, (self.truth)(k));
            let mut text = Vec::new();
            for (role, difference) in (self.differences)(k) {
                let lines = [of(&mut Check::bare(&base), &base, role), of(&mut check, &run, role)];
                compare(&mut check, &format!("{} k={k} {role}", self.workload), lines, &difference);
                text.extend(seen(lines, &difference));
            }
            (self.more)(&mut check, &run);
            if is_last {
                let text = if text.is_empty() { "nothing".to_owned() } else { text.join(", ") };
                cases::tell(self.name, format_args!("new frames {truth}"), text);
            }
            check.done()?;
        }
        Ok(Completion::Completed)
    }
}

/// The steps for this machine, and which is the last one: the only one where everything takes long.
fn steps(all: &[i64]) -> impl Iterator<Item = (&i64, bool)> {
    let last = all.len().saturating_sub(1);
    let first = if in_vm() { last } else { 0 };
    all.iter().enumerate().skip(first).map(move |(index, k)| (k, index == last))
}

/// A run with these numbers; they have as many digits whatever they are, as the stack holds them.
fn run(name: &str, words: &[i64]) -> Result<Run, Failed> {
    let mut plan = Plan::workload(name)?;
    for word in words {
        plan = plan.arg(format!("{word:04}"));
    }
    let last = match name {
        "cow-wasted" => plan.dir.link_self("true")?,
        _ => data(&plan, name)?,
    };
    Ok(plan.arg(last).run()?)
}

/// A file with some pages more than are mapped.
fn data(plan: &Plan, name: &str) -> Result<PathBuf, Failed> {
    // Only a shared mapping of a real file is told of the first write to each page. In a virtual machine the directory
    // is shared memory.
    let real = name.starts_with("cow-shared") && in_vm();
    let path = if real { init::RAM.into() } else { plan.dir.path().to_path_buf() }.join("data");
    let mut file = File::create(&path)?;
    for _ in 0..PAGES + 8 {
        // One page at a time, so that the kernel keeps them in single pages and maps one for a fault.
        file.write_all(&[b'f'; PAGE_BYTES as usize])?;
    }
    Ok(path)
}

/// The timeline of the process that the workload calls `role`.
fn of<'a>(check: &mut Check<'a>, run: &'a Run, role: &str) -> &'a Value {
    check.timeline(number(&run.facts, &format!("/values/{role}"))).unwrap_or(&Value::Null)
}
