//! What is left when the kernel forbids to read its memory. Raising the lockdown cannot be taken back, so this is
//! for virtual machines only, and comes last.

use std::fs;

use libtest_mimic::Trial;

use super::{tree::tree, trial};
use crate::{
    check::{Check, Outcome},
    harness::{Plan, in_vm},
    stream::at,
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
    let run = plan.arg(&program).run()?;
    let mut check = Check::bare(&run);
    if run.code == Some(69) {
        // Up to 5.14 even the current process can only be found through such reads.
        check.that(run.stderr.contains("lockdown"), "the error does not name the lockdown");
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        check.that(release.starts_with("5.10"), format!("{release} can do without"));
        return check.done();
    }
    tree(&mut check, &run);
    let hello = &run.stream.lines[0];
    check.same("level", at(hello, "/tracer/cow_level").as_str(), Some("lite"));
    check.done()
}
