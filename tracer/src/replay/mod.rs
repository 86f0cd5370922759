//! Recordings: the events of a run in a file, to be followed again exactly.
//!
//! A recording is [`MAGIC`], the format's version (u32), and frames: a length (u32) and as many bytes.
//! The first frame is a [`Head`] in JSON, each other frame an event that begins with its kind (u32).
//! Kinds below 64 are records of the kernel side, byte for byte; those from 64 on are events that the
//! daemon made. All numbers are little endian.

mod frame;

use std::io::{self, Read, Write};

use crate::{
    decode::{self, Event},
    lifecycle::Config,
    record::{Hello, Time},
};
use serde::{Deserialize, Serialize};

/// The first bytes of a recording.
pub const MAGIC: [u8; 8] = *b"tracerec";
/// Version of the format.
pub const VERSION: u32 = 7;

/// No frame is longer: the longest record has a few KiB, the head and a snapshot some more.
const MAX_FRAME_BYTES: u32 = 8 << 20;

/// What a run knew before its first event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// How it followed.
    pub config: Config,
    /// What it said of itself, so that a replay says the same.
    pub hello: Hello,
}

#[derive(Serialize, Deserialize)]
struct StoredHead {
    head: Head,
    /// The time of the hello, in ns since 1970.
    hello_time_ns: i64,
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    out: W,
    frame: Vec<u8>,
}

impl<W: Write> Recorder<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn new(mut out: W, head: &Head) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let stored = StoredHead { head: head.clone(), hello_time_ns: head.hello.time.0 };
        let json = serde_json::to_vec(&stored)?;
        write_frame(&mut out, &json)?;
        Ok(Self { out, frame: Vec::new() })
    }

    /// Adds a record of the kernel side as it came.
    ///
    /// # Errors
    /// When the output fails.
    pub fn kernel(&mut self, record: &[u8]) -> io::Result<()> {
        write_frame(&mut self.out, record)
    }

    /// Adds an event, whoever made it.
    ///
    /// # Errors
    /// When the output fails.
    pub fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.frame.clear();
        frame::encode(event, &mut self.frame);
        write_frame(&mut self.out, &self.frame)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// When the output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The output.
    pub fn into_inner(self) -> W {
        self.out
    }
}

fn write_frame(out: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len())
        .ok()
        .filter(|len| *len <= MAX_FRAME_BYTES)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an event is too long"))?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(frame)
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input failed.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as a recording does.
    #[error("it is not a recording of tracer")]
    NotARecording,
    /// Its format is of another version.
    #[error("its format has version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// Its head is damaged.
    #[error("its head is damaged: {0}")]
    Head(#[from] serde_json::Error),
    /// It ends in the middle of an event.
    #[error("it ends in the middle of event {0}")]
    Truncated(u64),
    /// An event is damaged.
    #[error("event {number} is damaged: {error}")]
    Event {
        /// Which event, counted from 1.
        number: u64,
        /// What is wrong with it.
        error: decode::Error,
    },
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: R,
    head: Head,
    frame: Vec<u8>,
    number: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// When `input` is no recording, or one that this version does not read.
    pub fn new(mut input: R) -> Result<Self, Error> {
        let mut start = [0; 12];
        let len = read_up_to(&mut input, &mut start)?;
        if len < start.len() || !start.starts_with(&MAGIC) {
            return Err(Error::NotARecording);
        }
        let [.., v0, v1, v2, v3] = start;
        let version = u32::from_le_bytes([v0, v1, v2, v3]);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let mut frame = Vec::new();
        let len = read_frame(&mut input, &mut frame, 0)?.ok_or(Error::Truncated(0))?;
        let StoredHead { mut head, hello_time_ns } = serde_json::from_slice(&frame[..len])?;
        head.hello.time = Time(hello_time_ns);
        Ok(Self { input, head, frame, number: 0 })
    }

    /// What the run knew before its first event.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// When the input fails or is damaged; there is no way on after that.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        self.number += 1;
        let Some(len) = read_frame(&mut self.input, &mut self.frame, self.number)? else {
            return Ok(None);
        };
        match frame::decode(&self.frame[..len]) {
            Ok(event) => Ok(Some(event)),
            Err(error) => Err(Error::Event { number: self.number, error }),
        }
    }
}

