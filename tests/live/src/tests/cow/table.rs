//! The cases whose counts are known.

use serde_json::Value;

use super::{
    Case, PAGE_BYTES,
    compare::{ANY, Difference, by_parent, copies},
    needs, of,
};
use crate::{
    check::Check,
    harness::Run,
    machine,
    stream::number,
    workload::PAGES,
};

/// How many of the pages are written.
const STEPS: &[i64] = &[1, 17, PAGES as i64];
/// Bytes and small pages of a huge page.
const HUGE_BYTES: i64 = 2 << 20;
const HUGE_PAGES: i64 = 512;

const REUSES: &str = "/tracer/cow/reuses";
const ZERO: &str = "/tracer/cow/zero_upgrades";
const DEMAND_ZERO: &str = "/tracer/faults/demand_zero";
const FILLS: &str = "/tracer/faults/file";
const NOTIFY: &str = "/tracer/faults/write_notify";
const SPLITS: &str = "/tracer/faults/splits";

/// What most of them have in common.
const CASE: Case = Case {
    name: "",
    test: "",
    workload: "",
    steps: STEPS,
    truth: |k| k,
    needs: needs::nothing,
    differences: |_| Vec::new(),
    more: |_, _| (),
};

/// Whether the kernel is of an earlier version; where that cannot be told, no expectation holds.
fn is_before(version: (u32, u32)) -> bool {
    machine::release().expect("the version of the kernel") < version
}

/// `k` hugetlb pages more were copied.
fn huge_copies(k: i64) -> Difference {
    vec![
        ("/tracer/cow/copies", k),
        ("/tracer/cow/bytes", k * HUGE_BYTES),
        ("/tracer/cow/by/user", k),
        ("/tracer/cow/by_page/huge", k),
    ]
}

/// All of them.
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
        name: "d1 private file, written first",
        test: "cow::private_file_written_first",
        workload: "cow-file-first",
        differences: |k| vec![("actor", copies(k, "user", "file"))],
        ..CASE
    },
    Case {
        name: "d2 private file, read first",
        test: "cow::private_file_read_first",
        workload: "cow-file-read",
        differences: |k| vec![("actor", copies(k, "user", "file"))],
        ..CASE
    },
    Case {
        name: "d3 private file, copied, then fork",
        test: "cow::private_file_then_fork",
        workload: "cow-file-fork",
        differences: |k| vec![("child", copies(k, "user", "anon")), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "d4 private shmem, read first",
        test: "cow::private_shmem_read_first",
        workload: "cow-shmem-read",
        differences: |k| vec![("actor", copies(k, "user", "file"))],
        ..CASE
    },
    Case {
        name: "d5 private shmem hole, written first",
        test: "cow::private_shmem_hole",
        workload: "cow-shmem-hole",
        differences: |k| vec![("actor", copies(k, "user", "file"))],
        ..CASE
    },
    Case {
        name: "d6 private file not in memory",
        test: "cow::private_file_uncached",
        workload: "cow-file-uncached",
        needs: needs::disk,
        differences: |k| vec![("actor", copies(k, "user", "file"))],
        ..CASE
    },
    Case {
        name: "e1 shared file, read first",
        test: "cow::shared_file_read_first",
        workload: "cow-shared-read",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(NOTIFY, k)])],
        ..CASE
    },
    Case {
        name: "e2 shared anonymous",
        test: "cow::shared_anonymous",
        workload: "cow-shared-anonymous",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(FILLS, k)])],
        ..CASE
    },
    Case {
        name: "e3 shared shmem hole",
        test: "cow::shared_shmem_hole",
        workload: "cow-shared-hole",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(FILLS, k)])],
        ..CASE
    },
    Case {
        name: "e4 shared shmem with pages",
        test: "cow::shared_shmem_filled",
        workload: "cow-shared-filled",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(FILLS, k)])],
        ..CASE
    },
    Case {
        name: "e5 shared file, written first",
        test: "cow::shared_file_written_first",
        workload: "cow-shared-first",
        truth: |_| 0,
        differences: |k| vec![("actor", vec![(FILLS, k)])],
        ..CASE
    },
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
        differences: |k| vec![("actor", vec![("/tracer/faults/failed", k)])],
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
        differences: |k| vec![("actor", vec![(REUSES, k)]), ("child", vec![])],
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
            let zero = if is_before((6, 13)) { vec![(ZERO, k), (SPLITS, 2)] } else { vec![(ZERO, 2)] };
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
        differences: |k| vec![("actor", vec![(REUSES, k)]), ("child", vec![])],
        ..CASE
    },
    Case {
        name: "i1 KSM",
        test: "cow::merged",
        workload: "cow-merged",
        needs: needs::merging,
        differences: |k| {
            let mut ksm = copies(k, "user", "anon");
            ksm.retain(|(counter, _)| !counter.ends_with("anon"));
            ksm.push(("/tracer/cow/by_page/ksm", k));
            vec![("actor", ksm)]
        },
        ..CASE
    },
    Case {
        name: "i2 KSM with use_zero_pages",
        test: "cow::merged_zero",
        workload: "cow-merged-zero",
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
        name: "o2 read(2) of a file not in memory",
        test: "cow::kernel_writes_uncached",
        workload: "cow-read-uncached",
        steps: &[1, 16],
        needs: needs::disk,
        differences: |k| vec![("child", copies(k, "kernel", "anon")), ("actor", vec![])],
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
            let paid = [("/tracer/children/paid/copies", 5 * k), ("/tracer/children/paid/bytes", 5 * k * PAGE_BYTES)];
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
fn bills_agree<'a>(check: &mut Check<'a>, run: &'a Run) {
    let actor = of(check, run, "actor");
    for key in ["copies", "reuses", "bytes"] {
        let children = ["child", "second", "third", "fourth"].map(|role| {
            let child = of(check, run, role);
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
fn memory_is_shared<'a>(check: &mut Check<'a>, run: &'a Run) {
    let child = of(check, run, "child");
    check.field(child, "/tracer/fork/shares_mm", true);
    check.field(child, "/tracer/fork/by_parent", Value::Null);
    check.field(child, "/tracer/fork/wasted", Value::Null);
}
