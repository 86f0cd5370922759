//! Building the eBPF programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    layout::{EBPF_TARGET, Layout},
    process::run,
    setup::{self, Tools},
};

/// Builds the programs and returns the object file.
pub(crate) fn build(layout: &Layout, tools: &Tools) -> Result<PathBuf> {
    run(&mut cargo(layout, tools, &tools.toolchain.cargo, "build")).with_context(|| {
        format!(
            "the eBPF programs do not build (if the linker cannot read the bitcode: {} must be \
             built with LLVM {})",
            tools.linker.display(),
            tools.toolchain.llvm
        )
    })?;
    let object = layout.ebpf_object();
    ensure!(object.exists(), "cargo left no {}", object.display());
    Ok(object)
}

/// Lints the programs; a warning is an error.
pub(crate) fn clippy(layout: &Layout, tools: &Tools) -> Result<()> {
    // Not `cargo clippy`: cargo would take the first cargo-clippy of PATH, maybe another version's.
    let program = setup::clippy(&tools.toolchain)?;
    run(cargo(layout, tools, &program, "clippy").args(["--", "-Dwarnings"]))
}

/// A command of the eBPF toolchain, free of what the calling cargo and rustup left behind.
fn cargo(layout: &Layout, tools: &Tools, program: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(layout.ebpf_crate())
        .args([subcommand, "--release", "--locked", "-Zbuild-std=core", "--target", EBPF_TARGET])
        .arg("--target-dir")
        .arg(layout.ebpf_target())
        .env("RUSTC", &tools.toolchain.rustc)
        .env("CARGO", &tools.toolchain.cargo)
        // The unstable -Zbuild-std, also with a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&tools.linker))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// Compiler flags, in the form of `CARGO_ENCODED_RUSTFLAGS`.
fn flags(linker: &Path) -> String {
    [
        // aya-ebpf chooses the layout of `pt_regs` by it.
        "--cfg=bpf_target_arch=\"x86_64\"",
        "-Cdebuginfo=2",
        &format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf",
        // Without it a constant-size memset or memcpy is a call to a byte loop.
        "-Clink-arg=--disable-expand-memcpy-in-order",
    ]
    .join("\x1f")
}
