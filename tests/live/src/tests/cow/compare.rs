//! Compares the counters of two runs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::PAGE_BYTES;
use crate::{check::Check, stream::number};

/// All counters that are compared. Each that an expectation does not name must not differ. Spurious
/// faults are missing: a virtual machine has some of its own.
const COUNTERS: &[&str] = &[
    "/tracer/cow/copies",
    "/tracer/cow/bytes",
    "/tracer/cow/reuses",
    "/tracer/cow/huge_reuses",
    "/tracer/cow/zero_upgrades",
    "/tracer/cow/huge_zero_upgrades",
    "/tracer/cow/by/user",
    "/tracer/cow/by/kernel",
    "/tracer/cow/by/gup",
    "/tracer/cow/by/remote_candidates",
    "/tracer/cow/by/eager",
    "/tracer/cow/by_page/anon",
    "/tracer/cow/by_page/ksm",
    "/tracer/cow/by_page/file",
    "/tracer/cow/by_page/file_first",
    "/tracer/cow/by_page/swap",
    "/tracer/cow/by_page/huge",
    "/tracer/cow/by_region/heap",
    "/tracer/cow/by_region/stack",
    "/tracer/cow/by_region/data",
    "/tracer/cow/by_region/file",
    "/tracer/cow/by_region/anon",
    "/tracer/faults/demand_zero",
    "/tracer/faults/file",
    "/tracer/faults/write_notify",
    "/tracer/faults/segv",
    "/tracer/faults/uffd",
    "/tracer/faults/failed",
    "/tracer/faults/lost_races",
    "/tracer/faults/splits",
    "/tracer/faults/unsure",
    "/tracer/fork/by_parent/copies",
    "/tracer/fork/by_parent/reuses",
    "/tracer/fork/by_parent/bytes",
];

/// A difference that is not compared.
pub(super) const ANY: i64 = i64::MIN;

/// Counters that differ, and by how much.
pub(super) type Difference = Vec<(&'static str, i64)>;

/// `k` pages of mapped memory more were copied.
pub(super) fn copies(k: i64, mode: &str, page: &str) -> Difference {
    let (by_page, by_region) = match page {
        "anon" => ("/tracer/cow/by_page/anon", "/tracer/cow/by_region/anon"),
        "ksm" => ("/tracer/cow/by_page/ksm", "/tracer/cow/by_region/anon"),
        "swap" => ("/tracer/cow/by_page/swap", "/tracer/cow/by_region/anon"),
        "file" => ("/tracer/cow/by_page/file", "/tracer/cow/by_region/file"),
        _ => ("/tracer/cow/by_page/file_first", "/tracer/cow/by_region/file"),
    };
    let by = if mode == "user" { "/tracer/cow/by/user" } else { "/tracer/cow/by/kernel" };
    [copied(k, by), vec![(by_page, k), (by_region, k)]].concat()
}

/// `k` pages of anonymous memory more were copied in the program's heap, stack or data.
pub(super) fn copies_in(k: i64, by_region: &'static str) -> Difference {
    [copied(k, "/tracer/cow/by/user"), vec![("/tracer/cow/by_page/anon", k), (by_region, k)]].concat()
}

/// `k` pages more were copied, `by` whom says the name of a counter.
pub(super) fn copied(k: i64, by: &'static str) -> Difference {
    vec![("/tracer/cow/copies", k), ("/tracer/cow/bytes", k * PAGE_BYTES), (by, k)]
}

/// The parent copied `k` pages more because of this child.
pub(super) fn by_parent(k: i64) -> Difference {
    vec![("/tracer/fork/by_parent/copies", k), ("/tracer/fork/by_parent/bytes", k * PAGE_BYTES)]
}

/// Each counter of [`COUNTERS`] differs by what `difference` says.
pub(super) fn compare<'a>(
    check: &mut Check<'a>,
    what: &str,
    [before, after]: [&'a Value; 2],
    difference: &Difference,
) {
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

/// Counters as the table of cases calls them.
const NAMES: &[(&str, &str)] = &[
    ("/tracer/cow/by_page/anon", "anon"),
    ("/tracer/cow/by_page/ksm", "ksm"),
    ("/tracer/cow/by_page/file", "file"),
    ("/tracer/cow/by_page/file_first", "file on first touch"),
    ("/tracer/cow/by_page/swap", "swap"),
    ("/tracer/cow/by_page/huge", "huge"),
    ("/tracer/cow/by_region/heap", "in the heap"),
    ("/tracer/cow/by_region/stack", "in the stack"),
    ("/tracer/cow/by_region/data", "in the data"),
    ("/tracer/cow/by/gup", "gup"),
    ("/tracer/cow/by/eager", "eager"),
    ("/tracer/cow/by/remote_candidates", "remote candidates"),
    ("/tracer/cow/reuses", "reuses"),
    ("/tracer/cow/huge_reuses", "of huge pages"),
    ("/tracer/cow/zero_upgrades", "zero upgrades"),
    ("/tracer/cow/huge_zero_upgrades", "of huge pages"),
    ("/tracer/faults/demand_zero", "demand zero"),
    ("/tracer/faults/file", "fills"),
    ("/tracer/faults/write_notify", "write-notify"),
    ("/tracer/faults/segv", "segv"),
    ("/tracer/faults/uffd", "uffd"),
    ("/tracer/faults/failed", "failed"),
    ("/tracer/faults/splits", "splits"),
    ("/tracer/fork/by_parent/copies", "by parent"),
];

/// What was seen more in the second run, in words, without what depends on time.
pub(super) fn seen(lines: [&Value; 2], difference: &Difference) -> Vec<String> {
    let told = |counter: &str| difference.iter().all(|&(name, by)| name != counter || by != ANY);
    let more = |counter: &str| {
        let [before, after] = lines.map(|line| number(line, counter));
        after - before
    };
    let names = NAMES.iter().filter(|(counter, _)| told(counter) && more(counter) != 0);
    names.map(|(counter, name)| format!("{name} {}", more(counter))).collect()
}
