//! Birth and exec.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};

use super::{
    tree::{code, each, processes, take, test},
    trial,
};
use crate::{
    cases,
    check::{Check, Outcome},
    harness::{Plan, Run},
    stream::{at, number},
    workload,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("life::fork", fork),
        trial("life::each_kind_of_fork", kinds),
        trial("life::failed_forks", failed_forks),
        trial("life::fork_exec", fork_exec),
        trial("life::exec_chain", exec_chain),
        trial("life::failed_execs", failed_execs),
        trial("life::path_walk", path_walk),
        trial("life::path_walks_of_execvp", path_walks_of_execvp),
        trial("life::exec_from_thread", exec_from_thread),
        trial("life::shebang", shebang),
        trial("life::odd_arguments", odd_arguments),
        trial("life::many_arguments", many_arguments),
        trial("life::long_argument", long_argument),
        trial("life::threads", threads),
        trial("life::steps", steps),
        Trial::ignorable_test("life::shell", shell),
    ]
}

fn fork() -> Outcome {
    test("birth: ten forks", Plan::workload("fork")?.arg("10"), |check, run| {
        each(check, run, "birth: ten forks: exit codes", code, take("/process/exit_code"));
    })
}

fn kinds() -> Outcome {
    let plan = Plan::workload("kinds")?;
    let program = plan.dir.link_self("true")?;
    test("birth: each kind", plan.arg(program), |check, run| {
        each(check, run, "birth: each kind: kind", take("/kind"), take("/tracer/fork/kind"));
        let is_vfork =
            |fact: &Value| ["vfork", "posix_spawn"].contains(&at(fact, "/kind").as_str().unwrap_or(""));
        let blocked = |line: &Value| (number(line, "/tracer/fork/parent_blocked_ns") > 0).into();
        each(check, run, "birth: each kind: blocks its parent", |fact| is_vfork(fact).into(), blocked);
        for fact in processes(run) {
            let Some(line) = check.timeline(number(fact, "/pid")) else {
                continue;
            };
            let blocked = number(line, "/tracer/fork/parent_blocked_ns");
            let vm = at(line, "/tracer/fork/shares_mm") == true;
            check.that(
                (blocked > 0) == vm,
                format!("pid {}: parent_blocked_ns is {blocked}", at(fact, "/pid")),
            );
            let tables = number(line, "/tracer/fork/pgtable_bytes");
            check.that((tables > 0) != vm, format!("pid {}: pgtable_bytes is {tables}", at(fact, "/pid")));
        }
    })
}

fn failed_forks() -> Outcome {
    test("birth: failed forks", Plan::workload("fork-fail")?.option("--events"), |check, run| {
        let fact = processes(run).first().unwrap_or(&Value::Null);
        let steps: Vec<_> = run.stream.of("fork_failed").collect();
        for (row, truth, seen) in [("errno", "/errors", "errno"), ("system calls", "/calls", "syscall")] {
            let seen = of_each(&steps, &format!("/tracer/fork_failed/{seen}"));
            check.row(&format!("birth: failed forks: {row}"), seen, at(fact, truth).clone());
        }
        for step in steps {
            check.field(step, "/process/pid", at(fact, "/pid").clone());
        }
    })
}

/// The timeline of the only process that a workload made.
fn only<'a>(check: &mut Check<'a>, run: &'a Run) -> &'a Value {
    let pid = processes(run).first().map_or(-1, |fact| number(fact, "/pid"));
    check.timeline(pid).unwrap_or(&Value::Null)
}

fn fork_exec() -> Outcome {
    let plan = Plan::workload("exec")?;
    let program = plan.dir.link_self("true")?;
    let path = program.to_string_lossy().into_owned();
    test("exec: after a fork", plan.arg(program), |check, run| {
        let line = only(check, run);
        check.field(line, "/process/name", "true");
        check.field(line, "/process/executable", path.clone());
        check.field(line, "/process/args", json!([path]));
        check.field(line, "/tracer/exec/path", path.clone());
        check.field(line, "/tracer/exec/args_truncated", false);
        check.field(line, "/process/previous/0/executable", this());
        check.field(line, "/user/id", "0");
        check.field(line, "/user/group/id", "0");
    })
}

