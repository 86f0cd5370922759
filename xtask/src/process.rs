//! Running other programs. A failure names the whole command; nothing reads standard input.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// A program that only answers a question gets this long.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// What a program printed before its end is read within this time.
const LAST_WORDS: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Runs `command` to its end and wants success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| line(command))?;
    succeeded(command, status)
}

/// Like [`run`], but kills the program at the limit.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| line(command))?;
    match wait(&mut child, limit)? {
        Some(status) => succeeded(command, status),
        None => bail!("`{}` was killed after {} s", line(command), limit.as_secs()),
    }
}

/// Like [`run`], but kills the program at the limit, and keeps what it prints, which is seen at once all the same.
pub(crate) fn run_and_keep(command: &mut Command, limit: Duration) -> (Result<()>, String) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let result = run_and_copy(command, limit, &kept);
    let kept = kept.lock().expect("no holder panics");
    (result, String::from_utf8_lossy(&kept).into_owned())
}

fn run_and_copy(command: &mut Command, limit: Duration, kept: &Arc<Mutex<Vec<u8>>>) -> Result<()> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| line(command))?;
    let (kept, mut pipe) = (Arc::clone(kept), child.stdout.take());
    let copier = thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Some(count @ 1..) = pipe.as_mut().and_then(|pipe| pipe.read(&mut bytes).ok()) {
            let mut stdout = io::stdout().lock();
            // A terminal that is gone does not stop the tests.
            let _ = stdout.write_all(&bytes[..count]).and_then(|()| stdout.flush());
            kept.lock().expect("no holder panics").extend_from_slice(&bytes[..count]);
        }
    });
    let status = wait(&mut child, limit)?;
    // A process that it left behind may hold the pipe open for longer.
    let end = Instant::now() + LAST_WORDS;
    while !copier.is_finished() && Instant::now() < end {
        thread::sleep(POLL);
    }
    match status {
        Some(status) => succeeded(command, status),
        None => bail!("`{}` was killed after {} s", line(command), limit.as_secs()),
    }
}

/// The standard output of a short command.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| line(command))?;
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let Some(status) = wait(&mut child, ANSWER_LIMIT)? else {
        bail!("`{}` did not answer within {} s", line(command), ANSWER_LIMIT.as_secs());
    };
    let text = |thread: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    succeeded(command, status).with_context(|| stderr.trim().to_owned())?;
    Ok(stdout)
}

/// Waits for `child`; at the limit it is killed and the answer is `None`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        // Writing to a String cannot fail.
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    line
}

/// Looks for a program on PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file))
}

/// Whether `file` can be run.
pub(crate) fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed: {status}", line(command))
}

/// Empties a pipe, so that the writer never waits for us.
fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capture_returns_the_output_or_says_what_failed() {
        assert_eq!(capture(Command::new("sh").args(["-c", "echo hi"])).unwrap(), "hi\n");
        let error = capture(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("why") && text.contains("exit 3") && text.contains("status: 3"));
    }

    #[test]
    fn what_was_printed_is_kept_also_of_a_failure() {
        let (result, printed) =
            run_and_keep(Command::new("sh").args(["-c", "echo hi; exit 3"]), Duration::from_secs(60));
        assert!(result.is_err());
        assert_eq!(printed, "hi\n");
        let (result, printed) = run_and_keep(
            Command::new("sh").args(["-c", "echo hi; exec sleep 60"]),
            Duration::from_millis(300),
        );
        assert!(format!("{:#}", result.unwrap_err()).contains("killed"));
        assert_eq!(printed, "hi\n");
    }

    #[test]
    fn a_program_over_its_limit_is_killed() {
        let start = Instant::now();
        let error = run_within(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert!(error.is_err());
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
