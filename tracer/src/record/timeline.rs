//! A whole process life in one line.

use serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq};
use tracer_common::event::{KINDS, Kind};

use super::{
    Args, Base64, Common, Container, Copies, Decimal, EntityId, EnvSize, ExitVia, File, ForkKind, Format,
    Interpreters, Leader, Ledger, LedgerField, Limit, Line, MemoryBytes, Origin, OtherNamespaces, ProcessId,
    ReleasedBy, Signal, Start, Subject, Terminal, Text, Time,
};

/// The life of a process.
#[derive(Clone, Copy, Debug)]
pub struct Timeline<'a> {
    /// Its end; when that is not known, when it was found to be gone.
    pub time: Time,
    /// From start to end, in ns.
    pub duration_ns: Option<u64>,
    /// For the filter.
    pub subject: Subject<'a>,
    /// Who it was.
    pub process: Process<'a>,
    /// Whose it was.
    pub user: User,
    /// In which container; `None` when its cgroup names none.
    pub container: Option<Container<'a>>,
    /// What it did.
    pub tracer: Story<'a>,
    /// What its last program kept and lost.
    pub ledger: LedgerField<'a>,
}

/// The process, in ECS's words.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Process<'a> {
    pub pid: u32,
    pub vpid: Option<u32>,
    pub entity_id: EntityId,
    pub name: Text<'a>,
    pub executable: Option<Text<'a>>,
    pub args: Option<Args<'a>>,
    pub args_count: Option<u32>,
    pub exit_code: Option<u8>,
    pub start: Time,
    pub end: Option<Time>,
    pub parent: Option<ProcessId>,
    pub session_leader: Option<Leader>,
    pub group_leader: Option<Leader>,
    pub tty: Option<Terminal>,
    pub previous: &'a [Program<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<Option<Args<'a>>>,
    /// Absent without `--cwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<Option<Text<'a>>>,
}

/// A program that the process ran before.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Program<'a> {
    pub executable: Text<'a>,
    pub name: Option<Text<'a>>,
    pub args_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// Effective user and group.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct User {
    pub id: Option<Decimal>,
    pub group: Group,
}

/// Effective group.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Group {
    pub id: Option<Decimal>,
}

/// What no ECS field tells.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Story<'a> {
    pub origin: Origin,
    pub complete: bool,
    pub missing: Missing,
    pub fork: Option<Fork>,
    pub exec: Exec<'a>,
    pub cow: Option<CowCounts>,
    pub faults: Option<Faults>,
    pub children: Children,
    pub exit: Option<Exit>,
    pub usage: Option<Usage>,
    pub reap: Option<Reap>,
    pub cgroup_id: Option<u64>,
    pub cgroup_path: Option<Text<'a>>,
    pub namespaces: Option<OtherNamespaces>,
}

/// How it was born, and what that cost.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Fork {
    pub kind: ForkKind,
    pub clone_flags: Option<u64>,
    pub syscall: Option<u32>,
    pub shares_mm: bool,
    pub pgtable_bytes: u64,
    pub vmas: u32,
    pub duration_ns: Option<u64>,
    pub run_delay_ns: Option<u64>,
    pub ns_per_mib: Option<u64>,
    pub shared_anon_bytes: Option<u64>,
    pub shared_file_bytes: Option<u64>,
    pub shared_shmem_bytes: Option<u64>,
    pub parent_blocked_ns: Option<u64>,
    pub released_by: Option<ReleasedBy>,
    pub before_exec: Option<Copies>,
    pub by_parent: Option<ByParent>,
    pub eager_copies: Option<u64>,
    pub wasted: Option<Copies>,
}

/// What the fork cost the parent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct ByParent {
    #[serde(flatten)]
    pub paid: Copies,
    pub overlapped: bool,
}

/// What it ran.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Exec<'a> {
    pub seq: u64,
    pub path: Option<Text<'a>>,
    pub interpreters: Interpreters<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreters_exact: Option<bool>,
    pub format: Option<Format>,
    pub args_bytes: Option<u32>,
    pub args_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Option<EnvSize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_tid: Option<u32>,
    pub file: Option<File<'a>>,
    pub secure: Option<bool>,
    pub threads_killed: Option<u32>,
    pub failures: Option<u64>,
    pub tries: Option<u64>,
    pub load_ns: Option<u64>,
    pub dropped: Option<MemoryBytes>,
    pub wasted: Option<Copies>,
    /// Absent except for timelines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Option<Start>>,
}

