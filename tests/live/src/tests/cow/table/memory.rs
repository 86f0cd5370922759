//! Anonymous memory: shared by fork, read or never touched before, written by threads and by the kernel.

use serde_json::Value;

use super::{CASE, FILLS, REUSES, ZERO};
use crate::{
    check::Check,
    harness::Run,
    stream::number,
    tests::cow::{
        Case, PAGE_BYTES,
        compare::{ANY, by_parent, copies},
        of,
    },
    workload::PAGES,
};

const DEMAND_ZERO: &str = "/tracer/faults/demand_zero";

pub(super) const ALL: &[Case] = &[
    Case {
        name: "a1 child writes",
        test: "cow::child_writes",
        workload: "cow-child",
        differences: |k| vec![("child", copies(k, "user", "anon")), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "a2 parent writes",
        test: "cow::parent_writes",
        workload: "cow-parent",
        differences: |k| vec![("actor", copies(k, "user", "anon")), ("child", by_parent(k))],
        ..CASE
    },
    Case {
        name: "a3 parent of two writes",
        test: "cow::newest_child_is_charged",
        workload: "cow-two",
        differences: |k| {
            vec![("actor", copies(k, "user", "anon")), ("child", vec![]), ("second", by_parent(k))]
        },
        ..CASE
    },
    Case {
        name: "b1 parent writes after child's end",
        test: "cow::last_owner_reuses",
        workload: "cow-reuse",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(REUSES, k)]), ("child", vec![])],
        ..CASE
    },
    Case {
        name: "b2 child writes after parent copied",
        test: "cow::child_reuses",
        workload: "cow-reuse-child",
        truth: |_| 0,
        differences: |k| vec![("child", vec![(REUSES, k)]), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "c1 zero page read, then written",
        test: "cow::zero_page",
        workload: "cow-zero",
        differences: |k| vec![("actor", vec![(ZERO, k)])],
        ..CASE
    },
    Case {
        name: "c2 never read",
        test: "cow::demand_zero",
        workload: "cow-demand",
        differences: |k| vec![("actor", vec![(DEMAND_ZERO, k)])],
        ..CASE
    },
    Case {
        name: "k0 read(2) from a pipe",
        test: "cow::kernel_writes",
        workload: "cow-kernel",
        steps: &[1, 64, 15],
        differences: |k| vec![("child", copies(k, "kernel", "anon")), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "m1 four threads race",
        test: "cow::threads_race",
        workload: "cow-race",
        steps: &[1024],
        differences: |k| {
            // How threads share the C library's heap and stacks depends on time.
            let mut child = copies(k, "user", "anon");
            let counters = [REUSES, DEMAND_ZERO, FILLS, "/tracer/faults/lost_races"];
            child.extend(counters.map(|counter| (counter, ANY)));
            vec![("child", child), ("actor", vec![])]
        },
        ..CASE
    },
    Case {
        name: "o1 reuses beside writes to shmem",
        test: "cow::reuses_beside_writes",
        workload: "cow-beside-writes",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(REUSES, k)])],
        ..CASE
    },
    Case {
        name: "o3 reuses beside munmap",
        test: "cow::reuses_beside_unmaps",
        workload: "cow-beside-unmaps",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(REUSES, k)])],
        ..CASE
    },
    Case {
        name: "q1 four children overlap",
        test: "cow::four_children",
        workload: "cow-four",
        // Multiples of the number of children.
        steps: &[4, PAGES as i64],
        truth: |k| 9 * k,
        differences: |k| {
            let child = |extra| [copies(k, "user", "anon"), by_parent(k + extra * k / 4)].concat();
            let paid = [
                ("/tracer/children/paid/copies", 5 * k),
                ("/tracer/children/paid/bytes", 5 * k * PAGE_BYTES),
            ];
            vec![
                ("child", child(1)),
                ("second", child(0)),
                ("third", child(2)),
                ("fourth", child(1)),
                ("actor", [copies(5 * k, "user", "anon"), paid.to_vec()].concat()),
            ]
        },
        more: bills_agree,
        ..CASE
    },
    Case {
        name: "q2 vfork child writes",
        test: "cow::vfork_child_writes",
        workload: "cow-vfork",
        differences: |k| vec![("child", copies(k, "user", "anon")), ("second", vec![]), ("actor", vec![])],
        more: memory_is_shared,
        ..CASE
    },
];

/// The parent's own total, what it says that its children were charged, and what they say, are the same.
fn bills_agree<'a>(check: &mut Check<'a>, run: &'a Run, round: usize) {
    let actor = of(check, run, round, "actor");
    for key in ["copies", "reuses", "bytes"] {
        let children = ["child", "second", "third", "fourth"].map(|role| {
            let child = of(check, run, round, role);
            check.blame(child);
            number(child, &format!("/tracer/fork/by_parent/{key}"))
        });
        let paid = number(actor, &format!("/tracer/children/paid/{key}"));
        check.same(format!("{key} charged to the children"), children.iter().sum(), paid);
        let total = number(actor, &format!("/tracer/cow/{key}"));
        check.that(paid <= total, format!("{key}: {paid} charged of {total}"));
    }
}

/// A child of vfork runs in its parent's memory, and nothing was copied because it was born.
fn memory_is_shared<'a>(check: &mut Check<'a>, run: &'a Run, round: usize) {
    let child = of(check, run, round, "child");
    check.field(child, "/tracer/fork/shares_mm", true);
    check.field(child, "/tracer/fork/by_parent", Value::Null);
    check.field(child, "/tracer/fork/wasted", Value::Null);
}
