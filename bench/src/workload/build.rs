//! A real make, a real compiler, a real project.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use super::{Cost, sys::timed};

/// The folder of the project: Lua, which needs nothing but a C library.
pub(super) const PROJECT: &str = "lua5.4";

/// Builds it from nothing, with the quickest compiler: the more processes there are for the work.
pub(super) fn make(builds: u64, folder: &Path) -> Result<Cost> {
    let source = folder.join(PROJECT).join("src");
    let make = |arguments: &[&str]| {
        let mut command = Command::new("make");
        command.arg("-C").arg(&source).arg("--silent").args(arguments).stdin(Stdio::null());
        let status = command.status()?;
        ensure!(status.success(), "make {} ended with {status}", arguments.join(" "));
        Ok(())
    };
    let mut sum = Cost::default();
    for _ in 0..builds {
        make(&["clean"])?;
        sum.add(timed(|| make(&["--jobs=2", "MYCFLAGS=-O0", "linux-noreadline"]))?);
    }
    Ok(sum)
}
