//! Processes that get a name that is asked for, among many that do not.

use std::{
    ffi::{CStr, OsString},
    path::PathBuf,
};

use super::{
    board::Board,
    facts::{Facts, Process},
    memory, number,
    sys::{self, Args, must, text},
};

/// The name that one takes with prctl(2).
const RENAMED: &CStr = c"tlive-in-prctl";

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    match name {
        "names" => names(&args[0], &args[1], number(args, 2), number(args, 3), facts),
        "names-copies" => copies(number(args, 0), facts),
        _ => return false,
    }
    true
}

/// Executes `inside` in a child, and once more after vfork; has a child rename itself and make a child; and runs `count`
/// times `outside` in between. The first one makes children that copy `pages`, and has its facts in a file beside these.
fn names(inside: &OsString, outside: &OsString, count: i32, pages: i32, facts: &mut Facts) {
    let others = |count: i32| {
        let (path, list) = (text(outside), Args::new(["out", "workload", "exit", "0"]));
        for _ in 0..count {
            assert_eq!(sys::wait(sys::fork(|| sys::exec(&path, &list))), 0, "a process outside failed");
        }
    };
    let path = text(inside);
    let copies = PathBuf::from(facts.path()).with_extension("copies").into_os_string();
    let pages = pages.to_string();
    let words: [OsString; 5] = ["in".into(), "workload".into(), "names-copies".into(), copies, pages.into()];
    // SAFETY: no memory is passed.
    must("personality", unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) });
    // The C library's restartable sequences: the kernel writes to them at unforeseeable moments.
    let variables = Args::new(["GLIBC_TUNABLES=glibc.pthread.rseq=0"]);
    let copying = sys::fork(|| sys::exec_with(&path, &Args::new(words), &variables));
    others(count / 2);
    // That may have been a zombie for more than a second.
    let copying = Process::new("fork", copying, sys::wait(copying)).with("reaper", "late");
    facts.push(copying.with("what", "exec").with("execs", 1));

    let vforked = sys::vfork_exec(&path, &Args::new(["in", "workload", "exit", "0"]));
    facts.push(Process::new("vfork", vforked, sys::wait(vforked)).with("what", "exec").with("execs", 1));

    let board = Board::new();
    let renamed = sys::fork(|| {
        // SAFETY: a name that ends in a NUL.
        must("prctl", unsafe { libc::prctl(libc::PR_SET_NAME, RENAMED.as_ptr()) });
        let child = sys::fork(|| 0);
        board.set(0, child);
        sys::wait(child)
    });
    facts.push(Process::new("fork", renamed, sys::wait(renamed)).with("what", "prctl"));
    let child = Process::new("fork", board.get(0), 0).with("parent", renamed).with("what", "child");
    facts.push(child);
    others(count - count / 2);
}

/// Two children that are the same but for the pages that the second one writes.
fn copies(pages: i32, facts: &mut Facts) {
    let pages = usize::try_from(pages).expect("a number of pages");
    let buffer = memory::filled(pages);
    let child = |written: usize| {
        let pid = sys::fork(|| {
            buffer.write(0, written);
            buffer.settle();
            0
        });
        Process::new("fork", pid, sys::wait(pid)).with("written", written)
    };
    // The first fork of a process makes pages of its own read-only.
    for written in [0, 0, pages] {
        facts.push(child(written));
    }
}
