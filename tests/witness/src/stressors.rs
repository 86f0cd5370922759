//! Stressors that nobody here wrote: the processes that stress-ng counts, against those whose births tracer told.

use std::{
    collections::HashMap,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::chown,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    report::Report,
    trace::{Folder, Trace, count, is, timelines},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Each stressor ends after this, be it done or not.
const TIMEOUT_S: &str = "6";
/// Users without rights have this number and group.
const NOBODY: u32 = 65_534;

/// One way of stress-ng to make processes.
struct Stressor {
    name: &'static str,
    /// How often it is done.
    ops: u64,
    options: &'static [&'static str],
    user: User,
    /// What one of its "bogo operations" is.
    is: &'static str,
    /// How many of them a process is.
    seen: fn(&Life<'_>) -> Result<u64>,
    truth: Truth,
    /// How many more there may be than were counted.
    spare: u64,
}

#[derive(PartialEq)]
enum User {
    Root,
    /// It refuses to run as root.
    Nobody,
}

enum Truth {
    /// What stress-ng counted.
    Counted,
    /// What was asked for.
    Asked,
}

/// A process that was born in the run.
struct Life<'a> {
    /// 1 for the stressor itself, a child of the command; 2 for its children.
    generation: u32,
    kind: &'a str,
    line: &'a Value,
}

const STRESSORS: &[Stressor] = &[
    Stressor {
        is: "a child by fork that ends at once",
        seen: |life| Ok((life.generation == 2 && life.kind == "fork").into()),
        ..Stressor::new("fork", 300)
    },
    Stressor {
        is: "a child by vfork that ends at once",
        seen: |life| Ok((life.generation == 2 && life.kind == "vfork").into()),
        ..Stressor::new("vfork", 300)
    },
    Stressor {
        // Each of them vforks the next one. The counter of 0.15.06 counts each twice.
        is: "a child by vfork of the one before it",
        seen: |life| Ok((life.kind == "vfork").into()),
        truth: Truth::Asked,
        ..Stressor::new("vforkmany", 100)
    },
    Stressor {
        // They are made in a child of the stressor, so that it survives if that one runs out of memory. Some of their
        // sets of flags make no difference to a fork.
        is: "a child by clone, with many sets of flags",
        seen: |life| Ok((life.generation == 3 && matches!(life.kind, "clone" | "fork")).into()),
        ..Stressor::new("clone", 40)
    },
    Stressor {
        is: "a child by posix_spawn that executes a program",
        seen: |life| Ok((life.generation == 2 && life.kind == "posix_spawn" && execs(life)? == 1).into()),
        user: User::Nobody,
        ..Stressor::new("spawn", 100)
    },
    Stressor {
        // Some of the execs fail, which is wanted.
        is: "a child by fork that tries to execute a program",
        seen: |life| Ok((life.generation == 2 && life.kind == "fork").into()),
        options: &["--exec-max", "1", "--exec-no-pthread", "--exec-fork-method", "fork"],
        user: User::Nobody,
        ..Stressor::new("exec", 50)
    },
    Stressor {
        is: "a child by fork, first a zombie, reaped later",
        seen: |life| Ok((life.generation == 2 && life.kind == "fork").into()),
        ..Stressor::new("zombie", 300)
    },
    Stressor {
        is: "a child that SIGKILL ends, sent through a pidfd",
        seen: |life| Ok((life.generation == 2 && signal(life) == Some("SIGKILL")).into()),
        ..Stressor::new("pidfd", 100)
    },
    Stressor {
        // Each child makes one more.
        is: "a child in a session of its own",
        seen: |life| Ok((life.generation == 2 && leads_a_session(life)).into()),
        ..Stressor::new("session", 100)
    },
    Stressor {
        // Each daemon tells of itself in a pipe, then makes the next one and ends. When enough have told, the pipe is
        // closed, which ends the chain by SIGPIPE; how many come between depends on time.
        is: "a daemon that a daemon made",
        seen: |life| Ok((life.generation > 2 && signal(life).is_none()).into()),
        spare: 20,
        ..Stressor::new("daemon", 200)
    },
    Stressor {
        is: "a thread",
        seen: |life| if life.generation == 1 { count(life.line, "/tracer/children/threads") } else { Ok(0) },
        ..Stressor::new("pthread", 1_000)
    },
];

impl Stressor {
    const fn new(name: &'static str, ops: u64) -> Self {
        Self {
            name,
            ops,
            options: &[],
            user: User::Root,
            is: "",
            seen: |_| Ok(0),
            truth: Truth::Counted,
            spare: 0,
        }
    }

