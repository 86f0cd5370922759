//! Resident memory of the daemon.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{DEFAULT, Finding, crowd::Crowd, mib, recording::record, replay::replay};
use crate::{
    session::Session,
    tool::{RECORDING, Tool},
};

/// Memory of a process, in bytes.
#[derive(Debug, Default, PartialEq)]
struct Resident {
    anon: u64,
    /// Files of the disk.
    file: u64,
    shmem: u64,
    /// Tables that are shared with the kernel's programs.
    tables: u64,
    /// The ring, each page once.
    ring: u64,
}

/// What a mapping is of.
enum Mapping {
    Ring,
    Table,
    Other,
}

pub(super) fn run(session: &Session) -> Result<Finding> {
    let (crowd, lives) = if session.is_quick() { (1_000, 10_000) } else { (30_000, 100_000) };
    let columns =
        ["processes", "resident without the ring", "anonymous", "files", "shared", "tables", "ring"];
    let mut finding = Finding::new("memory", "Memory", &columns);
    finding.note = "By /proc/PID/status and smaps, a second after the start. The last row is the peak of a replay in which \
                    as many processes are born, run a program and live: user space's tables, without a ring."
        .to_owned();
    let idle = live(session)?;
    finding.figures.insert("idle_mib", mib(idle.own()));
    finding.rows.push(idle.row("the machine's own"));
    match Crowd::start(crowd).and_then(|_crowd| live(session)) {
        Ok(resident) => finding.rows.push(resident.row(&format!("{crowd} more"))),
        Err(error) => finding.rows.push(vec![crowd.to_string(), format!("left out: {error:#}")]),
    }

    const ROOM: &[&str] = &["--record", RECORDING, "--max-processes", "200000"];
    let recording = record(session, &Tool::tracer("recording", "full", ROOM), 1)?;
    let peak = replay(&session.place.tracer, |out| recording.live(lives, out))?.peak_rss_bytes;
    finding.rows.push(vec![format!("{lives} in a replay"), format!("{:.1} MiB", mib(peak))]);
    if !session.is_quick() {
        finding.figures.insert("many_mib", mib(peak));
    }
    Ok(finding)
}

fn live(session: &Session) -> Result<Resident> {
    let running = session.start(&DEFAULT)?;
    thread::sleep(Duration::from_secs(1));
    let read = |name| fs::read_to_string(format!("/proc/{}/{name}", running.pid()));
    let resident = Resident::parse(&read("status")?, &read("smaps")?).context("/proc/PID/status")?;
    running.stop()?;
    Ok(resident)
}

impl Resident {
    fn parse(status: &str, smaps: &str) -> Option<Self> {
        let kib = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
        let field = |name: &str| status.lines().find_map(|line| kib(line.strip_prefix(name)?));
        let (mut kind, mut tables, mut rings) = (Mapping::Other, 0, 0);
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("Rss:"), Some(rss)) => match kind {
                    Mapping::Table => tables += rss.parse::<u64>().ok()?,
                    Mapping::Ring => rings += rss.parse::<u64>().ok()?,
                    Mapping::Other => {}
                },
                // "7f00-7f01 r--s 0000 00:0f 1 anon_inode:bpf-map"
                (Some(range), Some(access)) if range.contains('-') => {
                    kind = match line.contains("bpf-map") {
                        // The kernel lets nobody else write to a ring.
                        true if access.starts_with("r-") => Mapping::Ring,
                        true => Mapping::Table,
                        false => Mapping::Other,
                    };
                }
                _ => {}
            }
        }
        let [anon, file, shmem] = ["RssAnon:", "RssFile:", "RssShmem:"].map(field);
        // The kernel counts its maps as files, and a ring twice: its data is mapped two times in a row.
        let file = file?.saturating_sub(tables + rings);
        let [anon, file, shmem, tables, ring] = [anon?, file, shmem?, tables, rings / 2].map(|kib| kib << 10);
        Some(Self { anon, file, shmem, tables, ring })
    }

    /// All but the ring.
    fn own(&self) -> u64 {
        self.anon + self.file + self.shmem + self.tables
    }

    fn row(&self, processes: &str) -> Vec<String> {
        let Self { anon, file, shmem, tables, ring } = *self;
        let sizes = [self.own(), anon, file, shmem, tables, ring];
        let cells = sizes.map(|bytes| format!("{:.1} MiB", mib(bytes)));
        [processes.to_owned()].into_iter().chain(cells).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_not_the_daemons_own() {
        let status = "VmRSS:\t 40 kB\nRssAnon:\t 10 kB\nRssFile:\t 32 kB\nRssShmem:\t 2 kB\n";
        let smaps = "7f00-7f08 r--s 0 00:0f 11 anon_inode:bpf-map\nSize: 32 kB\nRss: 20 kB\nPss: 20 kB\n\
                     7f08-7f09 rw-s 0 00:0f 11 anon_inode:bpf-map\nSize: 4 kB\nRss: 4 kB\n\
                     7f10-7f18 r-xp 0 fe:00 12 /usr/bin/tracer\nSize: 32 kB\nRss: 8 kB\n";
        let resident = Resident::parse(status, smaps).unwrap();
        assert_eq!(
            resident,
            Resident { anon: 10 << 10, file: 8 << 10, shmem: 2 << 10, tables: 4 << 10, ring: 10 << 10 }
        );
        assert_eq!(resident.own(), 24 << 10);
    }
}
