//! Installing Debian packages.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{find, is_root, run_within};

const UPDATE_LIMIT: Duration = Duration::from_secs(300);
const INSTALL_LIMIT: Duration = Duration::from_secs(1200);

/// Whether this machine has apt at all.
pub(crate) fn available() -> bool {
    find("apt-get").is_some()
}

/// Installs packages that are known to be missing. `why` names what needs them.
///
/// Nothing that is installed is removed for it. Without root or apt the error is what to type.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let names = packages.join(" ");
    if !available() {
        bail!("{why} needs what Debian packages as {names}; install it by hand");
    }
    if !is_root() {
        bail!(
            "{why} needs {names}; as root: \
             apt-get update && apt-get install --no-install-recommends {names}"
        );
    }
    eprintln!("xtask: installing {names}: {why}");
    refresh();
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
    run_within(&mut command, INSTALL_LIMIT).with_context(|| format!("{why} needs {names}"))
}

/// Reads the package lists anew, once per run of xtask.
fn refresh() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    // One dead source does not spoil the others: whether it mattered, `install` tells.
    if let Err(error) = run_within(apt_get().arg("update"), UPDATE_LIMIT) {
        eprintln!("xtask: warning: {error:#}");
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2"])
        .args(["-o", "Dpkg::Use-Pty=0"]);
    command
}
