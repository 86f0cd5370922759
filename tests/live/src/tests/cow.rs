//! Copy-on-write: exact counts, as differences to a run of the same workload that writes nothing.

mod pins;
pub(super) mod swap;

use std::{collections::BTreeMap, fs};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{tree::tree, trial};
use crate::{
    check::{Check, Outcome},
    harness::{Plan, Run, in_vm},
    stream::{at, number},
    workload::PAGES,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    [faults(), pins::all(), swap::all()].into_iter().flatten().collect()
}

fn faults() -> Vec<Trial> {
    vec![
        trial("cow::child_writes", || {
            series("cow-child", STEPS, true, |k| {
                vec![("child", copies(k, "user", "anon")), ("actor", vec![])]
            })
        }),
        trial("cow::parent_writes", || {
            series("cow-parent", STEPS, true, |k| {
                vec![("actor", copies(k, "user", "anon")), ("child", by_parent(k))]
            })
        }),
        trial("cow::newest_child_is_charged", || {
            series("cow-two", STEPS, true, |k| {
                vec![("actor", copies(k, "user", "anon")), ("child", vec![]), ("second", by_parent(k))]
            })
        }),
        trial("cow::last_owner_reuses", || {
            series("cow-reuse", STEPS, false, |k| {
                vec![("actor", vec![("/tracer/cow/reuses", k)]), ("child", vec![])]
            })
        }),
        trial("cow::kernel_writes", || {
            series("cow-kernel", &[1, 15, 64], true, |k| {
                vec![("child", copies(k, "kernel", "anon")), ("actor", vec![])]
            })
        }),
        trial("cow::zero_page", || {
            series("cow-zero", STEPS, true, |k| vec![("actor", vec![("/tracer/cow/zero_upgrades", k)])])
        }),
        trial("cow::demand_zero", || {
            series("cow-demand", STEPS, false, |k| vec![("actor", vec![("/tracer/faults/demand_zero", k)])])
        }),
        trial("cow::private_file_written_first", || {
            series("cow-file-first", STEPS, false, |k| vec![("actor", copies(k, "user", "file"))])
        }),
        trial("cow::private_file_read_first", || {
            series("cow-file-read", STEPS, true, |k| vec![("actor", copies(k, "user", "file"))])
        }),
        trial("cow::threads_race", || {
            series("cow-race", &[1024], true, |k| {
                // How threads share the C library's heap and stacks depends on time.
                let mut child = copies(k, "user", "anon");
                child.extend([("/tracer/cow/reuses", ANY), ("/tracer/faults/demand_zero", ANY)]);
                vec![("child", child), ("actor", vec![])]
            })
        }),
        trial("cow::wasted", wasted),
    ]
}

/// How many of the pages are written.
const STEPS: &[i64] = &[1, 17, PAGES as i64];
const PAGE_BYTES: i64 = 4096;

/// The steps for this machine.
fn steps(all: &[i64]) -> &[i64] {
    if in_vm() { &all[all.len() / 2..] } else { all }
}

/// All counters that are compared. Each that an expectation does not name must not differ. Spurious
/// faults are missing: a virtual machine has some of its own.
const COUNTERS: &[&str] = &[
    "/tracer/cow/copies",
    "/tracer/cow/bytes",
    "/tracer/cow/reuses",
    "/tracer/cow/zero_upgrades",
    "/tracer/cow/by/user",
    "/tracer/cow/by/kernel",
    "/tracer/cow/by/gup",
    "/tracer/cow/by/remote_candidates",
    "/tracer/cow/by/eager",
    "/tracer/cow/by_page/anon",
    "/tracer/cow/by_page/ksm",
    "/tracer/cow/by_page/file",
    "/tracer/cow/by_page/swap",
    "/tracer/cow/by_page/huge",
    "/tracer/faults/demand_zero",
    "/tracer/faults/segv",
    "/tracer/faults/failed",
    "/tracer/fork/by_parent/copies",
    "/tracer/fork/by_parent/reuses",
    "/tracer/fork/by_parent/bytes",
];

/// A difference that is not compared.
const ANY: i64 = i64::MIN;

