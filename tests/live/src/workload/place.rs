//! Workloads of where a process stands: session, terminal, namespaces, cgroup; of what a fork maps; of the file that
//! runs.

use std::{
    ffi::{CStr, OsString},
    fs::{self, File},
    io::Write as _,
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        linux::fs::MetadataExt as _,
    },
    path::Path,
};

use serde_json::{Map, Value, json};

use super::{
    board::Board,
    facts::{Facts, Process},
    memory::{self, PAGE},
    sys::{self, Args, must, text},
};

/// The names in `/proc/PID/ns`.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Slots of the board, from this one on: the child's namespaces.
const NAMESPACE: usize = 8;
const SESSION: usize = 0;
const GROUP: usize = 1;
const MAJOR: usize = 2;
const MINOR: usize = 3;
const VMAS: usize = 4;
const TABLES_KIB: usize = 5;

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    match name {
        "place" => place(facts),
        "cgroups" => cgroups(args, facts),
        "fork-cost" => fork_cost(facts),
        "exec-files" => exec_files(&args[0], facts),
        _ => return false,
    }
    true
}

/// What a child is born with, and what it does then.
type Child = (i32, fn(&Board));

/// Children in places of their own, each of which says where it is.
fn place(facts: &mut Facts) {
    let children: [Child; 6] = [
        (0, |_| ()),
        (0, |_| new_session()),
        (0, |_| new_group()),
        (0, terminal),
        (0, |_| new_namespaces()),
        (libc::CLONE_NEWPID | libc::CLONE_NEWUSER, |_| ()),
    ];
    for (flags, body) in children {
        let board = Board::new();
        let pid = sys::clone(flags, || {
            body(&board);
            tell(&board);
            0
        });
        let status = sys::wait(pid);
        let tty = match board.get(MAJOR) {
            0 => Value::Null,
            major => json!({"char_device": {"major": major, "minor": board.get(MINOR)}}),
        };
        let kind = if flags == 0 { "fork" } else { "clone" };
        let process = Process::new(kind, pid, status).with("tty", tty);
        let inode = |index| board.get(NAMESPACE + index) as u32;
        let namespaces: Map<_, _> = NAMESPACES
            .iter()
            .enumerate()
            .map(|(index, name)| ((*name).into(), inode(index).into()))
            .collect();
        // In a pid namespace of its own, the child knows other pids.
        let process = match flags & libc::CLONE_NEWPID {
            0 => process.with("session", board.get(SESSION)).with("group", board.get(GROUP)),
            _ => process.with("session", session()).with("group", group()),
        };
        facts.push(process.with("namespaces", namespaces));
    }
}

/// Says where the caller is.
fn tell(board: &Board) {
    board.set(SESSION, session());
    board.set(GROUP, group());
    for (index, name) in NAMESPACES.iter().enumerate() {
        board.set(NAMESPACE + index, namespace(name) as i32);
    }
}

fn session() -> i32 {
    // SAFETY: 0 is the caller.
    must("getsid", unsafe { libc::getsid(0) })
}

fn group() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::getpgrp() }
}

/// Inode number of a namespace of the caller; 0 when the kernel has none of this kind.
fn namespace(name: &str) -> u32 {
    fs::metadata(format!("/proc/self/ns/{name}")).map_or(0, |meta| meta.st_ino() as u32)
}

fn new_session() {
    // SAFETY: no arguments.
    must("setsid", unsafe { libc::setsid() });
}

/// In five of the eight kinds.
fn new_namespaces() {
    const KINDS: i32 = libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    // SAFETY: no memory is passed.
    must("unshare", unsafe { libc::unshare(KINDS) });
}

fn new_group() {
    // SAFETY: no memory is passed.
    must("setpgid", unsafe { libc::setpgid(0, 0) });
}

/// Makes the caller the leader of a session with a terminal.
fn terminal(board: &Board) {
    new_session();
    let mut name = [0; 64];
    // SAFETY: the descriptor is used as it came, the name has room.
    let path = unsafe {
        let main = must("posix_openpt", libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY));
        must("unlockpt", libc::unlockpt(main));
        assert_eq!(libc::ptsname_r(main, name.as_mut_ptr(), name.len()), 0, "ptsname_r");
        CStr::from_ptr(name.as_ptr())
    };
    // SAFETY: a NUL-terminated path; no O_NOCTTY: it becomes the controlling terminal.
    let other = must("open", unsafe { libc::open(path.as_ptr(), libc::O_RDWR) });
    // SAFETY: the descriptor was just opened and is used nowhere else.
    let device = unsafe { File::from_raw_fd(other) }.metadata().expect("fstat").st_rdev();
    board.set(MAJOR, libc::major(device) as i32);
    board.set(MINOR, libc::minor(device) as i32);
}

