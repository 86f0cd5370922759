//! From the words typed ([`crate::cli`]) to what is to be done: every check and every default.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli,
    error::{Error, reason},
    level::Level,
    lifecycle::{EnvMode, LedgerMode},
    probe::procfs,
};

/// Default size of the ring buffer.
pub const RING_BYTES: u32 = 16 << 20;
/// Default bound of the process table.
pub const MAX_PROCESSES: u32 = 65_536;
/// Default time between heartbeats, and between progress records.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Where the lines go by default when a command is run.
pub const COMMAND_OUTPUT: &str = "tracer.jsonl";

const MIN_RING_BYTES: u64 = 64 << 10;
const MAX_RING_BYTES: u64 = 1 << 30;
const MAX_SECONDS: f64 = 86_400.0;

/// Whose life is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every process of the machine.
    System,
    /// These processes and their descendants.
    Pids(Vec<u32>),
    /// This command and its descendants; never empty.
    Command(Vec<OsString>),
}

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// `tracer run`, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose life is followed.
    pub target: Target,
    /// Where the lines go.
    pub output: Output,
    /// Keep the raw events here.
    pub record: Option<PathBuf>,
    /// Write each step as well.
    pub events: bool,
    /// Write timelines in few bytes.
    pub compact: bool,
    /// The full set of hooks.
    pub full_hooks: bool,
    /// How closely copy-on-write faults are counted.
    pub cow: Level,
    /// How much is told of what a process inherits.
    pub ledger: LedgerMode,
    /// Write the ends of threads.
    pub threads: bool,
    /// Tell the directories that new programs begin in.
    pub cwd: bool,
    /// How much is told of the environment of new programs.
    pub env: EnvMode,
    /// Size of the ring buffer.
    pub ring_bytes: u32,
    /// Bound of the process table.
    pub max_processes: u32,
    /// Time between heartbeats.
    pub heartbeat: Option<Duration>,
    /// Time between progress records.
    pub cow_interval: Option<Duration>,
    /// Names to match, with `*`; empty: all.
    pub comms: Vec<String>,
    /// Users to match; empty: all.
    pub uids: Vec<u32>,
    /// cgroups to match, as typed; empty: all.
    pub cgroups: Vec<String>,
    /// Their ids, and those of the groups below them.
    pub cgroup_ids: Vec<u64>,
    /// Wait for all descendants of the command.
    pub wait_all: bool,
    /// How much to say on stderr.
    pub verbose: u8,
}

/// `tracer replay`, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The recording.
    pub recording: PathBuf,
    /// Where the lines go.
    pub output: Output,
    /// Write timelines in few bytes.
    pub compact: bool,
}

impl Run {
    /// Checks what was typed and fills in the defaults.
    pub fn new(typed: cli::Run) -> Result<Self, Error> {
        let target = target(typed.pid, typed.command)?;
        let with_command = matches!(target, Target::Command(_));
        if typed.wait_all && !with_command {
            return Err(Error::usage(
                "--wait-all",
                "there is no command to wait for",
                "add '-- CMD', or leave the option out",
            ));
        }
        let default = if with_command { Output::File(COMMAND_OUTPUT.into()) } else { Output::Stdout };
        let output = output(typed.output, default);
        if let (Output::File(file), Some(record)) = (&output, &typed.record)
            && file == record
        {
            return Err(Error::usage(
                "--record",
                format!("{} is the output as well", file.display()),
                "give another name to one of them",
            ));
        }
        let full_hooks = typed.hooks.map_or(with_command, |hooks| hooks == cli::Hooks::Full);
        let mut ids = Vec::new();
        for path in &typed.cgroup {
            ids.extend(cgroup_ids(path)?);
        }
        Ok(Self {
            target,
            output,
            record: typed.record,
            events: typed.events,
            compact: typed.compact,
            full_hooks,
            cow: typed.cow.map_or(Level::Full, Into::into),
            ledger: typed.ledger.map_or(LedgerMode::Off, Into::into),
            threads: typed.threads,
            cwd: typed.cwd,
            env: typed.env.map_or(EnvMode::Off, Into::into),
            ring_bytes: typed.ring_bytes.as_deref().map_or(Ok(RING_BYTES), ring_bytes)?,
            max_processes: typed.max_processes.unwrap_or(MAX_PROCESSES),
            heartbeat: interval("--heartbeat", typed.heartbeat.as_deref())?,
            cow_interval: interval("--cow-interval", typed.cow_interval.as_deref())?,
            comms: typed.comm,
            uids: typed.uid.iter().map(|user| uid(user)).collect::<Result<_, _>>()?,
            cgroups: typed.cgroup.iter().map(|path| path.to_string_lossy().into()).collect(),
            cgroup_ids: ids,
            wait_all: typed.wait_all,
            verbose: typed.verbose,
        })
    }
}

