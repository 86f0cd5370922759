//! `--cgroup`.

use std::{fs, path::PathBuf};

use libtest_mimic::{Failed, Trial};

use super::{
    filters::{children, exactly, stop},
    place::cgroup_mount,
    trial,
};
use crate::{
    check::{Check, Outcome},
    harness::{Plan, Workload},
    stream::number,
    temp::TempDir,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![trial("filter::cgroup", cgroup)]
}

/// A cgroup of its own, in the hierarchy of version 2 wherever that is mounted.
struct Group(PathBuf);

impl Group {
    fn new(dir: &TempDir) -> Result<Self, Failed> {
        let name = dir.path().file_name().ok_or("a directory without a name")?;
        let path = cgroup_mount()?.join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn cgroup() -> Outcome {
    let plan = Plan::new()?;
    let group = Group::new(&plan.dir)?;
    let (first, second) = (plan.dir.file("facts-1"), plan.dir.file("facts-2"));
    let mut wanted = Workload::start(first, 3, 0)?;
    let mut other = Workload::start(second, 2, 0)?;
    fs::write(group.0.join("cgroup.procs"), wanted.pid().to_string())?;
    let mut live = plan.option("--cgroup").option(group.0.clone()).start()?;
    live.wait_hello()?;
    let pid = i64::from(wanted.pid());
    other.finish()?;
    wanted.finish()?;
    let children = children(&live, "facts-1")?;
    let run = stop(live)?;
    let mut check = Check::new(&run);
    exactly(&mut check, &run, "--cgroup", children.into_iter().chain([pid]));
    let group_id = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&group.0)?);
    for line in run.stream.of("timeline") {
        check.same("cgroup_id", number(line, "/tracer/cgroup_id"), group_id as i64);
    }
    check.done()
}
