//! Runs tracer and reads what it wrote.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    init,
    stream::{Stream, at},
    temp::TempDir,
};

/// Names another program to be tested than the tracer that is linked into this one.
const PROGRAM: &str = "TRACER_BIN";
const POLL: Duration = Duration::from_millis(5);

/// Whether this is an emulated machine, where everything takes long.
pub(crate) fn in_vm() -> bool {
    std::env::var_os(init::VM).is_some()
}

/// How long something may take that takes about a second on a machine of today.
fn patience() -> Duration {
    Duration::from_secs(if in_vm() { 180 } else { 30 })
}

/// Waits until `ready` gives something.
fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() > end {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what}: not within {limit:?}")));
        }
        std::thread::sleep(POLL);
    }
}

/// A command line that starts tracer with `args`.
pub(crate) fn tracer(args: impl IntoIterator<Item = impl Into<OsString>>) -> io::Result<Command> {
    let mut command = match std::env::var_os(PROGRAM) {
        Some(program) => Command::new(program),
        None => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("tracer");
            command
        }
    };
    command.args(args.into_iter().map(Into::into));
    // SAFETY: one system call without effect on this process's memory.
    unsafe {
        command.pre_exec(|| {
            // The same addresses in every run, so that the same pages of the stack are touched.
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
            Ok(())
        });
    }
    // The C library's restartable sequences: the kernel writes to them at unforeseeable moments.
    command.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
    Ok(command)
}

/// A run of tracer to be made.
pub(crate) struct Plan {
    /// Where its files are.
    pub(crate) dir: TempDir,
    options: Vec<OsString>,
    command: Vec<OsString>,
    limit: Duration,
}

impl Plan {
    /// A run without options and command: the whole machine.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { dir: TempDir::new()?, options: Vec::new(), command: Vec::new(), limit: patience() })
    }

    /// A run of the workload `name`, which writes its facts.
    pub(crate) fn workload(name: &str) -> io::Result<Self> {
        let plan = Self::new()?;
        let facts = plan.dir.file("facts");
        Ok(plan.simple(name)?.arg(facts))
    }

    /// The workload `name` becomes the command.
    pub(crate) fn simple(self, name: &str) -> io::Result<Self> {
        let this = std::env::current_exe()?;
        Ok(self.arg(this).arg("workload").arg(name))
    }

    /// Adds a word to the command.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.command.push(arg.into());
        self
    }

    /// Adds an option of tracer.
    pub(crate) fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Another time limit.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> io::Result<Run> {
        self.start()?.end()
    }

    /// Starts it.
    pub(crate) fn start(self) -> io::Result<Live> {
        let output = self.dir.file("out.jsonl");
        self.start_with(output, None)
    }

    /// Starts it with its lines in `output`, or on a stdout that the caller made.
    pub(crate) fn start_with(self, output: PathBuf, stdout: Option<Stdio>) -> io::Result<Live> {
        let mut args: Vec<OsString> = vec!["run".into()];
        if stdout.is_none() {
            args.extend(["--output".into(), output.clone().into_os_string()]);
        }
        args.extend(self.options);
        if !self.command.is_empty() {
            args.push("--".into());
            args.extend(self.command);
        }
        let stdout = match stdout {
            Some(stdout) => stdout,
            None => File::create(self.dir.file("stdout"))?.into(),
        };
        let child = tracer(args)?
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(File::create(self.dir.file("stderr"))?)
            .current_dir(self.dir.path())
            .spawn()?;
        Ok(Live { dir: self.dir, child: Guard(child), output, limit: self.limit })
    }
}

/// A tracer that runs.
pub(crate) struct Live {
    /// Where its files are.
    pub(crate) dir: TempDir,
    child: Guard,
    output: PathBuf,
    limit: Duration,
}

impl Live {
    /// Waits until it traces: it has written its `hello`.
    pub(crate) fn wait_hello(&mut self) -> io::Result<()> {
        self.wait_line("hello", |line| at(line, "/event/action") == "hello")
    }

    /// Waits until it has written such a line.
    pub(crate) fn wait_line(&mut self, what: &str, found: impl Fn(&Value) -> bool) -> io::Result<()> {
        let output = self.output.clone();
        self.wait_until(what, || whole(&output).lines.iter().any(&found))
    }

