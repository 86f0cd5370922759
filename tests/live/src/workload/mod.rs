//! Programs to be traced. What each does to the process tree and to memory is known exactly.
//!
//! `workload NAME FACTS ARGS..` does it and writes what it knows to the file FACTS; it prints nothing.

mod board;
mod command;
mod cow;
mod ends;
mod execs;
mod facts;
mod frames;
pub(crate) mod ledger;
mod life;
mod limits;
mod memory;
mod names;
mod place;
mod progress;
mod start;
mod stress;
pub(crate) mod sys;
mod threads;
mod usage;

use std::{ffi::OsString, process::ExitCode};

pub(crate) use command::STORM;
pub(crate) use cow::PAGES;
pub(crate) use execs::{SECRET, many_variables, variables};
pub(crate) use frames::has_soft_dirty;
pub(crate) use life::{many_arguments, odd_arguments};
pub(crate) use usage::BURN_MS;

use facts::Facts;

/// Runs the workload that `args` name.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    // A child that fails must end there and not go on as a second copy of its parent.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("workload: {panic}");
        sys::exit_group(99);
    }));
    let [name, rest @ ..] = args else {
        panic!("a name is missing");
    };
    let name = name.to_str().unwrap_or_default();
    if let Some(code) = command::run(name, rest) {
        return ExitCode::from(code);
    }
    cow::look(name, rest);
    let [path, rest @ ..] = rest else {
        panic!("{name}: the file for facts is missing");
    };
    let mut facts = Facts::new(path);
    let known = life::run(name, rest, &mut facts)
        || ends::run(name, rest, &mut facts)
        || cow::run(name, rest, &mut facts)
        || usage::run(name, rest, &mut facts)
        || progress::run(name, rest, &mut facts)
        || ledger::run(name, rest, &mut facts)
        || place::run(name, rest, &mut facts)
        || limits::run(name, rest, &mut facts)
        || names::run(name, rest, &mut facts)
        || threads::run(name, rest, &mut facts)
        || start::run(name, rest, &mut facts)
        || execs::run(name, rest, &mut facts)
        || stress::run(name, rest);
    assert!(known, "{name}: no such workload");
    facts.write();
    ExitCode::SUCCESS
}

/// Argument number `index` as a number.
fn number(args: &[OsString], index: usize) -> i32 {
    let arg = args.get(index).and_then(|arg| arg.to_str()).and_then(|arg| arg.parse().ok());
    arg.unwrap_or_else(|| panic!("argument {index} of {args:?} is not a number"))
}
