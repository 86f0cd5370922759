//! The closing summary for people: what all the timelines come to.

use std::fmt::{self, Display, Formatter};

use crate::{
    level::Level,
    record::{Copies, ForkKind, Record, Timeline},
};

/// How many of the most expensive forks are named.
const TOP: usize = 5;

/// Sums of what was written. Feed it every record, then show it.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    processes: u64,
    incomplete: u64,
    /// Children with a copy of the memory, and those that ran a program later.
    forks: u64,
    forks_then_exec: u64,
    vforks: u64,
    spawns: u64,
    execs: u64,
    failed_execs: u64,
    /// How closely copies are counted: what is not, is not known, which is not none.
    level: Level,
    cow: Sum,
    wasted: Sum,
    lost: u64,
    expensive: Vec<Expensive>,
}

/// Copies and reuses of many processes.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    copies: u64,
    reuses: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, more: Copies) {
        self.copies = self.copies.saturating_add(more.copies);
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.reuses = self.reuses.saturating_add(more.reuses.unwrap_or(0));
    }
}

/// A fork that is worth its own line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expensive {
    bytes: u64,
    /// Pages copied, by who paid.
    by_child: u64,
    by_parent: u64,
    pid: u32,
    name: String,
    then: &'static str,
}

impl Summary {
    /// Counts a record; most kinds change nothing.
    pub fn add(&mut self, record: &Record<'_>) {
        match record {
            Record::Hello(hello) => self.level = hello.cow_level,
            Record::Timeline(timeline) => self.add_timeline(timeline),
            Record::Lost(lost) => self.lost = self.lost.saturating_add(lost.count),
            _ => {}
        }
    }

    fn add_timeline(&mut self, timeline: &Timeline<'_>) {
        let story = &timeline.tracer;
        self.processes += 1;
        self.incomplete += u64::from(!story.complete);
        self.execs = self.execs.saturating_add(story.exec.seq);
        self.failed_execs = self.failed_execs.saturating_add(story.exec.failures.unwrap_or(0));
        if let Some(cow) = story.cow {
            self.cow.add(Copies { copies: cow.copies, reuses: cow.reuses, bytes: cow.bytes });
        }
        let Some(fork) = story.fork else { return };
        match fork.kind {
            ForkKind::Fork | ForkKind::Clone => {
                self.forks += 1;
                self.forks_then_exec += u64::from(story.exec.seq > 0);
            }
            ForkKind::Vfork => self.vforks += 1,
            ForkKind::PosixSpawn => self.spawns += 1,
        }
        self.wasted.add(fork.wasted.flatten().unwrap_or_default());
        let by_child = fork.before_exec.unwrap_or_default();
        let by_parent = fork.by_parent.flatten().map_or_else(Copies::default, |by| by.paid);
        let bytes = by_child.bytes.saturating_add(by_parent.bytes);
        let is_dear =
            self.expensive.len() < TOP || self.expensive.last().is_some_and(|last| last.bytes < bytes);
        if !fork.shares_mm && bytes > 0 && is_dear {
            let at = self.expensive.partition_point(|other| other.bytes >= bytes);
            let expensive = Expensive {
                bytes,
                by_child: by_child.copies,
                by_parent: by_parent.copies,
                pid: timeline.process.pid,
                name: plain(timeline.process.name.0),
                then: if story.exec.seq > 0 { "exec" } else { "no exec" },
            };
            self.expensive.insert(at, expensive);
            self.expensive.truncate(TOP);
        }
    }
}

/// The name in plain ASCII.
fn plain(name: &[u8]) -> String {
    name.iter()
        .map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '?',
        })
        .collect()
}

/// `1 fork`, `2 forks`.
struct Count(u64, &'static str);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(count, noun) = self;
        let plural = match (*count, noun.ends_with('s')) {
            (1, _) => "",
            (_, true) => "es",
            (_, false) => "s",
        };
        match noun.strip_suffix('y').filter(|_| *count != 1) {
            Some(stem) => write!(f, "{count} {stem}ies"),
            None => write!(f, "{count} {noun}{plural}"),
        }
    }
}

/// Bytes in the unit that fits, as `1.5 MiB`.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let power = self.0.ilog2() / 10;
        let unit = UNITS.get(power as usize - 1).unwrap_or(&"EiB");
        // Tenths, rounded down, so that no unit is ever filled up to 1024.0.
        let tenths = (u128::from(self.0) * 10) >> (10 * power);
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "tracer: {}", Count(self.processes, "process"))?;
        if self.incomplete > 0 {
            write!(f, " ({} not complete)", self.incomplete)?;
        }
        write!(
            f,
            ", {}, {}, {}, {}",
            Count(self.forks, "fork"),
            Count(self.vforks, "vfork"),
            Count(self.spawns, "spawn"),
            Count(self.execs, "exec"),
        )?;
        if self.failed_execs > 0 {
            write!(f, " ({} failed)", self.failed_execs)?;
        }
        writeln!(f)?;
        if !self.level.has_copies() {
            writeln!(f, "  copy-on-write: not counted")?;
        } else {
            let (copies, bytes) = (Count(self.cow.copies, "page copy"), Bytes(self.cow.bytes));
            let reuses = Count(self.cow.reuses, "reuse");
            match self.level {
                Level::Lite => writeln!(f, "  copy-on-write: {copies} ({bytes}), zero pages included")?,
                _ => writeln!(f, "  copy-on-write: {copies} ({bytes}), {reuses}")?,
            }
        }
        if self.forks > 0 {
            write!(
                f,
                "  followed by exec: {} of {} ({} %)",
                self.forks_then_exec,
                Count(self.forks, "fork"),
                u128::from(self.forks_then_exec) * 100 / u128::from(self.forks),
            )?;
            if self.level.has_copies() {
                let wasted = Count(self.wasted.copies, "page copy");
                write!(f, ", wasted on them: {wasted} ({})", Bytes(self.wasted.bytes))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "  lost: {}", Count(self.lost, "event"))?;
        if !self.expensive.is_empty() {
            writeln!(f, "  most expensive forks:")?;
        }
        for fork in &self.expensive {
            writeln!(
                f,
                "    {:>10}  pid {} {} ({}): {} by the child, {} by its parent",
                Bytes(fork.bytes).to_string(),
                fork.pid,
                fork.name,
                fork.then,
                Count(fork.by_child, "page copy"),
                fork.by_parent,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happened() {
        let expected = "\
tracer: 0 processes, 0 forks, 0 vforks, 0 spawns, 0 execs
  copy-on-write: 0 page copies (0 B), 0 reuses
  lost: 0 events
";
        assert_eq!(Summary::default().to_string(), expected);
    }

    #[test]
    fn numbers() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), expected);
        }
        assert_eq!(Count(1, "process").to_string(), "1 process");
        assert_eq!(Count(2, "process").to_string(), "2 processes");
        assert_eq!(Count(1, "page copy").to_string(), "1 page copy");
        assert_eq!(Count(2, "page copy").to_string(), "2 page copies");
    }
}
