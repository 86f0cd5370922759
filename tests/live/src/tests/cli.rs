//! The command line as a user meets it, with a kernel behind it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use libtest_mimic::{Failed, Trial};

use super::trial;
use crate::{
    check::{Check, Outcome},
    harness::{Plan, Run, tracer},
    init,
    stream::{Stream, at},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("cli::exit_status", exit_status),
        trial("cli::exit_status_by_signal", exit_status_by_signal),
        trial("cli::command_not_found", command_not_found),
        trial("cli::command_not_executable", command_not_executable),
        trial("cli::stdout_is_the_commands", stdout_is_the_commands),
        trial("cli::default_output", default_output),
        trial("cli::signals_are_forwarded", signals_are_forwarded),
        trial("cli::interrupt_drains", || stopped_by(libc::SIGINT)),
        trial("cli::terminate_drains", || stopped_by(libc::SIGTERM)),
        trial("cli::closed_stdout", closed_stdout),
        trial("cli::full_disk", full_disk),
        trial("cli::unwritable_output", unwritable_output),
        trial("cli::not_root", not_root),
        trial("cli::no_btf", no_btf),
        trial("cli::recording_replays", recording_replays),
        trial("cli::compact_lines", compact_lines),
    ]
}

/// The only timeline of a run whose command makes no children.
fn root<'a>(check: &mut Check<'a>, run: &'a Run) -> &'a serde_json::Value {
    let timelines = run.stream.timelines();
    check.same("timelines", timelines.len(), 1);
    timelines.first().copied().unwrap_or(&serde_json::Value::Null)
}

fn exit_status() -> Outcome {
    let run = Plan::new()?.simple("exit")?.arg("7").run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(7));
    let line = root(&mut check, &run);
    check.field(line, "/process/exit_code", 7);
    check.field(line, "/tracer/origin", "command");
    check.field(line, "/tracer/exec/seq", 1);
    let bye = run.stream.lines.last().unwrap_or(&serde_json::Value::Null);
    check.field(bye, "/tracer/reason", "command");
    check.done()
}

fn exit_status_by_signal() -> Outcome {
    let run = Plan::new()?.simple("kill")?.arg("9").run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(128 + 9));
    let line = root(&mut check, &run);
    check.field(line, "/process/exit_code", serde_json::Value::Null);
    check.field(line, "/tracer/exit/signal", "SIGKILL");
    check.field(line, "/tracer/exit/via", "signal");
    check.done()
}

/// An error is one line that says what, why and what to do; never a panic.
fn one_error(check: &mut Check<'_>, stderr: &str) {
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("tracer: ")).collect();
    check.same("error lines", errors.len(), 1);
    check.that(errors.iter().all(|line| line.contains(';')), format!("no advice in {errors:?}"));
    check.that(!stderr.contains("panicked"), "a panic");
}

fn command_not_found() -> Outcome {
    let run = Plan::new()?.arg("/no/such/program").run()?;
    let mut check = Check::bare(&run);
    check.same("exit code", run.code, Some(127));
    one_error(&mut check, &run.stderr);
    check.done()
}

fn command_not_executable() -> Outcome {
    let plan = Plan::new()?;
    let file = plan.dir.file("data");
    fs::write(&file, "data")?;
    let run = plan.arg(file).run()?;
    let mut check = Check::bare(&run);
    check.same("exit code", run.code, Some(126));
    one_error(&mut check, &run.stderr);
    check.done()
}

fn stdout_is_the_commands() -> Outcome {
    let run = Plan::new()?.simple("print")?.arg("no line end").run()?;
    let mut check = Check::new(&run);
    check.same("stdout", String::from_utf8_lossy(&run.stdout).as_ref(), "no line end");
    check.same("exit code", run.code, Some(0));
    check.that(!run.stderr.is_empty(), "no summary on stderr");
    check.done()
}