/// Counters that differ, and by how much.
type Difference = Vec<(&'static str, i64)>;

/// `k` pages more were copied.
fn copies(k: i64, mode: &str, page: &str) -> Difference {
    vec![
        ("/tracer/cow/copies", k),
        ("/tracer/cow/bytes", k * PAGE_BYTES),
        (if mode == "user" { "/tracer/cow/by/user" } else { "/tracer/cow/by/kernel" }, k),
        (if page == "anon" { "/tracer/cow/by_page/anon" } else { "/tracer/cow/by_page/file" }, k),
    ]
}

/// The parent copied `k` pages more because of this child.
fn by_parent(k: i64) -> Difference {
    vec![("/tracer/fork/by_parent/copies", k), ("/tracer/fork/by_parent/bytes", k * PAGE_BYTES)]
}

/// A run in which k pages are written; the numbers of digits are the same for each k, as the stack holds them.
fn run(name: &str, words: &[i64]) -> Result<Run, libtest_mimic::Failed> {
    let mut plan = Plan::workload(name)?;
    for word in words {
        plan = plan.arg(format!("{word:04}"));
    }
    let last = if name == "cow-wasted" { plan.dir.link_self("true")? } else { plan.dir.file("data") };
    if name != "cow-wasted" {
        // Some pages more than are mapped.
        fs::write(&last, vec![b'f'; (PAGES + 8) * PAGE_BYTES as usize])?;
    }
    Ok(plan.arg(last).run()?)
}

/// The timeline of the process that the workload calls `role`.
fn of<'a>(check: &mut Check<'a>, run: &'a Run, role: &str) -> &'a Value {
    check.timeline(number(&run.facts, &format!("/values/{role}"))).unwrap_or(&Value::Null)
}

/// Runs the workload with k = 0 and with each of `steps`. `truth`: the frames of k pages, no more and no
/// less, were seen to change; otherwise none.
fn series(
    name: &str,
    steps: &[i64],
    truth: bool,
    expected: impl Fn(i64) -> Vec<(&'static str, Difference)>,
) -> Outcome {
    let base = run(name, &[0])?;
    let mut check = Check::new(&base);
    tree(&mut check, &base);
    check.done()?;
    for &k in self::steps(steps) {
        let run = run(name, &[k])?;
        let mut check = Check::new(&run);
        tree(&mut check, &run);
        check.same(
            "pages with another frame",
            number(&run.facts, "/values/truth"),
            if truth { k } else { 0 },
        );
        for (role, difference) in expected(k) {
            let before = of(&mut Check::bare(&base), &base, role);
            let after = of(&mut check, &run, role);
            compare(&mut check, &format!("{name} k={k} {role}"), [before, after], &difference);
        }
        check.done()?;
    }
    Ok(())
}

/// Each counter of [`COUNTERS`] differs by what `difference` says.
fn compare<'a>(check: &mut Check<'a>, what: &str, [before, after]: [&'a Value; 2], difference: &Difference) {
    let want: BTreeMap<_, _> = difference.iter().copied().collect();
    let mut same = true;
    for &counter in COUNTERS.iter().chain(want.keys().filter(|key| !COUNTERS.contains(key))) {
        let values = [before, after].map(|line| number(line, counter));
        let have = values[1] - values[0];
        let want = want.get(counter).copied().unwrap_or(0);
        if want == ANY {
            continue;
        }
        // A counter that is there in only one of the runs is wrong, too.
        if have != want || (values[0] < 0) != (values[1] < 0) || (want > 0 && values[0] < 0) {
            check.fail(format!(
                "{what}: {counter}: {} and {}: differ by {have}, want {want}",
                values[0], values[1]
            ));
            same = false;
        }
    }
    if !same {
        check.blame(before);
        check.blame(after);
    }
}

/// The child writes j pages and the parent k others before the child executes a program.
fn wasted() -> Outcome {
    let base = run("cow-wasted", &[0, 0])?;
    for [j, k] in [[0, 0], [5, 0], [0, 9], [5, 9], [32, 32]] {
        let run = run("cow-wasted", &[k, j])?;
        let mut check = Check::new(&run);
        tree(&mut check, &run);
        check.same("pages with another frame", number(&run.facts, "/values/truth"), k);
        let [before, after] = ["child", "actor"].map(|role| of(&mut Check::bare(&base), &base, role));
        let pairs = [("child", before), ("actor", after)];
        for (role, before) in pairs {
            let line = of(&mut check, &run, role);
            let difference = if role == "actor" {
                copies(k, "user", "anon")
            } else {
                let mut difference = [copies(j, "user", "anon"), by_parent(k)].concat();
                difference.extend([
                    ("/tracer/fork/before_exec/copies", j),
                    ("/tracer/fork/before_exec/bytes", j * PAGE_BYTES),
                    ("/tracer/fork/wasted/copies", j + k),
                    ("/tracer/fork/wasted/bytes", (j + k) * PAGE_BYTES),
                    ("/tracer/cow/after_exec/copies", 0),
                    ("/tracer/cow/after_exec/reuses", 0),
                ]);
                difference
            };
            compare(&mut check, &format!("j={j} k={k} {role}"), [before, line], &difference);
        }
        check.that(at(&run.facts, "/values/child").is_number(), "the workload had no child");
        check.done()?;
    }
    Ok(())
}
