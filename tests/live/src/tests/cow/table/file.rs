//! Mappings of files and of shared memory.

use super::{CASE, FILLS};
use crate::tests::cow::{Case, compare::copies, needs};

const NOTIFY: &str = "/tracer/faults/write_notify";

pub(super) const ALL: &[Case] = &[
    Case {
        name: "d1 private file, written first",
        test: "cow::private_file_written_first",
        workload: "cow-file-first",
        differences: |k| vec![("actor", copies(k, "user", "file_first"))],
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
        differences: |k| vec![("actor", copies(k, "user", "file_first"))],
        ..CASE
    },
    Case {
        name: "d6 private file not in memory",
        test: "cow::private_file_uncached",
        workload: "cow-file-uncached",
        needs: needs::disk,
        differences: |k| vec![("actor", copies(k, "user", "file_first"))],
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
        name: "o2 read(2) of a file not in memory",
        test: "cow::kernel_writes_uncached",
        workload: "cow-read-uncached",
        steps: &[1, 16],
        needs: needs::disk,
        differences: |k| vec![("child", copies(k, "kernel", "anon")), ("actor", vec![])],
        ..CASE
    },
];
