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

use crate::{check::Outcome, stream};

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

/// Most times that a test is tried.
const TRIES: u32 = 3;

/// A test by its subject and name. One that fails is tried again if the kernel did not tell that a process was
/// freed, and only then: in the microVM that this is developed in, `sched_process_free` was seen to be skipped, without
/// being counted, when it came while a certain task had the CPU.
fn trial(name: &str, test: fn() -> Outcome) -> Trial {
    Trial::test(name, move || {
        for _ in 1..TRIES {
            let before = stream::untold();
            let outcome = test();
            if outcome.is_ok() || stream::untold() == before {
                return outcome;
            }
            println!("tried again: the kernel did not tell of a reap");
        }
        test()
    })
}
