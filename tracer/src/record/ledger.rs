//! What a process inherited, kept and lost.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use tracer_common::ledger::{LIMITS, Limit, SIGNALS};

use super::Signal;

/// A ledger on a line: `None` without `--ledger`, `Some(None)` when it is not known.
pub type LedgerField<'a> = Option<Option<&'a Ledger>>;

/// The ledger of one fork or exec. What is `None` on the outside is absent from the line, on the inside `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Ledger {
    pub against: Option<Against>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Option<Changed>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_exec: Option<Option<Ids>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals: Option<Option<SignalChanges>>,
    pub fds: Option<Fds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<All>,
}

/// Whose state, and of when, the present one is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The parent's, at the fork.
    Parent,
    /// Its own at its birth.
    Birth,
    /// Its own after the exec before this one.
    Exec,
    /// Its own when it called this exec, since nothing older is known.
    Call,
}

/// What differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Change<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<Change<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub euid: Option<Change<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egid: Option<Change<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<Change<i32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<Change<Umask>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Option<Limits>>,
}

/// What it was and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Change<T> {
    pub from: T,
    pub to: T,
}

impl<T: PartialEq> Change<T> {
    /// `None` when it is the same.
    pub fn new(from: T, to: T) -> Option<Self> {
        (from != to).then_some(Self { from, to })
    }
}

/// Which of the ids an exec changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the fields")]
pub struct Ids {
    pub uid: bool,
    pub gid: bool,
    pub euid: bool,
    pub egid: bool,
}

impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { uid, gid, euid, egid } = *self;
        let all = [("uid", uid), ("gid", gid), ("euid", euid), ("egid", egid)];
        serializer.collect_seq(all.iter().filter(|(_, changed)| *changed).map(|(name, _)| name))
    }
}

/// A file mode creation mask, in octal as the shell shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Umask(pub u32);

impl Serialize for Umask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

/// Resource limits by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In the order of their numbers.
    pub now: [Limit; LIMITS],
    /// Which of them are told; bit 0 is the first.
    pub told: u16,
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Without RLIMIT_, in the order of their numbers (include/uapi/asm-generic/resource.h).
        const NAMES: [&str; LIMITS] = [
            "cpu",
            "fsize",
            "data",
            "stack",
            "core",
            "rss",
            "nproc",
            "nofile",
            "memlock",
            "as",
            "locks",
            "sigpending",
            "msgqueue",
            "nice",
            "rtprio",
            "rttime",
        ];
        #[derive(Serialize)]
        struct Shown {
            soft: Amount,
            hard: Amount,
        }
        let mut map = serializer.serialize_map(None)?;
        for (number, (name, Limit { soft, hard })) in NAMES.iter().zip(self.now).enumerate() {
            if self.told & 1 << number != 0 {
                map.serialize_entry(name, &Shown { soft: Amount(soft), hard: Amount(hard) })?;
            }
        }
        map.end()
    }
}

/// A number, or no limit.
struct Amount(u64);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            u64::MAX => serializer.serialize_str("unlimited"),
            amount => serializer.serialize_u64(amount),
        }
    }
}

/// A set of signals, shown by their names; bit 0 is signal 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(pub u64);

impl SignalSet {
    fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for SignalSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers = 1..=SIGNALS as u8;
        serializer.collect_seq(numbers.filter(|number| self.0 & 1 << (number - 1) != 0).map(Signal))
    }
}

/// What became of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct SignalChanges {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Option<SignalSet>>,
    #[serde(skip_serializing_if = "SignalSet::is_empty")]
    pub ignored: SignalSet,
    #[serde(skip_serializing_if = "SignalSet::is_empty")]
    pub unignored: SignalSet,
    #[serde(skip_serializing_if = "SignalSet::is_empty")]
    pub blocked: SignalSet,
}

/// What became of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub enum Fds {
    /// At a fork.
    Fork {
        shared_offsets: u32,
        shared_table: Option<bool>,
        #[serde(skip_serializing_if = "is_false")]
        bounded: bool,
    },
    /// At an exec.
    Exec {
        kept: u32,
        closed: Option<u32>,
        passed_above_2: u32,
        #[serde(skip_serializing_if = "is_false")]
        bounded: bool,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// All that the process has, changed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct All {
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub nice: i32,
    pub umask: Umask,
    pub limits: Option<Limits>,
    pub signals: Option<AllSignals>,
    pub fds: Option<AllFds>,
    pub memory: Option<Memory>,
}

/// Signals by what is done with them; the others do what is their default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct AllSignals {
    pub ignored: SignalSet,
    pub caught: SignalSet,
    pub blocked: SignalSet,
}

/// Descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct AllFds {
    pub open: u32,
    pub cloexec: u32,
    pub above_2: u32,
}

/// What is in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Memory {
    pub how: How,
    pub text_bytes: u64,
    pub data_bytes: u64,
    pub args_bytes: u64,
    pub environment_bytes: u64,
}

/// What became of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The parent's own.
    Shared,
    /// The parent's, copied when one of the two writes.
    Copied,
    /// Another one.
    Replaced,
}

impl Ledger {
    /// Without what has no room in a line of mostly long paths.
    pub(super) fn short(&self) -> Self {
        let changed = self.changed.map(|changed| {
            changed.map(|changed| Changed { limits: changed.limits.map(|_| None), ..changed })
        });
        Self { changed, signals: self.signals.map(|_| None), all: None, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Serialize) -> String {
        serde_json::to_string(&value).unwrap()
    }

    #[test]
    fn limits_have_names() {
        let mut limits = Limits { now: [Limit::default(); LIMITS], told: 0 };
        assert_eq!(json(limits), "{}");
        limits.now[7] = Limit { soft: 9, hard: u64::MAX };
        limits.told = 1 << 7 | 1 << 15;
        assert_eq!(json(limits), r#"{"nofile":{"soft":9,"hard":"unlimited"},"rttime":{"soft":0,"hard":0}}"#);
    }

    #[test]
    fn the_first_and_the_last_signal() {
        assert_eq!(json(SignalSet(1 | 1 << 63)), r#"["SIGHUP","SIGRTMIN+30"]"#);
        assert_eq!(json(SignalSet(0)), "[]");
    }

    #[test]
    fn a_umask_is_octal() {
        assert_eq!(json(Umask(0o22)), r#""0022""#);
        assert_eq!(json(Umask(0o777)), r#""0777""#);
    }
}
