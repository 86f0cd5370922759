//! Pages that are protected for another reason than a fork, huge pages, and merged ones.

use super::{CASE, REUSES, ZERO, is_before};
use crate::{
    tests::cow::{
        Case,
        compare::{Difference, copies},
        needs,
    },
    workload::PAGES,
};

/// Bytes and small pages of a huge page.
const HUGE_BYTES: i64 = 2 << 20;
const HUGE_PAGES: i64 = 512;

const SPLITS: &str = "/tracer/faults/splits";
const HUGE_REUSES: &str = "/tracer/cow/huge_reuses";
const HUGE_ZERO: &str = "/tracer/cow/huge_zero_upgrades";

/// `k` hugetlb pages more were copied.
fn huge_copies(k: i64) -> Difference {
    vec![
        ("/tracer/cow/copies", k),
        ("/tracer/cow/bytes", k * HUGE_BYTES),
        ("/tracer/cow/by/user", k),
        ("/tracer/cow/by_page/huge", k),
        ("/tracer/cow/by_region/anon", k),
    ]
}

pub(super) const ALL: &[Case] = &[
    Case {
        name: "f1 SIGSEGV, then mprotect",
        test: "cow::sigsegv_handled",
        workload: "cow-handled",
        truth: |_| 0,
        // Where mprotect leaves the page read-only, the write faults again.
        differences: |k| {
            let again = if is_before((6, 0)) { k } else { 0 };
            vec![("actor", vec![("/tracer/faults/segv", k), (REUSES, again)])]
        },
        ..CASE
    },
    Case {
        name: "f3 read(2) into read-only memory",
        test: "cow::refused",
        workload: "cow-refused",
        truth: |_| 0,
        // 5.10 and 6.1 try each write twice, 6.12 does not.
        differences: |k| {
            let tries = if is_before((6, 2)) { 2 } else { 1 };
            vec![("actor", vec![("/tracer/faults/failed", tries * k)])]
        },
        ..CASE
    },
    Case {
        name: "g1 huge page, child writes all",
        test: "cow::huge_child_writes_all",
        workload: "cow-huge-child",
        steps: &[2 * HUGE_PAGES],
        needs: needs::transparent,
        differences: |k| {
            vec![("child", [copies(k, "user", "anon"), vec![(SPLITS, 2)]].concat()), ("actor", vec![])]
        },
        ..CASE
    },
    Case {
        name: "g2 huge page, child writes one page of each",
        test: "cow::huge_child_writes_one",
        workload: "cow-huge-child",
        steps: &[2],
        needs: needs::transparent,
        differences: |k| {
            vec![("child", [copies(k, "user", "anon"), vec![(SPLITS, 2)]].concat()), ("actor", vec![])]
        },
        ..CASE
    },
    Case {
        name: "g3 huge page, last owner writes",
        test: "cow::huge_reuse",
        workload: "cow-huge-reuse",
        steps: &[2],
        truth: |_| 0,
        needs: needs::transparent,
        differences: |k| vec![("actor", vec![(REUSES, k), (HUGE_REUSES, k)]), ("child", vec![])],
        ..CASE
    },
    Case {
        name: "g4 huge zero page",
        test: "cow::huge_zero",
        workload: "cow-huge-zero",
        steps: &[2 * HUGE_PAGES],
        needs: needs::transparent_zero,
        // From 6.13 a huge page replaces the huge zero page; before, it was split.
        differences: |k| {
            let zero = if is_before((6, 13)) {
                vec![(ZERO, k), (SPLITS, 2)]
            } else {
                vec![(ZERO, 2), (HUGE_ZERO, 2)]
            };
            vec![("actor", zero)]
        },
        ..CASE
    },
    Case {
        name: "h1 hugetlb, child writes",
        test: "cow::hugetlb_child_writes",
        workload: "cow-hugetlb-child",
        steps: &[2],
        truth: |k| k * HUGE_PAGES,
        needs: needs::hugetlb,
        differences: |k| vec![("child", huge_copies(k)), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "h2 hugetlb, parent writes",
        test: "cow::hugetlb_parent_writes",
        workload: "cow-hugetlb-parent",
        steps: &[2],
        truth: |k| k * HUGE_PAGES,
        needs: needs::hugetlb,
        differences: |k| {
            let child =
                vec![("/tracer/fork/by_parent/copies", k), ("/tracer/fork/by_parent/bytes", k * HUGE_BYTES)];
            vec![("actor", huge_copies(k)), ("child", child)]
        },
        ..CASE
    },
    Case {
        name: "h3 hugetlb, last owner writes",
        test: "cow::hugetlb_reuse",
        workload: "cow-hugetlb-reuse",
        steps: &[2],
        truth: |_| 0,
        needs: needs::hugetlb,
        differences: |k| vec![("actor", vec![(REUSES, k), (HUGE_REUSES, k)]), ("child", vec![])],
        ..CASE
    },
    Case {
        name: "i1 KSM",
        test: "cow::merged",
        workload: "cow-merged",
        steps: &[PAGES as i64],
        needs: needs::merging,
        differences: |k| vec![("actor", copies(k, "user", "ksm"))],
        ..CASE
    },
    Case {
        name: "i2 KSM with use_zero_pages",
        test: "cow::merged_zero",
        workload: "cow-merged-zero",
        steps: &[PAGES as i64],
        needs: needs::merging_zeros,
        differences: |k| vec![("actor", vec![(ZERO, k)])],
        ..CASE
    },
    Case {
        name: "j1 userfaultfd",
        test: "cow::userfaultfd",
        workload: "cow-userfaultfd",
        truth: |_| 0,
        needs: needs::userfaultfd,
        differences: |k| vec![("actor", vec![("/tracer/faults/uffd", k)])],
        ..CASE
    },
    Case {
        name: "j2 soft-dirty",
        test: "cow::soft_dirty",
        workload: "cow-soft-dirty",
        truth: |_| 0,
        needs: needs::soft_dirty,
        differences: |k| vec![("actor", vec![(REUSES, k)])],
        ..CASE
    },
];
