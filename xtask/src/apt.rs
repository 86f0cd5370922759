//! Installing Debian packages, or unpacking them beside the machine's own.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{capture, find, is_root, run_within};

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

/// What apt would do to install packages.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// To be installed, as `name=version`.
    installs: Vec<String>,
    /// Installed packages that stand in the way.
    pub(crate) removes: Vec<String>,
}

/// What [`install`] would do; `None` where there is no apt, or it finds no way.
pub(crate) fn plan(packages: &[&str]) -> Option<Plan> {
    if !available() {
        return None;
    }
    refresh();
    let mut command = apt_get();
    command.args(["install", "--simulate", "--no-install-recommends"]).args(packages);
    capture(&mut command).ok().map(|said| read_plan(&said))
}

/// Reads `Inst NAME (VERSION ...)`, `Inst NAME [OLD] (VERSION ...)`, and `Remv NAME [OLD]`.
fn read_plan(said: &str) -> Plan {
    let of = |verb: &str| {
        said.lines().filter_map(move |line| line.strip_prefix(verb)?.strip_prefix(' ')).collect()
    };
    let (installs, removes): (Vec<&str>, Vec<&str>) = (of("Inst"), of("Remv"));
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let version = |line: &str| Some(line.split_once('(')?.1.split([' ', ')']).next()?.to_owned());
    Plan {
        installs: installs
            .into_iter()
            .filter_map(|line| Some(format!("{}={}", name(line), version(line)?)))
            .collect(),
        removes: removes.into_iter().map(name).collect(),
    }
}

impl Plan {
    /// Unpacks what would be installed into `folder`, without running anything of it: the machine stays as it is.
    pub(crate) fn unpack(&self, folder: &Path) -> Result<()> {
        ensure!(!self.installs.is_empty(), "apt has nothing to unpack");
        let archives = folder.join("archives");
        fs::create_dir_all(&archives).with_context(|| archives.display().to_string())?;
        let mut download = apt_get();
        // The download user may not enter the folders above.
        download
            .args(["-o", "APT::Sandbox::User=root", "download"])
            .args(&self.installs)
            .current_dir(&archives);
        run_within(&mut download, INSTALL_LIMIT)?;
        for archive in fs::read_dir(&archives)? {
            run_within(
                Command::new("dpkg-deb").arg("--extract").arg(archive?.path()).arg(folder),
                INSTALL_LIMIT,
            )?;
        }
        fs::remove_dir_all(&archives).with_context(|| archives.display().to_string())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_what_apt_says() {
        let said = "Remv qemu-utils [1:10.0.2+ds-2]\nInst seabios (1.16.2-1 Debian:12.15/oldstable [all])\n\
                    Inst libc6 [2.36-8] (2.36-9 Debian:12.15/oldstable [amd64])\nConf seabios (1.16.2-1 Debian)\n";
        let expected = Plan {
            installs: vec!["seabios=1.16.2-1".into(), "libc6=2.36-9".into()],
            removes: vec!["qemu-utils".into()],
        };
        assert_eq!(read_plan(said), expected);
    }
}