/// With a command the lines go to `tracer.jsonl`; a file of that name is kept.
fn default_output() -> Outcome {
    let plan = Plan::new()?.simple("exit")?.arg("0");
    let (new, old) = (plan.dir.file("tracer.jsonl"), plan.dir.file("tracer.jsonl.old"));
    fs::write(&new, "kept\n")?;
    let run = plan.start_with(new, Some(Stdio::null()))?.end()?;
    let mut check = Check::new(&run);
    check.same("old file", fs::read_to_string(old).ok().as_deref(), Some("kept\n"));
    root(&mut check, &run);
    check.done()
}

fn signals_are_forwarded() -> Outcome {
    let plan = Plan::workload("sigterm")?;
    let ready = plan.dir.file("facts");
    let mut live = plan.start()?;
    live.wait_until("the command", || ready.exists())?;
    live.signal(libc::SIGTERM)?;
    let run = live.end()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(42));
    let line = root(&mut check, &run);
    check.field(line, "/process/exit_code", 42);
    check.done()
}

/// A process that began and ended before the signal is in the stream, however soon the signal came.
fn stopped_by(signal: i32) -> Outcome {
    let mut live = Plan::new()?.start()?;
    let program = live.dir.link_self("true")?;
    live.wait_hello()?;
    let mut child = Command::new(&program).arg("before the signal").spawn()?;
    let pid = child.id();
    child.wait()?;
    live.signal(signal)?;
    let run = live.end()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    if let Some(line) = check.timeline(pid.into()) {
        check.field(line, "/process/args/1", "before the signal");
        check.field(line, "/process/parent/pid", std::process::id());
        check.field(line, "/process/exit_code", 0);
        check.field(line, "/tracer/complete", true);
    }
    let bye = run.stream.lines.last().unwrap_or(&serde_json::Value::Null);
    check.field(bye, "/tracer/reason", "signal");
    check.done()
}

/// As with `| head -1`.
fn closed_stdout() -> Outcome {
    let (read, write) = std::io::pipe()?;
    let live = Plan::new()?.start_with(PathBuf::new(), Some(write.into()))?;
    let program = live.dir.link_self("true")?;
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    drop(reader);
    for _ in 0..10 {
        Command::new(&program).status()?;
    }
    let run = live.end()?;
    let mut check = Check::bare(&run);
    check.same("exit code", run.code, Some(0));
    check.that(!run.stderr.contains("panicked"), "a panic");
    check.same("action", at(&Stream::parse(&line).lines[0], "/event/action").as_str(), Some("hello"));
    check.done()
}

