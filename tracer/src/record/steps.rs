//! Single steps of a life, and the progress of a live process.

use serde::Serialize;

use super::{
    Args, Base64, Copies, CowCounts, EntityId, Exec, Exit, ForkKind, LedgerField, Limit, Line, OrUnknown,
    ProcessId, Program, Reap, Subject, Text, Time, Usage, is_known_nothing, is_nothing,
};

/// The process that a step is about; what does not apply is absent.
#[derive(Serialize)]
struct Who<'a> {
    pid: u32,
    entity_id: EntityId,
    name: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpid: Option<Option<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Option<Text<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Args<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<Option<u8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ProcessId>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    previous: &'a [Program<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    env_vars: Option<Option<Args<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<Option<Text<'a>>>,
}

impl<'a> Who<'a> {
    fn new(subject: &Subject<'a>, entity: ProcessId) -> Self {
        Self {
            pid: entity.pid,
            entity_id: entity.entity_id,
            name: Text(subject.comm),
            vpid: None,
            executable: None,
            args: None,
            args_count: None,
            exit_code: None,
            parent: None,
            previous: &[],
            env_vars: None,
            working_directory: None,
        }
    }
}

/// Gives the object under `tracer` its fields.
macro_rules! under {
    ($field:ident: $value:expr) => {{
        #[derive(Serialize)]
        struct Under<T> {
            $field: T,
        }
        Under { $field: $value }
    }};
    ($field:ident: $value:expr, $other:ident: $more:expr) => {{
        #[derive(Serialize)]
        struct Under<T, U> {
            $field: T,
            $other: U,
        }
        Under { $field: $value, $other: $more }
    }};
}

/// A birth.
#[derive(Clone, Copy, Debug)]
pub struct ForkStep<'a> {
    /// When.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The child.
    pub entity: ProcessId,
    /// Its pid in its own pid namespace.
    pub vpid: Option<Option<u32>>,
    /// Who forked.
    pub parent: ProcessId,
    /// How.
    pub fork: ForkFacts,
    /// What the child inherited.
    pub ledger: LedgerField<'a>,
}

/// What is known of a fork at once.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct ForkFacts {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_per_mib: Option<Option<u64>>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub shared_anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub shared_file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub shared_shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub eager_copies: Option<u64>,
}

impl ForkStep<'_> {
    pub(super) fn write(&self, limit: Limit, line: Line<'_>) {
        #[derive(Serialize)]
        struct Tracer<'a> {
            fork: ForkFacts,
            #[serde(skip_serializing_if = "Option::is_none")]
            ledger: LedgerField<'a>,
        }
        let mut room = None;
        let who = Who { vpid: self.vpid, parent: Some(self.parent), ..Who::new(&self.subject, self.entity) };
        let ledger = limit.ledger(self.ledger, &mut room);
        line.of_process(self.time, who, Tracer { fork: self.fork, ledger });
    }
}

/// A new program.
#[derive(Clone, Copy, Debug)]
pub struct ExecStep<'a> {
    /// When.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The process.
    pub entity: ProcessId,
    /// The file that runs.
    pub executable: Option<Text<'a>>,
    /// Its arguments.
    pub args: Args<'a>,
    /// How many there are.
    pub args_count: u32,
    /// What it ran before.
    pub previous: Option<Program<'a>>,
    /// The directory that it begins in; absent when that was not asked for.
    pub working_directory: Option<Option<Text<'a>>>,
    /// The environment; absent when it was not asked for.
    pub env: Option<Option<Args<'a>>>,
    /// The rest.
    pub exec: Exec<'a>,
    /// What it kept and lost.
    pub ledger: LedgerField<'a>,
}

impl ExecStep<'_> {
    pub(super) fn write(&self, limit: Limit, line: Line<'_>) {
        #[derive(Serialize)]
        struct Tracer<'a> {
            exec: Exec<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ledger: LedgerField<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            args_b64: Option<Base64<'a>>,
        }
        let args = self.args.cut(limit.args);
        let mut exec = self.exec.cut(limit);
        exec.args(args.0.len() < self.args.0.len());
        let mut env_vars = self.env;
        limit.env(&mut env_vars, &mut exec);
        let is_short = limit.path != Limit::NONE.path;
        let who = Who {
            previous: if is_short { &[] } else { self.previous.as_slice() },
            env_vars,
            working_directory: self.working_directory.map(|path| path.map(|path| path.cut(limit.path))),
            executable: Some(self.executable.map(|path| path.cut(limit.path))),
            args: Some(args),
            args_count: Some(self.args_count),
            ..Who::new(&self.subject, self.entity)
        };
        let mut room = None;
        let ledger = limit.ledger(self.ledger, &mut room);
        let tracer = Tracer { exec, ledger, args_b64: args.exact() };
        line.of_process(self.time, who, tracer);
    }
}

/// An exec that failed, or several with the same name.
#[derive(Clone, Copy, Debug)]
pub struct ExecFailed<'a> {
    /// When.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The process.
    pub entity: ProcessId,
    /// Error number, as execvp reports it.
    pub errno: u32,
    /// The last path as given; `None` when it could not be read.
    pub path: Option<Text<'a>>,
    /// How many failed.
    pub tries: u64,
}

