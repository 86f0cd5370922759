//! Lines about the tracing itself: the first and the last one, signs of life, losses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use tracer_common::event::{KINDS, Kind};

use super::{Limit, Line, Namespaces, OtherNamespaces, ProcessId, Time, is_nothing};
use crate::{
    decode::LossStage,
    level::Level,
    lifecycle::{Anomalies, Stats},
};

/// Version of the schema of the lines; fields are only added within one.
pub const SCHEMA: u32 = 1;

/// The first line: who traces, where, with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// When.
    #[serde(skip)]
    pub time: Time,
    /// Name of the machine.
    #[serde(default)]
    pub hostname: String,
    /// Release of the kernel.
    #[serde(default)]
    pub kernel: String,
    /// Version of the program.
    pub version: String,
    /// Names this run.
    pub run_id: String,
    /// Names the boot, as `/proc/sys/kernel/random/boot_id` shows it.
    pub boot_id: String,
    /// CLOCK_REALTIME less CLOCK_BOOTTIME at the start, in ns.
    pub clock_offset_ns: i64,
    /// The hooks by name.
    pub hooks: BTreeMap<String, Hook>,
    /// The namespaces that the machine began with.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// How closely copies are counted.
    pub cow_level: Level,
    /// Why copies are not counted more closely.
    pub cow_level_reason: Option<String>,
    /// What was found out for it; `None` when it is off.
    pub calibration: Option<Calibration>,
    /// Fields that this run cannot tell, with the reason.
    pub unavailable: BTreeMap<String, String>,
    /// What is written.
    pub filter: FilterInfo,
    /// Timelines are compact.
    #[serde(default)]
    pub compact: bool,
    /// The command that is traced; `None` when it is the whole machine.
    pub command: Option<Vec<String>>,
}

/// Whether a hook is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// It is.
    pub on: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// What was found out about the running kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// Levels of page tables; 0 when they cannot be walked.
    pub levels: u32,
    /// Page tables can be walked.
    pub walk: bool,
    /// The flush of a copied page is seen.
    pub flush: bool,
    /// The allocation of a page is seen.
    pub alloc: bool,
}

/// The filter as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct FilterInfo {
    pub pids: Vec<u32>,
    pub comms: Vec<String>,
    pub uids: Vec<u32>,
    pub cgroups: Vec<String>,
}

impl Hello {
    pub(super) fn write(&self, limit: Limit, line: Line<'_>) {
        #[derive(Serialize)]
        struct Tracer<'a> {
            version: &'a str,
            schema: u32,
            run_id: &'a str,
            boot_id: &'a str,
            clock_offset_ns: i64,
            hooks: BTreeMap<&'a str, State<'a>>,
            namespaces: OtherNamespaces,
            cow_level: Level,
            cow_level_reason: Option<&'a str>,
            calibration: Option<Calibration>,
            unavailable: BTreeMap<&'a str, &'a str>,
            filter: &'a FilterInfo,
            #[serde(skip_serializing_if = "is_nothing")]
            compact: bool,
            command: Option<&'a [String]>,
            command_truncated: bool,
        }
        #[derive(Serialize)]
        struct State<'a> {
            on: bool,
            reason: Option<&'a str>,
        }
        // A self-test that failed is the reason of many fields, and a long one.
        let cut = |reason: &String| reason.floor_char_boundary(limit.path);
        let whole = self.command.as_deref();
        let command = whole.map(|words| words.get(..limit.args).unwrap_or(words));
        let tracer = Tracer {
            version: &self.version,
            schema: SCHEMA,
            run_id: &self.run_id,
            boot_id: &self.boot_id,
            clock_offset_ns: self.clock_offset_ns,
            hooks: self
                .hooks
                .iter()
                .map(|(name, Hook { on, reason })| {
                    let reason = reason.as_ref().map(|reason| &reason[..cut(reason)]);
                    (name.as_str(), State { on: *on, reason })
                })
                .collect(),
            namespaces: OtherNamespaces { own: self.namespaces, first: Namespaces::default() },
            cow_level: self.cow_level,
            cow_level_reason: self.cow_level_reason.as_deref(),
            calibration: self.calibration,
            unavailable: self
                .unavailable
                .iter()
                .map(|(field, reason)| (field.as_str(), &reason[..cut(reason)]))
                .collect(),
            filter: &self.filter,
            compact: self.compact,
            command,
            command_truncated: command.map(<[_]>::len) < whole.map(<[_]>::len),
        };
        line.of_tracer(self.time, Some(&self.kernel), tracer);
    }
}

/// Records of one kind, counted by the kernel side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct KindCounts {
    pub seen: u64,
    pub submitted: u64,
    pub ring_full: u64,
}

/// The counts until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// When.
    pub time: Time,
    /// By kind, in the order of [`Kind::ALL`].
    pub records: [KindCounts; KINDS],
    /// Records taken from the ring.
    pub received: u64,
    /// Lines written before this one.
    pub written: u64,
    /// Lines that the filter kept back.
    pub filtered: u64,
    /// Times that the kernel skipped a program whose event is lost by that.
    pub recursion_misses: u64,
    /// Times that it skipped each program.
    pub skipped: Skipped,
    /// Of the lifecycle.
    pub lifecycle: Stats,
    /// Those of [`Stats::zombies`] that nobody has reaped in time.
    pub zombies: Zombies,
}

