//! Where a process stands, what a fork took and mapped, and which file runs.

use std::{fs, path::PathBuf};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{
    tree::{count, each, processes, take, test},
    trial,
};
use crate::{
    cases,
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
    const ROW: &str = "place: sessions, groups, terminal, namespaces";
    test(ROW, Plan::workload("place")?, |check, run| {
        let first = at(run.stream.of("hello").next().unwrap_or(&Value::Null), "/tracer/namespaces");
        let own = |fact: &Value| {
            let mut own = at(fact, "/namespaces").clone();
            if let (Some(own), Some(first)) = (own.as_object_mut(), first.as_object()) {
                own.retain(|name, inode| first.get(name) != Some(inode) && inode != 0);
            }
            own
        };
        let same = count(check, run, |check, line, fact| {
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
            check.field(line, "/tracer/namespaces", own(fact));
        });
        check.row("place: sessions, groups, terminals: processes", same, processes(run).len());
        let names = |own: &Value| {
            let names = own.as_object().into_iter().flat_map(serde_json::Map::keys);
            let mut names: Vec<_> = names.map(String::as_str).collect();
            names.sort_unstable();
            if names.is_empty() { "none".to_owned() } else { names.join(" and ") }
        };
        let kinds: Vec<_> = processes(run).iter().map(|fact| names(&own(fact))).collect();
        let none = "none";
        // By unshare, and by clone.
        let want = vec![none, none, none, none, "cgroup and ipc and mnt and net and uts", "pid and user"];
        check.same("namespaces that differ", kinds.iter().map(String::as_str).collect(), want);
        let seen = |line: &Value| names(at(line, "/tracer/namespaces")).into();
        each(check, run, "place: namespaces of their own", |fact| names(&own(fact)).into(), seen);
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
    const ROW: &str = "place: cgroups that are gone";
    test(ROW, plan, |check, run| {
        let mut places = names.iter().zip([Value::Null, id.into()]);
        let same = count(check, run, |check, line, fact| {
            let Some((name, container)) = places.next() else { return check.fail("one process too many") };
            check.field(line, "/tracer/cgroup_id", at(fact, "/cgroup_id").clone());
            check.field(line, "/tracer/cgroup_path", format!("/{name}"));
            check.field(line, "/container/id", container);
        });
        check.row(&format!("{ROW}: with their path and container"), same, processes(run).len());
    })
}

fn cost_of_a_fork() -> Outcome {
    const MIB: i64 = 1 << 20;
    const ROW: &str = "memory: fork of 256 MiB";
    test(ROW, Plan::workload("fork-cost")?.option("--events"), |check, run| {
        let fact = processes(run).first().unwrap_or(&Value::Null);
        let pid = number(fact, "/pid");
        let step = run.stream.of("fork").find(|line| number(line, "/process/pid") == pid);
        let (mut mappings, mut times, mut near) = (0, 0, 0);
        for line in [check.timeline(pid), step].into_iter().flatten() {
            check.field(line, "/tracer/fork/vmas", at(fact, "/vmas").clone());
            mappings += i32::from(at(line, "/tracer/fork/vmas") == at(fact, "/vmas"));
            let (took, most) = (number(line, "/tracer/fork/duration_ns"), number(fact, "/took_ns"));
            check.that((1..=most).contains(&took), format!("duration_ns is {took}, at most {most}"));
            times += i32::from((1..=most).contains(&took));
            let mapped: i64 = ["anon", "file", "shmem"]
                .iter()
                .map(|kind| number(line, &format!("/tracer/fork/shared_{kind}_bytes")))
                .sum();
            check.that(mapped >= 256 * MIB, format!("{mapped} bytes mapped"));
            let per_mib = i128::from(took) * i128::from(MIB) / i128::from(mapped.max(1));
            check.field(line, "/tracer/fork/ns_per_mib", per_mib as i64);
            let (tables, seen) =
                (number(line, "/tracer/fork/pgtable_bytes"), number(fact, "/tables_kib") * 1024);
            // What the child touched until it looked may have needed some more.
            let is_near = (tables - seen).abs() * 20 <= seen;
            check.that(is_near, format!("{tables} bytes of page tables, not {seen}"));
            near += i32::from(is_near);
        }
        check.that(step.is_some(), "no fork record");
        // The timeline and the record of the fork.
        for (what, count) in [
            ("with the mappings that the child counts", mappings),
            ("with a time within that of the caller", times),
            ("with page tables within 5 % of the kernel's VmPTE", near),
        ] {
            check.row(&format!("{ROW}: records {what}"), count, 2);
        }
    })
}

fn end_of_a_vfork() -> Outcome {
    let plan = Plan::workload("kinds")?;
    let program = plan.dir.link_self("true")?;
    test("birth: each kind, once more", plan.arg(program), |check, run| {
        let by = |fact: &Value| match (at(fact, "/kind").as_str(), number(fact, "/execs")) {
            (Some("vfork" | "posix_spawn"), 0) => "exit".into(),
            (Some("vfork" | "posix_spawn"), _) => "exec".into(),
            _ => Value::Null,
        };
        each(check, run, "birth: each kind: its parent goes on at", by, take("/tracer/fork/released_by"));
    })
}

fn files() -> Outcome {
    let plan = Plan::workload("exec-files")?;
    let program = plan.dir.link_self("true")?;
    const ROW: &str = "exec: symbolic link, memfd, deleted file";
    test(ROW, plan.arg(program), |check, run| {
        check.same("processes", processes(run).len(), 3);
        each(check, run, &format!("{ROW}: kind"), take("/file/kind"), take("/tracer/exec/file/kind"));
        let same = count(check, run, |check, line, fact| {
            check.field(line, "/tracer/exec/file", at(fact, "/file").clone());
        });
        check.row(&format!("{ROW}: with name, device, inode"), same, processes(run).len());
    })
}

fn new_parent() -> Outcome {
    for (name, role) in [("orphan", "subreaper"), ("daemon", "init")] {
        let row = format!("reap: {name}, with --events");
        test(&row, Plan::workload(name)?.option("--events"), |check, run| {
            let row = format!("reap: {name}: role of its new parent");
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
                if is_known {
                    check.row(&row, at(step, "/tracer/reparent/to_role").clone(), role);
                } else {
                    check.field(step, "/tracer/reparent/to_role", Value::Null);
                    cases::no_row(&row, "here another process stands for the first one");
                }
            }
        })?;
    }
    Ok(())
}
