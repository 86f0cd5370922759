//! `bpf-linker`, built against the same LLVM as the compiler.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt,
    layout::Layout,
    process::{capture, find, run},
    toolchain::Toolchain,
};

const PROGRAM: &str = "bpf-linker";
const VERSION: &str = "0.13.0";

/// The LLVM versions that this bpf-linker can be built with.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// `$BPF_LINKER`, one on PATH, or our own in the target folder, which is built when missing.
pub(crate) fn ensure(layout: &Layout, toolchain: &Toolchain) -> Result<PathBuf> {
    if let Some(given) = env::var_os("BPF_LINKER") {
        let given = PathBuf::from(given);
        let version = version(&given).context("BPF_LINKER")?;
        if version != VERSION {
            eprintln!("xtask: warning: BPF_LINKER is {version}, made for {VERSION}");
        }
        return Ok(given);
    }
    if let Some(found) = find(PROGRAM).filter(|found| is_right(found)) {
        return Ok(found);
    }
    let llvm = toolchain.llvm;
    let root = layout.tools().join(format!("{PROGRAM}-{VERSION}-llvm-{llvm}"));
    let own = root.join("bin").join(PROGRAM);
    if !is_right(&own) {
        install(&root, llvm)?;
    }
    Ok(own)
}

fn install(root: &Path, llvm: u32) -> Result<()> {
    ensure!(
        LLVM.contains(&llvm),
        "{PROGRAM} {VERSION} knows LLVM {} to {}, and rustc has LLVM {llvm}; \
         set TRACER_EBPF_RUSTC to another rustc",
        LLVM.start(),
        LLVM.end()
    );
    let prefix = llvm_prefix(llvm)?;
    eprintln!("xtask: building {PROGRAM} {VERSION} with LLVM {llvm}: it links the eBPF programs");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["install", "--quiet", "--locked", PROGRAM])
        .arg(format!("--version={VERSION}"))
        .args(["--no-default-features", &format!("--features=llvm-{llvm}"), "--root"])
        .arg(root)
        .env("LLVM_PREFIX", prefix)
        // Cargo then builds in a folder of its own and removes it.
        .env_remove("CARGO_TARGET_DIR");
    run(&mut cargo)
}

/// Where LLVM's development files are.
fn llvm_prefix(llvm: u32) -> Result<PathBuf> {
    let find_config = || {
        [format!("llvm-config-{llvm}"), "llvm-config".to_owned()].into_iter().find(|program| {
            capture(Command::new(program).arg("--version"))
                .is_ok_and(|version| version.split('.').next() == Some(&*llvm.to_string()))
        })
    };
    let config = match find_config() {
        Some(config) => config,
        None => {
            apt::install(&[&format!("llvm-{llvm}-dev")], "building bpf-linker with rustc's LLVM")?;
            find_config().with_context(|| format!("llvm-config-{llvm} is not on PATH"))?
        }
    };
    let prefix = capture(Command::new(config).arg("--prefix"))?;
    Ok(PathBuf::from(prefix.trim()))
}

fn is_right(program: &Path) -> bool {
    version(program).is_ok_and(|version| version == VERSION)
}

fn version(program: &Path) -> Result<String> {
    let answer = capture(Command::new(program).arg("--version"))?;
    let version = parse_version(&answer);
    version.with_context(|| format!("{} --version says {answer:?}", program.display()))
}

/// The number in `bpf-linker 0.13.0`.
fn parse_version(answer: &str) -> Option<String> {
    answer.trim().strip_prefix(PROGRAM)?.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version() {
        assert_eq!(parse_version("bpf-linker 0.13.0\n").as_deref(), Some("0.13.0"));
        assert_eq!(parse_version("ld 2.40\n"), None);
    }
}
