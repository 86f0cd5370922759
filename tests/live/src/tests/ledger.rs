//! What a child inherited, and what its program kept and lost.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{
    tree::{processes, test},
    trial,
};
use crate::{
    check::{Check, Outcome},
    harness::{Plan, Run},
    machine,
    stream::{at, number},
    workload::ledger::{CLOSED, HARD_FILES, NICE, OWNER, PASSED, SOFT_FILES, UMASK, USER},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("ledger::changes", changes),
        trial("ledger::full", full),
        trial("ledger::base_hooks", base_hooks),
        trial("ledger::off", off),
    ]
}

fn plan(mode: &str) -> Result<Plan, std::io::Error> {
    let plan = Plan::workload("ledger")?;
    let program = plan.dir.link_self("true")?;
    Ok(plan.arg(program).option("--events").option("--ledger").option(mode))
}

/// The only line of an action about a process.
fn step<'a>(check: &mut Check<'a>, run: &'a Run, action: &str, fact: &Value) -> &'a Value {
    let found: Vec<_> =
        run.stream.of(action).filter(|line| at(line, "/process/pid") == at(fact, "/pid")).collect();
    check.same(format!("{action} records of {}", at(fact, "/what")), found.len(), 1);
    found.first().copied().unwrap_or(&Value::Null)
}

/// Names of signals in a mask.
fn names(mask: u64) -> Value {
    let known =
        [(7, "SIGBUS"), (10, "SIGUSR1"), (11, "SIGSEGV"), (12, "SIGUSR2"), (13, "SIGPIPE"), (15, "SIGTERM")];
    let name = |number: u32| match known.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("SIG{number}"),
    };
    (1..=64).filter(|number| mask & 1 << (number - 1) != 0).map(name).collect()
}

/// What the ledger of an exec must be, without `all`.
fn of_exec(fact: &Value, run: &Run) -> Value {
    let values = at(&run.facts, "/values");
    let (open, cloexec) = (number(fact, "/open"), number(fact, "/cloexec"));
    let mut ledger = json!({
        "against": "birth",
        "fds": {
            "kept": open - cloexec,
            "closed": cloexec,
            "passed_above_2": at(fact, "/passed_above_2"),
        },
    });
    let mask = |of: &Value, key: &str| at(of, key).as_u64().unwrap_or(0);
    let (before, ignored) = (mask(values, "/ignored"), mask(fact, "/ignored"));
    let of_signals =
        [("reset", mask(fact, "/caught")), ("ignored", ignored & !before), ("unignored", before & !ignored)];
    for (key, mask) in of_signals.into_iter().filter(|(_, mask)| *mask != 0) {
        ledger["signals"][key] = names(mask);
    }
    match at(fact, "/what").as_str() {
        Some("changed") => {
            ledger["signals"]["blocked"] = json!(["SIGHUP"]);
            let octal = |mask: u64| format!("{mask:04o}");
            ledger["changed"] = json!({
                "nice": {"from": at(values, "/nice"), "to": NICE},
                "umask": {
                    "from": octal(number(values, "/umask") as u64),
                    "to": octal(UMASK.into()),
                },
                "limits": {"nofile": {"soft": SOFT_FILES, "hard": HARD_FILES}},
            });
        }
        Some("ids") => {
            ledger["changed"] = json!({"uid": {"from": 0, "to": USER}, "euid": {"from": 0, "to": OWNER}});
            ledger["by_exec"] = json!(["euid"]);
        }
        _ => {}
    }
    ledger
}

fn without_all(ledger: &Value) -> Value {
    let mut ledger = ledger.clone();
    if let Some(fields) = ledger.as_object_mut() {
        fields.remove("all");
    }
    ledger
}

fn compare<'a>(check: &mut Check<'a>, run: &'a Run) {
    check.same("processes", processes(run).len(), 5);
    for fact in processes(run) {
        let what = at(fact, "/what");
        let exec = step(check, run, "exec", fact);
        let want = of_exec(fact, run);
        check.same(format!("exec of {what}"), without_all(at(exec, "/tracer/ledger")), want);
        if let Some(line) = check.timeline(number(fact, "/pid")) {
            check.field(line, "/tracer/ledger", at(exec, "/tracer/ledger").clone());
        }
        // The child has opened nothing yet.
        let opened = if what == "changed" { PASSED + CLOSED } else { 0 };
        let opened = if what == "thread" { CLOSED } else { opened };
        let fork = step(check, run, "fork", fact);
        let want = json!({
            "against": "parent",
            "fds": {
                "shared_offsets": number(fact, "/open") - i64::from(opened),
                "shared_table": what == "table",
            },
        });
        check.same(format!("fork of {what}"), without_all(at(fork, "/tracer/ledger")), want);
    }
    let signals =
        |fact: &Value| [at(fact, "/caught"), at(fact, "/ignored")].map(|mask| mask.as_u64().unwrap_or(0));
    // What the child opened is all that its program got, and lost, more than the others.
    if let [plain, changed, ..] = processes(run) {
        for (key, more) in [("/cloexec", CLOSED), ("/passed_above_2", PASSED)] {
            check.same(key, number(changed, key) - number(plain, key), more.into());
        }
        let (plain, changed) = (signals(plain), signals(changed));
        check.same("caught", names(changed[0] & !plain[0]), json!(["SIGUSR2", "SIGTERM"]));
        check.same("ignored", names(changed[1] & !plain[1]), json!(["SIGUSR1"]));
    }
}