/// `tracer verify`, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// The lines; `None` for stdin.
    pub input: Option<PathBuf>,
}

impl Verify {
    /// Takes what was typed.
    pub fn new(typed: cli::Verify) -> Self {
        Self { input: Some(typed.file).filter(|file| file.as_os_str() != "-") }
    }
}

impl Replay {
    /// Checks what was typed and fills in the defaults.
    pub fn new(typed: cli::Replay) -> Result<Self, Error> {
        let output = output(typed.output, Output::Stdout);
        if output == Output::File(typed.recording.clone()) {
            return Err(Error::usage(
                "--output",
                format!("{} is the recording itself", typed.recording.display()),
                "give another name",
            ));
        }
        Ok(Self { recording: typed.recording, output, compact: typed.compact })
    }
}

fn target(mut pids: Vec<u32>, command: Vec<OsString>) -> Result<Target, Error> {
    match (pids.is_empty(), command.is_empty()) {
        (true, true) => Ok(Target::System),
        (true, false) => Ok(Target::Command(command)),
        (false, true) => {
            pids.sort_unstable();
            pids.dedup();
            Ok(Target::Pids(pids))
        }
        (false, false) => Err(Error::usage(
            "--pid",
            "a command is given, too, and only one of them can be followed",
            "leave one of them out",
        )),
    }
}

fn output(typed: Option<PathBuf>, default: Output) -> Output {
    match typed {
        None => default,
        Some(path) if path.as_os_str() == "-" => Output::Stdout,
        Some(path) => Output::File(path),
    }
}

/// A size as in `65536`, `64K`, `16M`, `16MiB`, `1G`.
fn ring_bytes(text: &str) -> Result<u32, Error> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => Some(0),
        "K" | "k" | "KiB" => Some(10),
        "M" | "m" | "MiB" => Some(20),
        "G" | "g" | "GiB" => Some(30),
        _ => None,
    };
    let bytes = digits.parse::<u32>().ok().zip(shift).map(|(n, shift)| u64::from(n) << shift);
    match bytes {
        Some(n @ MIN_RING_BYTES..=MAX_RING_BYTES) if n.is_power_of_two() => Ok(n as u32),
        _ => Err(Error::usage(
            "--ring-bytes",
            format!("'{text}' is not a power of two from 64K to 1G"),
            "give one, as in 16M",
        )),
    }
}

/// Seconds, decimals allowed; 0 is never.
fn interval(option: &str, text: Option<&str>) -> Result<Option<Duration>, Error> {
    let Some(text) = text else { return Ok(Some(INTERVAL)) };
    match text.parse::<f64>() {
        Ok(0.0) => Ok(None),
        Ok(seconds) if (0.1..=MAX_SECONDS).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        _ => Err(Error::usage(
            option,
            format!("'{text}' is not a number of seconds from 0.1 to 86400, or 0"),
            "give one, as in 10",
        )),
    }
}

/// A user id, or the id of a user named in /etc/passwd.
fn uid(text: &str) -> Result<u32, Error> {
    let named = || {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        uid_of(text, &users)
    };
    text.parse().ok().or_else(named).ok_or_else(|| {
        Error::usage(
            "--uid",
            format!("'{text}' is neither a number nor a user in /etc/passwd"),
            "give the number of the user",
        )
    })
}

fn uid_of(name: &str, users: &str) -> Option<u32> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// The ids of a cgroup and of those below it: the inode numbers of their directories.
fn cgroup_ids(path: &Path) -> Result<Vec<u64>, Error> {
    let Some(root) = procfs::cgroup2_mount().map(PathBuf::from) else {
        return Err(Error::usage(
            "--cgroup",
            "cgroup v2 is not mounted",
            "mount it (mount -t cgroup2 none /sys/fs/cgroup), or leave the option out",
        ));
    };
    let below = root.join(path.strip_prefix("/").unwrap_or(path));
    let directory = if path.starts_with(&root) { path } else { &below };
    let mut ids = Vec::new();
    collect_ids(directory, &mut ids).map_err(|error| {
        Error::usage(
            format!("--cgroup {}", path.display()),
            format!("{}: {}", directory.display(), reason(&error)),
            "give the path of a cgroup, as /proc/PID/cgroup shows it",
        )
    })?;
    Ok(ids)
}