/// For each of the directories: makes it a cgroup, has a child there from its birth on, removes it. All of that takes
/// less time than the daemon needs to look.
fn cgroups(directories: &[OsString], facts: &mut Facts) {
    for directory in directories {
        fs::create_dir(directory).expect("make a cgroup");
        let cgroup = File::open(directory).expect("open a cgroup");
        let id = cgroup.metadata().expect("fstat").st_ino();
        let pid = clone_into(&cgroup);
        let status = sys::wait(pid);
        fs::remove_dir(directory).expect("remove a cgroup");
        facts.push(Process::new("clone", pid, status).with("cgroup_id", id));
    }
}

/// `clone3(2)` into a cgroup (5.7); the child ends at once.
fn clone_into(cgroup: &File) -> i32 {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // `struct clone_args` (include/uapi/linux/sched.h): flags, ..., exit_signal is number 4, cgroup is number 10.
    let mut args = [0_u64; 11];
    args[0] = CLONE_INTO_CGROUP;
    args[4] = libc::SIGCHLD as u64;
    args[10] = cgroup.as_raw_fd() as u64;
    // SAFETY: `args` outlives the call; the child has its own copy of the memory.
    match must("clone3", unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) }) {
        0 => sys::exit_group(0),
        pid => pid as i32,
    }
}

/// A child of a process with much memory: how long fork took at most, and what the child got.
fn fork_cost(facts: &mut Facts) {
    const BYTES: usize = 256 << 20;
    let board = Board::new();
    let _much = memory::filled(BYTES / PAGE);
    let before = now_ns();
    let pid = sys::fork_raw(|| {
        // First of all: whatever else is touched may need a page table more.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        board.set(VMAS, count_vmas(&board));
        let tables = status.lines().find_map(|line| line.strip_prefix("VmPTE:"));
        let kib = tables.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok());
        board.set(TABLES_KIB, kib.unwrap_or(0));
        0
    });
    let took = now_ns() - before;
    let process = Process::new("fork", pid, sys::wait(pid)).with("took_ns", took);
    facts.push(process.with("vmas", board.get(VMAS)).with("tables_kib", board.get(TABLES_KIB)));
}

fn now_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    must("clock_gettime", unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) });
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Mappings of the caller, counted without making any. The page of `vsyscall` is none of its own.
fn count_vmas(board: &Board) -> i32 {
    const CHUNK: usize = 4096;
    // SAFETY: a path; the scratch area has room.
    unsafe {
        let maps = must("open", libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY));
        let (mut lines, mut last) = (0, Vec::new());
        loop {
            let len = must("read", libc::read(maps, board.scratch().cast(), CHUNK));
            if len == 0 {
                break;
            }
            let bytes = std::slice::from_raw_parts(board.scratch(), len as usize);
            lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as i32;
            last = bytes.to_vec();
        }
        libc::close(maps);
        lines - i32::from(last.ends_with(b"[vsyscall]\n"))
    }
}

/// Children that execute `program`: by its path, from memory, and from a file that has no name any more.
fn exec_files(program: &OsString, facts: &mut Facts) {
    let list = Args::new(["true"]);
    let path = text(program);
    let plain = fs::metadata(program).expect("stat");
    let pid = sys::fork(|| sys::exec(&path, &list));
    // The name given is that of a symbolic link to this program.
    let this = std::env::current_exe().expect("the path of this program");
    let name = this.file_name().unwrap_or_default().to_string_lossy();
    push(facts, pid, &plain, &name, "file");

    // SAFETY: a name.
    let memory = must("memfd_create", unsafe { libc::memfd_create(c"tool".as_ptr(), 0) });
    // SAFETY: the descriptor was just made and is used nowhere else.
    let mut memory = unsafe { File::from_raw_fd(memory) };
    fill(&mut memory, program);
    let pid = sys::fork(|| sys::exec_fd(&memory, &list));
    push(facts, pid, &memory.metadata().expect("fstat"), "memfd:tool", "memfd");

    let place = Path::new(program).with_file_name("gone");
    fill(&mut File::create(&place).expect("make a file"), program);
    fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let gone = File::open(&place).expect("open");
    fs::remove_file(&place).expect("unlink");
    let path = text(format!("/proc/self/fd/{}", gone.as_raw_fd()));
    let pid = sys::fork(|| sys::exec(&path, &list));
    push(facts, pid, &gone.metadata().expect("fstat"), "gone", "deleted");
}

fn fill(file: &mut File, from: &OsString) {
    file.write_all(&fs::read(from).expect("read")).expect("write");
}

fn push(facts: &mut Facts, pid: i32, meta: &fs::Metadata, name: &str, kind: &str) {
    let device = format!("{}:{}", libc::major(meta.st_dev()), libc::minor(meta.st_dev()));
    let file = json!({"name": name, "device": device, "inode": meta.st_ino(), "kind": kind});
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("execs", 1).with("file", file));
}
