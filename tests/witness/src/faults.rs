//! Page faults: tracer's classes against what wait4(2) and perf count of the same processes.
//!
//! None of these processes executes a program or pins memory, so each of their faults is an exception.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    path::Path,
    ptr,
    sync::Barrier,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::{
    memory::{self, Pages},
    perf::{self, Counter},
    process::{end_with_parent, fork, run, wait},
    report::Report,
    trace::{Folder, Trace, count, is_forked, name, resolved_write_faults, timelines, write_faults},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Pages that each process works on.
const PAGES: usize = 2048;
const THREADS: usize = 4;
/// What the processes' parent calls itself.
const PARENT: &str = "faults";
/// Processes that write neither to files nor to shared memory, and have a single thread.
const ANONYMOUS: [&str; 5] = ["copies", "fresh", "huge", "reuses", "zeros"];
const PERF: &str = "perf";
const WAIT4: &str = "wait4";

pub(crate) fn witness(report: &mut Report) -> Result<()> {
    let folder = Folder::new("faults")?;
    let lines = Trace::workload(folder.path(), "faults", LIMIT)?;
    let read = |name: &str| -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(folder.path().join(name)).context(name.to_owned())?)?)
    };
    let (perf, waited) = (read(PERF)?, read(WAIT4)?);
    // The process that counts is not among those that are counted.
    let mut counted = timelines(&lines)?;
    counted.retain(|line| is_forked(line));
    let total = |of: fn(&Value) -> Result<u64>| counted.iter().map(|line| of(line)).sum::<Result<u64>>();
    let minor = total(|line| count(line, "/tracer/faults/minor"))?;
    let major = total(|line| count(line, "/tracer/faults/major"))?;

    let all = waited.as_array().context("no processes")?;
    let whole = all.last().context("no processes")?;
    report.compare("`faults.minor`; wait4 `ru_minflt` of the tree", minor, count(whole, "/minor")?, 0);
    report.compare("`faults.major`; wait4 `ru_majflt` of the tree", major, count(whole, "/major")?, 0);
    let same = all.iter().map(|process| has_same_faults(&counted, process)).sum::<Result<u64>>()?;
    let what = "processes with the same `faults.minor` and `.major`; wait4";
    report.compare(what, same, all.len() as u64, 0);

    for (what, ours, event) in [
        ("`faults.minor`; perf `page-faults-min`", minor, "minor"),
        ("`faults.major`; perf `page-faults-maj`", major, "major"),
        ("all classes of write faults; perf `page_fault_*` of writes", total(write_faults)?, "write"),
    ] {
        match told(&perf, event) {
            Ok(theirs) => report.compare(what, ours, theirs, 0),
            Err(why) => report.skip(what, why),
        }
    }
    let what =
        "classes of write faults that succeeded, and perf `page_fault_*` of reads; wait4 minor and major";
    match told(&perf, "read") {
        Ok(reads) => {
            let theirs = count(whole, "/minor")? + count(whole, "/major")?;
            report.compare(what, total(resolved_write_faults)? + reads, theirs, 0);
        }
        Err(why) => report.skip(what, why),
    }

    let mut files = 0;
    for line in counted.iter().filter(|line| ANONYMOUS.iter().any(|called| name(line).starts_with(called))) {
        files += count(line, "/tracer/faults/file")?;
    }
    report.compare("`faults.file` of processes that write to anonymous memory only; none", files, 0, 0);
    Ok(())
}

/// A count of perf's, or why there is none.
fn told(perf: &Value, event: &str) -> Result<u64, String> {
    let value = perf.get(event).unwrap_or(&Value::Null);
    value.as_u64().ok_or_else(|| value.as_str().unwrap_or("not told").to_owned())
}

/// 1 when tracer tells the faults that wait4 told of `process`, its own children's among them.
fn has_same_faults(counted: &[&Value], process: &Value) -> Result<u64> {
    let called = process["name"].as_str().context("no name")?;
    let mine: Vec<_> =
        counted.iter().filter(|line| called == PARENT || name(line).starts_with(called)).collect();
    ensure!(!mine.is_empty(), "{called}: no timeline");
    let sum = |pointer: &str| mine.iter().map(|line| count(line, pointer)).sum::<Result<u64>>();
    let have = (sum("/tracer/faults/minor")?, sum("/tracer/faults/major")?);
    let want = (count(process, "/minor")?, count(process, "/major")?);
    if have != want {
        eprintln!("{called}: tracer tells (minor, major) {have:?}, wait4 {want:?}");
    }
    Ok(u64::from(have == want))
}

