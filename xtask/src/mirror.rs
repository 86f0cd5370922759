//! Packages of this machine's own mirror, of any suite.
//!
//! apt runs with lists and a cache of its own under the target folder: the machine's are neither
//! read nor changed. Its signature checks are the usual ones, with the machine's keys.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{capture, run_within},
    sources::{self, Form, Source},
};

const UPDATE_LIMIT: Duration = Duration::from_secs(300);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// apt with its own lists, cache and status, for one suite.
pub(crate) struct Mirror {
    work: PathBuf,
    options: Vec<String>,
}

impl Mirror {
    pub(crate) fn new(work: &Path, suite: &str, form: Form) -> Result<Self> {
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(work.join(folder))?;
        }
        let release = release()?;
        let list = sources::rewrite(&machine_sources()?, &release, suite, form)
            .with_context(|| format!("apt has no source with the main component of {release}"))?;
        // The extension tells apt the format.
        fs::write(work.join("suite.sources"), list)?;
        fs::write(work.join("status"), "")?;
        let path = |name: &str| work.join(name).display().to_string();
        let options = vec![
            format!("Dir::State={}", path("state")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            format!("Dir::Etc::sourcelist={}", path("suite.sources")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            // The download user may not enter the folders above the work tree.
            "APT::Sandbox::User=root".into(),
            "APT::Architecture=amd64".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::Retries=2".into(),
        ];
        Ok(Self { work: work.to_path_buf(), options })
    }

    fn command(&self, program: &str, subcommand: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.work).arg("-qq").arg(subcommand);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// Reads the lists.
    pub(crate) fn update(&self) -> Result<()> {
        run_within(&mut self.command("apt-get", "update"), UPDATE_LIMIT)
    }

    /// The package file, its signed checksum verified by apt.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf> {
        run_within(self.command("apt-get", "download").arg(package), DOWNLOAD_LIMIT)?;
        find_file(&self.work, package)?.with_context(|| format!("apt-get left no file of {package}"))
    }

    /// What `apt-cache depends` says of a package.
    pub(crate) fn depends(&self, package: &str) -> Result<String> {
        capture(self.command("apt-cache", "depends").arg(package))
    }

    /// The upstream archive of a source package, its signed checksum verified by apt.
    pub(crate) fn download_source(&self, package: &str) -> Result<PathBuf> {
        let mut source = self.command("apt-get", "source");
        run_within(source.args(["--download-only", "--tar-only"]).arg(package), DOWNLOAD_LIMIT)?;
        find_file(&self.work, &format!("{package}_"))?
            .with_context(|| format!("apt-get left no archive of {package}"))
    }
}

/// A file whose name begins with `name`, anywhere below `folder`.
pub(crate) fn find_file(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    for entry in entries {
        let entry = entry?;
        let found = if entry.file_type()?.is_dir() {
            find_file(&entry.path(), name)?
        } else {
            entry.file_name().to_string_lossy().starts_with(name).then(|| entry.path())
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The code name of this machine's Debian.
pub(crate) fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let name = name.context("/etc/os-release has no VERSION_CODENAME: is this Debian?")?;
    Ok(name.trim_matches('"').to_owned())
}

/// Every source of the machine's apt configuration.
fn machine_sources() -> Result<Vec<Source>> {
    let mut found = read_sources(Path::new("/etc/apt/sources.list"))?;
    let mut parts = match fs::read_dir("/etc/apt/sources.list.d") {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => bail!("/etc/apt/sources.list.d: {error}"),
    };
    parts.sort();
    for file in parts {
        found.extend(read_sources(&file)?);
    }
    Ok(found)
}

fn read_sources(file: &Path) -> Result<Vec<Source>> {
    let parse = match file.extension().and_then(|extension| extension.to_str()) {
        Some("list") => sources::parse_list,
        Some("sources") => sources::parse_deb822,
        _ => return Ok(Vec::new()),
    };
    match fs::read_to_string(file) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => bail!("{}: {error}", file.display()),
    }
}

/// Removes a folder, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => bail!("{}: {error}", folder.display()),
        _ => Ok(()),
    }
}
