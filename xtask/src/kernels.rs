//! Kernels of other Debian releases, through this machine's own mirror.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    layout::Layout,
    mirror::{Mirror, find_file, remove},
    process::line,
    sources::Form,
};

/// The package that stands for a suite's newest kernel.
const META_PACKAGE: &str = "linux-image-amd64";

/// The module that a guest gets: disks in memory, for it to swap to. It needs no other module.
const MODULE: &str = "brd";

/// A kernel of the test matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kernel {
    /// What `--vm` calls it.
    pub(crate) name: &'static str,
    /// The Debian suite that carries it.
    suite: &'static str,
}

/// Every kernel the tests run on.
pub(crate) const MATRIX: [Kernel; 4] = [
    Kernel { name: "5.10", suite: "bullseye" },
    Kernel { name: "6.1", suite: "bookworm" },
    Kernel { name: "6.12", suite: "trixie" },
    Kernel { name: "newest", suite: "sid" },
];

/// A kernel ready to boot.
pub(crate) struct Image {
    pub(crate) vmlinuz: PathBuf,
    /// As Debian packs it: `brd.ko` or `brd.ko.xz`.
    pub(crate) module: PathBuf,
    /// As `uname -r` says it.
    pub(crate) version: String,
}

/// Kernels by name: `5.10,newest`.
pub(crate) fn select(names: &str) -> Result<Vec<Kernel>> {
    names
        .split(',')
        .map(|name| {
            MATRIX.into_iter().find(|kernel| kernel.name == name).with_context(|| {
                let known = MATRIX.map(|kernel| kernel.name).join(", ");
                format!("no kernel {name:?}; there are {known}")
            })
        })
        .collect()
}

/// The kernel from the cache, or else from the mirror. `newest` stays what it was when fetched.
pub(crate) fn fetch(layout: &Layout, kernel: Kernel) -> Result<Image> {
    let folder = layout.vm().join("kernels").join(kernel.name);
    // A kernel without a module was left by an older xtask.
    if find_file(&folder, MODULE)?.is_none() {
        eprintln!("xtask: fetching a {} kernel from Debian {}", kernel.name, kernel.suite);
        let work = layout.vm().join("apt").join(kernel.suite);
        remove(&work)?;
        download(&work, kernel).with_context(|| format!("kernel {}", kernel.name))?;
        fs::create_dir_all(layout.vm().join("kernels"))?;
        remove(&folder)?;
        fs::rename(work.join("kernel"), &folder)?;
        remove(&work)?;
    }
    let incomplete = || format!("{} is incomplete: delete it", folder.display());
    let version = fs::read_to_string(folder.join("version")).with_context(incomplete)?;
    let module = find_file(&folder, MODULE)?.with_context(incomplete)?;
    Ok(Image { vmlinuz: folder.join("vmlinuz"), module, version })
}

/// Leaves `vmlinuz`, the module and `version` in `work/kernel`.
fn download(work: &Path, kernel: Kernel) -> Result<()> {
    let mirror = Mirror::new(work, kernel.suite, Form::Binary)?;
    // A source that fails is of no account when another one has the package.
    let update = mirror.update();
    let packages = match packages(&mirror) {
        Ok(packages) => packages,
        Err(error) => {
            update?;
            return Err(error);
        }
    };
    let tree = work.join("tree");
    fs::create_dir(&tree)?;
    let vmlinuz = extract(&mirror.download(&packages.kernel)?, "vmlinuz", &tree)?;
    let module = extract(&mirror.download(&packages.modules)?, MODULE, &tree)?;
    let version = version_of(&vmlinuz).context("a vmlinuz without a version")?;
    let done = work.join("kernel");
    fs::create_dir(&done)?;
    fs::rename(&vmlinuz, done.join("vmlinuz"))?;
    fs::rename(&module, done.join(module.file_name().context("a module without a name")?))?;
    fs::write(done.join("version"), version)?;
    Ok(())
}