impl ExecFailed<'_> {
    pub(super) fn write(&self, line: Line<'_>) {
        #[derive(Serialize)]
        struct Failed<'a> {
            errno: u32,
            path: Option<Text<'a>>,
            tries: u64,
        }
        let failed = Failed { errno: self.errno, path: self.path, tries: self.tries };
        let who = Who::new(&self.subject, self.entity);
        line.of_process(self.time, who, under!(exec_failed: failed));
    }
}

/// A fork that failed.
#[derive(Clone, Copy, Debug)]
pub struct ForkFailed<'a> {
    /// When.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The process.
    pub entity: ProcessId,
    /// Error number.
    pub errno: u32,
    /// System call number.
    pub syscall: u32,
    /// What it was likely refused for.
    pub limit: Option<ForkLimit>,
}

/// A limit on the number of processes that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct ForkLimit {
    pub name: &'static str,
    pub value: u64,
}

impl ForkFailed<'_> {
    pub(super) fn write(&self, line: Line<'_>) {
        #[derive(Serialize)]
        struct Failed {
            errno: u32,
            syscall: u32,
            limit: Option<ForkLimit>,
        }
        let failed = Failed { errno: self.errno, syscall: self.syscall, limit: self.limit };
        let who = Who::new(&self.subject, self.entity);
        line.of_process(self.time, who, under!(fork_failed: failed));
    }
}

/// An end.
#[derive(Clone, Copy, Debug)]
pub struct ExitStep<'a> {
    /// When.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The process.
    pub entity: ProcessId,
    /// The exit code; `None` after a signal.
    pub exit_code: Option<u8>,
    /// How.
    pub exit: Exit,
    /// With what, until then.
    pub usage: Usage,
}

impl ExitStep<'_> {
    pub(super) fn write(&self, line: Line<'_>) {
        let who = Who { exit_code: Some(self.exit_code), ..Who::new(&self.subject, self.entity) };
        line.of_process(self.time, who, under!(exit: self.exit, usage: self.usage));
    }
}

/// A reap.
#[derive(Clone, Copy, Debug)]
pub struct ReapStep<'a> {
    /// When.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The process.
    pub entity: ProcessId,
    /// By whom.
    pub reap: Reap,
    /// What it had used; `None` when that is not known.
    pub usage: Option<Usage>,
}

impl ReapStep<'_> {
    pub(super) fn write(&self, line: Line<'_>) {
        let who = Who::new(&self.subject, self.entity);
        line.of_process(self.time, who, under!(reap: self.reap, usage: self.usage));
    }
}

/// A new parent.
#[derive(Clone, Copy, Debug)]
pub struct Reparent<'a> {
    /// When it was noticed.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The process.
    pub entity: ProcessId,
    /// The parent it had.
    pub from_pid: u32,
    /// The parent it has now.
    pub to_pid: u32,
    /// Who that is.
    pub to: NewParent<'a>,
}

/// Who takes a process in whose parent has ended.
#[derive(Clone, Copy, Debug)]
pub struct NewParent<'a> {
    /// Its name.
    pub name: Option<Text<'a>>,
    /// Its identity.
    pub entity_id: Option<EntityId>,
    /// `init`, the first process of a pid namespace, or `subreaper`.
    pub role: Option<&'static str>,
}

impl Reparent<'_> {
    pub(super) fn write(&self, line: Line<'_>) {
        #[derive(Serialize)]
        struct Parents<'a> {
            from_pid: u32,
            to_pid: u32,
            to_entity_id: Option<EntityId>,
            to_name: Option<Text<'a>>,
            to_role: Option<&'static str>,
        }
        let NewParent { name, entity_id, role } = self.to;
        let parents = Parents {
            from_pid: self.from_pid,
            to_pid: self.to_pid,
            to_entity_id: entity_id,
            to_name: name,
            to_role: role,
        };
        let who = Who::new(&self.subject, self.entity);
        line.of_process(self.time, who, under!(reparent: parents));
    }
}

/// What a live process has copied until now.
#[derive(Clone, Copy, Debug)]
pub struct Cow<'a> {
    /// When.
    pub time: Time,
    /// For the filter.
    pub subject: Subject<'a>,
    /// The process.
    pub entity: ProcessId,
    /// The file it runs.
    pub executable: Option<Text<'a>>,
    /// Since its birth.
    pub cow: CowCounts,
    /// Since the last such record.
    pub delta: Copies,
    /// What it still shares; `None` when that is not known.
    pub shared: Option<Shared>,
}

/// Memory that a fork shared and nobody has copied since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Shared {
    pub with_parent: Option<SharedWith>,
    pub with_child: Option<SharedWith>,
}

/// With whom, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct SharedWith {
    pub bytes: u64,
    #[serde(flatten)]
    pub process: ProcessId,
}

impl Cow<'_> {
    pub(super) fn write(&self, line: Line<'_>) {
        #[derive(Serialize)]
        struct Tracer {
            cow: CowCounts,
            delta: Copies,
            shared: Option<Shared>,
        }
        let who = Who { executable: Some(self.executable), ..Who::new(&self.subject, self.entity) };
        let tracer = Tracer { cow: self.cow, delta: self.delta, shared: self.shared };
        line.of_process(self.time, who, tracer);
    }
}