/// Path of this program, as it is given to exec.
fn this() -> Value {
    std::env::current_exe().map_or(Value::Null, |path| path.to_string_lossy().into())
}

fn exec_chain() -> Outcome {
    let mut plan = Plan::workload("chain")?;
    for name in ["one", "two", "three"] {
        let program = plan.dir.link_self(name)?;
        plan = plan.arg(program);
    }
    let path = |name: &str| plan.dir.file(name).to_string_lossy().into_owned();
    let [one, two, three] = ["one", "two", "three"].map(path);
    test("exec: three in a row", plan, |check, run| {
        let line = only(check, run);
        check.row("exec: three in a row: count", at(line, "/tracer/exec/seq").clone(), 3);
        check.field(line, "/process/name", "three");
        check.field(line, "/process/executable", three.clone());
        check.field(line, "/process/args", json!([three, "workload", "next"]));
        check.field(line, "/process/previous/1/executable", one);
        check.field(line, "/process/previous/1/args_count", 5);
        check.field(line, "/process/previous/2/executable", two);
        check.field(line, "/process/previous/2/args_count", 4);
        check.field(line, "/process/previous/3", Value::Null);
    })
}

fn failed_execs() -> Outcome {
    let plan = Plan::workload("exec-fail")?.option("--events");
    let missing = plan.dir.file("missing");
    let closed = plan.dir.file("closed");
    fs::write(&closed, "#!/bin/true\n")?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o644))?;
    let garbage = plan.dir.file("garbage");
    fs::write(&garbage, [0_u8; 64])?;
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755))?;
    let program = plan.dir.link_self("true")?;
    let tries = [&missing, &closed, &garbage].map(|path| path.to_string_lossy().into_owned());
    let plan = plan.arg(missing).arg(closed).arg(garbage).arg(program);
    test("exec: failed thrice", plan, |check, run| {
        let line = only(check, run);
        check.field(line, "/tracer/exec/failures", 3);
        let steps: Vec<_> = run.stream.of("exec_failed").collect();
        let errors = of_each(&steps, "/tracer/exec_failed/errno");
        let truth = at(processes(run).first().unwrap_or(&Value::Null), "/errors").clone();
        check.same("errors", &truth, &json!([libc::ENOENT, libc::EACCES, libc::ENOEXEC]));
        check.row("exec: failed thrice: errno", errors, truth);
        for (step, path) in steps.into_iter().zip(tries) {
            check.field(step, "/process/pid", at(line, "/process/pid").clone());
            check.field(step, "/tracer/exec_failed/path", path);
            check.field(step, "/tracer/exec_failed/tries", 1);
        }
    })
}

fn path_walk() -> Outcome {
    let mut plan = Plan::workload("exec-fail")?;
    for place in ["a", "b", "c", "d", "e"] {
        let program = plan.dir.file(place).join("true");
        plan = plan.arg(program);
    }
    let program = plan.dir.link_self("true")?;
    test("exec: names one after the other", plan.arg(program), |check, run| {
        let tries = "exec: names one after the other: tries";
        each(check, run, tries, take("/tries"), take("/tracer/exec/tries"));
        let line = only(check, run);
        check.field(line, "/tracer/exec/failures", 5);
    })
}

