//! Ways to live and end: tracer's timelines against the kernel's process accounting.

use std::{
    collections::HashMap,
    env,
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    acct::{self, Record},
    memory::Pages,
    process::{die_of, end_with_parent, fork, must, wait},
    report::Report,
    trace::{Folder, Trace, count, is_forked, name, timelines},
};

const LIMIT: Duration = Duration::from_secs(60);
/// How the names of programs begin that do nothing.
pub(crate) const PROGRAM: &str = "program.";
/// What the processes' parent calls itself.
const PARENT: &str = "lives";
const ACCOUNTS: &str = "accounts";
const REFUSED: &str = "refused";

/// How many processes live in each way.
const EXITING: usize = 60;
const EXECUTING: usize = 40;
const SPAWNED: usize = 40;
const FAILING: usize = 20;
const KILLED: usize = 20;
const FAULTING: usize = 20;
const ALL: usize = EXITING + EXECUTING + SPAWNED + FAILING + KILLED + FAULTING;

pub(crate) fn witness(report: &mut Report) -> Result<()> {
    let folder = Folder::new("lives")?;
    let lines = Trace::workload(folder.path(), "lives", LIMIT)?;
    if let Ok(why) = fs::read_to_string(folder.path().join(REFUSED)) {
        report.skip("lives; process accounting", why);
        return Ok(());
    }
    let mut records = acct::read(&folder.path().join(ACCOUNTS))?;
    // The end of accounting writes one of the process that asked for it, too, though that goes on.
    records.retain(|record| record.name != PARENT);
    ensure!(
        records.len() == ALL,
        "process accounting has {} records of {ALL} processes; it pauses when the file system is nearly full",
        records.len()
    );
    let mut lives = timelines(&lines)?;
    lives.retain(|line| is_forked(line) && name(line) != PARENT);
    report.compare("processes; acct records", lives.len() as u64, records.len() as u64, 0);
    let lives: HashMap<&str, &Value> = lives.into_iter().map(|line| (name(line), line)).collect();
    let pairs: Vec<(&Record, &Value)> = records
        .iter()
        .map(|record| Some((record, *lives.get(&*record.name)?)))
        .collect::<Option<_>>()
        .context("a process in the accounts has no timeline")?;

    let ours = pairs.iter().map(|(_, line)| never_executed(line)).sum::<Result<u64>>()?;
    let theirs = pairs.iter().filter(|(record, _)| record.forked_only).count() as u64;
    report.compare(format!("forked but never executed, of {ALL} processes; acct `AFORK`"), ours, theirs, 0);

    let mut same = |what: &str, ours: &Ours, theirs: fn(&Record) -> u64| -> Result<()> {
        let mut same = 0;
        for &(record, line) in &pairs {
            let (ours, theirs) = (ours(line)?, theirs(record));
            same += u64::from(ours == theirs);
            if ours != theirs {
                eprintln!("{}: {what}: tracer tells {ours}, process accounting {theirs}", record.name);
            }
        }
        report.compare(format!("processes with the same {what}"), same, ALL as u64, 0);
        Ok(())
    };
    same("answer to that", &never_executed, |record| u64::from(record.forked_only))?;
    same("end by a signal; acct `AXSIG`", &killed, |record| u64::from(record.killed))?;
    same("exit code; acct", &code, |record| u64::from(record.status >> 8 & 0xff))?;
    same("`faults.minor`; acct", &|line| count(line, "/tracer/faults/minor"), |record| record.minor)
}

/// Reads a number from a timeline.
type Ours = dyn Fn(&Value) -> Result<u64>;

fn never_executed(line: &Value) -> Result<u64> {
    Ok(u64::from(count(line, "/tracer/exec/seq")? == 0))
}

fn killed(line: &Value) -> Result<u64> {
    Ok(u64::from(line.pointer("/tracer/exit/signal").is_some_and(Value::is_string)))
}

/// Null, which accounts show as 0, when a signal ended it.
fn code(line: &Value) -> Result<u64> {
    if killed(line)? == 1 { Ok(0) } else { count(line, "/process/exit_code") }
}

/// The traced program: accounts are kept of a PID namespace of its own, so that those of the machine, if
/// there are any, go on as they are.
pub(crate) fn work(folder: &Path) -> Result<()> {
    // SAFETY: a plain system call.
    must("unshare", unsafe { libc::unshare(libc::CLONE_NEWPID) });
    let ended = wait(fork(PARENT, || {
        end_with_parent();
        let accounts = folder.join(ACCOUNTS);
        fs::write(&accounts, "").expect("a file for accounts");
        match acct::start(&accounts) {
            Ok(()) => {}
            Err(why) if why.raw_os_error() == Some(libc::ENOSYS) => {
                fs::write(folder.join(REFUSED), "this kernel has no process accounting").expect("a reason");
                return 0;
            }
            Err(why) => panic!("acct: {why}"),
        }
        live(folder);
        acct::stop().expect("the end of accounting");
        0
    }));
    ensure!(ended.status.success(), "the workload ended with {}", ended.status);
    Ok(())
}

/// All the lives, one after the other; each has a name of its own.
fn live(folder: &Path) {
    let program = |index: usize| -> PathBuf { folder.join(format!("{PROGRAM}{index}")) };
    let this = env::current_exe().expect("the path of this program");
    for index in 0..EXECUTING + SPAWNED {
        symlink(&this, program(index)).expect("a name for a program");
    }
    let each = |count: usize, name: &str, work: &dyn Fn(usize) -> i32| {
        for index in 0..count {
            wait(fork(&format!("{name}.{index}"), || work(index)));
        }
    };
    each(EXITING, "exit", &|index| index as i32 % 7);
    each(EXECUTING, "exec", &|index| execute(&program(index)));
    for index in 0..SPAWNED {
        let status = Command::new(program(EXECUTING + index)).status().expect("a program");
        assert!(status.success(), "a program ended with {status}");
    }
    each(FAILING, "fail", &|_| execute(&folder.join("no such program")));
    each(KILLED, "kill", &|_| die_of(libc::SIGKILL));
    each(FAULTING, "fault", &|_| {
        let pages = Pages::anonymous(1);
        pages.protect();
        // SAFETY: plain system calls. No core is dumped, and nobody handles the signal.
        unsafe {
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        }
        pages.write();
        0
    });
}

/// Becomes a program, or returns as shells do when there is none.
fn execute(program: &Path) -> i32 {
    let path = CString::new(program.as_os_str().as_bytes()).expect("no NUL in a path");
    let args = [path.as_ptr(), std::ptr::null()];
    // SAFETY: NUL-terminated strings and null-terminated lists that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), args[1..].as_ptr()) };
    if io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) { 127 } else { 126 }
}
