//! The live tests on every kernel of the matrix.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    args::VmOptions,
    cases::Column,
    initramfs,
    kernels::{self, Kernel},
    layout::Layout,
    qemu::Guest,
    setup,
    test::Stage,
};

/// Each guest keeps one host processor busy.
const AT_ONCE: usize = 2;

/// How much of a failed guest's console is shown.
const TAIL_LINES: usize = 40;

/// Boots each chosen kernel with `init` and returns one stage per kernel, in the order given.
pub(crate) fn run(layout: &Layout, options: &VmOptions, init: &Path) -> Result<Vec<Stage>> {
    let bench = Bench::new(layout, options.tests.as_deref(), init)?;
    let queue = Mutex::new(options.kernels.iter().copied().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(options.kernels.len()) {
            scope.spawn(|| {
                // A `let` of its own, so that the queue is not locked while the guest runs.
                while let Some((index, kernel)) = next(&queue) {
                    let stage = bench.test(kernel);
                    done.lock().expect("no holder panics").push((index, stage));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no holder panics");
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, stage)| stage).collect())
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().expect("no holder panics").next()
}

/// What all guests share.
struct Bench<'a> {
    layout: &'a Layout,
    qemu: PathBuf,
    init: Vec<u8>,
    tests: Option<&'a str>,
}

impl<'a> Bench<'a> {
    fn new(layout: &'a Layout, tests: Option<&'a str>, init: &Path) -> Result<Self> {
        let qemu = setup::qemu(layout)?;
        fs::create_dir_all(layout.vm().join("logs"))?;
        let init = read(init)?;
        Ok(Self { layout, qemu, init, tests })
    }

    fn test(&self, kernel: Kernel) -> Stage {
        let start = Instant::now();
        let mut name = format!("vm {}", kernel.name);
        let (failure, cases) = match self.boot(kernel, &mut name) {
            Ok(found) => found,
            Err(error) => (Some(format!("{error:#}")), Vec::new()),
        };
        Stage::new(name, start, failure).with(cases)
    }

    /// Adds the version to `name` once it is known. The answer is why the guest failed, and its cases.
    fn boot(&self, kernel: Kernel, name: &mut String) -> Result<(Option<String>, Vec<Column>)> {
        let image = kernels::fetch(self.layout, kernel)?;
        *name = format!("{name} ({})", image.version);
        let initramfs = self.initramfs(kernel, &image.module)?;
        let log = self.layout.vm().join("logs").join(format!("{}.log", kernel.name));
        let guest = Guest {
            qemu: &self.qemu,
            vmlinuz: &image.vmlinuz,
            initramfs: &initramfs,
            tests: self.tests,
            log: &log,
        };
        let report = guest.run()?;
        for line in &report.results {
            println!("{name}: {line}");
        }
        if report.failure.is_some() {
            eprintln!("{}", tail(&report.console, name));
        }
        let cases = Column::read(&image.version, &report.console);
        Ok((report.failure.map(|why| format!("{why}; console: {}", log.display())), cases))
    }

    /// Writes the file system for a kernel and gives its path.
    fn initramfs(&self, kernel: Kernel, module: &Path) -> Result<PathBuf> {
        let name = module.file_name().and_then(OsStr::to_str).context("a module without a name")?;
        let image = initramfs::image(&self.init, (name, &read(module)?));
        let file = self.layout.vm().join(format!("{}.cpio", kernel.name));
        fs::write(&file, image).with_context(|| file.display().to_string())?;
        Ok(file)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| file.display().to_string())
}

/// The end of a console, each line prefixed, as one string: guests run at the same time.
fn tail(console: &str, name: &str) -> String {
    let lines: Vec<_> = console.lines().collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    let prefixed: Vec<_> =
        lines[start..].iter().map(|line| format!("{name} | {}", line.trim_end_matches('\r'))).collect();
    prefixed.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_short_and_prefixed() {
        let console: String = (0..100).map(|n| format!("line {n}\r\n")).collect();
        let tail = tail(&console, "vm 6.1");
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert_eq!(tail.lines().last(), Some("vm 6.1 | line 99"));
    }
}
