//! Where a process stands, what a fork took and mapped, and which file runs.

use std::{fs, path::PathBuf};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{
    tree::{processes, test},
    trial,
};
use crate::{
    check::Outcome,
    harness::Plan,
    stream::{at, number},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("place::of_each", of_each),
        trial("place::short_lived_cgroups", short_lived_cgroups),
        trial("place::cost_of_a_fork", cost_of_a_fork),
        trial("place::end_of_a_vfork", end_of_a_vfork),
        trial("place::files", files),
        trial("place::new_parent", new_parent),
    ]
}

fn of_each() -> Outcome {
    test(Plan::workload("place")?, |check, run| {
        let first = at(run.stream.of("hello").next().unwrap_or(&Value::Null), "/tracer/namespaces");
        for fact in processes(run) {
            let Some(line) = check.timeline(number(fact, "/pid")) else { continue };
            for (own, leader) in
                [("/session", "/process/session_leader"), ("/group", "/process/group_leader")]
            {
                // 0 in a virtual machine, where nobody has called setsid(2).
                match at(fact, own) {
                    zero if zero == 0 => check.field(line, leader, Value::Null),
                    pid => check.field(line, &format!("{leader}/pid"), pid.clone()),
                }
            }
            check.field(line, "/process/tty", at(fact, "/tty").clone());
            let mut own = at(fact, "/namespaces").clone();
            if let (Some(own), Some(first)) = (own.as_object_mut(), first.as_object()) {
                own.retain(|name, inode| first.get(name) != Some(inode) && inode != 0);
            }
            check.field(line, "/tracer/namespaces", own);
        }
        // Five kinds by unshare, two by clone.
        let others = |fact: &Value| {
            let line =
                run.stream.timelines().into_iter().find(|line| at(line, "/process/pid") == at(fact, "/pid"));
            line.and_then(|line| at(line, "/tracer/namespaces").as_object()).map_or(0, serde_json::Map::len)
        };
        let counts: Vec<_> = processes(run).iter().map(others).collect();
        check.same("namespaces that differ", counts, vec![0, 0, 0, 0, 5, 2]);
    })
}

/// Where the v2 hierarchy is mounted.
pub(super) fn cgroup_mount() -> Result<PathBuf, Failed> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut mounted = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounted.find(|words| words.get(2) == Some(&"cgroup2")).ok_or("cgroup2 is not mounted")?;
    Ok(PathBuf::from(mount[1]))
}

fn short_lived_cgroups() -> Outcome {
    let mount = cgroup_mount()?;
    let mut plan = Plan::workload("cgroups")?;
    let name =
        plan.dir.path().file_name().ok_or("a directory without a name")?.to_string_lossy().into_owned();
    let id = "c0ffee".repeat(10) + "0123";
    let names = [name, format!("docker-{id}.scope")];
    for name in &names {
        plan = plan.arg(mount.join(name));
    }
    test(plan, |check, run| {
        for ((fact, name), container) in processes(run).iter().zip(&names).zip([Value::Null, id.into()]) {
            let Some(line) = check.timeline(number(fact, "/pid")) else { continue };
            check.field(line, "/tracer/cgroup_id", at(fact, "/cgroup_id").clone());
            check.field(line, "/tracer/cgroup_path", format!("/{name}"));
            check.field(line, "/container/id", container);
        }
    })
}

fn cost_of_a_fork() -> Outcome {
    const MIB: i64 = 1 << 20;
    test(Plan::workload("fork-cost")?.option("--events"), |check, run| {
        let fact = processes(run).first().unwrap_or(&Value::Null);
        let pid = number(fact, "/pid");
        let step = run.stream.of("fork").find(|line| number(line, "/process/pid") == pid);
        for line in [check.timeline(pid), step].into_iter().flatten() {
            check.field(line, "/tracer/fork/vmas", at(fact, "/vmas").clone());
            let (took, most) = (number(line, "/tracer/fork/duration_ns"), number(fact, "/took_ns"));
            check.that((1..=most).contains(&took), format!("duration_ns is {took}, at most {most}"));
            let mapped: i64 = ["anon", "file", "shmem"]
                .iter()
                .map(|kind| number(line, &format!("/tracer/fork/shared_{kind}_bytes")))
                .sum();
            check.that(mapped >= 128 * MIB, format!("{mapped} bytes mapped"));
            let per_mib = i128::from(took) * i128::from(MIB) / i128::from(mapped.max(1));
            check.field(line, "/tracer/fork/ns_per_mib", per_mib as i64);
            let (tables, seen) =
                (number(line, "/tracer/fork/pgtable_bytes"), number(fact, "/tables_kib") * 1024);
            // What the child touched until it looked may have needed one more.
            check.that(
                (tables - seen).abs() * 20 <= seen,
                format!("{tables} bytes of page tables, not {seen}"),
            );
        }
        check.that(step.is_some(), "no fork record");
    })
}

fn end_of_a_vfork() -> Outcome {
    let plan = Plan::workload("kinds")?;
    let program = plan.dir.link_self("true")?;
    test(plan.arg(program), |check, run| {
        for fact in processes(run) {
            let Some(line) = check.timeline(number(fact, "/pid")) else { continue };
            let by = match (at(line, "/tracer/fork/shares_mm") == true, number(fact, "/execs")) {
                (false, _) => Value::Null,
                (true, 0) => "exit".into(),
                (true, _) => "exec".into(),
            };
            check.field(line, "/tracer/fork/released_by", by);
        }
    })
}

fn files() -> Outcome {
    let plan = Plan::workload("exec-files")?;
    let program = plan.dir.link_self("true")?;
    test(plan.arg(program), |check, run| {
        check.same("processes", processes(run).len(), 3);
        for fact in processes(run) {
            let Some(line) = check.timeline(number(fact, "/pid")) else { continue };
            check.field(line, "/tracer/exec/file", at(fact, "/file").clone());
        }
    })
}

fn new_parent() -> Outcome {
    for (name, role) in [("orphan", "subreaper"), ("daemon", "init")] {
        test(Plan::workload(name)?.option("--events"), |check, run| {
            let steps: Vec<_> = run.stream.of("reparent").collect();
            check.same("reparent records", steps.len(), 1);
            for step in steps {
                let to = number(step, "/tracer/reparent/to_pid");
                check.field(step, "/tracer/reparent/from_pid", at(&processes(run)[0], "/pid").clone());
                if role == "subreaper" {
                    let root = check.timeline(to).unwrap_or(&Value::Null);
                    check.same("the new parent", Some(to), at(&run.facts, "/root").as_i64());
                    check.field(step, "/tracer/reparent/to_name", at(root, "/process/name").clone());
                    check.field(
                        step,
                        "/tracer/reparent/to_entity_id",
                        at(root, "/process/entity_id").clone(),
                    );
                }
                // On this machine another process may stand for the first one.
                let is_known = role == "subreaper" || to == 1;
                check.field(
                    step,
                    "/tracer/reparent/to_role",
                    if is_known { role.into() } else { Value::Null },
                );
            }
        })?;
    }
    Ok(())
}
