//! Writes and pins without a fault of the process.

use super::{CASE, is_before};
use crate::{
    cases,
    check::Check,
    harness::Run,
    stream::number,
    tests::cow::{
        BASE, Case,
        compare::{Difference, by_parent, copied},
        needs, of,
    },
};

const EAGER: &str = "/tracer/fork/eager_copies";

pub(super) const ALL: &[Case] = &[
    Case {
        name: "k1 ptrace poke",
        test: "cow::ptrace_writes",
        workload: "cow-ptrace",
        differences: remote,
        ..CASE
    },
    Case {
        name: "k2 write to /proc/PID/mem",
        test: "cow::proc_mem_is_not_followed",
        workload: "cow-proc-mem",
        // Nothing of it is seen: docs/cow.md says so.
        differences: |_| vec![("actor", vec![]), ("child", vec![])],
        ..CASE
    },
    Case {
        name: "k3 process_vm_writev",
        test: "cow::process_vm_writev",
        workload: "cow-process-vm",
        differences: remote,
        ..CASE
    },
    Case {
        name: "k4 O_DIRECT read",
        test: "cow::direct_read",
        workload: "cow-direct-read",
        needs: needs::direct,
        differences: pinned,
        ..CASE
    },
    Case {
        name: "k5 O_DIRECT write",
        test: "cow::direct_write",
        workload: "cow-direct-write",
        needs: needs::direct,
        truth: unshared,
        differences: |k| pinned(unshared(k)),
        ..CASE
    },
    Case { name: "k6 mlock", test: "cow::mlock", workload: "cow-mlock", differences: pinned, ..CASE },
    Case {
        name: "k7 MADV_POPULATE_WRITE",
        test: "cow::populate",
        workload: "cow-populate",
        needs: needs::populate,
        differences: pinned,
        ..CASE
    },
    Case {
        name: "k8 io_uring buffers",
        test: "cow::io_uring_buffers",
        workload: "cow-register",
        needs: needs::io_uring,
        differences: pinned,
        ..CASE
    },
    Case {
        name: "l1 fork with pinned pages",
        test: "cow::fork_of_pinned_pages",
        workload: "cow-fork-pinned",
        needs: needs::io_uring,
        differences: |k| {
            vec![
                ("actor", copied(k, "/tracer/cow/by/eager")),
                ("child", [by_parent(k), vec![(EAGER, k)]].concat()),
            ]
        },
        more: no_copies_without_pins,
        ..CASE
    },
];

/// The writer has k candidates, the child nothing.
fn remote(k: i64) -> Vec<(&'static str, Difference)> {
    vec![("actor", vec![("/tracer/cow/by/remote_candidates", k)]), ("child", vec![])]
}

/// The child has k copies by get_user_pages, which have neither a kind of page nor a region.
fn pinned(k: i64) -> Vec<(&'static str, Difference)> {
    vec![("child", copied(k, "/tracer/cow/by/gup")), ("actor", vec![])]
}

/// To write from a page the kernel needs no page of its own, until it pins it (6.3): then it unshares it.
fn unshared(k: i64) -> i64 {
    if is_before((6, 3)) { 0 } else { k }
}

/// Fork copies what is pinned, and nothing else.
fn no_copies_without_pins<'a>(check: &mut Check<'a>, run: &'a Run, round: usize) {
    let child = of(check, run, BASE, "child");
    check.field(child, EAGER, 0);
    if round == BASE + 1 {
        cases::tell("l2 fork", "eager 0", format_args!("eager {}", number(child, EAGER)));
    }
}
