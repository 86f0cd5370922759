//! Swapped pages.

use super::CASE;
use crate::tests::cow::{Case, compare::copies, needs};

pub(super) const ALL: &[Case] = &[
    Case {
        name: "n1 swapped",
        test: "cow::swapped_out",
        workload: "cow-swapped",
        needs: needs::swap,
        differences: |k| vec![("child", copies(k, "user", "swap")), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "n2 swap cache, present",
        test: "cow::swap_cache_present",
        workload: "cow-swap-read-by-child",
        needs: needs::swap,
        differences: |k| vec![("child", copies(k, "user", "anon")), ("actor", vec![])],
        ..CASE
    },
    Case {
        name: "n3 swap cache, not present",
        test: "cow::swap_cache_absent",
        workload: "cow-swap-read-by-parent",
        needs: needs::swap,
        differences: |k| vec![("child", copies(k, "user", "swap")), ("actor", vec![])],
        ..CASE
    },
];