/// A file system that is unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn small(place: PathBuf) -> Result<Self, Failed> {
        init::mount("tmpfs", &place.to_string_lossy(), "size=64k")?;
        Ok(Self(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let path = crate::workload::sys::text(&self.0);
        // SAFETY: a NUL-terminated path.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

fn full_disk() -> Outcome {
    let plan = Plan::new()?.simple("many")?.arg("400");
    let mounted = Mounted::small(plan.dir.file("small"))?;
    let output = mounted.0.join("out.jsonl");
    let run =
        plan.option("--output").option(output.clone()).start_with(output, Some(Stdio::null()))?.end()?;
    drop(mounted);
    let mut check = Check::bare(&run);
    check.same("exit code", run.code, Some(1));
    one_error(&mut check, &run.stderr);
    check.same("torn lines", &run.stream.errors, &vec![]);
    let lines = run.stream.lines.len();
    check.that(lines > 10, format!("{lines} lines in 64 KiB"));
    for (index, line) in run.stream.lines.iter().enumerate() {
        check.field(line, "/event/sequence", index + 1);
    }
    check.done()
}

fn unwritable_output() -> Outcome {
    let plan = Plan::new()?.option("--output").option("/proc/no/such/place").simple("exit")?.arg("0");
    let run = plan.start_with(PathBuf::new(), Some(Stdio::null()))?.end()?;
    let mut check = Check::bare(&run);
    check.same("exit code", run.code, Some(1));
    one_error(&mut check, &run.stderr);
    check.done()
}

/// A copy of the program that anybody may run, by somebody who may nothing.
fn not_root() -> Outcome {
    let plan = Plan::new()?;
    let started = tracer(["run"])?;
    let copy = plan.dir.file("copy");
    fs::copy(Path::new(started.get_program()), &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(plan.dir.path(), fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(copy);
    let output = command.args(started.get_args()).uid(65_534).gid(65_534).current_dir("/").output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let errors = stderr.lines().filter(|line| line.starts_with("tracer: ")).count();
    if output.status.code() == Some(77) && errors == 1 && output.stdout.is_empty() {
        return Ok(());
    }
    Err(format!("want exit code 77 and one error line: {output:?}").into())
}

/// A kernel that does not tell its types: they are covered up, for this run only.
fn no_btf() -> Outcome {
    let mut command = tracer(["run"])?;
    // SAFETY: between fork and exec only system calls are made, with strings that are constants.
    unsafe {
        command.pre_exec(|| {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let (none, tmpfs) = (c"none".as_ptr(), c"tmpfs".as_ptr());
            let covered = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(none, c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) == 0
                && libc::mount(none, c"/sys/kernel/btf".as_ptr(), tmpfs, 0, std::ptr::null()) == 0;
            if covered { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(69) && stderr.lines().count() == 1 && stderr.contains("/sys/kernel/btf") {
        return Ok(());
    }
    Err(format!("want exit code 69 and one line on BTF: {output:?}").into())
}

/// What was recorded gives the same timelines again.
/// A compact line says what the whole line of the same life says, and each stream is proven.
fn compact_lines() -> Outcome {
    let plan = Plan::workload("fork")?.arg("5");
    let recording = plan.dir.file("recording");
    let run = plan.option("--compact").option("--record").option(&recording).run()?;
    let mut check = Check::new(&run);
    let output = tracer(["replay".into(), recording.into_os_string()])?.stderr(Stdio::inherit()).output()?;
    let whole = Stream::parse(&output.stdout);
    check.same("timelines", run.stream.timelines().len(), 6);
    check.same("timelines of the replay", whole.timelines().len(), 6);
    for line in run.stream.timelines() {
        let id = at(line, "/process/entity_id");
        let same = whole.timelines().into_iter().find(|other| at(other, "/process/entity_id") == id);
        let Some(same) = same else {
            check.fail(format_args!("no whole line of {id}"));
            continue;
        };
        for field in [
            "/@timestamp",
            "/event/duration",
            "/process/pid",
            "/process/name",
            "/process/exit_code",
            "/process/parent",
            "/tracer/complete",
            "/tracer/fork/kind",
            "/tracer/cow/copies",
            "/tracer/cow/bytes",
        ] {
            check.field(line, field, at(same, field).clone());
        }
        // Absent when it is 0.
        let reuses = at(same, "/tracer/cow/reuses").clone();
        check.field(line, "/tracer/cow/reuses", if reuses == 0 { serde_json::Value::Null } else { reuses });
        check.that(at(line, "/process/args").is_null(), "a compact line has arguments");
    }
    check.done()
}

fn recording_replays() -> Outcome {
    let plan = Plan::workload("fork")?.arg("5");
    let recording = plan.dir.file("recording");
    let run = plan.option("--record").option(&recording).run()?;
    let mut check = Check::new(&run);
    let output = tracer(["replay".into(), recording.into_os_string()])?.stderr(Stdio::inherit()).output()?;
    let again = Stream::parse(&output.stdout);
    check.same("exit code of the replay", output.status.code(), Some(0));
    let strip = |stream: &Stream| -> Vec<_> {
        let mut lines: Vec<_> = stream.timelines().into_iter().cloned().collect();
        for line in &mut lines {
            line["event"]["sequence"] = 0.into();
        }
        lines
    };
    check.that(strip(&again) == strip(&run.stream), "the timelines of the replay are others");
    check.same("timelines", again.timelines().len(), 6);
    check.done()
}
