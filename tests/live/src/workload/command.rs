//! Small programs for the tests of the command line; they know nothing that a file would have to tell.

use std::{
    ffi::OsString,
    io::{Read, Write},
};

use super::{
    facts::{Facts, Process},
    number,
    sys::{self, Args, must, text},
};

/// Name of the program that a storm executes: it does nothing.
pub(crate) const STORM: &str = "storm";

/// Children of a storm that run at the same time.
const STORM_WIDTH: usize = 4;

/// Runs `name` if it is one of these, and gives its exit code.
pub(crate) fn run(name: &str, args: &[OsString]) -> Option<u8> {
    Some(match name {
        "exit" => number(args, 0) as u8,
        "kill" => {
            // SAFETY: a signal to this process itself.
            must("kill", unsafe { libc::kill(sys::pid(), number(args, 0)) });
            sys::pause_ms(5_000);
            98
        }
        "print" => {
            std::io::stdout().write_all(args[0].as_encoded_bytes()).expect("write to stdout");
            0
        }
        "next" => next(args),
        "next-on-demand" => {
            std::io::stdin().read_exact(&mut [0]).expect("a byte on stdin");
            next(args)
        }
        "many" => many(number(args, 0)),
        "sigterm" => sigterm(&args[0]),
        "on-demand" => on_demand(args),
        "storm" => storm(&args[0], number(args, 1), ""),
        "wordy-storm" => storm(&args[0], number(args, 1), &"x".repeat(4_000)),
        _ => return None,
    })
}

/// Executes the first of the programs and hands it the rest; the last one ends with 5.
fn next(programs: &[OsString]) -> u8 {
    let [program, rest @ ..] = programs else {
        return 5;
    };
    let head = [program.clone(), "workload".into(), "next".into()];
    let error = sys::exec(&text(program), &Args::new(head.iter().chain(rest)));
    panic!("exec of {program:?}: error {error}");
}

/// Many children, one after the other.
fn many(count: i32) -> u8 {
    for _ in 0..count {
        sys::wait(sys::fork(|| 0));
    }
    0
}

/// Says that it is ready by writing its facts, then ends with 42 when SIGTERM comes.
fn sigterm(path: &OsString) -> u8 {
    extern "C" fn end(_: libc::c_int) {
        sys::exit_group(42);
    }
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler only makes one system call.
    unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
    Facts::new(path).write();
    sys::pause_ms(60_000);
    98
}

/// Waits for a byte on its input, then makes children and tells who they were, then waits for the end
/// of the input. Each child takes the user id that is given, if it is not 0.
fn on_demand(args: &[OsString]) -> u8 {
    let mut facts = Facts::new(&args[0]);
    let mut input = std::io::stdin();
    input.read_exact(&mut [0]).expect("a byte on stdin");
    for code in 0..number(args, 1) {
        let child = || {
            let uid = number(args, 2);
            if uid != 0 {
                // SAFETY: changes the credentials of this process.
                must("setuid", unsafe { libc::setuid(uid as libc::uid_t) });
            }
            code
        };
        let pid = sys::fork(child);
        facts.push(Process::new("fork", pid, sys::wait(pid)));
    }
    facts.write();
    input.read_to_end(&mut Vec::new()).expect("the end of stdin");
    0
}

/// `count` times fork, exec of `program` with its number and `word` as arguments, exit; some of them at the same time.
fn storm(program: &OsString, count: i32, word: &str) -> u8 {
    let path = text(program);
    let mut live = std::collections::VecDeque::with_capacity(STORM_WIDTH);
    for number in 0..count {
        let number = number.to_string();
        let words = [STORM, &number, word];
        let args = Args::new(words.into_iter().filter(|word| !word.is_empty()));
        if live.len() == STORM_WIDTH {
            assert_eq!(sys::wait(live.pop_front().unwrap_or(-1)), 0, "a child of the storm failed");
        }
        live.push_back(sys::fork(|| sys::exec(&path, &args)));
    }
    for pid in live {
        assert_eq!(sys::wait(pid), 0, "a child of the storm failed");
    }
    0
}