/// The traced program: counts what its descendants do.
pub(crate) fn work(folder: &Path) -> Result<()> {
    let tracefs = mount_tracefs();
    let mut counters: Vec<(&str, Result<Vec<Counter>>)> = vec![
        ("minor", Counter::minor().map(|counter| vec![counter]).context("perf_event_open")),
        ("major", Counter::major().map(|counter| vec![counter]).context("perf_event_open")),
    ];
    for (name, writes) in [("write", true), ("read", false)] {
        let open = || ["page_fault_user", "page_fault_kernel"].map(|mode| Counter::exceptions(mode, writes));
        let both = tracefs.as_ref().map_err(|why| anyhow::anyhow!("tracefs: {why}"));
        counters.push((name, both.and_then(|()| open().into_iter().collect())));
    }
    perf::enable(true);
    let ended = wait(fork(PARENT, || {
        end_with_parent();
        fs::write(folder.join(WAIT4), Value::Array(tree(folder)).to_string())
            .expect("writing what wait4 said");
        0
    }));
    perf::enable(false);
    assert!(ended.status.success(), "{PARENT}: {}", ended.status);

    let mut told = Map::new();
    for (name, counters) in counters {
        let value = match counters {
            Ok(counters) => json!(counters.iter().map(Counter::read).sum::<io::Result<u64>>()?),
            Err(why) => json!(format!("{why:#}")),
        };
        told.insert(name.to_owned(), value);
    }
    fs::write(folder.join(PERF), Value::Object(told).to_string())?;
    // The parent's own entry: it could not wait for itself.
    let path = folder.join(WAIT4);
    let mut waited: Vec<Value> = serde_json::from_slice(&fs::read(&path)?)?;
    waited.push(ended.facts(PARENT));
    fs::write(path, Value::Array(waited).to_string())?;
    Ok(())
}

/// The processes to be counted, one after the other; each provokes faults of another class.
fn tree(folder: &Path) -> Vec<Value> {
    let path = folder.join("file");
    fs::write(&path, vec![1; PAGES * 4096]).expect("a file to map");
    let file = File::options().read(true).write(true).open(&path).expect("the file to map");
    let uncached = memory::uncached(&folder.join("uncached"), PAGES).expect("a file to read from disk");
    let new = || Pages::anonymous(PAGES);
    let pages = new();
    pages.write();
    let processes: [(&str, &dyn Fn()); 14] = [
        ("idle", &|| {}),
        ("copies", &|| pages.write()),
        ("kernel", &|| assert!(pages.fill_from(&file), "pread")),
        ("races", &|| race(&pages)),
        ("reuses", &|| {
            let mine = new();
            mine.write();
            run("reuses.child", || {});
            mine.write();
        }),
        ("zeros", &|| {
            let mine = new();
            mine.read();
            mine.write();
        }),
        ("fresh", &|| new().write()),
        ("readers", &|| new().read()),
        ("private", &|| {
            let pages = Pages::private_file(PAGES, &file);
            pages.part(0, 2).read();
            pages.write();
        }),
        ("shared", &|| Pages::shared(PAGES).write()),
        ("notify", &|| {
            let pages = Pages::shared_file(PAGES, &file);
            pages.read();
            pages.write();
        }),
        ("majors", &|| {
            let pages = Pages::private_file(PAGES, &uncached);
            pages.without_read_ahead();
            pages.part(0, 2).read();
            pages.write();
        }),
        ("refused", &|| {
            let mine = new();
            mine.write();
            mine.protect();
            assert!(!mine.fill_from(&file), "a write to protected memory succeeded");
            memory::unprotect_on_demand();
            memory::touch_stack();
            mine.write();
        }),
        ("huge", &|| {
            let mine = Pages::huge(PAGES);
            mine.write();
            run("huge.child", || mine.write());
            mine.write();
        }),
    ];
    processes.into_iter().map(|(name, work)| run(name, work).facts(name)).collect()
}

/// Threads that write to all pages at the same time: one of them copies, the others come too late.
fn race(pages: &Pages) {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                pages.write();
            });
        }
    });
}

/// Makes the numbers of tracepoints readable, for this process and its descendants only.
fn mount_tracefs() -> io::Result<()> {
    let target = CString::new(perf::TRACEFS.as_bytes())?;
    if Path::new(perf::TRACEFS).join("events").exists() {
        return Ok(());
    }
    let (none, flags) = (ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: NUL-terminated strings that outlive the calls.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) == 0
            && libc::mount(c"tracefs".as_ptr(), target.as_ptr(), c"tracefs".as_ptr(), 0, none.cast()) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
