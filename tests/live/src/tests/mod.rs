//! The tests, by subject.

mod cgroup;
mod cli;
mod cow;
mod ends;
mod execs;
mod filters;
mod full;
mod idle;
mod ledger;
mod levels;
mod life;
mod limits;
mod lockdown;
mod names;
mod place;
mod progress;
mod start;
mod storm;
mod stress;
mod threads;
mod tree;
mod usage;
mod verifier;

use std::{ffi::OsString, process::ExitCode};

use libtest_mimic::{Arguments, Trial};

use crate::check::Outcome;

/// Runs the tests one after the other: each traces, and some the whole machine.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = std::iter::once(OsString::from("tracer-live")).chain(args);
    let mut args = Arguments::from_iter(args);
    args.test_threads = Some(1);
    // SAFETY: no arguments, no failure.
    if !args.list && unsafe { libc::geteuid() } != 0 {
        eprintln!("tracer-live: these tests need root");
        return ExitCode::FAILURE;
    }
    let trials = [
        life::all(),
        ends::all(),
        usage::all(),
        place::all(),
        limits::all(),
        threads::all(),
        start::all(),
        execs::all(),
        ledger::all(),
        cow::all(),
        levels::all(),
        progress::all(),
        cli::all(),
        filters::all(),
        names::all(),
        cgroup::all(),
        idle::all(),
        storm::all(),
        full::all(),
        verifier::all(),
        stress::all(),
        // The last one: it cannot be taken back.
        lockdown::all(),
    ];
    libtest_mimic::run(&args, trials.into_iter().flatten().collect()).exit_code()
}

/// A test by its subject and name.
fn trial(name: &str, test: fn() -> Outcome) -> Trial {
    Trial::test(name, test)
}
