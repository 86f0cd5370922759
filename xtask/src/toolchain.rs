//! The compiler of the eBPF programs: a rustc that comes with the sources of its library.
//!
//! No toolchain ships a `core` for `bpfel-unknown-none`, so it is compiled from those sources.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt,
    process::{capture, find, is_program, run_within},
};

/// Where Debian's packages put rustc.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The file that tells whether the sources are there.
const SOURCES: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";

const RUSTUP_LIMIT: Duration = Duration::from_secs(600);

/// A rustc, the cargo that belongs to it and the LLVM inside.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) release: String,
    /// LLVM's major version. The linker must be built with the same.
    pub(crate) llvm: u32,
}

/// The first usable toolchain; when there is none, one is installed.
pub(crate) fn ensure() -> Result<Toolchain> {
    if let Some(rustc) = env::var_os("TRACER_EBPF_RUSTC") {
        return inspect(Path::new(&rustc)).context("TRACER_EBPF_RUSTC");
    }
    if let Some(found) = search() {
        return Ok(found);
    }
    install()?;
    search().context(
        "no rustc with its library sources; install one by \
         `rustup toolchain install nightly --component rust-src` or Debian's \
         rustc-web, cargo-web and rust-web-src, or set TRACER_EBPF_RUSTC",
    )
}

/// Rustup's nightly, then Debian's.
fn search() -> Option<Toolchain> {
    let nightly = nightly_sysroot().map(|sysroot| sysroot.join("bin/rustc"));
    nightly.into_iter().chain([DEBIAN_RUSTC.into()]).find_map(|rustc| inspect(&rustc).ok())
}

/// Looks at one rustc.
fn inspect(rustc: &Path) -> Result<Toolchain> {
    let sysroot = capture(Command::new(rustc).args(["--print", "sysroot"]))?;
    let sysroot = Path::new(sysroot.trim());
    ensure!(sysroot.join(SOURCES).exists(), "{} has no library sources", rustc.display());
    // A rustup proxy answers for the real program: take that, it needs no environment.
    let real = sysroot.join("bin/rustc");
    let rustc = if is_program(&real) { real } else { rustc.to_path_buf() };
    let cargo = rustc.with_file_name("cargo");
    ensure!(is_program(&cargo), "there is no cargo beside {}", rustc.display());
    let version = capture(Command::new(&rustc).arg("-vV"))?;
    let (release, llvm) =
        parse_version(&version).with_context(|| format!("{} -vV: no LLVM version", rustc.display()))?;
    Ok(Toolchain { rustc, cargo, release, llvm })
}

/// The lines `release: 1.96.0` and `LLVM version: 22.1.8` of `rustc -vV`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name| text.lines().find_map(|line: &str| line.strip_prefix(name));
    let release = field("release: ")?.to_owned();
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((release, llvm))
}

fn nightly_sysroot() -> Option<PathBuf> {
    find("rustup")?;
    let mut rustup = Command::new("rustup");
    rustup.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    capture(&mut rustup).ok().map(|sysroot| PathBuf::from(sysroot.trim()))
}

/// Adds the sources to a nightly that is there, else takes Debian's compiler, else a new nightly.
///
/// Debian's goes before a new nightly: its LLVM is packaged too, and it changes nothing of rustup's.
fn install() -> Result<()> {
    const WHY: &str = "the eBPF programs are compiled together with Rust's core library";
    if nightly_sysroot().is_some() {
        eprintln!("xtask: adding rust-src to rustup's nightly: {WHY}");
        let added = rustup(&["component", "add", "rust-src", "--toolchain", "nightly"]);
        match added {
            Ok(()) => return Ok(()),
            Err(error) if apt::available() => eprintln!("xtask: {error:#}; trying apt"),
            Err(error) => return Err(error),
        }
    }
    if apt::available() {
        return apt::install(&["rustc-web", "cargo-web", "rust-web-src"], WHY);
    }
    if find("rustup").is_some() {
        eprintln!("xtask: installing rustup's nightly with rust-src: {WHY}");
        let profile = ["toolchain", "install", "nightly", "--profile", "minimal"];
        return rustup(&[&profile[..], &["--component", "rust-src,clippy"]].concat());
    }
    bail!("neither rustup nor apt-get is here to install a rustc with library sources: {WHY}")
}

fn rustup(arguments: &[&str]) -> Result<()> {
    run_within(Command::new("rustup").args(arguments), RUSTUP_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_release_and_llvm_major() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\n\
                    LLVM version: 22.1.8\n";
        assert_eq!(parse_version(text), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(parse_version("release: 1.96.0\n"), None);
        assert_eq!(parse_version("release: 1.96.0\nLLVM version: new\n"), None);
    }

    #[test]
    fn a_rustc_that_is_not_there_is_an_error() {
        let error = inspect(Path::new("/nonexistent/rustc")).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/rustc"));
    }
}