    /// Runs it in a folder that its user can write to.
    fn run(&self, report: &mut Report, program: &OsStr) -> Result<()> {
        let what = format!("stress-ng `--{}`: {}", self.name, self.is);
        let folder = Folder::new(&format!("stress-{}", self.name))?;
        let (place, told) = (folder.path().join("work"), folder.path().join("work/told"));
        fs::create_dir(&place)?;
        let mut words: Vec<OsString> = Vec::new();
        if self.user == User::Nobody {
            chown(&place, Some(NOBODY), Some(NOBODY))?;
            let [user, group] = ["--reuid", "--regid"].map(|option| format!("{option}={NOBODY}"));
            words.extend(["setpriv".into(), user.into(), group.into(), "--clear-groups".into()]);
        }
        let [stressor, ops] = ["", "-ops"].map(|end| format!("--{}{end}", self.name));
        words.extend([program.into(), stressor.into(), "1".into(), ops.into(), self.ops.to_string().into()]);
        words.extend(self.options.iter().map(Into::into));
        words.extend(["--timeout", TIMEOUT_S, "--metrics-brief", "--temp-path"].map(Into::into));
        words.extend([place.into_os_string(), "--yaml".into(), told.clone().into_os_string()]);
        let trace = Trace::start(folder.path(), words.iter().map(OsString::as_os_str))?;
        let said = trace.said();
        let lines = trace.end(LIMIT)?;
        ensure!(!lines.iter().any(|line| is(line, "lost")), "{what}: events were lost");
        let Some(counted) = counted(&told) else {
            let said = fs::read_to_string(said)?;
            let why = said.lines().find(|line| line.contains("skipping")).context(said.clone())?;
            report.skip(what, why);
            return Ok(());
        };
        let truth = match self.truth {
            Truth::Counted => counted,
            Truth::Asked => self.ops,
        };
        let seen = lives(&timelines(&lines)?)?.iter().map(self.seen).sum::<Result<u64>>()?;
        // One may be made when time is up, and not be counted any more.
        let spare = self.spare + u64::from(counted < self.ops);
        report.compare(what, seen, truth, spare);
        Ok(())
    }
}

pub(crate) fn witness(report: &mut Report) -> Result<()> {
    let program = env::var_os("STRESS_NG").context("STRESS_NG does not name a stress-ng")?;
    for stressor in STRESSORS {
        if let Err(error) = stressor.run(report, &program) {
            report.failed(format!("stress-ng `--{}`", stressor.name), &error);
        }
    }
    Ok(())
}

/// The counter of the only stressor; none when stress-ng refused to run it.
fn counted(told: &Path) -> Option<u64> {
    let text = fs::read_to_string(told).ok()?;
    text.lines().find_map(|line| line.trim().strip_prefix("bogo-ops: ")?.parse().ok())
}

/// The processes born in a run, with their distance from the command.
fn lives<'a>(lines: &[&'a Value]) -> Result<Vec<Life<'a>>> {
    let text = |line: &'a Value, pointer: &str| line.pointer(pointer).and_then(Value::as_str);
    let own = |line: &'a Value| text(line, "/process/entity_id");
    let born = || lines.iter().filter_map(|&line| Some((line, text(line, "/tracer/fork/kind")?)));
    let parents: HashMap<_, _> =
        born().map(|(line, _)| (own(line), text(line, "/process/parent/entity_id"))).collect();
    let life = |(line, kind): (&'a Value, &'a str)| {
        let mut generation = 0;
        let mut of = own(line);
        while let Some(&parent) = parents.get(&of) {
            generation += 1;
            ensure!(generation as usize <= lines.len(), "its own ancestor: {line}");
            of = parent;
        }
        Ok(Life { generation, kind, line })
    };
    born().map(life).collect()
}

fn execs(life: &Life<'_>) -> Result<u64> {
    count(life.line, "/tracer/exec/seq")
}

fn signal<'a>(life: &Life<'a>) -> Option<&'a str> {
    life.line.pointer("/tracer/exit/signal").and_then(Value::as_str)
}

fn leads_a_session(life: &Life<'_>) -> bool {
    let pid = |pointer| life.line.pointer(pointer).and_then(Value::as_u64);
    pid("/process/pid").is_some() && pid("/process/session_leader/pid") == pid("/process/pid")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn generations_are_counted_from_the_command() {
        let line = |id: &str, parent: &str, kind: Value| json!({"process": {"entity_id": id, "parent": {"entity_id": parent}}, "tracer": {"fork": {"kind": kind}}});
        let lines =
            [line("c", "b", "vfork".into()), line("a", "shell", Value::Null), line("b", "a", "fork".into())];
        let lives = lives(&lines.iter().collect::<Vec<_>>()).unwrap();
        let told: Vec<_> = lives.iter().map(|life| (life.generation, life.kind)).collect();
        assert_eq!(told, [(2, "vfork"), (1, "fork")]);
    }

    #[test]
    fn a_circle_is_an_error() {
        let line = json!({"process": {"entity_id": "a", "parent": {"entity_id": "a"}}, "tracer": {"fork": {"kind": "fork"}}});
        assert!(lives(&[&line]).is_err());
    }
}