fn collect_ids(directory: &Path, ids: &mut Vec<u64>) -> io::Result<()> {
    ids.push(fs::metadata(directory)?.ino());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match collect_ids(&entry.path(), ids) {
                // The group went away in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(change: impl FnOnce(&mut cli::Run)) -> Result<Run, Error> {
        let mut typed = cli::Run::default();
        change(&mut typed);
        Run::new(typed)
    }

    #[test]
    fn defaults_of_the_whole_machine() {
        let run = run(|_| {}).unwrap();
        assert_eq!(run.target, Target::System);
        assert_eq!(run.output, Output::Stdout);
        assert!(!run.full_hooks && !run.events && !run.wait_all);
        assert_eq!((run.cow, run.ledger, run.env), (Level::Full, LedgerMode::Off, EnvMode::Off));
        assert_eq!((run.ring_bytes, run.max_processes), (16 << 20, 65_536));
        assert_eq!((run.heartbeat, run.cow_interval), (Some(INTERVAL), Some(INTERVAL)));
    }

    #[test]
    fn defaults_of_a_command() {
        let run = run(|typed| typed.command = vec!["ls".into()]).unwrap();
        assert_eq!(run.target, Target::Command(vec!["ls".into()]));
        assert_eq!(run.output, Output::File("tracer.jsonl".into()));
        assert!(run.full_hooks);
    }

    #[test]
    fn what_is_typed_wins_over_the_default() {
        let run = run(|typed| {
            typed.command = vec!["ls".into()];
            typed.output = Some("-".into());
            typed.hooks = Some(cli::Hooks::Base);
            typed.cow = Some(cli::Cow::Lite);
            typed.ledger = Some(cli::Ledger::Changes);
            typed.env = Some(cli::Env::Names);
            typed.heartbeat = Some("0".into());
            typed.cow_interval = Some("0.5".into());
            typed.uid = vec!["0".into(), "7".into()];
        })
        .unwrap();
        assert_eq!(run.output, Output::Stdout);
        assert!(!run.full_hooks);
        assert_eq!((run.cow, run.ledger, run.env), (Level::Lite, LedgerMode::Changes, EnvMode::Names));
        assert_eq!((run.heartbeat, run.cow_interval), (None, Some(Duration::from_millis(500))));
        assert_eq!(run.uids, [0, 7]);
    }

    #[test]
    fn conflicts_are_usage_errors() {
        let conflicts = [
            run(|typed| {
                typed.pid = vec![1];
                typed.command = vec!["ls".into()];
            }),
            run(|typed| typed.wait_all = true),
            run(|typed| {
                typed.output = Some("x".into());
                typed.record = Some("x".into());
            }),
            run(|typed| typed.ring_bytes = Some("3M".into())),
            run(|typed| typed.heartbeat = Some("-1".into())),
            run(|typed| typed.heartbeat = Some("nan".into())),
            run(|typed| typed.uid = vec!["no such user".into()]),
            run(|typed| typed.cgroup = vec!["no/such/group".into()]),
        ];
        for conflict in conflicts {
            assert_eq!(conflict.unwrap_err().code, crate::error::Code::Usage);
        }
        let same = cli::Replay { recording: "x".into(), output: Some("x".into()), compact: false };
        assert!(Replay::new(same).is_err());
    }

    #[test]
    fn pids_are_sorted_and_single() {
        let run = run(|typed| typed.pid = vec![9, 3, 9]).unwrap();
        assert_eq!(run.target, Target::Pids(vec![3, 9]));
    }

    #[test]
    fn sizes_of_the_ring() {
        for (text, bytes) in [("65536", 65536), ("64K", 65536), ("16MiB", 16 << 20), ("1G", 1 << 30)] {
            assert_eq!(ring_bytes(text), Ok(bytes));
        }
        for text in ["", "M", "0", "32K", "2G", "4294967296G", "-1", "16 M", "16X", "é"] {
            assert!(ring_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:/bin/false\nbad:x\n";
        assert_eq!(uid_of("web", users), Some(33));
        assert_eq!(uid_of("bad", users), None);
        assert_eq!(uid_of("we", users), None);
    }
}
