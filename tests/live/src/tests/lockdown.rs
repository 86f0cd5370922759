//! What is left when the kernel forbids to read its memory. Raising the lockdown cannot be taken back, so this is
//! for virtual machines only, and comes last.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{tree::processes, trial};
use crate::{
    check::{Check, Outcome},
    harness::{Plan, in_vm},
    machine,
    stream::{at, number},
};

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![trial("lockdown::confidentiality", confidentiality).with_ignored_flag(!in_vm())]
}

fn confidentiality() -> Outcome {
    fs::write(LOCKDOWN, "confidentiality").map_err(|error| format!("{LOCKDOWN}: {error}"))?;
    let plan = Plan::workload("kinds")?;
    let program = plan.dir.link_self("true")?;
    let run = plan.option("--ledger").option("full").arg(&program).run()?;
    let mut check = Check::bare(&run);
    if run.code == Some(69) {
        // Up to 5.14 even the current process can only be found through such reads.
        check.that(run.stderr.contains("lockdown"), "the error does not name the lockdown");
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        check.that(release.starts_with("5.10"), format!("{release} can do without"));
        return check.done();
    }
    check.same("exit code", run.code, Some(0));
    let hello = run.stream.lines.first().unwrap_or(&Value::Null);
    check.same("level", at(hello, "/tracer/cow_level").as_str(), Some("lite"));
    for field in ["process.executable", "process.args", "tracer.cow.by_page", "tracer.ledger.fds"] {
        check.that(at(hello, "/tracer/unavailable").get(field).is_some(), format!("{field}: no reason"));
    }
    for fact in processes(&run) {
        let Some(line) = check.timeline(number(fact, "/pid")) else { continue };
        check.field(line, "/process/parent/pid", at(fact, "/parent").clone());
        // From 7.0 the flags are read from the call's arguments, and those of clone3 are in memory.
        if number(fact, "/syscall") != libc::SYS_clone3 || machine::release()? < (7, 0) {
            check.field(line, "/tracer/fork/kind", at(fact, "/kind").clone());
        }
        check.field(line, "/tracer/exec/seq", at(fact, "/execs").clone());
        check.field(line, "/tracer/reap/by_pid", at(fact, "/reaper").clone());
        check.field(line, "/process/executable", Value::Null);
        check.field(line, "/process/args", Value::Null);
        if number(fact, "/execs") > 0 {
            for field in ["/signals", "/fds", "/changed/limits", "/all/limits"] {
                check.field(line, &format!("/tracer/ledger{field}"), Value::Null);
            }
            check.field(line, "/tracer/ledger/against", "birth");
            check.field(line, "/tracer/ledger/all/euid", 0);
        }
        check.field(line, "/tracer/missing", json!(["program"]));
    }
    check.done()
}
