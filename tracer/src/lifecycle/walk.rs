//! Walks along PATH: execvp(3) tries a name in one directory after the other, and each try may be a failed exec.
//!
//! Failures of one process that have the same name are one walk, until a program runs, the process ends, another
//! name fails, or a tick finds that the walk began a second ago. A process has one walk at most.

use std::collections::BTreeMap;

use tracer_common::event::{ExecFailed, PATH_BYTES};

use super::{Lifecycle, Output, table::Key};
use crate::record::{self, Record, Text};

/// How long failures with the same name are one walk.
const WITHIN_NS: u64 = 1_000_000_000;

// Error numbers, include/uapi/asm-generic/errno-base.h and errno.h.
const ENOENT: u32 = 2;
const EACCES: u32 = 13;
const ENODEV: u32 = 19;
const ENOTDIR: u32 = 20;
const ETIMEDOUT: u32 = 110;
const ESTALE: u32 = 116;

/// What execvp goes on after (glibc, posix/execvpe.c).
const GOES_ON: [u32; 6] = [ENOENT, EACCES, ENODEV, ENOTDIR, ETIMEDOUT, ESTALE];

/// Failed execs with the same name.
#[derive(Debug)]
struct Walk {
    tries: u64,
    /// What execvp would report.
    errno: u32,
    /// The last failure.
    ktime_ns: u64,
    path: Vec<u8>,
}

impl Walk {
    /// One more failure. That a program was there, though closed to the caller, is what execvp tells of all in the end.
    fn go_on(&mut self, ktime_ns: u64, errno: u32, path: &[u8]) {
        self.tries += 1;
        self.ktime_ns = ktime_ns;
        if self.errno != EACCES {
            self.errno = errno;
        }
        self.path.clear();
        self.path.extend_from_slice(path);
    }
}

/// The walks that are going on, by when they began.
#[derive(Debug, Default)]
pub(super) struct Walks(BTreeMap<(u64, Key), Walk>);

impl Walks {
    /// Whether one of them has not ended.
    pub(super) fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The last component of a path; `None` when that is not known, as the path could not be read or may be cut, or is
/// empty.
fn name(path: &[u8]) -> Option<&[u8]> {
    let is_whole = path.len() < PATH_BYTES - 1;
    path.rsplit(|&byte| byte == b'/').next().filter(|name| is_whole && !name.is_empty())
}

impl Lifecycle {
    /// An exec of a live process failed.
    pub(super) fn try_failed(&mut self, key: Key, failed: &ExecFailed, path: &[u8], out: &mut dyn Output) {
        let ExecFailed { header, errno, .. } = *failed;
        let name_now = name(path);
        let Some(process) = self.table.get_mut(key) else { return };
        process.failures += 1;
        process.is_nameless = name_now.is_none();
        if let Some(since) = process.walk
            && let Some(walk) = self.walks.0.get_mut(&(since, key))
            && name(&walk.path) == name_now
            && GOES_ON.contains(&errno)
        {
            walk.go_on(header.ktime_ns, errno, path);
            return;
        }
        self.end_walk(key, out);
        let walk = Walk { tries: 1, errno, ktime_ns: header.ktime_ns, path: path.to_vec() };
        if name_now.is_none() || !GOES_ON.contains(&errno) {
            self.write_walk(key, &walk, out);
        } else if let Some(process) = self.table.get_mut(key) {
            process.walk = Some(header.ktime_ns);
            self.walks.0.insert((header.ktime_ns, key), walk);
        }
    }

    /// A process runs the program at `path`: how many execs that took. `None` when that is not known.
    pub(super) fn arrive(&mut self, key: Key, path: &[u8], out: &mut dyn Output) -> Option<u64> {
        let name_now = name(path);
        let process = self.table.get_mut(key)?;
        let is_known = !std::mem::take(&mut process.is_nameless) && name_now.is_some();
        if let Some(since) = process.walk
            && let Some(walk) = self.walks.0.get(&(since, key))
            && name(&walk.path) == name_now
        {
            let tries = walk.tries + 1;
            process.walk = None;
            self.walks.0.remove(&(since, key));
            return Some(tries);
        }
        self.end_walk(key, out);
        is_known.then_some(1)
    }

    /// The walk of this process, if there is one, has led nowhere.
    pub(super) fn end_walk(&mut self, key: Key, out: &mut dyn Output) {
        if let Some(since) = self.table.get_mut(key).and_then(|process| process.walk.take())
            && let Some(walk) = self.walks.0.remove(&(since, key))
        {
            self.write_walk(key, &walk, out);
        }
    }

    /// Ends the walks that began a second ago.
    pub(super) fn end_old_walks(&mut self, out: &mut dyn Output) {
        if let Some(until_ns) = self.now_ns.checked_sub(WITHIN_NS) {
            self.end_walks(until_ns, out);
        }
    }

    /// Ends all walks.
    pub(super) fn end_all_walks(&mut self, out: &mut dyn Output) {
        self.end_walks(u64::MAX, out);
    }

    /// Ends the walks that began at `until_ns` or before.
    fn end_walks(&mut self, until_ns: u64, out: &mut dyn Output) {
        while let Some(first) = self.walks.0.first_entry()
            && first.key().0 <= until_ns
        {
            let ((_, key), walk) = first.remove_entry();
            if let Some(process) = self.table.get_mut(key) {
                process.walk = None;
            }
            self.write_walk(key, &walk, out);
        }
    }

    fn write_walk(&self, key: Key, walk: &Walk, out: &mut dyn Output) {
        if let Some(process) = self.stepping(key) {
            out.record(&Record::ExecFailed(record::ExecFailed {
                time: self.wall(walk.ktime_ns),
                subject: process.subject(),
                entity: self.process_id(process.id),
                errno: walk.errno,
                path: (!walk.path.is_empty()).then_some(Text(&walk.path)),
                tries: walk.tries,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::event::{Exit, Header};

    use super::*;
    use crate::{decode::Event, lifecycle::Config};

    /// Pids 1 to 3 fail with 100 names each, and end.
    #[test]
    fn a_process_has_one_walk_at_most() {
        let mut lifecycle = Lifecycle::new(Config { steps: true, max_processes: 3, ..Config::default() });
        let mut tries = 0;
        let mut count = |record: &Record<'_>| {
            if let Record::ExecFailed(failed) = record {
                tries += failed.tries;
            }
        };
        let header = |tgid| Header { tgid, tid: tgid, ..Header::default() };
        for name in 0..100 {
            for tgid in [1, 2, 3, 3] {
                let path = format!("/bin/{name}");
                let failed = ExecFailed { header: header(tgid), errno: ENOENT, path_len: 0 };
                lifecycle.apply(&Event::ExecFailed { failed, path: path.as_bytes() }, &mut count);
            }
            assert_eq!(lifecycle.walks.0.len(), 3);
        }
        for (tgid, left) in [(1, 2), (2, 1)] {
            let exit =
                Exit { header: header(tgid), ..tracer_common::read(&vec![0; size_of::<Exit>()]).unwrap() };
            lifecycle.apply(&Event::Exit(exit), &mut count);
            assert_eq!(lifecycle.walks.0.len(), left);
        }
        lifecycle.apply(&Event::Tick { ktime_ns: WITHIN_NS - 1 }, &mut count);
        assert_eq!(lifecycle.walks.0.len(), 1);
        lifecycle.apply(&Event::Tick { ktime_ns: WITHIN_NS }, &mut count);
        assert_eq!(lifecycle.walks.0.len(), 0);
        assert_eq!(tries, 400);
    }
}
