//! The lines of the stream, as types. `docs/records.md` explains each field, `docs/schema.json` is the
//! contract that every line is tested against.
//!
//! A [`Record`] borrows from the lifecycle's table and is written at once; nothing here is kept.

mod compact;
mod control;
mod cow;
mod exec;
mod json;
mod ledger;
mod missing;
mod names;
mod place;
mod start;
mod steps;
mod text;
mod thread;
mod timeline;

use serde::{Deserialize, Serialize, Serializer};

use self::json::Json;
pub use control::{
    Account, Bye, Calibration, FilterInfo, Hello, Hook, KindCounts, Lost, MAX_ZOMBIE_PARENTS, OldestZombie,
    Reason, SCHEMA, Skipped, Zombies, ZombiesOf,
};
pub use cow::{CowBy, CowByPage, CowByRegion, CowCounts, Faults};
pub use exec::{EnvSize, Format, Interpreters, MAX_INTERPRETERS};
pub use ledger::{
    Against, All, AllFds, AllSignals, Change, Changed, Fds, How, Ids, Ledger, LedgerField, Limits, Memory,
    SignalChanges, SignalSet, Umask,
};
pub use missing::Missing;
pub use names::{ExitVia, ForkKind, Origin, ReleasedBy, Signal};
pub use place::{Container, File, Leader, Namespaces, OtherNamespaces, Terminal};
pub use start::{MemoryBytes, Start};
pub use steps::{
    Cow, ExecFailed, ExecStep, ExitStep, ForkFacts, ForkFailed, ForkLimit, ForkStep, NewParent, ReapStep,
    Reparent, Shared, SharedWith,
};
pub use text::{Args, Base64, Decimal, EntityId, Text, Time, boot_hash};
pub use thread::{Thread, ThreadFacts};
pub use timeline::{
    ByParent, Children, Exec, Exit, Fork, Group, Process, Program, Reap, Story, Timeline, Usage, User,
};

/// Most bytes of a line, its end included: rsyslog breaks lines at 8 KiB.
pub const MAX_LINE_BYTES: usize = 7_900;

/// Most bytes of each path when a line would be too long even without arguments.
const SHORT_PATH_BYTES: usize = 200;

