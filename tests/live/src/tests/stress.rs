//! The sum over all processes against the kernel's own count, where kernels allow to probe their functions.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::trial;
use crate::{
    cases,
    check::{Check, Outcome},
    harness::{Plan, Run},
    kprobe::{Call, NewPages},
    machine::Swap,
    stream::{at, number},
    temp::TempDir,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![trial("stress::total", total), trial("stress::total_under_memory_pressure", pressure)]
}

/// What the program of the stress is called: its threads have this name, and tracer's have not.
const NAME: &str = "stress";
/// Pages of the file, some more than are mapped.
const FILE_BYTES: usize = 80 * 4096;
const LIMIT: Duration = Duration::from_secs(600);

fn total() -> Outcome {
    const ID: &str = "stress";
    let plan = Plan::new()?;
    let (program, file) = (plan.dir.link_self("true")?, plan.dir.file("data"));
    fs::write(&file, vec![b'f'; FILE_BYTES])?;
    let plan = workload(plan, "stress")?.arg("6").arg(program).arg(file);
    // Each of the rounds upgrades 512 zero pages; a page shared by two is copied by one at least.
    test(ID, plan, 6 * 1_024)
}

/// In a cgroup that may have half of what it needs.
fn pressure() -> Outcome {
    const ID: &str = "stress under memory pressure";
    let Some(_swap) = Swap::on()? else {
        cases::tell(ID, "no swap here", "-");
        return Ok(());
    };
    let plan = Plan::new()?;
    let group = match Group::new(&plan.dir) {
        Ok(group) => group,
        Err(why) => {
            cases::tell(ID, why, "-");
            return Ok(());
        }
    };
    let before = swapped_in()?;
    let plan = workload(plan, "stress-swap")?.arg("2").arg(group.path.join("cgroup.procs"));
    // Each of the rounds has 4,096 pages that four processes write: three copies of each at least.
    test(ID, plan, 2 * 3 * 4_096)?;
    let pages = swapped_in()? - before;
    if pages == 0 {
        return Err("nothing was swapped".into());
    }
    Ok(())
}

/// Pages that this machine has read from swap.
fn swapped_in() -> Result<u64, Failed> {
    let text = fs::read_to_string("/proc/vmstat")?;
    let count = text.lines().find_map(|line| line.strip_prefix("pswpin "));
    Ok(count.ok_or("/proc/vmstat has no pswpin")?.parse()?)
}

/// A cgroup with little memory.
struct Group {
    path: PathBuf,
    /// Whether it was us who let it have a limit.
    switched: bool,
}

impl Group {
    const ROOT: &str = "/sys/fs/cgroup";
    const SWITCH: &str = "/sys/fs/cgroup/cgroup.subtree_control";
    const BYTES: &str = "33554432";

    fn new(dir: &TempDir) -> Result<Self, String> {
        let name = dir.path().file_name().ok_or("a directory without a name")?;
        let says = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let on = fs::read_to_string(Self::SWITCH).map_err(|error| says("no cgroup 2", error))?;
        let mut group = Self { path: PathBuf::from(Self::ROOT).join(name), switched: false };
        if !on.split_whitespace().any(|controller| controller == "memory") {
            fs::write(Self::SWITCH, "+memory").map_err(|error| says("no memory controller", error))?;
            group.switched = true;
        }
        fs::create_dir(&group.path).map_err(|error| says("no cgroup", error))?;
        let most = group.path.join("memory.max");
        fs::write(most, Self::BYTES).map_err(|error| says("memory.max", error))?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
        if self.switched {
            let _ = fs::write(Self::SWITCH, "-memory");
        }
    }
}

/// The workload under the name by which the kernel's records tell its threads.
fn workload(plan: Plan, name: &str) -> Result<Plan, Failed> {
    let (program, facts) = (plan.dir.link_self(NAME)?, plan.dir.file("facts"));
    Ok(plan.limit(LIMIT).arg(program).arg("workload").arg(name).arg(facts))
}

