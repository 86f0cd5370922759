//! BGSAVE: what tracer tells of the fork against the `rdb_last_cow_size` of Redis.
//!
//! That is `Private_Dirty` of the child's `/proc/self/smaps`, read by the child at the end of the save.

use std::{env, ffi::OsString, fs, io, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    report::Report,
    resp::{Client, Info},
    trace::{Folder, Trace, count, sum, timelines, wait_for},
};

const LIMIT: Duration = Duration::from_secs(60);
const PAGE: u64 = 4096;
const KEYS: usize = 60_000;
const REWRITTEN: [usize; 3] = [0, 10_000, KEYS];
/// Just below a page: values of a page and more are given back by the child once they are saved.
const VALUE: usize = 3_500;
/// Of ten keys one is saved slowly (`rdb-key-save-delay`), so that the child can be stopped in time.
const DELAY: &str = "-10";
/// Memory that the server gives back to the kernel is the child's alone from then on: private, but never copied.
const MALLOC: &str = "MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1";
/// Most pages by which the two may differ, or this part of them.
const PAGES_ALLOWED: u64 = 64;
const PERCENT_ALLOWED: u64 = 1;
/// The same when all that Redis counts is counted: what is left is copied after the child looked at itself.
const NEW_ALLOWED: u64 = 8;

/// A save: how many keys were rewritten meanwhile, the child, and what Redis says of it.
struct Save {
    rewritten: usize,
    child: u64,
    cow_bytes: u64,
}

pub(crate) fn witness(report: &mut Report) -> Result<()> {
    let folder = Folder::new("redis")?;
    let socket = folder.path().join("socket");
    let mut words: Vec<OsString> = vec![env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into())];
    words.extend(["--port", "0", "--unixsocket"].map(Into::into));
    words.push(socket.clone().into());
    words.extend(["--save", "", "--daemonize", "no", "--rdb-key-save-delay", DELAY, "--dir"].map(Into::into));
    words.push(folder.path().into());
    words.splice(0..0, ["env".into(), MALLOC.into()]);
    let mut trace = Trace::start(folder.path(), words.iter().map(OsString::as_os_str))?;
    let mut client = wait_for("Redis", LIMIT, || {
        trace.still_runs()?;
        Ok(Client::connect(&socket).ok())
    })?;
    client.set(KEYS, &"a".repeat(VALUE))?;
    let info = client.info()?;
    let (version, server) = (info.text("redis_version")?.to_owned(), info.number("process_id")?);
    let saves = REWRITTEN
        .into_iter()
        .map(|rewritten| save(&mut client, folder.path(), server, rewritten))
        .collect::<Result<Vec<_>>>()?;
    client.send(&["SHUTDOWN", "NOSAVE"])?;
    let lines = trace.end(LIMIT)?;

    let lives = timelines(&lines)?;
    let life = |pid: u64| -> Result<&Value> {
        let found = lives.iter().find(|line| line.pointer("/process/pid").is_some_and(|have| *have == pid));
        found.copied().with_context(|| format!("no timeline of process {pid}"))
    };
    let mut by_parent = 0;
    for Save { rewritten, child, cow_bytes } in saves {
        let line = life(child)?;
        let copied = sum(line, &["/tracer/fork/by_parent/bytes", "/tracer/fork/before_exec/bytes"])? / PAGE;
        let new = sum(line, &["/tracer/cow/zero_upgrades", "/tracer/faults/demand_zero"])?;
        let theirs = cow_bytes / PAGE;
        let allowed = PAGES_ALLOWED.max(theirs * PERCENT_ALLOWED / 100);
        let what = format!("Redis {version}, {rewritten} keys rewritten: pages copied for the fork");
        report.compare(format!("{what}; `rdb_last_cow_size`"), copied, theirs, allowed);
        report.compare("and new pages of the child; `rdb_last_cow_size`", copied + new, theirs, NEW_ALLOWED);
        by_parent += count(line, "/tracer/fork/by_parent/copies")?;
    }
    let paid = count(life(server)?, "/tracer/children/paid/copies")?;
    report.compare("the server's `children.paid`; `fork.by_parent` of its children", paid, by_parent, 0);
    Ok(())
}

/// One BGSAVE during which `rewritten` keys get new values.
fn save(client: &mut Client, folder: &Path, server: u64, rewritten: usize) -> Result<Save> {
    client.command(&["BGSAVE"])?;
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"))?;
    let child: u64 = children.split_whitespace().next().context("Redis has no child that saves")?.parse()?;
    // What it gives back at once, as the buffers of clients, it has given back when it begins to write.
    let written = folder.join(format!("temp-{child}.rdb"));
    wait_for("the beginning of BGSAVE", LIMIT, || Ok(written.exists().then_some(())))?;
    {
        let _stopped = Stopped::new(child)?;
        ensure!(is_saving(&client.info()?)?, "the child ended before it could be stopped");
        client.set(rewritten, &"b".repeat(VALUE))?;
    }
    let info = wait_for("the end of BGSAVE", LIMIT, || {
        let info = client.info()?;
        Ok((!is_saving(&info)?).then_some(info))
    })?;
    ensure!(info.text("rdb_last_bgsave_status")? == "ok", "BGSAVE failed");
    Ok(Save { rewritten, child, cow_bytes: info.number("rdb_last_cow_size")? })
}

fn is_saving(info: &Info) -> Result<bool> {
    Ok(info.number("rdb_bgsave_in_progress")? != 0)
}

/// A process that is stopped until this is dropped.
struct Stopped(libc::pid_t);

impl Stopped {
    fn new(pid: u64) -> Result<Self> {
        let stopped = Self(libc::pid_t::try_from(pid)?);
        stopped.signal(libc::SIGSTOP).context("stopping the child of Redis")?;
        wait_for("the stop of Redis's child", LIMIT, || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The state follows the name, which may hold anything, in parentheses.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('T'));
            Ok(state.unwrap_or(false).then_some(()))
        })?;
        Ok(stopped)
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: a plain system call.
        match unsafe { libc::kill(self.0, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // One that has gone needs nothing.
        let _ = self.signal(libc::SIGCONT);
    }
}
