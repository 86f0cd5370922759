//! Births, new programs and deaths.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use super::{
    Cost,
    sys::{fork, timed, wait},
};

/// The argument with which this program does nothing.
pub(crate) const IDLE: &str = "idle";

/// Arguments of the dynamic program.
const ARGUMENTS: usize = 20;

pub(super) fn fork_exit(operations: u64, _: &Path) -> Result<Cost> {
    timed(|| (0..operations).try_for_each(|_| wait(fork(|| Ok(()))?)))
}

pub(super) fn spawn_exec(operations: u64, _: &Path) -> Result<Cost> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(IDLE);
    run_often(&mut command, operations)
}

pub(super) fn fork_exec(operations: u64, _: &Path) -> Result<Cost> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("/bin/true");
    command.args((0..ARGUMENTS).map(|number| format!("argument-{number}")));
    // SAFETY: it does nothing; with it the standard library forks instead of spawning.
    unsafe { command.pre_exec(|| Ok(())) };
    run_often(&mut command, operations)
}

fn run_often(command: &mut Command, operations: u64) -> Result<Cost> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
    timed(|| {
        (0..operations).try_for_each(|_| {
            let status = command.status()?;
            ensure!(status.success(), "{:?} ended with {status}", command.get_program());
            Ok(())
        })
    })
}
