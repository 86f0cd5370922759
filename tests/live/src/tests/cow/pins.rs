//! Writes and pins without a fault of the process: `docs/cow.md` has them as cases k and l.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{super::trial, Difference, PAGE_BYTES, STEPS, by_parent, compare, of, steps};
use crate::{
    cases,
    check::{Check, Outcome},
    harness::{Plan, Run},
    stream::number,
    tests::tree::tree,
    workload::PAGES,
};

/// A disk of a virtual machine: its files in memory know no direct I/O.
const DISK: &str = "/dev/ram1";

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("cow::ptrace_writes", || {
            series(&Case::new("k1 ptrace poke", "cow-ptrace", REMOTE), |k| vec![("actor", remote(k)), CHILD])
        }),
        trial("cow::proc_mem_is_not_followed", || {
            // Nothing of it is seen: docs/cow.md says so.
            series(&Case::new("k2 write to /proc/PID/mem", "cow-proc-mem", REMOTE), |_| {
                vec![("actor", vec![]), CHILD]
            })
        }),
        trial("cow::process_vm_writev", || {
            let case = Case::new("k3 process_vm_writev", "cow-process-vm", REMOTE);
            series(&case, |k| vec![("actor", remote(k)), CHILD])
        }),
        trial("cow::direct_read", || {
            series(&Case::new("k4 O_DIRECT read", "cow-direct-read", GUP).with_file(), pinned)
        }),
        trial("cow::direct_write", direct_write),
        trial("cow::mlock", || series(&Case::new("k6 mlock", "cow-mlock", GUP), pinned)),
        trial("cow::populate", || {
            const ID: &str = "k7 MADV_POPULATE_WRITE";
            if release()? < (5, 14) {
                cases::tell(ID, "new in Linux 5.14", "-");
                return Ok(());
            }
            series(&Case::new(ID, "cow-populate", GUP), pinned)
        }),
        trial("cow::io_uring_buffers", || {
            const ID: &str = "k8 io_uring buffers";
            if io_uring_is_off(ID) {
                return Ok(());
            }
            series(&Case::new(ID, "cow-register", GUP), pinned)
        }),
        trial("cow::fork_of_pinned_pages", fork_of_pinned),
    ]
}

/// What the table shows: the role whose counter it is, and the counter.
type Shown = (&'static str, &'static str);
const REMOTE: Shown = ("actor", "/tracer/cow/by/remote_candidates");
const GUP: Shown = ("child", "/tracer/cow/by/gup");
const EAGER: Shown = ("actor", "/tracer/cow/by/eager");

/// The child has nothing more than with k = 0.
const CHILD: (&str, Difference) = ("child", Vec::new());

fn remote(k: i64) -> Difference {
    vec![("/tracer/cow/by/remote_candidates", k)]
}

/// The child has k copies by get_user_pages.
fn pinned(k: i64) -> Vec<(&'static str, Difference)> {
    let child =
        vec![("/tracer/cow/copies", k), ("/tracer/cow/bytes", k * PAGE_BYTES), ("/tracer/cow/by/gup", k)];
    vec![("child", child), ("actor", vec![])]
}

/// The kernel's version.
fn release() -> Result<(u32, u32), Failed> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(format!("a kernel of version {text:?}").into()),
    }
}

/// Tells the case if this kernel refuses io_uring.
fn io_uring_is_off(id: &str) -> bool {
    // SAFETY: without parameters the call fails: with EFAULT if it is there and allowed.
    unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    let error = std::io::Error::last_os_error();
    let off = error.raw_os_error() != Some(libc::EFAULT);
    if off {
        cases::tell(id, format!("no io_uring here: {error}"), "-");
    }
    off
}

/// A case of the table.
pub(super) struct Case {
    id: &'static str,
    workload: &'static str,
    shown: Shown,
    needs_file: bool,
    /// Of k pages, how many are copied.
    copied: fn(i64) -> i64,
}

impl Case {
    pub(super) fn new(id: &'static str, workload: &'static str, shown: Shown) -> Self {
        Self { id, workload, shown, needs_file: false, copied: |k| k }
    }

    /// With a file to read and write.
    fn with_file(self) -> Self {
        Self { needs_file: true, ..self }
    }

    fn run(&self, k: i64) -> Result<Run, Failed> {
        let mut plan = Plan::workload(self.workload)?.arg(format!("{k:04}"));
        if self.needs_file {
            let file = match Path::new(DISK).exists() {
                true => PathBuf::from(DISK),
                false => plan.dir.file("data"),
            };
            fs::write(&file, vec![b'f'; PAGES * PAGE_BYTES as usize])?;
            plan = plan.arg(OsString::from(file));
        }
        Ok(plan.run()?)
    }
}

/// Runs a case with k = 0 and with more.
///
/// The frames of as many pages as `case.copied` says were seen to change; the processes' counters differ
/// from those with k = 0 by what `expected` says.
pub(super) fn series(case: &Case, expected: impl Fn(i64) -> Vec<(&'static str, Difference)>) -> Outcome {
    let base = case.run(0)?;
    let mut check = Check::new(&base);
    tree(&mut check, &base);
    check.done()?;
    for &k in steps(STEPS) {
        let run = case.run(k)?;
        let mut check = Check::new(&run);
        tree(&mut check, &run);
        let truth = number(&run.facts, "/values/truth");
        check.same("pages with another frame", truth, (case.copied)(k));
        for (role, difference) in expected(k) {
            let lines = lines(&mut check, &base, &run, role);
            compare(&mut check, &format!("{} k={k} {role}", case.id), lines, &difference);
        }
        if k == PAGES as i64 {
            let (role, counter) = case.shown;
            let [before, after] = lines(&mut check, &base, &run, role).map(|line| number(line, counter));
            let name = counter.rsplit('/').next().unwrap_or_default();
            cases::tell(case.id, format!("copies {truth}"), format!("{name} {}", after - before));
        }
        check.done()?;
    }
    Ok(())
}

/// The timelines of a role without and with writes.
fn lines<'a>(check: &mut Check<'a>, base: &'a Run, run: &'a Run, role: &str) -> [&'a Value; 2] {
    [of(&mut Check::bare(base), base, role), of(check, run, role)]
}

/// To write from a page the kernel needs no page of its own, until it pins it (6.3): then it unshares it.
fn direct_write() -> Outcome {
    let case = Case::new("k5 O_DIRECT write", "cow-direct-write", GUP).with_file();
    if release()? < (6, 3) {
        let case = Case { copied: |_| 0, ..case };
        return series(&case, |_| vec![CHILD, ("actor", vec![])]);
    }
    series(&case, pinned)
}

/// Fork copies what is pinned, and nothing else.
fn fork_of_pinned() -> Outcome {
    const PINNED: &str = "l1 fork with pinned pages";
    const PLAIN: &str = "l2 fork";
    if io_uring_is_off(PINNED) {
        return Ok(());
    }
    let case = Case::new(PINNED, "cow-fork-pinned", EAGER);
    let plain = case.run(0)?;
    let mut check = Check::new(&plain);
    let child = of(&mut check, &plain, "child");
    check.field(child, "/tracer/fork/eager_copies", 0);
    cases::tell(PLAIN, "eager 0", format!("eager {}", number(child, "/tracer/fork/eager_copies")));
    check.done()?;
    series(&case, |k| {
        let actor = vec![
            ("/tracer/cow/copies", k),
            ("/tracer/cow/bytes", k * PAGE_BYTES),
            ("/tracer/cow/by/eager", k),
        ];
        vec![("actor", actor), ("child", [by_parent(k), vec![("/tracer/fork/eager_copies", k)]].concat())]
    })
}
