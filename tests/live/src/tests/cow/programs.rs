//! Children that execute a program.

use serde_json::Value;

use super::{
    BASE, PAGE_BYTES,
    compare::{by_parent, compare, copies},
    of, run, steps, truth,
};
use crate::{
    cases,
    check::{Check, Outcome},
    stream::number,
    tests::tree::tree,
};

/// How many pages the child writes, and the parent.
const STEPS: &[[i64; 2]] = &[[5, 0], [0, 9], [5, 9], [32, 32]];

/// The child writes j pages and the parent k others before the child executes a program.
pub(super) fn wasted() -> Outcome {
    let steps = steps(STEPS);
    let words = [[0, 0], [0, 0]].iter().chain(steps).map(|[j, k]| format!("{k:04}:{j:04}"));
    let run = run("cow-wasted", words)?;
    let mut check = Check::new(&run);
    tree(&mut check, &run);
    let mut told = (0, 0);
    for (&[j, k], round) in steps.iter().zip(BASE + 1..) {
        let truth = truth(&run, round);
        check.same(format!("j={j} k={k}: frames that changed"), truth, j + k);
        let child = [
            copies(j, "user", "anon"),
            by_parent(k),
            vec![
                ("/tracer/fork/before_exec/copies", j),
                ("/tracer/fork/before_exec/bytes", j * PAGE_BYTES),
                ("/tracer/fork/wasted/copies", j + k),
                ("/tracer/fork/wasted/bytes", (j + k) * PAGE_BYTES),
                ("/tracer/cow/after_exec/copies", 0),
                ("/tracer/cow/after_exec/reuses", 0),
            ],
        ];
        for (role, difference) in [("child", child.concat()), ("actor", copies(k, "user", "anon"))] {
            let lines = [BASE, round].map(|round| of(&mut check, &run, round, role));
            compare(&mut check, &format!("j={j} k={k} {role}"), lines, &difference);
            if role == "child" {
                let [before, after] = lines.map(|line| number(line, "/tracer/fork/wasted/copies"));
                told = (truth, after - before);
            }
        }
    }
    cases::tell("wasted by exec", format_args!("new frames {}", told.0), format_args!("wasted {}", told.1));
    check.done()
}

/// A child of vfork executes a program, which looks at its own memory at the end: each page of a private file mapping
/// that is not the file's any more was copied, and nothing else was.
pub(super) fn vfork_exec() -> Outcome {
    let run = run("cow-vfork-exec", ["0000".to_owned()])?;
    let mut check = Check::new(&run);
    tree(&mut check, &run);
    let child = of(&mut check, &run, 0, "child");
    let copied = truth(&run, 0);
    check.that(copied > 0, "the program copied nothing");
    for page in ["anon", "ksm", "swap", "huge"] {
        check.field(child, &format!("/tracer/cow/by_page/{page}"), 0);
    }
    let of_files = ["file", "file_first"].map(|page| number(child, &format!("/tracer/cow/by_page/{page}")));
    check.same("copies of pages of files", of_files.iter().sum(), copied);
    for (counter, want) in [("copies", copied), ("by/gup", 0), ("by/eager", 0)] {
        check.field(child, &format!("/tracer/cow/{counter}"), want);
    }
    // The kernel, too, writes to the new memory: it clears the end of a file's last page (.bss).
    check.field(child, "/tracer/fork/before_exec/copies", 0);
    check.field(child, "/tracer/cow/after_exec/copies", copied);
    check.field(child, "/tracer/faults/unsure", 0);
    check.field(child, "/tracer/fork/by_parent", Value::Null);
    let anon = number(child, "/tracer/cow/by_page/anon");
    // How many pages of files depends on how the program was linked.
    cases::tell("p1 vfork, then exec", "anon 0", format_args!("anon {anon}"));
    check.done()
}
