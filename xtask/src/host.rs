//! Building, running and checking everything that is not eBPF.

use std::{
    convert::Infallible,
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    ebpf,
    layout::{HOST_TARGET, Layout},
    process::run as run_command,
    setup,
};

/// Programs linked with it run on any x86-64 Linux, also alone in an initramfs.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The package and program of the tests that need root.
pub(crate) const LIVE: &str = "tracer-live";

/// The package and program that compares the tracer with counts of others.
const WITNESS: &str = "tracer-witness";

/// Builds the program that is shipped and returns its path.
pub(crate) fn build_tracer(layout: &Layout) -> Result<PathBuf> {
    build(layout, &["tracer"])
}

/// Builds the program that is shipped together with the live tests, and returns the tests' path.
pub(crate) fn build_with_live_tests(layout: &Layout) -> Result<PathBuf> {
    build(layout, &["tracer", LIVE])?;
    Ok(layout.static_program(LIVE))
}

/// Builds the program that is shipped together with the witnesses, and returns the witnesses' path.
pub(crate) fn build_with_witnesses(layout: &Layout) -> Result<PathBuf> {
    build(layout, &["tracer", WITNESS])?;
    Ok(layout.static_program(WITNESS))
}

/// Builds, then becomes `tracer run`: signals and the exit status are the tracer's.
pub(crate) fn run(layout: &Layout, arguments: &[OsString]) -> Result<Infallible> {
    let tracer = build_tracer(layout)?;
    let mut command = Command::new(&tracer);
    command.arg("run").args(arguments);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", tracer.display()))
}

/// Lints the workspace; a warning is an error.
pub(crate) fn clippy(layout: &Layout) -> Result<()> {
    let mut cargo = layout.cargo("clippy");
    run_command(cargo.args(["--workspace", "--all-targets", "--", "-Dwarnings"]))
}

/// Formats the workspace and the eBPF crate, which stands outside of it.
pub(crate) fn fmt(layout: &Layout, check: bool) -> Result<()> {
    let check: &[&str] = if check { &["--check"] } else { &[] };
    let ebpf = layout.ebpf_crate().join("Cargo.toml");
    let workspace = run_command(layout.cargo("fmt").arg("--all").args(check));
    // Both are looked at before the first failure is told.
    run_command(layout.cargo("fmt").arg("--manifest-path").arg(ebpf).args(check))?;
    workspace
}

/// Builds the eBPF programs and static host programs, and installs the tracer.
fn build(layout: &Layout, packages: &[&str]) -> Result<PathBuf> {
    let object = ebpf::build(layout, &setup::tools(layout)?)?;
    let mut cargo = layout.cargo("build");
    // Where tracer/build.rs takes the eBPF programs from; other builds do without them.
    cargo.env("TRACER_EBPF_OBJECT", object);
    cargo.args(["--release", "--target", HOST_TARGET]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    link_statically(&mut cargo);
    run_command(&mut cargo)?;
    let tracer = layout.tracer();
    replace(&layout.static_program("tracer"), &tracer)?;
    Ok(tracer)
}

/// Adds [`STATIC`] to the flags, whichever way the user gives his own.
fn link_statically(cargo: &mut Command) {
    // Cargo reads the first of these that is set and nothing else, so the flag must go there.
    for (name, separator) in [("CARGO_ENCODED_RUSTFLAGS", "\x1f"), ("RUSTFLAGS", " ")] {
        if let Some(mut flags) = env::var_os(name).filter(|flags| !flags.is_empty()) {
            eprintln!("xtask: adding {STATIC} to {name}");
            flags.push(separator);
            flags.push(STATIC);
            cargo.env(name, flags);
            return;
        }
    }
    // Joined with the flags of the user's configuration files.
    cargo.arg(format!("--config=target.{HOST_TARGET}.rustflags=[\"{STATIC}\"]"));
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
}

/// Puts a copy of `from` at `to` in one step: a running program keeps the old file.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("no folder to install into")?;
    fs::create_dir_all(folder)?;
    let new = to.with_extension("new");
    fs::copy(from, &new).with_context(|| format!("copying {}", from.display()))?;
    fs::rename(&new, to).with_context(|| format!("installing {}", to.display()))
}
