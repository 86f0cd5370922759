//! What a timeline says that it lacks.

use serde::{Serialize, Serializer, ser::SerializeSeq};
use tracer_common::event::{KINDS, Kind};

/// What is not known of a life: a set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Missing(u32);

impl Missing {
    /// Its birth was not seen.
    pub const BIRTH: Self = Self(1 << 0);
    /// Its end was not seen.
    pub const EXIT: Self = Self(1 << 1);
    /// It had no counters, or not always.
    pub const COUNTERS: Self = Self(1 << 2);
    /// Arguments that could not be read.
    pub const ARGS: Self = Self(1 << 3);
    /// Faults were lost while it lived.
    pub const LOST_FAULTS: Self = Self(1 << 4);
    /// Records of a kind that is not known were lost while it lived.
    pub const LOST_RECORDS: Self = Self(1 << 5);

    /// The program that it ran is not known: it inherited it from a process that was not known then.
    pub const PROGRAM: Self = Self(1 << (6 + KINDS));

    /// What it did before it had a name that is asked for.
    pub const BEFORE_MATCH: Self = Self(1 << (7 + KINDS));

    const NAMES: [(Self, &'static str); 19] = [
        (Self::BIRTH, "birth"),
        (Self::EXIT, "exit"),
        (Self::COUNTERS, "counters"),
        (Self::ARGS, "args"),
        (Self::PROGRAM, "program"),
        (Self::BEFORE_MATCH, "before_match"),
        (Self::LOST_FAULTS, "lost:faults"),
        (Self::LOST_RECORDS, "lost:records"),
        (Self::lost(Kind::Fork), "lost:fork"),
        (Self::lost(Kind::Exec), "lost:exec"),
        (Self::lost(Kind::Exit), "lost:exit"),
        (Self::lost(Kind::Free), "lost:free"),
        (Self::lost(Kind::Wait), "lost:wait"),
        (Self::lost(Kind::ExecFailed), "lost:exec_failed"),
        (Self::lost(Kind::ForkFailed), "lost:fork_failed"),
        (Self::lost(Kind::Cgroup), "lost:cgroup"),
        (Self::lost(Kind::Ledger), "lost:ledger"),
        (Self::lost(Kind::Thread), "lost:thread"),
        (Self::lost(Kind::Cwd), "lost:cwd"),
    ];

    /// Records of `kind` were lost while it lived.
    pub const fn lost(kind: Kind) -> Self {
        Self(1 << (6 + kind as u32))
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without these.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// All of these are among them.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Nothing is missing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons by name.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(reason, _)| self.0 & reason.0 != 0).map(|(_, name)| name)
    }
}

impl Serialize for Missing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for name in self.names() {
            seq.serialize_element(name)?;
        }
        seq.end()
    }
}