/// Reads until `buffer` is full or the input ends.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match input.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Reads one frame into the beginning of `frame`, and returns its length; `None` when the input ends before it.
fn read_frame(input: &mut impl Read, frame: &mut Vec<u8>, number: u64) -> Result<Option<usize>, Error> {
    let mut len = [0; 4];
    match read_up_to(input, &mut len)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(Error::Truncated(number)),
    }
    let len = u32::from_le_bytes(len);
    if len > MAX_FRAME_BYTES {
        return Err(Error::Truncated(number));
    }
    let len = len as usize;
    if frame.len() < len {
        frame.resize(len, 0);
    }
    match input.read_exact(&mut frame[..len]) {
        Ok(()) => Ok(Some(len)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Truncated(number)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Loss, LossStage, Snapshot};
    use tracer_common::{
        counter::{COUNTERS, Counters, Totals},
        event::{self as wire, Cgroup, Exit, Header, Kind, Usage},
        ledger::{Facts, Ledger},
        place::{FILE_NAME_BYTES, File, Place},
        start::{Memory, Reached, Start},
        state::Process,
    };

    fn head() -> Head {
        Head {
            config: Config { boot_id: [9; 16], roots: vec![1, 2], ..Config::default() },
            hello: Hello { time: Time(1_234), hostname: "box".into(), ..Hello::default() },
        }
    }

    fn place() -> Place {
        Place { cgroup_id: 1, namespaces: [2; 8], session: 3, group: 4, tty: 5, reserved: 0 }
    }

    fn memory(from: u32) -> Memory {
        Memory {
            anon: from,
            file: from + 1,
            shmem: from + 2,
            swap: from + 3,
            pgtables: from + 4,
            is_known: from + 5,
        }
    }

    fn events() -> Vec<Event<'static>> {
        let header =
            |kind, size: usize| Header { kind: kind as u32, tgid: 5, size: size as u32, ..Header::default() };
        let counters: Counters = std::array::from_fn::<u64, COUNTERS, _>(|i| i as u64);
        vec![
            Event::Exec {
                exec: wire::Exec {
                    header: header(Kind::Exec, size_of::<wire::Exec>() + 13),
                    prepared_ns: 1,
                    dropped: memory(2),
                    reached: Reached { first_ns: 8, entry_ns: 9, minor: 10, major: 11 },
                    path_len: 4,
                    interp_len: 2,
                    args_len: 3,
                    env_len: 4,
                    ..wire::Exec::default()
                },
                path: b"path",
                interp: b"in",
                args: b"a\0b",
                env: b"c=d\0",
            },
            Event::Exit(Exit {
                header: header(Kind::Exit, size_of::<Exit>()),
                counters,
                parent: Default::default(),
                minor_faults: 1,
                major_faults: 2,
                status: 3,
                syscall: 4,
                uid: 5,
                real_parent_tgid: 6,
                usage: Usage {
                    user_ns: 11,
                    system_ns: 12,
                    cpu_ns: 13,
                    told_user_ns: 14,
                    told_system_ns: 15,
                    max_rss_bytes: 16,
                },
                place: place(),
                reached: Reached { first_ns: 18, entry_ns: 19, minor: 20, major: 21 },
                memory: memory(22),
                run_delay: 28,
                auto_reap: 17,
                reserved: 0,
                comm: *b"sixteen bytes ..",
            }),
            Event::Snapshot(Snapshot {
                tgid: 1,
                ppid: 2,
                start_ticks: 3,
                parent_start_ticks: 9,
                vpid: 4,
                uid: 5,
                gid: 6,
                threads: 7,
                zombie: true,
                kthread: false,
                comm: b"comm",
                exe: b"/exe",
                args: b"x\0",
                place: place(),
                file: Some(File { inode: 1, device: 2, links: 3, name: [4; FILE_NAME_BYTES] }),
            }),
            Event::Cgroup {
                cgroup: Cgroup {
                    header: header(Kind::Cgroup, size_of::<Cgroup>() + 6),
                    id: 1,
                    removed: 0,
                    path_len: 6,
                },
                path: b"/a.svc",
            },
            Event::CgroupFound { id: 3, path: b"/b.svc" },
            Event::Ledger(Ledger {
                header: header(Kind::Ledger, size_of::<Ledger>()),
                phase: 1,
                reserved: 0,
                facts: Facts { uid: 2, open: [3; 16], environment_bytes: 4, ..Facts::default() },
            }),
            Event::Progress {
                tgid: 3,
                process: Process {
                    start_time_ns: 1,
                    parent_start_time_ns: 4,
                    exec_mm: 5,
                    mm: 6,
                    mm_totals: Totals { copies: 7, reuses: 8, bytes: 9, unshared_bytes: 10 },
                    clone_flags: 2,
                    parent_tgid: 3,
                    outside: 0,
                    comm_before: [8; 16],
                    counters,
                    start: Start { exec_ns: 11, entry: 12, dropped: memory(13), ..Start::default() },
                    run_delay: 19,
                },
            },
            Event::Loss(Loss { ktime_ns: 1, stage: LossStage::Decode, record: None, count: 2 }),
            Event::Loss(Loss { ktime_ns: 1, stage: LossStage::Ring, record: Some(Kind::Wait), count: 2 }),
            Event::Gone { tgid: 1, start_ticks: 2 },
            Event::Tick { ktime_ns: u64::MAX },
        ]
    }

    fn recording() -> Vec<u8> {
        let mut recorder = Recorder::new(Vec::new(), &head()).unwrap();
        for event in events() {
            recorder.event(&event).unwrap();
        }
        recorder.into_inner()
    }

    #[test]
    fn what_was_recorded_is_read() {
        let file = recording();
        let mut reader = Reader::new(&file[..]).unwrap();
        assert_eq!(reader.head(), &head());
        for event in events() {
            assert_eq!(reader.next_event().unwrap(), Some(event));
        }
        assert_eq!(reader.next_event().unwrap(), None);
    }

    #[test]
    fn every_cut_is_an_end_or_an_error() {
        let file = recording();
        let mut ends = 0;
        for len in 0..file.len() {
            let Ok(mut reader) = Reader::new(&file[..len]) else {
                continue;
            };
            let end = loop {
                match reader.next_event() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(Error::Truncated(_)) => break false,
                    Err(error) => panic!("{len}: {error}"),
                }
            };
            ends += usize::from(end);
        }
        assert_eq!(ends, events().len(), "one before each event");
    }

    #[test]
    fn other_files_are_refused() {
        for (bytes, expected) in [
            (&b""[..], "it is not a recording of tracer"),
            (b"{\"@timestamp\":0}", "it is not a recording of tracer"),
            (b"tracerec\x01\0\0\0", "its format has version 1, this program reads version 7"),
            (b"tracerec\x07\0\0\0", "it ends in the middle of event 0"),
            (b"tracerec\x07\0\0\0\xff\xff\xff\xff", "it ends in the middle of event 0"),
        ] {
            assert_eq!(Reader::new(bytes).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn damaged_events_are_named() {
        let mut recorder = Recorder::new(Vec::new(), &head()).unwrap();
        recorder.kernel(&[99, 0, 0, 0]).unwrap();
        let file = recorder.into_inner();
        let error = Reader::new(&file[..]).unwrap().next_event().unwrap_err().to_string();
        assert_eq!(error, "event 1 is damaged: a record of unknown kind 99");
    }
}