/// Most parents of zombies in a line.
pub const MAX_ZOMBIE_PARENTS: usize = 8;

/// Parents of zombies that nobody has reaped in time, the one with the oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zombies(pub [Option<ZombiesOf>; MAX_ZOMBIE_PARENTS]);

/// The zombies of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct ZombiesOf {
    pub parent: Option<ProcessId>,
    pub count: u64,
    pub oldest: OldestZombie,
}

/// The oldest zombie of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct OldestZombie {
    #[serde(flatten)]
    pub process: ProcessId,
    pub zombie_ns: Option<u64>,
}

impl Serialize for Zombies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().flatten())
    }
}

/// Most programs that are in use at a time.
const MAX_PROGRAMS: usize = 16;

/// Names of programs, and how many of their runs the kernel skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped(pub [Option<(&'static str, u64)>; MAX_PROGRAMS]);

impl FromIterator<(&'static str, u64)> for Skipped {
    fn from_iter<I: IntoIterator<Item = (&'static str, u64)>>(programs: I) -> Self {
        let mut skipped = Self::default();
        for (to, program) in skipped.0.iter_mut().zip(programs) {
            *to = Some(program);
        }
        skipped
    }
}

impl Serialize for Skipped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().flatten().copied())
    }
}

#[derive(Serialize)]
struct AccountFields {
    records: ByKind,
    received: u64,
    written: u64,
    filtered: u64,
    lives: u64,
    live: u64,
    zombies: u64,
    unreaped: Zombies,
    anomalies: Anomalies,
    duplicates: u64,
    recursion_misses: u64,
    skipped: Skipped,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

struct ByKind([KindCounts; KINDS]);

impl Serialize for ByKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(KINDS))?;
        for (kind, counts) in Kind::ALL.into_iter().zip(&self.0) {
            map.serialize_entry(kind.name(), counts)?;
        }
        map.end()
    }
}

impl Account {
    fn fields(&self, reason: Option<Reason>) -> AccountFields {
        let Self {
            time: _,
            records,
            received,
            written,
            filtered,
            recursion_misses,
            skipped,
            lifecycle,
            zombies: unreaped,
        } = *self;
        let Stats { lives, live, zombies, duplicates, anomalies } = lifecycle;
        AccountFields {
            records: ByKind(records),
            received,
            written,
            filtered,
            lives,
            live,
            zombies,
            unreaped,
            anomalies,
            duplicates,
            recursion_misses,
            skipped,
            reason,
        }
    }

    pub(super) fn write_heartbeat(&self, line: Line<'_>) {
        line.of_tracer(self.time, None, self.fields(None));
    }
}

/// The last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bye {
    /// The counts of the whole run.
    pub account: Account,
    /// Why it ended.
    pub reason: Reason,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It was asked to, by a signal.
    Signal,
    /// The command had ended.
    Command,
    /// Nobody read the output any more.
    Pipe,
    /// Something failed.
    Error,
    /// A recording came to its end.
    End,
}

impl Bye {
    pub(super) fn write(&self, line: Line<'_>) {
        line.of_tracer(self.account.time, None, self.account.fields(Some(self.reason)));
    }
}

/// Events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it was noticed.
    pub time: Time,
    /// How many.
    pub count: u64,
    /// Where.
    pub stage: LossStage,
    /// Of what kind; `None` when that is not known.
    pub record: Option<Kind>,
}

impl Lost {
    pub(super) fn write(&self, line: Line<'_>) {
        #[derive(Serialize)]
        struct Tracer {
            lost: LostField,
        }
        #[derive(Serialize)]
        struct LostField {
            count: u64,
            stage: LossStage,
            record: Option<&'static str>,
        }
        let lost = LostField { count: self.count, stage: self.stage, record: self.record.map(Kind::name) };
        line.of_tracer(self.time, None, Tracer { lost });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MAX_LINE_BYTES, Record};

    #[test]
    fn a_hello_with_many_long_reasons_fits() {
        let reason = |number: usize| (format!("field_{number}"), "\u{e9}".repeat(200));
        let hook = |(name, reason)| (name, Hook { on: false, reason: Some(reason) });
        let hello = Hello {
            unavailable: (0..25).map(reason).collect(),
            hooks: (0..6).map(reason).map(hook).collect(),
            command: Some(vec!["word".into(); 2_000]),
            ..Hello::default()
        };
        let mut line = Vec::new();
        Record::Hello(&hello).write_json("box", 1, &mut line);
        assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["tracer"]["unavailable"]["field_24"], "\u{e9}".repeat(100));
        assert_eq!(line["tracer"]["hooks"]["field_5"]["reason"], "\u{e9}".repeat(100));
        assert_eq!(line["tracer"]["command_truncated"], true);
    }
}
