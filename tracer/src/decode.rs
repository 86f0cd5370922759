//! From the bytes of a record to an [`Event`]: no allocation, no judgement.
//!
//! Everything that the [lifecycle](crate::lifecycle) ever learns is an [`Event`], also what the daemon
//! finds out by itself (from `/proc`, from the kernel-side counters, from the clock). So a file of
//! events replays exactly.

use tracer_common::{
    Wire,
    event::{self as wire, Header, Kind},
    ledger::Ledger,
    place, read, state,
};

/// One input of the lifecycle.
///
/// The first eleven come from the kernel, the others are made by the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A process was born.
    Fork(wire::Fork),
    /// A process runs a new program.
    Exec {
        /// The fixed part.
        exec: wire::Exec,
        /// The path as given to exec.
        path: &'a [u8],
        /// The file that runs: the interpreter of a script; empty when it is `path`.
        interp: &'a [u8],
        /// Arguments, each with its NUL; the last one has none when it was cut.
        args: &'a [u8],
        /// Variables of the environment, likewise.
        env: &'a [u8],
    },
    /// The last thread of a process ended.
    Exit(wire::Exit),
    /// A reaped process was freed.
    Free(wire::Free),
    /// A wait call returned a process.
    Wait(wire::Wait),
    /// An exec call failed.
    ExecFailed {
        /// The fixed part.
        failed: wire::ExecFailed,
        /// The path as given to exec.
        path: &'a [u8],
    },
    /// A fork call failed.
    ForkFailed(wire::ForkFailed),
    /// A cgroup was made or removed.
    Cgroup {
        /// The fixed part.
        cgroup: wire::Cgroup,
        /// Its path from the root of the hierarchy.
        path: &'a [u8],
    },
    /// What a process inherits, at a fork or around an exec.
    Ledger(Ledger),
    /// A thread ended that was not the first of its process.
    Thread(wire::Thread),
    /// Where a process is that runs a new program.
    Cwd {
        /// The fixed part.
        cwd: wire::Cwd,
        /// Names, the directory's own first, each with its NUL.
        names: &'a [u8],
    },
    /// A cgroup that was there before us.
    CgroupFound {
        /// Its id.
        id: u64,
        /// Its path from the root of the hierarchy.
        path: &'a [u8],
    },
    /// A process found in `/proc`.
    Snapshot(Snapshot<'a>),
    /// The counters of a live process, from the kernel-side table.
    Progress {
        /// The process.
        tgid: u32,
        /// Its entry.
        process: state::Process,
    },
    /// Events were lost.
    Loss(Loss),
    /// A life that should be running is not in `/proc` any more.
    Gone {
        /// The process.
        tgid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
    },
    /// The time, several times a second.
    Tick {
        /// Now, in ns of CLOCK_BOOTTIME.
        ktime_ns: u64,
    },
}

/// A process as `/proc` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot<'a> {
    /// The process.
    pub tgid: u32,
    /// Its parent now.
    pub ppid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// When its parent started; 0 when not known.
    pub parent_start_ticks: u64,
    /// Its pid in its own pid namespace.
    pub vpid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Its threads.
    pub threads: u32,
    /// It has ended and waits to be reaped.
    pub zombie: bool,
    /// It is a kernel thread.
    pub kthread: bool,
    /// Its name.
    pub comm: &'a [u8],
    /// The file it runs; empty when it cannot be read.
    pub exe: &'a [u8],
    /// Its arguments, each ending in a NUL.
    pub args: &'a [u8],
    /// That file; `None` when it cannot be read.
    pub file: Option<place::File>,
    /// Where it is; what is not known is 0.
    pub place: place::Place,
}

/// Events that never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it was noticed, in ns of CLOCK_BOOTTIME.
    pub ktime_ns: u64,
    /// Where they were lost.
    pub stage: LossStage,
    /// What kind of record; `None` when the stage does not tell or loses no records.
    pub record: Option<Kind>,
    /// How many since the loss that was told before.
    pub count: u64,
}

/// Where events are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossStage {
    /// The ring buffer was full.
    Ring,
    /// The kernel-side table of processes was full: processes without counters.
    ProcessTable,
    /// The kernel-side table of threads was full: faults that were not counted.
    ThreadTable,
    /// The kernel skipped a program, because it was running on that CPU already.
    Recursion,
    /// A record was not understood.
    Decode,
    /// Faults of a thread whose process had ended before.
    Late,
    /// The kernel did not tell of a reap that was, and counted nothing: `/proc` told.
    Untold,
}

impl LossStage {
    /// All stages; the position is their number in a recording.
    pub const ALL: [Self; 7] = [
        Self::Ring,
        Self::ProcessTable,
        Self::ThreadTable,
        Self::Recursion,
        Self::Decode,
        Self::Late,
        Self::Untold,
    ];

    /// The name used in the stream (`tracer.lost.stage`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::ProcessTable => "process_table",
            Self::ThreadTable => "thread_table",
            Self::Recursion => "recursion",
            Self::Decode => "decode",
            Self::Late => "late",
            Self::Untold => "untold",
        }
    }
}

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than the record's kind needs, or than it says it has.
    #[error("a record of {have} bytes is shorter than the {need} that it needs")]
    Short {
        /// Bytes that are there.
        have: usize,
        /// Bytes that are needed.
        need: usize,
    },
    /// A kind that this version does not know.
    #[error("a record of unknown kind {0}")]
    Kind(u32),
}