/// One line of the stream.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "a record lives on the stack of the call that writes it")]
pub enum Record<'a> {
    /// A whole process life.
    Timeline(Timeline<'a>),
    /// What a live process has copied until now.
    Cow(Cow<'a>),
    /// A birth.
    Fork(ForkStep<'a>),
    /// A new program.
    Exec(ExecStep<'a>),
    /// An exec that failed.
    ExecFailed(ExecFailed<'a>),
    /// A fork that failed.
    ForkFailed(ForkFailed<'a>),
    /// A thread that was not the first of its process.
    Thread(Thread<'a>),
    /// An end.
    Exit(ExitStep<'a>),
    /// A reap.
    Reap(ReapStep<'a>),
    /// A new parent.
    Reparent(Reparent<'a>),
    /// The first line.
    Hello(&'a Hello),
    /// A sign of life, with the counts until now.
    Heartbeat(&'a Account),
    /// Events were lost.
    Lost(Lost),
    /// The last line.
    Bye(&'a Bye),
}

/// What a record is about, for the [filter](crate::filter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: &'a [u8],
    /// Its effective user, when known.
    pub uid: Option<u32>,
    /// Its cgroup, when known.
    pub cgroup_id: Option<u64>,
    /// It is one of the roots that were asked for, or descends from one.
    pub in_tree: bool,
}

/// A process, as another one refers to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its pid.
    pub pid: u32,
    /// Its identity.
    pub entity_id: EntityId,
}

/// A sum of copy-on-write work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Pages copied; a huge page counts as one.
    pub copies: u64,
    /// Pages made writable without a copy; `None` when they are not counted.
    pub reuses: Option<u64>,
    /// Bytes copied.
    pub bytes: u64,
}

impl Default for Copies {
    /// None, and that is known.
    fn default() -> Self {
        Self { copies: 0, reuses: Some(0), bytes: 0 }
    }
}

/// Whether there is nothing to tell: no line has such a field.
fn is_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The same of what may be unknown, which is null.
fn is_known_nothing<T: Default + PartialEq>(value: &Option<T>) -> bool {
    value.as_ref().is_some_and(is_nothing)
}

/// A number that may not be known, which is null then: the greatest one. A life has it, so it takes no more than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrUnknown(pub u64);

impl Serialize for OrUnknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Some(self.0).filter(|&number| number != u64::MAX).serialize(serializer)
    }
}

/// The same of what may not apply.
fn is_none_or_nothing<T: Default + PartialEq>(value: &Option<Option<T>>) -> bool {
    value.as_ref().is_none_or(is_known_nothing)
}

/// What a field stands for that a line does not have.
pub(crate) fn known_nothing<T: Default>() -> Option<T> {
    Some(T::default())
}

/// How much of the long fields is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    /// Bytes of the arguments; for `hello`, how many words of the command.
    args: usize,
    /// Bytes of each path.
    path: usize,
    /// Bytes of the environment.
    env: usize,
}

impl Limit {
    const NONE: Self = Self { args: usize::MAX, path: usize::MAX, env: usize::MAX };

    /// Leaves the variables that fit, whole ones, and notes in `exec` if some do not.
    fn env(self, env: &mut Option<Option<Args<'_>>>, exec: &mut Exec<'_>) {
        if let (Some(Some(variables)), Some(Some(size))) = (env, &mut exec.env)
            && let Some(fit) = variables.0.get(..self.env)
        {
            let end = fit.iter().rposition(|&byte| byte == 0).map_or(0, |at| at + 1);
            size.truncated |= end < variables.0.len();
            variables.0 = &variables.0[..end];
        }
    }

    /// All of a ledger, if there is room for it; else what is left of it, in `room`.
    fn ledger<'a>(self, ledger: LedgerField<'a>, room: &'a mut Option<Ledger>) -> LedgerField<'a> {
        match ledger {
            Some(Some(ledger)) if self.path != Self::NONE.path => Some(Some(room.insert(ledger.short()))),
            ledger => ledger,
        }
    }
}

impl<'a> Record<'a> {
    /// The value of `event.action`.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Timeline(_) => "timeline",
            Self::Cow(_) => "cow",
            Self::Fork(_) => "fork",
            Self::Exec(_) => "exec",
            Self::ExecFailed(_) => "exec_failed",
            Self::ForkFailed(_) => "fork_failed",
            Self::Thread(_) => "thread",
            Self::Exit(_) => "exit",
            Self::Reap(_) => "reap",
            Self::Reparent(_) => "reparent",
            Self::Hello(_) => "hello",
            Self::Heartbeat(_) => "heartbeat",
            Self::Lost(_) => "lost",
            Self::Bye(_) => "bye",
        }
    }

    /// What the record is about; `None` for records about the tracing itself.
    pub fn subject(&self) -> Option<Subject<'a>> {
        match self {
            Self::Timeline(r) => Some(r.subject),
            Self::Cow(r) => Some(r.subject),
            Self::Fork(r) => Some(r.subject),
            Self::Exec(r) => Some(r.subject),
            Self::ExecFailed(r) => Some(r.subject),
            Self::ForkFailed(r) => Some(r.subject),
            Self::Thread(r) => Some(r.subject),
            Self::Exit(r) => Some(r.subject),
            Self::Reap(r) => Some(r.subject),
            Self::Reparent(r) => Some(r.subject),
            Self::Hello(_) | Self::Heartbeat(_) | Self::Lost(_) | Self::Bye(_) => None,
        }
    }

    /// Appends the record as one line of JSON, at most [`MAX_LINE_BYTES`] long, to `out`.
    ///
    /// `host` is the name of the machine, `sequence` the number of the line in its run.
    pub fn write_json(&self, host: &str, sequence: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let mut write = |limit| {
            out.truncate(start);
            self.write_limited(host, sequence, limit, out);
            out.len() - start <= MAX_LINE_BYTES
        };
        if write(Limit::NONE) {
            return;
        }
        let mut limit = Limit { args: 0, env: 0, ..Limit::NONE };
        if !write(limit) {
            limit.path = SHORT_PATH_BYTES;
        }
        limit.args = most(self.args_len(), |args| write(Limit { args, ..limit }));
        limit.env = most(self.env_len(), |env| write(Limit { env, ..limit }));
        write(limit);
    }

    /// The same, but of a process life only the most important, in some 350 bytes.
    pub fn write_compact(&self, host: &str, sequence: u64, out: &mut Vec<u8>) {
        match self {
            Self::Timeline(r) => {
                r.write_compact(Line { action: self.action(), host: Some(host), sequence, out });
            }
            _ => self.write_json(host, sequence, out),
        }
    }

    /// The greatest value of [`Limit::args`] that makes a difference.
    fn args_len(&self) -> usize {
        match self {
            Self::Timeline(r) => r.process.args.map_or(0, |args| args.0.len()),
            Self::Exec(r) => r.args.0.len(),
            Self::Hello(r) => r.command.as_ref().map_or(0, Vec::len),
            _ => 0,
        }
    }

    /// The greatest value of [`Limit::env`] that makes a difference.
    fn env_len(&self) -> usize {
        let env = match self {
            Self::Timeline(r) => r.process.env_vars,
            Self::Exec(r) => r.env,
            _ => None,
        };
        env.flatten().map_or(0, |env| env.0.len())
    }

    fn write_limited(&self, host: &str, sequence: u64, limit: Limit, out: &mut Vec<u8>) {
        let line = Line { action: self.action(), host: Some(host), sequence, out };
        match self {
            Self::Timeline(r) => r.write(limit, line),
            Self::Cow(r) => r.write(line),
            Self::Fork(r) => r.write(limit, line),
            Self::Exec(r) => r.write(limit, line),
            Self::ExecFailed(r) => r.write(line),
            Self::ForkFailed(r) => r.write(line),
            Self::Thread(r) => r.write(line),
            Self::Exit(r) => r.write(line),
            Self::Reap(r) => r.write(line),
            Self::Reparent(r) => r.write(line),
            Self::Hello(r) => r.write(limit, line),
            Self::Heartbeat(r) => r.write_heartbeat(line),
            Self::Lost(r) => r.write(line),
            Self::Bye(r) => r.write(line),
        }
    }
}

/// The most that fits, from 0, which always does (or nothing helps), to `len`.
fn most(len: usize, mut fits: impl FnMut(usize) -> bool) -> usize {
    let (mut most, mut too_many) = (0, len + 1);
    while too_many - most > 1 {
        let middle = most + (too_many - most) / 2;
        if fits(middle) {
            most = middle;
        } else {
            too_many = middle;
        }
    }
    most
}

/// What all lines have in common.
struct Line<'o> {
    action: &'static str,
    /// `None` where it is not told.
    host: Option<&'o str>,
    sequence: u64,
    out: &'o mut Vec<u8>,
}

#[derive(Serialize)]
struct EventField {
    action: &'static str,
    sequence: u64,
    /// Absent except for timelines.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<Option<u64>>,
}

#[derive(Serialize)]
struct HostField<'a> {
    hostname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<OsField<'a>>,
}

#[derive(Serialize)]
struct OsField<'a> {
    kernel: &'a str,
}

