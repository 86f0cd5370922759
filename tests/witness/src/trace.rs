//! Runs tracer and reads its lines.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

const POLL: Duration = Duration::from_millis(10);

/// Waits until `ready` gives something, for at most `limit`.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() > end {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// A folder that is removed when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one; a witness has a name of its own.
    pub(crate) fn new(witness: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("tracer-witness-{}-{witness}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The tracer that is heard.
fn tracer() -> Result<Command> {
    Ok(Command::new(env::var_os("TRACER_BIN").context("TRACER_BIN does not name a tracer")?))
}

/// A tracer that runs, with its files in a folder.
pub(crate) struct Trace {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Trace {
    /// Traces `command` and its descendants; without one, the whole machine.
    pub(crate) fn start<'a>(folder: &Path, command: impl IntoIterator<Item = &'a OsStr>) -> Result<Self> {
        let (output, errors) = (folder.join("lines"), folder.join("errors"));
        let mut words = command.into_iter().peekable();
        let mut tracer = tracer()?;
        tracer.arg("run").arg("--output").arg(&output);
        if words.peek().is_some() {
            tracer.arg("--").args(words);
        }
        // SAFETY: one system call without effect on this process's memory.
        unsafe {
            tracer.pre_exec(|| {
                // Should this program be killed, tracer ends, and passes the signal on to its command.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let child = tracer
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("stdout"))?)
            .stderr(File::create(&errors)?)
            .spawn()
            .context("starting tracer")?;
        Ok(Self { child, output, errors })
    }

    /// Traces this program in the role of `workload` to its end.
    pub(crate) fn workload(folder: &Path, workload: &str, limit: Duration) -> Result<Vec<Value>> {
        let this = env::current_exe()?;
        let words = [this.as_os_str(), workload.as_ref(), folder.as_os_str()];
        Self::start(folder, words)?.end(limit)
    }

    /// Waits until it has written its first line: from then on it sees everything.
    pub(crate) fn wait_hello(&mut self, limit: Duration) -> Result<()> {
        let output = self.output.clone();
        wait_for("the first line of tracer", limit, || {
            self.still_runs()?;
            Ok(fs::read(&output).unwrap_or_default().contains(&b'\n').then_some(()))
        })
    }

    /// An error with its last words, when it has ended.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("tracer ended with {status}: {}", self.complaint()),
            None => Ok(()),
        }
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) -> io::Result<()> {
        // SAFETY: a plain system call; the child is ours and not reaped.
        match unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for its end and reads all its lines.
    pub(crate) fn end(mut self, limit: Duration) -> Result<Vec<Value>> {
        let status = wait_for("the end of tracer", limit, || Ok(self.child.try_wait()?))
            .with_context(|| self.complaint())?;
        if !status.success() {
            bail!("tracer ended with {status}: {}", self.complaint());
        }
        self.prove()?;
        let text = fs::read_to_string(&self.output)?;
        text.lines().map(|line| serde_json::from_str(line).context("a line of tracer")).collect()
    }

    /// Its lines must prove that they are all there and agree with each other.
    fn prove(&self) -> Result<()> {
        let verified = tracer()?.arg("verify").arg(&self.output).output().context("starting tracer")?;
        let said = [verified.stdout, verified.stderr].concat();
        ensure!(verified.status.success(), "{}", String::from_utf8_lossy(&said));
        Ok(())
    }

    /// The file with what it and its command say on stderr.
    pub(crate) fn said(&self) -> PathBuf {
        self.errors.clone()
    }

    fn complaint(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if self.still_runs().is_ok() {
            // It passes the signal on to its command; killed, it would leave that behind.
            let _ = self.stop();
            let _ = wait_for("the end of tracer", Duration::from_secs(10), || Ok(self.child.try_wait()?));
        }
        // Both do nothing when its end was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lives that were told, and nothing else: an error when one of them is not complete.
pub(crate) fn timelines(lines: &[Value]) -> Result<Vec<&Value>> {
    let found: Vec<_> = lines.iter().filter(|line| is(line, "timeline")).collect();
    match found.iter().find(|line| line.pointer("/tracer/complete") != Some(&Value::Bool(true))) {
        Some(line) => bail!("not complete: {line}"),
        None => Ok(found),
    }
}

/// Whether `line` is of this kind.
pub(crate) fn is(line: &Value, action: &str) -> bool {
    line.pointer("/event/action").is_some_and(|have| have == action)
}

/// The count at `pointer`: 0 when the line leaves it out. One that is null is not known, and must not pass for one.
pub(crate) fn count(line: &Value, pointer: &str) -> Result<u64> {
    let mut value = line;
    for name in pointer.split('/').skip(1) {
        match value {
            Value::Object(fields) => match fields.get(name) {
                Some(field) => value = field,
                None => return Ok(0),
            },
            _ => bail!("no count at {pointer}: {line}"),
        }
    }
    value.as_u64().with_context(|| format!("no count at {pointer}: {line}"))
}

/// The sum of the counts at `pointers`.
pub(crate) fn sum(line: &Value, pointers: &[&str]) -> Result<u64> {
    pointers.iter().map(|pointer| count(line, pointer)).sum()
}

/// Whether it was born in the trace: not the command that tracer started itself.
pub(crate) fn is_forked(line: &Value) -> bool {
    line.pointer("/tracer/origin").is_some_and(|origin| origin == "fork")
}

/// The name at the end of a process.
pub(crate) fn name(line: &Value) -> &str {
    line.pointer("/process/name").and_then(Value::as_str).unwrap_or_default()
}

/// Every class of write faults that tracer tells apart: together they are all write faults.
pub(crate) fn write_faults(line: &Value) -> Result<u64> {
    const REFUSED: [&str; 3] = ["/tracer/faults/segv", "/tracer/faults/uffd", "/tracer/faults/failed"];
    Ok(resolved_write_faults(line)? + sum(line, &REFUSED)?)
}

/// Those after which the write was possible: the kernel counts them as minor or major faults.
pub(crate) fn resolved_write_faults(line: &Value) -> Result<u64> {
    const CLASSES: [&str; 9] = [
        "/tracer/cow/by/user",
        "/tracer/cow/by/kernel",
        "/tracer/cow/reuses",
        "/tracer/cow/zero_upgrades",
        "/tracer/faults/demand_zero",
        "/tracer/faults/file",
        "/tracer/faults/write_notify",
        "/tracer/faults/spurious",
        "/tracer/faults/lost_races",
    ];
    sum(line, &CLASSES)
}
