//! Children that execute a program.

use serde_json::Value;

use super::{
    PAGE_BYTES,
    compare::{by_parent, compare, copies},
    of, run,
};
use crate::{
    cases,
    check::{Check, Outcome},
    harness::Plan,
    stream::{at, number},
    tests::tree::tree,
};

/// The child writes j pages and the parent k others before the child executes a program.
pub(super) fn wasted() -> Outcome {
    let base = run("cow-wasted", &[0, 0])?;
    let mut told = None;
    for [j, k] in [[0, 0], [5, 0], [0, 9], [5, 9], [32, 32]] {
        let run = run("cow-wasted", &[k, j])?;
        let mut check = Check::new(&run);
        tree(&mut check, &run);
        let truth = number(&run.facts, "/values/truth");
        check.same("frames that changed", truth, j + k);
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
        if j > 0 && k > 0 {
            let wasted = number(of(&mut check, &run, "child"), "/tracer/fork/wasted/copies")
                - number(of(&mut Check::bare(&base), &base, "child"), "/tracer/fork/wasted/copies");
            told = Some((format!("new frames {truth}"), format!("wasted {wasted}")));
        }
        if let Some((truth, seen)) = told.take() {
            cases::tell("wasted before exec", truth, seen);
        }
        check.done()?;
    }
    Ok(())
}

/// A child of vfork executes a program, which looks at its own memory at the end: each page of a private file mapping
/// that is not the file's any more was copied, and nothing else was.
pub(super) fn vfork_exec() -> Outcome {
    let run = Plan::workload("cow-vfork-exec")?.arg("0").run()?;
    let mut check = Check::new(&run);
    tree(&mut check, &run);
    let child = of(&mut check, &run, "child");
    let copied = number(&run.facts, "/values/truth");
    check.that(copied > 0, "the program copied nothing");
    for (page, want) in [("anon", 0), ("ksm", 0), ("file", copied), ("swap", 0), ("huge", 0)] {
        check.field(child, &format!("/tracer/cow/by_page/{page}"), want);
    }
    for (counter, want) in [("copies", copied), ("reuses", 0), ("by/gup", 0), ("by/eager", 0)] {
        check.field(child, &format!("/tracer/cow/{counter}"), want);
    }
    check.field(child, "/tracer/fork/by_parent", Value::Null);
    let anon = number(child, "/tracer/cow/by_page/anon");
    // How many pages of files depends on how the program was linked.
    cases::tell("p1 vfork, then exec", "anon 0", format_args!("anon {anon}"));
    check.done()
}
