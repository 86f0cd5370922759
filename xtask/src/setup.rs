//! The tools that build the eBPF programs.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt,
    layout::Layout,
    linker,
    process::{capture, find},
    toolchain::{self, Toolchain},
};

const QEMU: &str = "qemu-system-x86_64";

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

/// QEMU, for the tests in virtual machines: the machine's, or Debian's, which is unpacked into the target folder where
/// it cannot stand beside what is installed.
pub(crate) fn qemu(layout: &Layout) -> Result<PathBuf> {
    const PACKAGE: &str = "qemu-system-x86";
    if let Some(found) = find(QEMU) {
        return Ok(found);
    }
    let folder = layout.tools().join(PACKAGE);
    let own = folder.join(QEMU);
    if own.exists() {
        return Ok(own);
    }
    if let Some(plan) = apt::plan(&[PACKAGE]).filter(|plan| !plan.removes.is_empty()) {
        let in_the_way = plan.removes.join(", ");
        eprintln!(
            "xtask: unpacking {PACKAGE} into {}: {in_the_way} would have to go for it",
            folder.display()
        );
        plan.unpack(&folder).context(PACKAGE)?;
        return unpacked(&own).map(|()| own);
    }
    apt::install(&[PACKAGE], "the tests in virtual machines (or give --no-vm)")?;
    find(QEMU).with_context(|| format!("{QEMU} is not on PATH"))
}

/// Leaves a program at `own` that runs the QEMU beside it with the libraries that are there.
fn unpacked(own: &Path) -> Result<()> {
    // The folder may be moved.
    let script = format!(
        "#!/bin/sh\n\
         here=$(dirname \"$(readlink -f \"$0\")\")\n\
         LD_LIBRARY_PATH=\"$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu\" exec \"$here/usr/bin/{QEMU}\" \"$@\"\n",
    );
    // Not there before it is whole.
    let unfinished = own.with_extension("new");
    fs::write(&unfinished, script).with_context(|| unfinished.display().to_string())?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
    let answer = capture(Command::new(&unfinished).arg("--version")).context("QEMU as it was unpacked")?;
    ensure!(answer.starts_with("QEMU"), "{} says {answer:?}", unfinished.display());
    fs::rename(&unfinished, own).with_context(|| own.display().to_string())
}

/// Redis, for the comparison with its own counts.
///
/// Debian's package of the server would start one. Its tools are the same program under another name, so they
/// are enough: what it is called by decides what it does.
pub(crate) fn redis(layout: &Layout) -> Result<PathBuf> {
    const SERVER: &str = "redis-server";
    const TOOL: &str = "redis-check-rdb";
    if let Some(server) = find(SERVER) {
        return Ok(server);
    }
    if find(TOOL).is_none() {
        apt::install(&["redis-tools"], "the comparison with Redis's own counts")?;
    }
    let tool = find(TOOL).with_context(|| format!("{TOOL} is not on PATH"))?;
    let tools = layout.tools();
    fs::create_dir_all(&tools).with_context(|| tools.display().to_string())?;
    let server = tools.join(SERVER);
    if !server.exists() {
        // One that leads nowhere is replaced.
        let _ = fs::remove_file(&server);
        symlink(&tool, &server).with_context(|| server.display().to_string())?;
    }
    Ok(server)
}

/// stress-ng, for the comparison with its own counts.
pub(crate) fn stress_ng() -> Result<PathBuf> {
    const PROGRAM: &str = "stress-ng";
    if find(PROGRAM).is_none() {
        apt::install(&[PROGRAM], "the comparison with stress-ng's own counts")?;
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
