//! Forks that are refused, and what an exec gives and ends.

use std::{fs, path::PathBuf};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use super::{
    place::cgroup_mount,
    tree::{processes, test},
    trial,
};
use crate::{
    check::{Check, Outcome},
    harness::Plan,
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("limits::of_a_user", of_a_user),
        Trial::ignorable_test("limits::of_a_cgroup", of_a_cgroup),
        trial("limits::secure", secure),
        trial("limits::killed_by_exec", killed_by_exec),
    ]
}

/// Processes that may be there, the one that forks included.
const MOST: i64 = 3;

fn of_a_user() -> Outcome {
    refused(Plan::workload("refused-by-user")?.arg(MOST.to_string()), "rlimit_nproc")
}

/// Runs a workload whose forks are refused in the end.
fn refused(plan: Plan, name: &str) -> Outcome {
    let run = plan.option("--events").run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    check.same("children", number(&run.facts, "/values/children"), MOST - 1);
    let steps: Vec<_> = run.stream.of("fork_failed").collect();
    check.same("refused forks", steps.len(), 1);
    for step in steps {
        check.field(step, "/process/pid", at(&run.facts, "/values/forker").clone());
        check.field(step, "/tracer/fork_failed/errno", libc::EAGAIN);
        check.field(step, "/tracer/fork_failed/limit/name", name);
        check.field(step, "/tracer/fork_failed/limit/value", MOST);
    }
    check.done()
}

/// A cgroup that can limit processes, removed when this is dropped.
struct Group(PathBuf);

impl Group {
    /// In the v2 hierarchy if the controller is there, else in that of v1; `None` when it is nowhere.
    fn new(name: &str) -> Result<Option<Self>, Failed> {
        let mount = cgroup_mount()?;
        let controllers = fs::read_to_string(mount.join("cgroup.controllers"))?;
        let parent = if controllers.split_whitespace().any(|word| word == "pids") {
            fs::write(mount.join("cgroup.subtree_control"), "+pids")?;
            mount
        } else {
            PathBuf::from("/sys/fs/cgroup/pids")
        };
        if !parent.exists() {
            return Ok(None);
        }
        let path = parent.join(name);
        fs::create_dir(&path)?;
        Ok(Some(Self(path)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn of_a_cgroup() -> Result<Completion, Failed> {
    let plan = Plan::workload("refused-by-cgroup")?;
    let name =
        plan.dir.path().file_name().ok_or("a directory without a name")?.to_string_lossy().into_owned();
    let Some(group) = Group::new(&name)? else {
        return Ok(Completion::ignored_with("no pids controller"));
    };
    refused(plan.arg(&group.0).arg(MOST.to_string()), "pids_max")?;
    Ok(Completion::Completed)
}

fn secure() -> Outcome {
    let plan = Plan::workload("exec-secure")?;
    let program = plan.dir.link_self("true")?;
    test(plan.arg(program), |check, run| {
        for fact in processes(run) {
            let Some(line) = check.timeline(number(fact, "/pid")) else { continue };
            check.field(line, "/tracer/exec/secure", at(fact, "/secure").clone());
            check.field(line, "/user/id", at(fact, "/uid").clone());
        }
    })
}

fn killed_by_exec() -> Outcome {
    // From the first thread; and from another one, which ends the first.
    for (name, count) in [("exec-kills", 5), ("exec-thread", 1)] {
        let plan = Plan::workload(name)?;
        let program = plan.dir.link_self("true")?;
        let plan = plan.arg(program).arg(count.to_string());
        test(plan, |check, run| {
            let line = check.timeline(number(&processes(run)[0], "/pid")).unwrap_or(&Value::Null);
            check.field(line, "/tracer/exec/threads_killed", count);
        })?;
    }
    Ok(())
}
