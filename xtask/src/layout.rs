//! Where things are: the one place that joins paths.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

/// The rustc target of the shipped program.
///
/// It is always named, so that static linking does not reach build scripts and proc macros.
pub(crate) const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The rustc target of the eBPF programs.
pub(crate) const EBPF_TARGET: &str = "bpfel-unknown-none";

/// The folders of the workspace.
pub(crate) struct Layout {
    root: PathBuf,
    target: PathBuf,
}

impl Layout {
    /// Asks cargo's environment.
    pub(crate) fn find() -> Result<Self> {
        // At run time first: the clone may have moved since xtask was compiled.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask stands outside a workspace")?.to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(given) => std::path::absolute(given).context("CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The eBPF crate.
    pub(crate) fn ebpf_crate(&self) -> PathBuf {
        self.root.join("tracer-ebpf")
    }

    /// A text of the documentation.
    pub(crate) fn doc(&self, name: &str) -> PathBuf {
        self.root.join("docs").join(name)
    }

    /// Cargo's target folder for the eBPF crate.
    pub(crate) fn ebpf_target(&self) -> PathBuf {
        self.target.join("ebpf")
    }

    /// The linked eBPF programs.
    pub(crate) fn ebpf_object(&self) -> PathBuf {
        self.ebpf_target().join(EBPF_TARGET).join("release/tracer-ebpf")
    }

    /// A static program as cargo leaves it.
    pub(crate) fn static_program(&self, name: &str) -> PathBuf {
        self.target.join(HOST_TARGET).join("release").join(name)
    }

    /// The shipped program.
    pub(crate) fn tracer(&self) -> PathBuf {
        self.target.join("release/tracer")
    }

    /// Tools built for this workspace only.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Kernels, images and logs of the virtual machines.
    pub(crate) fn vm(&self) -> PathBuf {
        self.target.join("vm")
    }

    /// What the bench leaves behind.
    pub(crate) fn bench(&self) -> PathBuf {
        self.target.join("bench")
    }

    /// The document that tells what tracing costs.
    pub(crate) fn overhead(&self) -> PathBuf {
        self.root.join("docs/overhead.md")
    }

    /// The cargo that runs this task, at the root of the workspace.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).arg(subcommand);
        cargo
    }
}