fn changes() -> Outcome {
    test("exec: ledger changes", plan("changes")?, |check, run| {
        compare(check, run);
        for line in run.stream.lines.iter().filter(|line| !at(line, "/tracer/ledger/all").is_null()) {
            check.fail(format!("all of it: {line}"));
        }
    })
}

fn full() -> Outcome {
    test("exec: ledger full", plan("full")?, |check, run| {
        compare(check, run);
        for fact in processes(run) {
            let exec = step(check, run, "exec", fact);
            let fork = step(check, run, "fork", fact);
            let all = "/tracer/ledger/all";
            check.field(fork, &format!("{all}/memory/how"), "copied");
            check.field(exec, &format!("{all}/memory/how"), "replaced");
            check.field(exec, &format!("{all}/memory/args_bytes"), "true\0".len());
            check.field(exec, &format!("{all}/memory/environment_bytes"), 0);
            let sizes = ["text_bytes", "data_bytes"].map(|of| number(exec, &format!("{all}/memory/{of}")));
            check.that(sizes.iter().all(|&bytes| bytes > 0), format!("text and data: {sizes:?}"));
            check.field(exec, &format!("{all}/fds/open"), number(exec, "/tracer/ledger/fds/kept"));
            check.field(exec, &format!("{all}/fds/cloexec"), 0);
            check.field(exec, &format!("{all}/signals/caught"), json!([]));
            let limits = at(exec, &format!("{all}/limits")).as_object().map(serde_json::Map::len);
            check.same("limits", limits, Some(16));
            if at(fact, "/what") == "changed" {
                check.field(exec, &format!("{all}/nice"), NICE);
                check.field(exec, &format!("{all}/umask"), format!("{UMASK:04o}"));
                check.field(exec, &format!("{all}/limits/nofile/soft"), SOFT_FILES);
                check.field(exec, &format!("{all}/signals/blocked"), json!(["SIGHUP"]));
                let ignored = at(exec, &format!("{all}/signals/ignored")).as_array();
                let is_ignored = ignored.is_some_and(|names| names.contains(&"SIGUSR1".into()));
                check.that(is_ignored, format!("{ignored:?} without SIGUSR1"));
            }
            if at(fact, "/what") == "ids" {
                check.field(exec, &format!("{all}/uid"), USER);
                check.field(exec, &format!("{all}/euid"), OWNER);
            }
        }
    })
}

/// The state before an exec is known where the kernel tells it; else `hello` says why it is not.
fn base_hooks() -> Outcome {
    let run = plan("changes")?.option("--hooks").option("base").run()?;
    let mut check = Check::new(&run);
    if machine::release()? >= (6, 10) {
        compare(&mut check, &run);
        return check.done();
    }
    let hello = run.stream.lines.first().unwrap_or(&Value::Null);
    let reasons = at(hello, "/tracer/unavailable");
    check.that(reasons.get("tracer.ledger.fds.closed").is_some(), "no reason in hello");
    for fact in processes(&run) {
        let exec = step(&mut check, &run, "exec", fact);
        check.field(exec, "/tracer/ledger/fds/closed", Value::Null);
        check.field(exec, "/tracer/ledger/signals/reset", Value::Null);
        check.field(exec, "/tracer/ledger/against", "birth");
        check.field(exec, "/tracer/ledger/fds/passed_above_2", at(fact, "/passed_above_2").clone());
    }
    check.done()
}

/// Not asked for, nothing is told and nothing is loaded.
fn off() -> Outcome {
    test("exec: ledger off", plan("off")?, |check, run| {
        for line in run.stream.lines.iter().filter(|line| line.pointer("/tracer/ledger").is_some()) {
            check.fail(format!("a ledger: {line}"));
        }
        let bye = run.stream.lines.last().unwrap_or(&Value::Null);
        let programs = at(bye, "/tracer/skipped").as_object();
        let used: Vec<_> = programs.into_iter().flat_map(|programs| programs.keys()).collect();
        check.that(!used.is_empty(), "no program is in use");
        check.that(!used.iter().any(|name| name.starts_with("ledger")), format!("in use: {used:?}"));
        check.same("records", number(bye, "/tracer/records/ledger/seen"), 0);
    })
}
