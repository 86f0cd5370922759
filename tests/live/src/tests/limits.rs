//! Forks that are refused, and what an exec gives and ends.

use std::{fs, path::PathBuf};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::json;

use super::{
    place::cgroup_mount,
    tree::{each, take, test},
    trial,
};
use crate::{
    cases,
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
    let plan = Plan::workload("refused-by-user")?.arg(MOST.to_string());
    refused("fork: refused by the limit of a user", plan, "rlimit_nproc")
}

/// Runs a workload whose forks are refused in the end.
fn refused(row: &str, plan: Plan, name: &str) -> Outcome {
    let run = plan.option("--events").run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    check.same("children", number(&run.facts, "/values/children"), MOST - 1);
    let forker = at(&run.facts, "/values/forker");
    let take = |step| {
        ["errno", "limit/name", "limit/value"]
            .map(|field| at(step, &format!("/tracer/fork_failed/{field}")).clone())
    };
    let steps = run.stream.of("fork_failed").filter(|step| at(step, "/process/pid") == forker);
    let seen: Vec<_> = steps.flat_map(take).collect();
    check.row(&format!("{row}: errno, limit"), seen, json!([libc::EAGAIN, name, MOST]));
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
    const ROW: &str = "fork: refused by the limit of a cgroup";
    let plan = Plan::workload("refused-by-cgroup")?;
    let name =
        plan.dir.path().file_name().ok_or("a directory without a name")?.to_string_lossy().into_owned();
    let Some(group) = Group::new(&name)? else {
        const WHY: &str = "no pids controller";
        cases::no_row(&format!("{ROW}: errno, limit"), WHY);
        return Ok(Completion::ignored_with(WHY));
    };
    refused(ROW, plan.arg(&group.0).arg(MOST.to_string()), "pids_max")?;
    Ok(Completion::Completed)
}

fn secure() -> Outcome {
    let plan = Plan::workload("exec-secure")?;
    let program = plan.dir.link_self("true")?;
    const ROW: &str = "exec: set-user-ID, and not";
    test(ROW, plan.arg(program), |check, run| {
        each(check, run, &format!("{ROW}: secure"), take("/secure"), take("/tracer/exec/secure"));
        each(check, run, &format!("{ROW}: user"), take("/uid"), take("/user/id"));
    })
}

fn killed_by_exec() -> Outcome {
    // From the first thread; and from another one, which ends the first.
    for (row, name, count) in
        [("exec: with five more threads", "exec-kills", 5), ("exec: by a second thread", "exec-thread", 1)]
    {
        let plan = Plan::workload(name)?;
        let program = plan.dir.link_self("true")?;
        let plan = plan.arg(program).arg(count.to_string());
        test(row, plan, |check, run| {
            let killed = take("/tracer/exec/threads_killed");
            each(check, run, &format!("{row}: threads killed"), |_| count.into(), killed);
        })?;
    }
    Ok(())
}