    /// Waits until it has written `count` lines of a kind.
    pub(crate) fn wait_lines(&mut self, action: &str, count: usize) -> io::Result<()> {
        let output = self.output.clone();
        self.wait_until(action, || whole(&output).of(action).count() >= count)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Waits until something is so, as long as tracer runs.
    pub(crate) fn wait_until(&mut self, what: &str, so: impl Fn() -> bool) -> io::Result<()> {
        let result = wait_for(what, self.limit, || match self.child.0.try_wait()? {
            Some(status) => Err(io::Error::other(format!("{what}: tracer ended with {status}"))),
            None => Ok(so().then_some(())),
        });
        result.map_err(|error| explained(error, &self.dir))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        send(self.child.0.id(), signal)
    }

    /// Waits for its end and reads all it wrote.
    pub(crate) fn end(mut self) -> io::Result<Run> {
        let limit = self.limit;
        let status: ExitStatus = wait_for("the end of tracer", limit, || self.child.0.try_wait())
            .map_err(|error| explained(error, &self.dir))?;
        let facts = fs::read(self.dir.file("facts")).unwrap_or_default();
        let raw = fs::read(&self.output).unwrap_or_default();
        Ok(Run {
            stream: Stream::parse(&raw),
            stdout: fs::read(self.dir.file("stdout")).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&fs::read(self.dir.file("stderr"))?).into_owned(),
            code: status.code().or(status.signal().map(|signal| -signal)),
            facts: serde_json::from_slice(&facts).unwrap_or_default(),
            output: self.output,
            _dir: self.dir,
        })
    }
}

/// The whole lines of a file that is being written.
fn whole(output: &Path) -> Stream {
    let text = fs::read(output).unwrap_or_default();
    let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    Stream::parse(&text[..end])
}

/// Adds to an error what tracer said.
fn explained(error: io::Error, dir: &TempDir) -> io::Error {
    let stderr = fs::read_to_string(dir.file("stderr")).unwrap_or_default();
    io::Error::new(error.kind(), format!("{error}\nstderr:\n{stderr}"))
}

/// A child that does not outlive its test.
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts a workload that nobody traces by itself.
    pub(crate) fn workload(args: impl IntoIterator<Item = impl Into<OsString>>) -> io::Result<Self> {
        let args = args.into_iter().map(Into::into);
        Command::new(std::env::current_exe()?).arg("workload").args(args).spawn().map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Does nothing when the child was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a tracer left behind.
pub(crate) struct Run {
    /// Its lines.
    pub(crate) stream: Stream,
    /// What it and its command wrote to stdout.
    pub(crate) stdout: Vec<u8>,
    /// What they wrote to stderr.
    pub(crate) stderr: String,
    /// Its exit code; minus the signal when one killed it.
    pub(crate) code: Option<i32>,
    /// What the workload knows; null when it wrote nothing.
    pub(crate) facts: Value,
    output: PathBuf,
    /// Its files are there as long as this is.
    _dir: TempDir,
}

impl Run {
    /// What does not hold although it must in every stream, as `tracer verify` says.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut errors = self.stream.errors.clone();
        let verified = tracer(["verify".into(), self.output.clone().into_os_string()])
            .and_then(|mut command| command.output());
        match verified {
            Ok(verified) if verified.status.success() => {}
            Ok(verified) => {
                let said = [verified.stdout, verified.stderr].concat();
                errors.push(String::from_utf8_lossy(&said).into_owned());
            }
            Err(error) => errors.push(format!("tracer verify: {error}")),
        }
        errors
    }

    /// What was lost.
    pub(crate) fn losses(&self) -> impl Iterator<Item = String> {
        self.stream.of("lost").map(|line| format!("lost: {line}"))
    }
}

/// Sends a signal to a process.
fn send(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: a child of ours that is not yet reaped.
    match unsafe { libc::kill(pid as libc::pid_t, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A workload that runs beside tracer and acts when it is told to.
pub(crate) struct Workload {
    child: Child,
    input: Option<ChildStdin>,
}

impl Workload {
    /// Starts one that will make `children`, as user `uid` if that is not 0, and write `facts`.
    pub(crate) fn start(facts: PathBuf, children: u32, uid: u32) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["workload", "on-demand"])
            .arg(facts)
            .args([children.to_string(), uid.to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it do what it is for, then end, and waits for that.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        use io::Write as _;
        if let Some(mut input) = self.input.take() {
            input.write_all(b"x")?;
        }
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the workload ended with {status}")))
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input = None;
        let _ = self.child.wait();
    }
}