#[derive(Serialize)]
struct Fields<'a, P, T> {
    #[serde(rename = "@timestamp")]
    time: Time,
    event: EventField,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostField<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Container<'a>>,
    tracer: T,
}

/// What stands beside the process and the fields of our own.
#[derive(Default)]
struct Common<'a> {
    time: Time,
    duration: Option<Option<u64>>,
    kernel: Option<&'a str>,
    user: Option<User>,
    container: Option<Container<'a>>,
}

impl Common<'_> {
    fn at(time: Time) -> Self {
        Self { time, ..Self::default() }
    }
}

impl Line<'_> {
    /// A line about a process.
    fn of_process(self, time: Time, process: impl Serialize, tracer: impl Serialize) {
        self.write(Common::at(time), Some(&process), &tracer);
    }

    /// A line about the tracing.
    fn of_tracer(self, time: Time, kernel: Option<&str>, tracer: impl Serialize) {
        self.write(Common { kernel, ..Common::at(time) }, None::<&()>, &tracer);
    }

    fn write(self, common: Common<'_>, process: Option<&impl Serialize>, tracer: &impl Serialize) {
        let Self { action, host, sequence, out } = self;
        let Common { time, duration, kernel, user, container } = common;
        let fields = Fields {
            time,
            event: EventField { action, sequence, duration },
            host: host.map(|hostname| HostField { hostname, os: kernel.map(|kernel| OsField { kernel }) }),
            process,
            user,
            container,
            tracer,
        };
        #[cfg(debug_assertions)]
        let start = out.len();
        fields.serialize(&mut Json(out)).expect("each type has a place in a line");
        #[cfg(debug_assertions)]
        json::compare(&fields, start, out);
        out.push(b'\n');
    }
}
