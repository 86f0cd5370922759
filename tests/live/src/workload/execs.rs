//! Workloads of what an exec tells: names before it, the thread that calls it, chains of scripts, environments.

use std::{
    ffi::{CStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use super::{
    board::Board,
    facts::{Facts, Process},
    sys::{self, Args, must, text},
};

/// Slots of the board: the tid of the thread that calls exec.
const TID: usize = 0;

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString], facts: &mut Facts) -> bool {
    match name {
        "exec-names" => exec_names(&args[0], facts),
        "exec-each" => exec_each(args, facts),
        "exec-in" => exec_in(&args[0], Path::new(&args[1]), facts),
        "exec-env" => exec_env(&args[0], &variables(), facts),
        "exec-long-env" => exec_env(&args[0], &many_variables(), facts),
        _ => return false,
    }
    true
}

/// More directories in one another than are told of.
const DEEP: usize = 60;

/// Children that run `program` in several directories, some of which are made in `base`; how deep is the last one.
fn exec_in(program: &OsString, base: &Path, facts: &mut Facts) {
    let (path, list) = (text(program), Args::new([program]));
    let mut run = |told: bool| {
        let directory = fs::read_link("/proc/self/cwd").expect("the current directory");
        let directory = told.then(|| directory.into_os_string().into_string().expect("a text"));
        let pid = sys::fork(|| sys::exec(&path, &list));
        facts.push(Process::new("fork", pid, sys::wait(pid)).with("execs", 1).with("directory", directory));
    };
    let enter = |path: &Path| std::env::set_current_dir(path).expect("a directory");
    for path in ["/", "/proc", "/proc/sys/kernel"] {
        enter(Path::new(path));
        run(true);
    }
    let odd = base.join("with a blank").join("and more");
    fs::create_dir_all(&odd).expect("a new directory");
    enter(&odd);
    run(true);
    fs::remove_dir(&odd).expect("an empty directory");
    run(true);
    let deep: PathBuf = std::iter::repeat_n("d", DEEP).collect();
    fs::create_dir_all(base.join(&deep)).expect("new directories");
    enter(&base.join(&deep));
    run(false);
    enter(Path::new("/"));
}

/// What nobody is to see.
pub(crate) const SECRET: &str = "hunter2";

/// An environment with a secret; the last string has no name.
pub(crate) fn variables() -> Vec<OsString> {
    ["A=1", &format!("PASSWORD={SECRET}=2"), "EMPTY=", SECRET].map(OsString::from).to_vec()
}

/// More than is told of.
pub(crate) fn many_variables() -> Vec<OsString> {
    (0..500).map(|number| format!("VARIABLE_{number:03}={number}").into()).collect()
}

/// Gives the calling thread a name.
fn rename(name: &CStr) {
    // SAFETY: a NUL-terminated name that outlives the call.
    must("prctl", unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) });
}

/// Children that rename themselves in each way there is; all but one run `program` then.
fn exec_names(program: &OsString, facts: &mut Facts) {
    let (path, args) = (text(program), Args::new([program]));
    let own = fs::read_to_string("/proc/self/comm").expect("the name").trim_end().to_owned();
    let exec = || sys::exec(&path, &args);
    let named = |pid, before: &str| {
        Process::new("fork", pid, sys::wait(pid)).with("execs", 1).with("name", "true").with("before", before)
    };
    let pid = sys::fork(exec);
    facts.push(named(pid, &own));
    let pid = sys::fork(|| {
        rename(c"one");
        rename(c"by-prctl");
        exec()
    });
    facts.push(named(pid, "by-prctl"));
    let pid = sys::fork(|| {
        fs::write("/proc/self/comm", "by-proc").expect("comm");
        exec()
    });
    facts.push(named(pid, "by-proc"));
    let pid = sys::fork(|| {
        rename(c"leader");
        std::thread::spawn(|| rename(c"thread")).join().expect("a thread");
        exec()
    });
    facts.push(named(pid, "leader").with("threads", 1));
    let board = Board::new();
    let pid = sys::fork(|| {
        rename(c"leader");
        let (path, program) = (path.clone(), program.clone());
        let thread = std::thread::spawn(move || {
            rename(c"thread");
            // SAFETY: no arguments.
            board.set(TID, unsafe { libc::gettid() });
            sys::exec(&path, &Args::new([program]))
        });
        thread.join().unwrap_or(-1)
    });
    let process = named(pid, "thread").with("threads", 1);
    facts.push(process.with("from_tid", board.get(TID)));
    let pid = sys::fork(|| {
        rename(c"never-execs");
        0
    });
    facts.push(Process::new("fork", pid, sys::wait(pid)).with("name", "never-execs"));
}

/// A child for each of the files, which executes it.
fn exec_each(files: &[OsString], facts: &mut Facts) {
    for file in files {
        let (path, args) = (text(file), Args::new([file]));
        let pid = sys::fork(|| sys::exec(&path, &args));
        facts.push(Process::new("fork", pid, sys::wait(pid)).with("execs", 1));
    }
}

/// A child that executes `program` with exactly these variables.
fn exec_env(program: &OsString, variables: &[OsString], facts: &mut Facts) {
    let (path, args, environment) = (text(program), Args::new([program]), Args::new(variables));
    let pid = sys::fork(|| sys::exec_with(&path, &args, &environment));
    let bytes: usize = variables.iter().map(|variable| variable.len() + 1).sum();
    let process = Process::new("fork", pid, sys::wait(pid)).with("execs", 1);
    facts.push(process.with("count", variables.len()).with("bytes", bytes));
}
