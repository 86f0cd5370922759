//! Recordings: a real one, and longer ones made of it.
//!
//! Of the format only this is known here: 12 bytes, then frames, each a length (u32) and as many bytes that begin with
//! a kind (u32); the first frame is the head. A record of the kernel (kind below 64) has its time at byte 24.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

use crate::{session::Session, tool::Tool, workload};

/// Kinds that the kernel side writes are below.
const KERNEL: u32 = 64;
const PROGRESS: u32 = 65;
const TICK: u32 = 68;
const START: usize = 12;
/// Places in the header of a kernel record.
const TID: usize = 12;
const TGID: usize = 16;
const KTIME: usize = 24;
const START_TIME: usize = 32;
/// Kinds of records.
const FORK: u32 = 0;
const EXEC: u32 = 1;
/// Between a recording and what is made of it, in ns.
const BREAK: u64 = 1_000_000;

/// A recording, taken apart.
pub(super) struct Recording {
    start: Vec<u8>,
    frames: Vec<Vec<u8>>,
    /// The first and the last time of its kernel records.
    first: u64,
    last: u64,
}

/// Records storms of forks and execs, so many times a slice, and takes the recording away.
pub(super) fn record(session: &Session, tool: &Tool, times: u64) -> Result<Recording> {
    let running = session.start(tool)?;
    for name in ["fork-exit", "spawn-exec", "fork-exec"] {
        let workload = workload::find(name)?;
        session.slice(workload, (workload.operations * times / session.effort.one_in).max(10))?;
    }
    running.stop()?;
    let file = session.place.recording();
    let recording = Recording::read(&file)?;
    fs::remove_file(&file)?;
    Ok(recording)
}

impl Recording {
    fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        Self::parse(&bytes).context("the recording is damaged")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut frames, mut at) = (Vec::new(), START);
        while at < bytes.len() {
            let len = u32_at(bytes.get(at..)?, 0)? as usize;
            frames.push(bytes.get(at + 4..at + 4 + len)?.to_vec());
            at += 4 + len;
        }
        let head = START + 4 + frames.first()?.len();
        frames.remove(0);
        let times = || frames.iter().filter_map(|frame| is_kernel(frame).then(|| u64_at(frame, KTIME))?);
        let (first, last) = (times().min()?, times().max()?);
        Some(Self { start: bytes.get(..head)?.to_vec(), frames, first, last })
    }

    /// The number of its events.
    pub(super) fn len(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Writes a recording of so many events: this one again and again, always later, so that its processes are born
    /// again with the same pids and other start times. What was read from /proc comes once.
    pub(super) fn repeat(&self, events: u64, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.start)?;
        let (mut left, mut shift, mut copy) = (events, 0, Vec::new());
        while left > 0 {
            let before = left;
            for frame in &self.frames {
                if left == 0 || (shift > 0 && !has_time(frame)) {
                    continue;
                }
                copy.clear();
                copy.extend_from_slice(frame);
                self.delay(&mut copy, shift);
                write_frame(out, &copy)?;
                left -= 1;
            }
            if left == before {
                return Err(io::Error::other("nothing to be repeated"));
            }
            shift += self.last - self.first + BREAK;
        }
        out.flush()
    }

    /// Moves all times of an event: the numbers between the first and the last time of the recording. Nothing else is
    /// as large as a time and within seconds of it.
    fn delay(&self, frame: &mut [u8], shift: u64) {
        let first = if u32_at(frame, 0) == Some(TICK) { 4 } else { 0 };
        for word in frame.get_mut(first..).unwrap_or_default().as_chunks_mut().0 {
            let time = u64::from_le_bytes(*word);
            if (self.first..=self.last).contains(&time) {
                *word = (time + shift).to_le_bytes();
            }
        }
    }

    /// Writes a recording of so many processes that are born, run a program, and go on.
    pub(super) fn live(&self, processes: u32, out: &mut impl Write) -> Result<()> {
        /// Above all pids of most machines.
        const PIDS_FROM: u32 = 1_000_000;
        let of = |kind, tgid| {
            let is_it = |frame: &&Vec<u8>| {
                u32_at(frame, 0) == Some(kind) && (tgid == 0 || u32_at(frame, TGID) == Some(tgid))
            };
            self.frames.iter().rev().find(is_it)
        };
        let exec = of(EXEC, 0).context("no exec was recorded")?;
        let fork = of(FORK, u32_at(exec, TGID).unwrap_or(0)).context("its birth was not recorded")?;
        out.write_all(&self.start)?;
        for frame in self.frames.iter().filter(|frame| !has_time(frame)) {
            write_frame(out, frame)?;
        }
        for number in 0..processes {
            let later = u64::from(number) * 1_000;
            for (frame, after) in [(fork, 0), (exec, 500)] {
                let mut frame = frame.clone();
                let start = u64_at(fork, START_TIME).context("a short record")?;
                let pid = (PIDS_FROM + number).to_le_bytes();
                put(&mut frame, TID, &pid)?;
                put(&mut frame, TGID, &pid)?;
                put(&mut frame, KTIME, &(self.last + BREAK + later + after).to_le_bytes())?;
                put(&mut frame, START_TIME, &(start + later).to_le_bytes())?;
                write_frame(out, &frame)?;
            }
        }
        Ok(out.flush()?)
    }
}