/// Where a kernel is; one package before 7.x.
struct Packages {
    kernel: String,
    modules: String,
}

/// Follows the dependencies of the meta package to those that have the kernel and its modules.
fn packages(mirror: &Mirror) -> Result<Packages> {
    let mut kernel = META_PACKAGE.to_owned();
    let mut modules = None;
    // Meta package, image, and since 7.x the binary.
    for _ in 0..3 {
        let depends = mirror.depends(&kernel)?;
        modules = dependency(&depends, "linux-modules-").or(modules);
        match kernel_dependency(&depends) {
            Some(next) => kernel = next,
            None => break,
        }
    }
    ensure!(kernel != META_PACKAGE, "the suite has no {META_PACKAGE}");
    Ok(Packages { modules: modules.unwrap_or_else(|| kernel.clone()), kernel })
}

/// The next package on the way to the kernel, in the words of `apt-cache depends`.
fn kernel_dependency(depends: &str) -> Option<String> {
    dependency(depends, "linux-binary-").or_else(|| dependency(depends, "linux-image-"))
}

/// The first dependency whose name begins so.
fn dependency(depends: &str, prefix: &str) -> Option<String> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// Takes the file whose name begins with `name` out of a package; the rest, hundreds of MiB, stays inside.
fn extract(package: &Path, name: &str, tree: &Path) -> Result<PathBuf> {
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--fsys-tarfile").arg(package).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut unpacking = unpack.spawn().with_context(|| line(&unpack))?;
    let archive = unpacking.stdout.take().context("dpkg-deb without output")?;
    let mut tar = Command::new("tar");
    // The folder first: tar reads its arguments in order.
    tar.arg("--directory").arg(tree).args(["--extract", "--wildcards"]).arg(format!("*/{name}*"));
    tar.stdin(archive);
    let status = tar.status().with_context(|| line(&tar))?;
    let unpacked = unpacking.wait()?;
    ensure!(status.success() && unpacked.success(), "{} has no {name}", package.display());
    find_file(tree, name)?.with_context(|| format!("no {name} in {}", package.display()))
}

/// From `boot/vmlinuz-VERSION` or `usr/lib/modules/VERSION/vmlinuz`.
fn version_of(vmlinuz: &Path) -> Option<String> {
    let name = vmlinuz.file_name()?.to_str()?;
    match name.strip_prefix("vmlinuz-") {
        Some(version) => Some(version.to_owned()),
        None => Some(vmlinuz.parent()?.file_name()?.to_str()?.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_kernel() {
        let meta = "linux-image-amd64\n  Depends: linux-base-amd64\n  Depends: linux-image-7.2-amd64\n";
        assert_eq!(kernel_dependency(meta).as_deref(), Some("linux-image-7.2-amd64"));
        let image = "linux-image-7.2-amd64\n  PreDepends: linux-base\n |Depends: dracut\n  \
                     Depends: linux-base-7.2-amd64\n  Depends: linux-binary-7.2-amd64\n";
        assert_eq!(kernel_dependency(image).as_deref(), Some("linux-binary-7.2-amd64"));
        let last = "linux-image-5.10.0-32-amd64\n  Depends: kmod\n  Conflicts: linux-image-x\n";
        assert_eq!(kernel_dependency(last), None);
        let split =
            "linux-image-7.2-amd64\n  Depends: linux-binary-7.2-amd64\n  Depends: linux-modules-7.2-amd64\n";
        assert_eq!(dependency(split, "linux-modules-").as_deref(), Some("linux-modules-7.2-amd64"));
    }

    #[test]
    fn the_version_is_in_the_path() {
        let version = |path| version_of(Path::new(path));
        assert_eq!(version("t/boot/vmlinuz-5.10.0-32-amd64").as_deref(), Some("5.10.0-32-amd64"));
        assert_eq!(
            version("t/usr/lib/modules/7.2.13+deb14-amd64/vmlinuz").as_deref(),
            Some("7.2.13+deb14-amd64")
        );
    }
}