/// Runs it and compares the sums, which are `least` or more.
fn test(id: &str, plan: Plan, least: i64) -> Outcome {
    let probe = NewPages::start();
    let run = plan.run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    for line in run.stream.timelines() {
        check.field(line, "/tracer/complete", true);
    }
    let sum = |counter: &str| run.stream.timelines().iter().map(|line| number(line, counter)).sum::<i64>();
    let [copies, eager, upgrades] =
        ["copies", "by/eager", "zero_upgrades"].map(|name| sum(&format!("/tracer/cow/{name}")));
    let seen = run.stream.timelines().into_iter().map(new_pages).sum::<i64>();
    check.that(seen >= least, format!("{copies} copies, {upgrades} upgrades: too few"));
    match probe {
        Err(error) => cases::tell(id, format!("no probe: {error}"), "-"),
        Ok(probe) => {
            let calls = of_run(&run, probe.stop()?);
            let count = |callers: &[&str]| of_callers(calls.iter(), callers);
            let truth = count(COPIES);
            // How many there are depends on time, by how many the two differ must not.
            println!("{id}: the kernel counts {truth} copies and upgrades, tracer {seen}");
            cases::tell(id, "the kernel's own count", format_args!("{} off", seen - truth));
            check.same(format!("copies and upgrades, and calls of the kernel: {calls:?}"), seen, truth);
            if seen != truth {
                check.fail(apart(&run, &calls));
            }
            check.same("copies by fork", eager, count(FORK));
        }
    }
    check.done()
}

/// Who maps a new page in place of one that was written to, or of a private file (mm/memory.c).
const COPIES: &[&str] = &[
    // A present page, also in do_swap_page() and in get_user_pages. The first is a part of the second from 6.12.
    "wp_page_copy",
    "do_wp_page",
    // do_cow_fault() in 5.10, in 6.1, and from 6.6.
    "alloc_set_pte",
    "do_set_pte",
    "set_pte_range",
    "finish_fault",
];
/// The copies of pinned pages by fork.
const FORK: &[&str] = &["copy_page_range", "copy_pte_range", "copy_present_page", "copy_present_ptes"];

/// Copies and upgrades that a line tells of.
fn new_pages(line: &Value) -> i64 {
    let [copies, eager, huge, upgrades] = ["copies", "by/eager", "by_page/huge", "zero_upgrades"]
        .map(|name| number(line, &format!("/tracer/cow/{name}")));
    copies - eager - huge + upgrades
}

/// Numbers of calls, by thread and caller.
type Calls = BTreeMap<(i64, String), i64>;

fn of_callers<'a>(calls: impl Iterator<Item = (&'a (i64, String), &'a i64)>, callers: &[&str]) -> i64 {
    calls.filter(|((_, caller), _)| callers.contains(&caller.as_str())).map(|(_, count)| count).sum()
}

/// Where the two counts differ, if each process has one thread only.
fn apart(run: &Run, calls: &Calls) -> String {
    let of_line = |line: &Value| {
        let (pid, seen) = (number(line, "/process/pid"), new_pages(line));
        let own = || calls.range((pid, String::new())..(pid + 1, String::new()));
        let truth = of_callers(own(), COPIES);
        let cow = at(line, "/tracer/cow");
        (seen != truth).then(|| format!("pid {pid}: {seen} of {truth}: {cow}, {:?}", Vec::from_iter(own())))
    };
    run.stream.timelines().into_iter().filter_map(of_line).collect::<Vec<_>>().join("\n")
}

/// Calls of the threads of the run only.
fn of_run(run: &Run, calls: Vec<Call>) -> Calls {
    let pids: Vec<_> = run.stream.timelines().iter().map(|line| number(line, "/process/pid")).collect();
    let mut counts = BTreeMap::new();
    for Call { comm, tid, caller } in calls {
        // The first process has tracer's name until its exec.
        if comm == NAME || pids.contains(&tid) {
            *counts.entry((tid, caller)).or_default() += 1;
        }
    }
    counts
}