impl Exec<'_> {
    /// With each path cut to the limit.
    pub(super) fn cut(self, limit: Limit) -> Self {
        Self {
            path: self.path.map(|path| path.cut(limit.path)),
            interpreters: self.interpreters.cut(limit.path),
            ..self
        }
    }
}

/// Pages copied because they were shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowCounts {
    pub copies: u64,
    pub bytes: u64,
    pub reuses: Option<u64>,
    pub huge_reuses: Option<u64>,
    pub zero_upgrades: Option<u64>,
    pub huge_zero_upgrades: Option<u64>,
    pub by: CowBy,
    pub by_page: Option<CowByPage>,
    pub by_region: Option<CowByRegion>,
    pub after_exec: Option<Copies>,
}

/// Copies by what caused them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowBy {
    pub user: u64,
    pub kernel: Option<u64>,
    pub gup: Option<u64>,
    pub remote_candidates: Option<u64>,
    pub eager: Option<u64>,
}

/// Copies by faults, by the page that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowByPage {
    pub anon: u64,
    pub ksm: u64,
    pub file: u64,
    pub file_first: Option<u64>,
    pub swap: Option<u64>,
    pub huge: u64,
}

/// Copies by faults, by where in memory they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowByRegion {
    pub heap: u64,
    pub stack: u64,
    pub data: u64,
    pub file: u64,
    pub anon: u64,
}

/// Page faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Faults {
    pub minor: u64,
    pub major: u64,
    pub demand_zero: Option<u64>,
    pub file: Option<u64>,
    pub write_notify: Option<u64>,
    pub segv: Option<u64>,
    pub spurious: Option<u64>,
    pub uffd: Option<u64>,
    pub failed: Option<u64>,
    pub lost_races: Option<u64>,
    pub splits: Option<u64>,
    pub unsure: Option<u64>,
}

/// What it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Children {
    pub forks: u64,
    pub vforks: u64,
    pub spawns: u64,
    pub clones: u64,
    pub execs_followed: u64,
    pub threads: Option<u64>,
    pub paid: Option<Copies>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Exit {
    pub via: ExitVia,
    pub signal: Option<Signal>,
    pub core_dumped: bool,
    pub parent_pid: Option<u32>,
    pub memory: Option<MemoryBytes>,
}

/// CPU time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    pub cpu_ns: u64,
    pub max_rss_bytes: u64,
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// Who took its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Reap {
    pub by_pid: Option<u32>,
    pub zombie_ns: Option<u64>,
    pub auto: Option<bool>,
    pub exact: bool,
}

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

    const NAMES: [(Self, &'static str); 18] = [
        (Self::BIRTH, "birth"),
        (Self::EXIT, "exit"),
        (Self::COUNTERS, "counters"),
        (Self::ARGS, "args"),
        (Self::PROGRAM, "program"),
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

impl Timeline<'_> {
    pub(super) fn write(&self, limit: Limit, line: Line<'_>) {
        #[derive(Serialize)]
        struct Tracer<'a> {
            #[serde(flatten)]
            story: Story<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ledger: Option<Option<Ledger>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            args_b64: Option<Base64<'a>>,
        }
        let mut process = self.process;
        let mut story = self.tracer;
        if let Some(args) = process.args
            && args.0.len() > limit.args
        {
            process.args = Some(args.cut(limit.args));
            story.exec.args_truncated = true;
        }
        if limit.path != Limit::NONE.path {
            process.previous = &[];
        }
        process.executable = process.executable.map(|path| path.cut(limit.path));
        process.working_directory =
            process.working_directory.map(|path| path.map(|path| path.cut(limit.path)));
        story.exec = story.exec.cut(limit);
        limit.env(&mut process.env_vars, &mut story.exec);
        story.cgroup_path = story.cgroup_path.map(|path| path.cut(limit.path));
        let ledger = limit.ledger(self.ledger);
        let tracer = Tracer { story, ledger, args_b64: process.args.and_then(Args::exact) };
        let common = Common {
            duration: Some(self.duration_ns),
            user: Some(self.user),
            container: self.container,
            ..Common::at(self.time)
        };
        line.write(common, Some(process), tracer);
    }
}
