//! The tools that build the eBPF programs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    apt,
    layout::Layout,
    linker,
    process::find,
    toolchain::{self, Toolchain},
};

/// Everything the eBPF build needs.
pub(crate) struct Tools {
    pub(crate) toolchain: Toolchain,
    pub(crate) linker: PathBuf,
}

/// Finds the build tools and installs what is missing. When all are there, no network is used.
pub(crate) fn tools(layout: &Layout) -> Result<Tools> {
    let toolchain = toolchain::ensure()?;
    let linker = linker::ensure(layout, &toolchain)?;
    Ok(Tools { toolchain, linker })
}

/// Says which tools are used.
pub(crate) fn report(tools: &Tools) {
    let Tools { toolchain, linker } = tools;
    let Toolchain { rustc, cargo: _, release, llvm } = toolchain;
    eprintln!("xtask: rustc for eBPF: {} ({release}, LLVM {llvm})", rustc.display());
    eprintln!("xtask: linker for eBPF: {}", linker.display());
}

/// QEMU, for the tests in virtual machines.
pub(crate) fn qemu() -> Result<PathBuf> {
    const PROGRAM: &str = "qemu-system-x86_64";
    if find(PROGRAM).is_none() {
        apt::install(&["qemu-system-x86"], "the tests in virtual machines (or give --no-vm)")?;
    }
    find(PROGRAM).with_context(|| format!("{PROGRAM} is not on PATH"))
}

/// The clippy beside the compiler of the eBPF programs.
pub(crate) fn clippy(toolchain: &Toolchain) -> Result<PathBuf> {
    let program = toolchain.cargo.with_file_name("cargo-clippy");
    if !program.exists() && toolchain.rustc == Path::new(toolchain::DEBIAN_RUSTC) {
        apt::install(&["rust-web-clippy"], "linting the eBPF crate")?;
    }
    program
        .exists()
        .then_some(program)
        .with_context(|| format!("no cargo-clippy beside {}", toolchain.cargo.display()))
}
