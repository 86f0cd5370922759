//! Threads, and how each of them ends.

use std::{ffi::OsString, thread};

use serde_json::{Value, json};

use super::{
    board::Board,
    facts::{Facts, Process},
    sys::{self, Args, text},
    usage,
};

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    if name != "threads-end" {
        return false;
    }
    let (path, list) = (text(&args[0]), Args::new(["true"]));
    let mut ends = Vec::new();
    // One that returns, and one that is ended with the process.
    let mut of = child(facts, "exit_group", 0, 2, |board| {
        let burner = start(board, 0, "burner", usage::burn);
        start(board, 1, "sleeper", sleep);
        burner.join().expect("the thread that burns time");
        0
    });
    ends.push(of.end(0, "burner", "exit", true));
    ends.push(of.end(1, "sleeper", "group", false));
    // One that ends the process.
    of = child(facts, "exit_group", 0, 1, |board| {
        start(board, 0, "ender", || sys::exit_group(3));
        sleep();
        0
    });
    ends.push(of.end(0, "ender", "exit_group", false));
    // Two that an exec of the first thread ends.
    of = child(facts, "exit_group", 1, 2, |board| {
        for at in 0..2 {
            start(board, at, "victim", sleep);
        }
        sys::exec(&path, &list)
    });
    ends.extend((0..2).map(|at| of.end(at, "victim", "exec", false)));
    facts.set("threads", ends);
    true
}

/// A child, and the ids of its threads.
struct Child {
    pid: i32,
    board: Board,
}

impl Child {
    fn end(&self, at: usize, name: &str, via: &str, burns: bool) -> Value {
        let burnt_ms = if burns { usage::BURN_MS } else { 0 };
        json!({"pid": self.pid, "tid": self.board.get(at), "name": name, "via": via, "burnt_ms": burnt_ms})
    }
}

/// A child that makes `count` threads.
fn child(facts: &mut Facts, via: &str, execs: u32, count: i32, work: impl FnOnce(Board) -> i32) -> Child {
    let board = Board::new();
    let pid = sys::fork(|| work(board));
    let process = Process::new("fork", pid, sys::wait(pid));
    facts.push(process.with("via", via).with("execs", execs).with("threads", count));
    Child { pid, board }
}

/// Starts a thread, and waits until it has left its id at `at` of the board.
fn start(
    board: Board,
    at: usize,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> thread::JoinHandle<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    let thread = builder.spawn(move || {
        // SAFETY: no arguments, no failure.
        board.set(at, unsafe { libc::gettid() });
        work();
    });
    while board.get(at) == 0 {
        sys::pause_ms(1);
    }
    thread.expect("a thread")
}

fn sleep() {
    sys::pause_ms(60_000);
}
