//! A whole process life in one line.

use serde::{Deserialize, Serialize};

use super::{
    Args, Base64, Common, Container, Copies, CowCounts, Decimal, EntityId, EnvSize, ExitVia, Faults, File,
    ForkKind, Format, Interpreters, Leader, LedgerField, Limit, Line, MemoryBytes, Missing, OrUnknown,
    Origin, OtherNamespaces, ProcessId, ReleasedBy, Signal, Start, Subject, Terminal, Text, Time,
    is_known_nothing, is_none_or_nothing, is_nothing,
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
}

/// The process, in ECS's words.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Process<'a> {
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpid: Option<Option<u32>>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<Option<Terminal>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
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
    #[serde(skip_serializing_if = "is_nothing")]
    pub missing: Missing,
    pub fork: Option<Fork>,
    pub exec: Exec<'a>,
    pub cow: Option<CowCounts>,
    pub faults: Option<Faults>,
    #[serde(skip_serializing_if = "is_nothing")]
    pub children: Children,
    pub exit: Option<Exit>,
    pub usage: Option<Usage>,
    pub reap: Option<Reap>,
    pub cgroup_id: Option<u64>,
    pub cgroup_path: Option<Text<'a>>,
    #[serde(skip_serializing_if = "OtherNamespaces::are_none")]
    pub namespaces: Option<OtherNamespaces>,
    /// What its last program kept and lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: LedgerField<'a>,
    /// Set for the line, which may have less of the arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_b64: Option<Base64<'a>>,
}

/// How it was born, and what that cost.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Fork {
    pub kind: ForkKind,
    pub clone_flags: Option<u64>,
    pub syscall: Option<u32>,
    #[serde(skip_serializing_if = "is_nothing")]
    pub shares_mm: bool,
    #[serde(skip_serializing_if = "is_nothing")]
    pub pgtable_bytes: OrUnknown,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub vmas: Option<u32>,
    pub duration_ns: Option<u64>,
    pub run_delay_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_per_mib: Option<Option<u64>>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub shared_anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub shared_file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub shared_shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_blocked_ns: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_by: Option<Option<ReleasedBy>>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub before_exec: Option<Copies>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_parent: Option<Option<ByParent>>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub eager_copies: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasted: Option<Option<Copies>>,
}

/// What the fork cost the parent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct ByParent {
    #[serde(flatten)]
    pub paid: Copies,
    #[serde(skip_serializing_if = "is_nothing")]
    pub overlapped: bool,
}

/// What it ran.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Exec<'a> {
    pub seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Option<Text<'a>>>,
    #[serde(skip_serializing_if = "Interpreters::is_empty")]
    pub interpreters: Interpreters<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreters_exact: Option<bool>,
    pub format: Option<Format>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_bytes: Option<Option<u32>>,
    #[serde(skip_serializing_if = "is_nothing")]
    pub args_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Option<EnvSize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_tid: Option<u32>,
    pub file: Option<File<'a>>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub secure: Option<bool>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub threads_killed: Option<u32>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub failures: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_ns: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Option<MemoryBytes>>,
    #[serde(skip_serializing_if = "is_none_or_nothing")]
    pub wasted: Option<Option<Copies>>,
    /// Absent except for timelines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Option<Start>>,
}

impl Exec<'_> {
    /// With each path cut to the limit.
    pub(super) fn cut(self, limit: Limit) -> Self {
        Self {
            path: self.path.map(|path| path.map(|path| path.cut(limit.path))),
            interpreters: self.interpreters.cut(limit.path),
            ..self
        }
    }

    /// Tells of the size of the arguments when they are not all there: `are_cut` for the line, or were before.
    pub(super) fn args(&mut self, are_cut: bool) {
        self.args_truncated |= are_cut;
        if !self.args_truncated && self.args_bytes != Some(None) {
            self.args_bytes = None;
        }
    }
}

impl Default for Children {
    /// None, and that is known.
    fn default() -> Self {
        Self {
            forks: 0,
            vforks: 0,
            spawns: 0,
            clones: 0,
            execs_followed: 0,
            threads: Some(0),
            paid: Some(Copies::default()),
        }
    }
}

/// What it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Children {
    #[serde(skip_serializing_if = "is_nothing")]
    pub forks: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub vforks: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub spawns: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub clones: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub execs_followed: u64,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub threads: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub paid: Option<Copies>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Exit {
    pub via: ExitVia,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    #[serde(skip_serializing_if = "is_nothing")]
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
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub auto: Option<bool>,
    #[serde(skip_serializing_if = "is_nothing")]
    pub exact: bool,
}

impl Timeline<'_> {
    pub(super) fn write(&self, limit: Limit, line: Line<'_>) {
        let mut room = None;
        let mut process = self.process;
        let mut story = self.tracer;
        let are_cut = process.args.is_some_and(|args| args.0.len() > limit.args);
        process.args = process.args.map(|args| args.cut(limit.args));
        story.exec.args(are_cut);
        if limit.path != Limit::NONE.path {
            process.previous = &[];
        }
        process.executable = process.executable.map(|path| path.cut(limit.path));
        process.working_directory =
            process.working_directory.map(|path| path.map(|path| path.cut(limit.path)));
        story.exec = story.exec.cut(limit);
        limit.env(&mut process.env_vars, &mut story.exec);
        story.cgroup_path = story.cgroup_path.map(|path| path.cut(limit.path));
        story.ledger = limit.ledger(story.ledger, &mut room);
        story.args_b64 = process.args.and_then(Args::exact);
        let common = Common {
            duration: Some(self.duration_ns),
            user: Some(self.user),
            container: self.container,
            ..Common::at(self.time)
        };
        line.write(common, Some(&process), &story);
    }
}