/// Five directories in `PATH`, walked by the C library. What it reports is the exit code of a child that found no program.
fn path_walks_of_execvp() -> Outcome {
    let plan = Plan::workload("execvp")?.option("--events");
    let places = ["a", "b", "c", "d", "e"].map(|place| plan.dir.file(place));
    let [a, b, c, d, e] = &places;
    for place in [a, b, c, e] {
        fs::create_dir(place)?;
    }
    fs::write(d, "no directory")?;
    let closed = c.join("closed");
    fs::write(&closed, "#!/bin/true\n")?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o644))?;
    plan.dir.link_self("e/true")?;
    let last = ["missing", "closed"].map(|name| e.join(name).to_string_lossy().into_owned());
    let plan = plan.arg(std::env::join_paths(&places)?);
    let plan = plan.arg("missing").arg("5").arg("closed").arg("5").arg("true").arg("4");
    test("exec: walks along PATH", plan, |check, run| {
        each(check, run, "exec: walks along PATH: tries", take("/tries"), take("/tracer/exec/tries"));
        let pids: Vec<_> = processes(run).iter().map(|fact| number(fact, "/pid")).collect();
        let steps: Vec<_> = run.stream.of("exec_failed").collect();
        // The children that found nothing end with the error.
        let truth = |take: &dyn Fn(&Value) -> Value| {
            let failed = processes(run).iter().filter(|fact| number(fact, "/execs") == 0);
            failed.map(take).collect::<Vec<_>>()
        };
        let errors = of_each(&steps, "/tracer/exec_failed/errno");
        check.same("errors", truth(&code), vec![libc::ENOENT.into(), libc::EACCES.into()]);
        check.row("exec: walks along PATH that find nothing: errno", errors, truth(&code));
        let tries = of_each(&steps, "/tracer/exec_failed/tries");
        check.row("exec: walks along PATH that find nothing: tries", tries, truth(&take("/failures")));
        for ((step, pid), path) in steps.into_iter().zip(&pids).zip(last) {
            check.field(step, "/process/pid", *pid);
            check.field(step, "/tracer/exec_failed/path", path);
        }
        let step = run.stream.of("exec").find(|step| pids.last() == Some(&number(step, "/process/pid")));
        check.field(step.unwrap_or(&Value::Null), "/tracer/exec/tries", 5);
    })
}

fn exec_from_thread() -> Outcome {
    let plan = Plan::workload("exec-thread")?;
    let program = plan.dir.link_self("true")?;
    test("exec: from a thread", plan.arg(program), |check, run| {
        let threads = take("/tracer/children/threads");
        each(check, run, "exec: from a thread: threads", take("/threads"), threads);
        let line = only(check, run);
        check.field(line, "/process/name", "true");
    })
}

