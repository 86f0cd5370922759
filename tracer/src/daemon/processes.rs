//! Which processes there are, from `/proc`: those that were there before us, those to follow, and
//! those whose end was missed.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
};

use super::start;
use crate::{
    config::Target,
    decode::Event,
    error::{Code, Error},
    pipeline::Pipeline,
    probe::{Probe, procfs},
    sink::Sink,
};

/// Most times that `/proc` is read for descendants that were born meanwhile.
const MAX_SCANS: u32 = 10;

/// A process: tgid and start time in clock ticks.
pub(super) type Life = (u32, u64);

/// Makes sure that the processes to follow are there, before anything is set up.
pub(super) fn check_pids(target: &Target) -> Result<(), Error> {
    for pid in start::roots(target) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:")).map(str::trim);
        match tgid {
            None => return Err(no_process(pid)),
            Some(tgid) if tgid != pid.to_string() => {
                return Err(Error::usage(
                    format!("--pid {pid}"),
                    format!("this is a thread of process {tgid}"),
                    format!("give --pid {tgid}"),
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Tells the lifecycle of every cgroup.
pub(super) fn cgroups<S: Sink>(pipeline: &mut Pipeline<S>) {
    procfs::cgroups(&mut |id, path| pipeline.event(&Event::CgroupFound { id, path }));
}

/// Tells the lifecycle of every process that the kernel side tells of. One that begins to do so meanwhile is told by it.
pub(super) fn snapshot<S: Sink>(probe: &mut Probe, pipeline: &mut Pipeline<S>) -> Result<(), Error> {
    procfs::snapshot(&mut |process| {
        if probe.tells_of(process.tgid, process.comm) {
            pipeline.event(&Event::Snapshot(process));
        }
    })
    .map_err(unreadable)
}

/// Enters `pids` and their present descendants into the tree that the kernel side traces.
///
/// A process that is already in the tree brings its children by itself. One that is not, can have
/// some while `/proc` is read: so it is read again until it shows nobody new.
pub(super) fn follow<S: Sink>(
    probe: &mut Probe,
    pipeline: &mut Pipeline<S>,
    pids: &[u32],
) -> Result<(), Error> {
    let mut entered: HashSet<Life> = HashSet::new();
    for _ in 0..MAX_SCANS {
        let mut all = Vec::new();
        procfs::snapshot(&mut |process| {
            all.push((process.ppid, (process.tgid, process.start_ticks)));
        })
        .map_err(unreadable)?;
        let tree = tree(pids, &all);
        if let Some(&gone) = pids.iter().find(|&&pid| !tree.iter().any(|life| life.0 == pid)) {
            return Err(no_process(gone));
        }
        // Those that the kernel side has entered itself are told by their births.
        probe.drain(&mut |record| pipeline.kernel(record));
        entered.extend(pipeline.lifecycle().lives());
        let before = entered.len();
        for life in tree {
            if entered.insert(life) {
                probe.add_process(life.0, 0).map_err(start::failed)?;
            }
        }
        if entered.len() == before {
            break;
        }
    }
    procfs::snapshot(&mut |process| {
        if entered.contains(&(process.tgid, process.start_ticks)) {
            pipeline.event(&Event::Snapshot(process));
        }
    })
    .map_err(unreadable)
}

/// Tells the lifecycle of lives that are over without it having heard of the end.
///
/// The end of a life is in the ring before the life leaves `/proc`: so one that has left `/proc`, and
/// is still going on when the ring has been emptied after that, has lost its end.
pub(super) fn find_gone<S: Sink>(probe: &mut Probe, pipeline: &mut Pipeline<S>) {
    let mut gone: HashSet<Life> = pipeline.lifecycle().lives().collect();
    gone.retain(|&life| !is_there(life));
    probe.drain(&mut |record| pipeline.kernel(record));
    let living: HashSet<Life> = pipeline.lifecycle().lives().collect();
    for &(tgid, start_ticks) in gone.intersection(&living) {
        pipeline.event(&Event::Gone { tgid, start_ticks });
    }
}

/// Whether `/proc` has it, as a zombie or otherwise.
pub(super) fn is_there((tgid, start_ticks): Life) -> bool {
    let mut same = false;
    procfs::one(tgid, &mut |process| same = process.start_ticks == start_ticks);
    same
}

/// `pids` and their descendants among `all`, each with its parent's pid.
fn tree(pids: &[u32], all: &[(u32, Life)]) -> Vec<Life> {
    let mut children: HashMap<u32, Vec<Life>> = HashMap::new();
    for &(parent, life) in all {
        children.entry(parent).or_default().push(life);
    }
    let mut seen: HashSet<Life> = HashSet::new();
    let mut tree: Vec<Life> = all.iter().map(|&(_, life)| life).collect();
    tree.retain(|life| pids.contains(&life.0) && seen.insert(*life));
    let mut next = 0;
    while let Some(&(tgid, _)) = tree.get(next) {
        let born = children.get(&tgid).into_iter().flatten().copied();
        tree.extend(born.filter(|life| seen.insert(*life)));
        next += 1;
    }
    tree
}

fn no_process(pid: u32) -> Error {
    let what = format!("follow process {pid}");
    Error::new(Code::Runtime, what, "there is none with this pid", "look it up with 'ps -e'")
}

fn unreadable(error: io::Error) -> Error {
    Error::io("read /proc", &error, start::MOUNT_PROC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_the_roots_and_all_below_them() {
        // 1 - 2 - 3 - 4, 1 - 5; 9 is its own parent, as garbage might have it.
        let all = [(3, (4, 40)), (2, (3, 30)), (1, (2, 20)), (1, (5, 50)), (0, (1, 10)), (9, (9, 1))];
        let mut found = tree(&[2], &all);
        found.sort_unstable();
        assert_eq!(found, [(2, 20), (3, 30), (4, 40)]);
        assert_eq!(tree(&[1], &all).len(), 5);
        assert_eq!(tree(&[9], &all), [(9, 1)]);
        assert_eq!(tree(&[7], &all), []);
    }

    #[test]
    fn who_lives_is_there_and_nobody_else_under_its_pid() {
        let pid = std::process::id();
        let mut start_ticks = 0;
        procfs::one(pid, &mut |process| start_ticks = process.start_ticks);
        assert!(is_there((pid, start_ticks)));
        assert!(!is_there((pid, start_ticks + 1)) && !is_there((4_194_304, start_ticks)));
    }

    #[test]
    fn pids_are_checked() {
        assert!(check_pids(&Target::Pids(vec![std::process::id()])).is_ok());
        let error = check_pids(&Target::Pids(vec![4_194_304])).unwrap_err();
        assert_eq!(error.code, Code::Runtime);
    }
}
