//! The C project that the bench builds: Lua, of whose source Debian has what its authors publish.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    mirror::{self, Mirror},
    process::run,
    sources::Form,
};

/// The source package, and the name of the folder.
const PACKAGE: &str = "lua5.4";

/// Makes sure that the project is in `folder`.
pub(crate) fn ensure(folder: &Path) -> Result<()> {
    let project = folder.join(PACKAGE);
    if project.exists() {
        return Ok(());
    }
    eprintln!("xtask: fetching the source of {PACKAGE} from Debian: the bench builds it");
    let work = folder.join("apt");
    mirror::remove(&work)?;
    let mirror = Mirror::new(&work, &mirror::release()?, Form::Source)?;
    mirror.update()?;
    let archive = mirror.download_source(PACKAGE)?;
    let tree = work.join("tree");
    fs::create_dir(&tree).with_context(|| tree.display().to_string())?;
    let mut tar = Command::new("tar");
    run(tar
        .arg("--directory")
        .arg(&tree)
        .args(["--extract", "--strip-components=1", "--file"])
        .arg(&archive))?;
    ensure!(tree.join("src/Makefile").exists(), "{} has no src/Makefile", archive.display());
    fs::rename(&tree, &project).with_context(|| project.display().to_string())?;
    mirror::remove(&work)
}