fn shebang() -> Outcome {
    let plan = Plan::workload("exec")?;
    let interpreter = plan.dir.link_self("true")?.to_string_lossy().into_owned();
    let script = plan.dir.file("script");
    fs::write(&script, format!("#!{interpreter} -x\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let path = script.to_string_lossy().into_owned();
    // The kernel puts the interpreter, its argument and the script in the place of argv[0].
    let run = plan.arg(script).run()?;
    let mut check = Check::new(&run);
    let line = only(&mut check, &run);
    check.field(line, "/process/executable", interpreter.clone());
    check.field(line, "/process/name", "script");
    check.field(line, "/process/args", json!([interpreter, "-x", path]));
    check.row("exec: #!: arguments", at(line, "/process/args_count").clone(), 3);
    check.field(line, "/tracer/exec/path", path);
    check.field(line, "/tracer/exec/interpreters", json!([interpreter]));
    let names = ["/tracer/exec/path", "/tracer/exec/interpreters/0"].map(|path| file_name(at(line, path)));
    check.row("exec: #!: script and interpreter", names.to_vec(), json!(["script", "true"]));
    check.field(line, "/tracer/exec/seq", 1);
    check.field(line, "/process/exit_code", 0);
    check.done()
}

/// What is at the end of a path.
fn file_name(path: &Value) -> Value {
    let name = path.as_str().map(Path::new).and_then(Path::file_name);
    name.map_or(Value::Null, |name| name.to_string_lossy().into())
}

/// The values at `pointer`.
fn of_each(lines: &[&Value], pointer: &str) -> Vec<Value> {
    lines.iter().map(|line| at(line, pointer).clone()).collect()
}

/// A run of the workload that executes `true` in this way.
fn arguments(row: &str, name: &str, more: impl for<'a> FnOnce(&mut Check<'a>, &'a Value)) -> Outcome {
    let plan = Plan::workload(name)?;
    let program = plan.dir.link_self("true")?;
    test(row, plan.arg(program), |check, run| {
        let line = only(check, run);
        let bytes = take("/tracer/exec/args_bytes");
        each(check, run, &format!("{row}: number"), take("/args_count"), take("/process/args_count"));
        each(check, run, &format!("{row}: bytes"), take("/args_bytes"), bytes);
        more(check, line);
    })
}

fn odd_arguments() -> Outcome {
    arguments("exec: odd arguments", "exec-odd", |check, line| {
        let args = workload::odd_arguments();
        let shown: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        check.field(line, "/process/args", shown);
        check.field(line, "/tracer/exec/args_truncated", false);
        let bytes: Vec<u8> = args.iter().flat_map(|arg| [arg.as_encoded_bytes(), b"\0"].concat()).collect();
        let text = at(line, "/tracer/args_b64").as_str().unwrap_or_default();
        let told = base64(text).unwrap_or_default();
        let same = told.iter().zip(&bytes).filter(|(told, byte)| told == byte).count();
        check.row("exec: odd arguments: the same bytes in base64", same, bytes.len());
        check.same("tracer.args_b64", told, bytes);
    })
}

/// Decodes base64, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            .iter()
            .position(|&b| b == byte)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

fn many_arguments() -> Outcome {
    arguments("exec: many arguments", "exec-many", |check, line| {
        check.field(line, "/tracer/exec/args_truncated", false);
        let args = workload::many_arguments();
        let shown: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        check.field(line, "/process/args", shown);
    })
}

fn long_argument() -> Outcome {
    arguments("exec: long argument", "exec-long", |check, line| {
        let cut = at(line, "/tracer/exec/args_truncated").clone();
        check.row("exec: long argument: truncated", cut, true);
        check.field(line, "/process/args/0", "true");
        let cut = at(line, "/process/args/1").as_str().unwrap_or_default();
        check.that(
            cut.len() > 1_000 && cut.bytes().all(|byte| byte == b'x'),
            "the argument is not the start of the real one",
        );
    })
}

fn threads() -> Outcome {
    test("birth: threads", Plan::workload("threads")?.arg("20"), |check, run| {
        let threads = take("/tracer/children/threads");
        each(check, run, "birth: threads: number", take("/threads"), threads);
    })
}

fn steps() -> Outcome {
    let plan = Plan::workload("exec")?.option("--events");
    let program = plan.dir.link_self("true")?;
    test("exec: with --events", plan.arg(program), |check, run| {
        let pid = number(only(check, run), "/process/pid");
        let order = run.stream.lines.iter().filter(|line| number(line, "/process/pid") == pid);
        let order: Vec<_> =
            order.map(|line| at(line, "/event/action").as_str().unwrap_or_default()).collect();
        let steps: Vec<_> = order.iter().copied().filter(|&action| action != "timeline").collect();
        check.row("exec: with --events: steps", steps, json!(["fork", "exec", "exit", "reap"]));
    })
}

fn shell() -> Result<Completion, Failed> {
    const ROW: &str = "exec: pipeline of a shell: runs of a program";
    const SHELL: &str = "/bin/sh";
    if !Path::new(SHELL).exists() {
        let why = "no shell here";
        cases::no_row(ROW, why);
        return Ok(Completion::ignored_with(why));
    }
    // A pipeline in a subshell: what the shell forks is its own business, that all of it is complete is ours.
    let run = Plan::new()?
        .arg(SHELL)
        .arg("-c")
        .arg("(echo a; echo b) | while read x; do /bin/true $x; done")
        .run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    let timelines = run.stream.timelines();
    let runs: Vec<_> =
        timelines.iter().filter(|line| at(line, "/process/executable") == "/bin/true").collect();
    check.row(ROW, runs.len(), 2);
    for line in timelines {
        check.field(line, "/tracer/complete", true);
        check.field(line, "/process/exit_code", 0);
    }
    check.done()?;
    Ok(Completion::Completed)
}
