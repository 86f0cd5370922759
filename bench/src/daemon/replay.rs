//! The speed of user space: decode, lifecycle and lines, without a kernel and without a disk.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ChildStdin, Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Finding,
    recording::{Recording, record},
};
use crate::{
    session::Session,
    statistics::Spread,
    tool::{RECORDING, Tool},
};

/// What a replay took.
pub(super) struct Replayed {
    pub(super) cpu_ns: u64,
    pub(super) peak_rss_bytes: u64,
}

/// Replays what `write` writes, through a pipe: no file has to be that long.
pub(super) fn replay(
    tracer: &Path,
    write: impl FnOnce(&mut BufWriter<ChildStdin>) -> Result<()> + Send,
) -> Result<Replayed> {
    let mut command = Command::new(tracer);
    command.args(["replay", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().context("tracer replay")?;
    let input = child.stdin.take().context("no input of a replay")?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&mut BufWriter::with_capacity(1 << 20, input)));
        let mut status = 0;
        // SAFETY: plain integers, written by the call; the child is ours and nobody else waits for it.
        let (reaped, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage), usage)
        };
        ensure!(reaped > 0, "a replay cannot be waited for: {}", io::Error::last_os_error());
        let status = ExitStatus::from_raw(status);
        ensure!(status.success(), "a replay ended with {status}");
        writer.join().ok().context("the recording's writer failed")??;
        let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
        let peak_rss_bytes = usage.ru_maxrss as u64 * 1024;
        Ok(Replayed { cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime), peak_rss_bytes })
    })
}

/// Records storms of forks and execs, and takes the recording away again.
pub(super) fn storm(session: &Session, times: u64) -> Result<Recording> {
    record(session, &Tool::tracer("recording", "full", &["--record", RECORDING]), times)
}

pub(super) fn run(session: &Session) -> Result<Finding> {
    let (recording, tracer) = (storm(session, 2)?, &session.place.tracer);
    let mut rates = Vec::new();
    for _ in 0..if session.is_quick() { 3 } else { 9 } {
        let replayed = replay(tracer, |out| Ok(recording.repeat(recording.len(), out)?))?;
        rates.push(recording.len() as f64 * 1e9 / replayed.cpu_ns as f64);
    }
    let rate = Spread::of(rates).context("no replay")?;
    let columns = ["events", "events/s of CPU time", "CPU per event", "instructions per event"];
    let mut finding = Finding::new("replay", "Replay", &columns);
    finding.note =
        "Forks, and execs after fork and vfork, recorded once and replayed to /dev/null; instructions by \
                    callgrind, the difference of a long and a short replay."
            .to_owned();
    let instructions = match instructions(session, &recording) {
        Ok(each) => format!("{each:.0}"),
        Err(error) => format!("not counted: {error:#}"),
    };
    finding.rows.push(vec![
        recording.len().to_string(),
        format!("{:.0} ({:.0} to {:.0})", rate.median, rate.low, rate.high),
        format!("{:.2} us", 1e6 / rate.median),
        instructions,
    ]);
    finding.figures.insert("events_per_second", rate.median);
    Ok(finding)
}

/// Instructions for one event more.
fn instructions(session: &Session, recording: &Recording) -> Result<f64> {
    const SHORT: u64 = 1_000;
    const LONG: u64 = 5_000;
    let file = session.place.recording();
    let count = |events| {
        recording.repeat(events, &mut BufWriter::new(File::create(&file)?))?;
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        command.arg(&session.place.tracer).arg("replay").arg(&file);
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().context("valgrind")?;
        ensure!(output.status.success(), "valgrind ended with {}", output.status);
        collected(&String::from_utf8_lossy(&output.stderr)).context("valgrind says no number")
    };
    let counted = count(SHORT).and_then(|short| Ok((count(LONG)? - short) / (LONG - SHORT) as f64));
    fs::remove_file(&file)?;
    counted
}

/// `==1== Collected : 123`
fn collected(said: &str) -> Option<f64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_callgrind_is_found() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 1200\n==7==\n"), Some(1200.0));
        assert_eq!(collected("==7== Command: tracer\n"), None);
    }
}
