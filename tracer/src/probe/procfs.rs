//! The processes that were there before us, from /proc.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use tracer_common::{
    event::PATH_BYTES,
    place::{FILE_NAME_BYTES, File, NAMESPACES, Place, device_number},
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

/// The name of a process as the kernel has it, and perhaps more; `None` when there is no such process.
pub fn comm(tgid: u32) -> Option<Vec<u8>> {
    let mut comm = fs::read(format!("/proc/{tgid}/comm")).ok()?;
    comm.pop_if(|last| *last == b'\n');
    Some(comm)
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
    let file = fs::metadata(format!("/proc/{tgid}/exe")).ok();
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
        file: file.map(|meta| file_of(&exe, &meta)),
        place: Place {
            cgroup_id: cgroup_id(tgid).unwrap_or_default(),
            namespaces: namespaces(tgid),
            session: stat.session,
            group: stat.group,
            tty: stat.tty,
            reserved: 0,
        },
    });
    true
}

/// Inode number of each namespace of a process; 0 for those that it does not have, or that cannot be read.
pub fn namespaces(tgid: u32) -> [u32; NAMESPACES.len()] {
    NAMESPACES.map(|name| {
        // As "net:[4026531840]".
        let link = fs::read_link(format!("/proc/{tgid}/ns/{name}")).unwrap_or_default();
        let text = link.to_string_lossy();
        text.split(['[', ']']).nth(1).and_then(|inode| inode.parse().ok()).unwrap_or_default()
    })
}

/// A file that a process runs, by its path and what stat(2) says of it.
fn file_of(path: &Path, meta: &fs::Metadata) -> File {
    let mut name = [0; FILE_NAME_BYTES];
    let last = path.file_name().unwrap_or_default().as_bytes();
    // What `/proc` adds to the path of a file without a name.
    let last = last.strip_suffix(b" (deleted)").filter(|_| meta.nlink() == 0).unwrap_or(last);
    let len = last.len().min(FILE_NAME_BYTES - 1);
    name[..len].copy_from_slice(&last[..len]);
    File {
        inode: meta.ino(),
        device: device_number(libc::major(meta.dev()), libc::minor(meta.dev())),
        links: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
        name,
    }
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
    group: u32,
    session: u32,
    tty: u32,
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
        // Below 0 when the process is being reaped; a terminal's number may be printed so.
        let signed = |n: usize| Some(fields.get(n - 3)?.parse::<i32>().ok()? as u32);
        let leader = |n: usize| signed(n).map(|pid| if pid > i32::MAX as u32 { 0 } else { pid });
        Some(Self {
            comm,
            state: *fields.first()?.as_bytes().first()?,
            ppid: number(4)? as u32,
            group: leader(5)?,
            session: leader(6)?,
            tty: tty(signed(7)?),
            flags: number(9)?,
            threads: number(20)? as u32,
            start_ticks: number(22)?,
        })
    }
}

/// A terminal's number as the kernel keeps it, from the form of user space (new_encode_dev() in
/// include/linux/kdev_t.h).
const fn tty(number: u32) -> u32 {
    device_number(number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00)
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

/// Hands out each cgroup of the v2 hierarchy, its id and its path; none when the hierarchy is not mounted.
pub fn cgroups(each: &mut dyn FnMut(u64, &[u8])) {
    let Some(mount) = cgroup2_mount() else { return };
    let mut rest = vec![PathBuf::from(&mount)];
    while let Some(directory) = rest.pop() {
        let (Ok(meta), Ok(entries)) = (fs::metadata(&directory), fs::read_dir(&directory)) else { continue };
        let path = directory.as_os_str().as_bytes();
        let path = path.strip_prefix(mount.as_bytes()).filter(|path| !path.is_empty()).unwrap_or(b"/");
        // As the kernel side cuts it.
        each(meta.ino(), &path[..path.len().min(PATH_BYTES - 1)]);
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        rest.extend(directories.map(|entry| entry.path()));
    }
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
        let line = b"42 (a) b (c) S 7 41 40 1083436 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 1 2";
        let stat = Stat::parse(line).expect("a well-formed line");
        assert_eq!(stat.comm, b"a) b (c");
        assert_eq!((stat.state, stat.ppid, stat.threads, stat.start_ticks), (b'S', 7, 3, 98765));
        assert_eq!((stat.group, stat.session, stat.tty), (41, 40, device_number(136, 300)));
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
