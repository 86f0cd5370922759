//! The cases whose counts are known, by subject.

mod file;
mod memory;
mod pins;
mod protect;
mod region;
mod swap;

use super::{Case, needs};
use crate::{machine, workload::PAGES};

/// How many of the pages are written.
const STEPS: &[i64] = &[1, 17, PAGES as i64];

const REUSES: &str = "/tracer/cow/reuses";
const ZERO: &str = "/tracer/cow/zero_upgrades";
const FILLS: &str = "/tracer/faults/file";

/// What most of them have in common.
const CASE: Case = Case {
    name: "",
    test: "",
    workload: "",
    steps: STEPS,
    truth: |k| k,
    needs: needs::nothing,
    differences: |_| Vec::new(),
    more: |_, _, _| (),
};

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    [memory::ALL, file::ALL, protect::ALL, pins::ALL, swap::ALL, region::ALL].into_iter().flatten()
}

/// Whether the kernel is of an earlier version; where that cannot be told, no expectation holds.
fn is_before(version: (u32, u32)) -> bool {
    machine::release().expect("the version of the kernel") < version
}