impl<'a> Event<'a> {
    /// Reads one record of the kernel side.
    ///
    /// # Errors
    /// When the bytes are no record; nothing else can be wrong with them here.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let header: Header = body(bytes)?;
        let size = header.size as usize;
        let bytes = bytes.get(..size).ok_or(Error::Short { have: bytes.len(), need: size })?;
        let kind = Kind::ALL.get(header.kind as usize).ok_or(Error::Kind(header.kind))?;
        Ok(match kind {
            Kind::Fork => Self::Fork(body(bytes)?),
            Kind::Exec => {
                let exec: wire::Exec = body(bytes)?;
                let mut tail = Tail::of::<wire::Exec>(bytes);
                Self::Exec {
                    exec,
                    path: tail.take(exec.path_len)?,
                    interp: tail.take(exec.interp_len)?,
                    args: tail.take(exec.args_len)?,
                    env: tail.take(exec.env_len)?,
                }
            }
            Kind::Exit => Self::Exit(body(bytes)?),
            Kind::Free => Self::Free(body(bytes)?),
            Kind::Wait => Self::Wait(body(bytes)?),
            Kind::ExecFailed => {
                let failed: wire::ExecFailed = body(bytes)?;
                let mut tail = Tail::of::<wire::ExecFailed>(bytes);
                Self::ExecFailed { failed, path: tail.take(failed.path_len)? }
            }
            Kind::ForkFailed => Self::ForkFailed(body(bytes)?),
            Kind::Cgroup => {
                let cgroup: wire::Cgroup = body(bytes)?;
                let mut tail = Tail::of::<wire::Cgroup>(bytes);
                Self::Cgroup { cgroup, path: tail.take(cgroup.path_len)? }
            }
            Kind::Ledger => Self::Ledger(body(bytes)?),
            Kind::Thread => Self::Thread(body(bytes)?),
            Kind::Cwd => {
                let cwd: wire::Cwd = body(bytes)?;
                let len = u32::try_from(cwd.names_len).unwrap_or(u32::MAX);
                Self::Cwd { cwd, names: Tail::of::<wire::Cwd>(bytes).take(len)? }
            }
        })
    }
}

/// The fixed part at the start of `bytes`.
pub(crate) fn body<T: Wire>(bytes: &[u8]) -> Result<T, Error> {
    read(bytes).ok_or(Error::Short { have: bytes.len(), need: size_of::<T>() })
}

/// What follows the fixed part.
struct Tail<'a> {
    rest: &'a [u8],
}

impl<'a> Tail<'a> {
    fn of<T>(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.get(size_of::<T>()..).unwrap_or_default() }
    }

    fn take(&mut self, len: u32) -> Result<&'a [u8], Error> {
        let need = len as usize;
        let (taken, rest) =
            self.rest.split_at_checked(need).ok_or(Error::Short { have: self.rest.len(), need })?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_common::bytes;

    fn exec(path_len: u32, args_len: u32, tail: &[u8]) -> Vec<u8> {
        let size = size_of::<wire::Exec>() + tail.len();
        let exec = wire::Exec {
            header: Header { kind: Kind::Exec as u32, size: size as u32, tgid: 7, ..Header::default() },
            path_len,
            args_len,
            ..wire::Exec::default()
        };
        [bytes(&exec), tail].concat()
    }

    #[test]
    fn an_exec_is_split_into_its_strings() {
        let record = exec(9, 5, b"/bin/true-a\0b\0");
        let Ok(Event::Exec { exec, path, interp, args, env }) = Event::decode(&record) else {
            panic!("{:?}", Event::decode(&record));
        };
        assert_eq!(exec.header.tgid, 7);
        assert_eq!(path, b"/bin/true");
        assert_eq!(interp, b"");
        assert_eq!(args, b"-a\0b\0");
        assert_eq!(env, b"");
    }

    #[test]
    fn bytes_behind_the_record_are_left_alone() {
        let mut record = exec(4, 0, b"/bin");
        record.extend_from_slice(b"rest of the slot");
        assert!(matches!(Event::decode(&record), Ok(Event::Exec { path: b"/bin", .. })));
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let record = exec(9, 4, b"/bin/true-a\0b");
        for len in 0..record.len() {
            assert!(matches!(Event::decode(&record[..len]), Err(Error::Short { .. })), "{len}");
        }
        assert!(Event::decode(&record).is_ok());
    }

    #[test]
    fn lengths_that_exceed_the_record_are_errors() {
        assert!(Event::decode(&exec(10, 0, b"/bin/true")).is_err());
        assert!(Event::decode(&exec(u32::MAX, u32::MAX, b"")).is_err());
    }

    #[test]
    fn unknown_kinds_are_named() {
        let header = Header { kind: 63, size: size_of::<Header>() as u32, ..Header::default() };
        assert_eq!(Event::decode(bytes(&header)), Err(Error::Kind(63)));
    }
}