/// It tells what happened, not what was there before.
fn has_time(frame: &[u8]) -> bool {
    is_kernel(frame) || matches!(u32_at(frame, 0), Some(PROGRESS | TICK))
}

fn is_kernel(frame: &[u8]) -> bool {
    u32_at(frame, 0).is_some_and(|kind| kind < KERNEL)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) -> Result<()> {
    let place = frame.get_mut(at..at + bytes.len());
    ensure!(place.is_some(), "a short record");
    place.into_iter().for_each(|place| place.copy_from_slice(bytes));
    Ok(())
}

fn write_frame(out: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    out.write_all(&(frame.len() as u32).to_le_bytes())?;
    out.write_all(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(kind: u32, tgid: u32, ktime: u64, start: u64) -> Vec<u8> {
        let mut frame = [kind, 0, 0, tgid, tgid, 48].map(u32::to_le_bytes).concat();
        frame.extend([ktime, start, 7].map(u64::to_le_bytes).concat());
        frame
    }

    fn tick(ktime: u64) -> Vec<u8> {
        [&TICK.to_le_bytes()[..], &ktime.to_le_bytes()].concat()
    }

    fn recording() -> Vec<u8> {
        let mut bytes = vec![9; START];
        let snapshot = 64_u32.to_le_bytes().to_vec();
        let body = [
            kernel(FORK, 5, 1_000, 1_000),
            kernel(EXEC, 5, 1_500, 1_000),
            tick(1_600),
            kernel(2, 5, 2_000, 30),
        ];
        for frame in [b"{}".to_vec(), snapshot].iter().chain(&body) {
            write_frame(&mut bytes, frame).unwrap();
        }
        bytes
    }

    #[test]
    fn one_copy_is_the_recording_itself() {
        let bytes = recording();
        let recording = Recording::parse(&bytes).unwrap();
        let mut out = Vec::new();
        recording.repeat(recording.len(), &mut out).unwrap();
        assert_eq!(out, bytes);
        assert!(Recording::parse(&bytes[..bytes.len() - 1]).is_none(), "a frame is cut");
    }

    #[test]
    fn copies_are_later_and_what_was_before_stays() {
        let recording = Recording::parse(&recording()).unwrap();
        let mut out = Vec::new();
        recording.repeat(9, &mut out).unwrap();
        let long = Recording::parse(&out).unwrap();
        let by = 1_000 + BREAK;
        let copy = [
            kernel(FORK, 5, 1_000 + by, 1_000 + by),
            kernel(EXEC, 5, 1_500 + by, 1_000 + by),
            tick(1_600 + by),
            // Born before the recording: it is still the same process.
            kernel(2, 5, 2_000 + by, 30),
        ];
        assert_eq!(long.frames[5..], copy);
    }

    #[test]
    fn live_processes_have_their_own_names() {
        let recording = Recording::parse(&recording()).unwrap();
        let mut out = Vec::new();
        recording.live(3, &mut out).unwrap();
        let live = Recording::parse(&out).unwrap();
        assert_eq!(live.len(), 1 + 2 * 3);
        let mut who: Vec<_> =
            live.frames[1..].iter().map(|f| (u32_at(f, TGID), u64_at(f, START_TIME))).collect();
        who.dedup();
        assert_eq!(who.len(), 3);
    }
}
