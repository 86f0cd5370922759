//! What has a name in the stream.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::decode::LossStage;

/// Serialises what has a fixed name as that name.
macro_rules! serialize_name {
    ($($type:ty),*) => { $(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    )* };
}
serialize_name!(LossStage, ForkKind, Origin, ExitVia);

/// How a process was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForkKind {
    /// With its own copy of the memory, as fork(2) does.
    Fork,
    /// vfork(2): in the parent's memory, the parent waits.
    Vfork,
    /// clone(2) or clone3(2) with CLONE_VM and CLONE_VFORK, as posix_spawn(3) does.
    PosixSpawn,
    /// clone(2) or clone3(2) in any other way, and kernel threads.
    Clone,
}

impl ForkKind {
    /// The name used in the stream (`tracer.fork.kind`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Vfork => "vfork",
            Self::PosixSpawn => "posix_spawn",
            Self::Clone => "clone",
        }
    }
}

/// How the lifecycle came to know a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Its birth was seen.
    Fork,
    /// The daemon started it.
    Command,
    /// It was there before, and found in `/proc`.
    Snapshot,
    /// From an event in the middle of its life.
    Unknown,
}

impl Origin {
    /// The name used in the stream (`tracer.origin`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Command => "command",
            Self::Snapshot => "snapshot",
            Self::Unknown => "unknown",
        }
    }
}

/// What ended the wait of a parent in vfork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleasedBy {
    /// The child's exec.
    Exec,
    /// Its end.
    Exit,
}

/// What ended a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitVia {
    /// exit(2) of the last thread.
    Exit,
    /// exit_group(2), the usual end.
    ExitGroup,
    /// A signal.
    Signal,
}

impl ExitVia {
    /// The name used in the stream (`tracer.exit.via`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::ExitGroup => "exit_group",
            Self::Signal => "signal",
        }
    }
}

/// A signal, shown by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(pub u8);

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 31] = [
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
            "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
            "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
        ];
        match usize::from(self.0).checked_sub(1).map(|i| NAMES.get(i)) {
            Some(Some(name)) => write!(f, "SIG{name}"),
            // As glibc and kill(1) count: the first two real-time signals belong to libc.
            Some(None) if self.0 >= 34 => write!(f, "SIGRTMIN+{}", self.0 - 34),
            _ => write!(f, "SIG{}", self.0),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
