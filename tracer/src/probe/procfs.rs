//! The processes that were there before us, from /proc.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
};

use crate::decode::Snapshot;

/// The processes of the machine; some may come and go meanwhile.
pub fn tgids() -> io::Result<Vec<u32>> {
    let mut tgids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        tgids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(tgids)
}

/// Hands out each process of the machine; those that end meanwhile are left out.
pub fn snapshot(each: &mut dyn FnMut(Snapshot<'_>)) -> io::Result<()> {
    for tgid in tgids()? {
        one(tgid, each);
    }
    Ok(())
}

/// Hands out one process; `false` when there is none.
pub fn one(tgid: u32, each: &mut dyn FnMut(Snapshot<'_>)) -> bool {
    let read = |file: &str| fs::read(format!("/proc/{tgid}/{file}"));
    let (Ok(stat), Ok(status)) = (read("stat"), read("status")) else { return false };
    let Some(stat) = Stat::parse(&stat) else { return false };
    let exe = fs::read_link(format!("/proc/{tgid}/exe")).unwrap_or_default();
    // A zombie and a kernel thread have neither arguments nor a file.
    let args = read("cmdline").unwrap_or_default();
    let status = Status::parse(&status);
    each(Snapshot {
        tgid,
        ppid: stat.ppid,
        start_ticks: stat.start_ticks,
        parent_start_ticks: parent_start_ticks(&stat).unwrap_or_default(),
        vpid: status.vpid.unwrap_or(tgid),
        uid: status.uid,
        gid: status.gid,
        threads: stat.threads,
        zombie: matches!(stat.state, b'Z' | b'X'),
        kthread: stat.flags & PF_KTHREAD != 0,
        comm: stat.comm,
        exe: exe.as_os_str().as_bytes(),
        args: &args,
        cgroup_id: cgroup_id(tgid).unwrap_or_default(),
    });
    true
}

/// When the parent started. No parent is younger than its child: such a one got the pid of a parent that
/// ended meanwhile.
fn parent_start_ticks(child: &Stat<'_>) -> Option<u64> {
    let line = fs::read(format!("/proc/{}/stat", child.ppid)).ok()?;
    Stat::parse(&line).map(|parent| parent.start_ticks).filter(|&ticks| ticks <= child.start_ticks)
}

/// include/linux/sched.h
const PF_KTHREAD: u64 = 0x0020_0000;

/// The fields of /proc/PID/stat (man 5 proc) that are used.
struct Stat<'a> {
    comm: &'a [u8],
    state: u8,
    ppid: u32,
    flags: u64,
    threads: u32,
    start_ticks: u64,
}

impl<'a> Stat<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        // The name can hold anything, also ")" and spaces: it ends at the last ")".
        let open = line.iter().position(|&b| b == b'(')?;
        let close = line.iter().rposition(|&b| b == b')')?;
        let comm = line.get(open + 1..close)?;
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field n of the manual is at n - 3 here.
        let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Self {
            comm,
            state: *fields.first()?.as_bytes().first()?,
            ppid: number(4)? as u32,
            flags: number(9)?,
            threads: number(20)? as u32,
            start_ticks: number(22)?,
        })
    }
}

/// The lines of /proc/PID/status that are used.
#[derive(Default)]
struct Status {
    uid: u32,
    gid: u32,
    vpid: Option<u32>,
}

impl Status {
    fn parse(text: &[u8]) -> Self {
        let mut status = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            let mut words = line.split_ascii_whitespace();
            let key = words.next().unwrap_or_default();
            // Real, effective, saved and file system id follow each other.
            let effective = |mut words: std::str::SplitAsciiWhitespace<'_>| {
                words.nth(1).and_then(|id| id.parse().ok()).unwrap_or_default()
            };
            match key {
                "Uid:" => status.uid = effective(words),
                "Gid:" => status.gid = effective(words),
                // One for each pid namespace, the innermost last.
                "NSpid:" => status.vpid = words.next_back().and_then(|pid| pid.parse().ok()),
                _ => {}
            }
        }
        status
    }
}

/// The id of the process's cgroup in the v2 hierarchy: the inode of its directory.
fn cgroup_id(tgid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{tgid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = cgroup2_mount()?;
    fs::metadata(format!("{mount}{path}")).ok().map(|meta| meta.ino())
}

/// Where the v2 hierarchy is mounted, if it is.
pub fn cgroup2_mount() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| at.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses_and_spaces() {
        let line = b"42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 1 2";
        let stat = Stat::parse(line).expect("a well-formed line");
        assert_eq!(stat.comm, b"a) b (c");
        assert_eq!((stat.state, stat.ppid, stat.threads, stat.start_ticks), (b'S', 7, 3, 98765));
    }

    #[test]
    fn a_cut_line_is_refused() {
        assert!(Stat::parse(b"42 (a) S 7").is_none());
        assert!(Stat::parse(b"").is_none());
    }

    #[test]
    fn status_gives_the_effective_ids_and_the_innermost_pid() {
        let status = Status::parse(b"Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t42\t1\n");
        assert_eq!((status.uid, status.gid, status.vpid), (2, 6, Some(1)));
    }

    #[test]
    fn this_process_is_found() {
        let mut seen = None;
        assert!(one(std::process::id(), &mut |s| seen = Some((s.zombie, s.kthread, s.exe.to_vec()))));
        let (zombie, kthread, exe) = seen.expect("called once");
        let own = std::env::current_exe().expect("Linux has /proc/self/exe");
        assert_eq!((zombie, kthread, exe.as_slice()), (false, false, own.as_os_str().as_bytes()));
    }

    #[test]
    fn the_start_of_the_parent_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep is everywhere");
        let (mut own, mut of_parent) = (0, 0);
        one(std::process::id(), &mut |s| own = s.start_ticks);
        one(child.id(), &mut |s| of_parent = s.parent_start_ticks);
        child.kill().and_then(|()| child.wait()).expect("it is our child");
        assert_ne!(own, 0);
        assert_eq!(of_parent, own);
    }
}
