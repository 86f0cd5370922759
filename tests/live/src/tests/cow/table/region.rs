//! Where in the memory of a program its copies are; memory of its own mappings is in the other cases.

use super::CASE;
use crate::tests::cow::{Case, compare::copies_in};

pub(super) const ALL: &[Case] = &[
    Case {
        name: "r1 heap",
        test: "cow::heap",
        workload: "cow-heap",
        differences: |k| vec![("child", copies_in(k, "/tracer/cow/by_region/heap")), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "r2 stack",
        test: "cow::stack",
        workload: "cow-stack",
        differences: |k| vec![("child", copies_in(k, "/tracer/cow/by_region/stack")), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "r3 data",
        test: "cow::data",
        workload: "cow-data",
        differences: |k| vec![("child", copies_in(k, "/tracer/cow/by_region/data")), ("actor", vec![])],
        ..CASE
    },
];
