//! What the daemon costs by itself: its speed, its memory, its start, and what these depend on.

mod crowd;
mod events;
mod filter;
mod idle;
mod lines;
mod memory;
mod processes;
mod rate;
mod recording;
mod replay;
mod start;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

pub(crate) use crowd::crowd;

use crate::{session::Session, tool::Tool};

/// What is measured of the daemon.
pub(crate) struct Measurement {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Session) -> Result<Finding>,
}

/// All of them, in the order of the tables.
pub(crate) const ALL: [Measurement; 9] = [
    Measurement { name: "replay", about: "a recorded storm is replayed to /dev/null", run: replay::run },
    Measurement { name: "events", about: "recordings of 10,000 to 10,000,000 events", run: events::run },
    Measurement { name: "processes", about: "a storm beside few and many processes", run: processes::run },
    Measurement { name: "filter", about: "storms that a filter leaves out", run: filter::run },
    Measurement { name: "rate", about: "1,000 lives a second", run: rate::run },
    Measurement { name: "idle", about: "nothing happens", run: idle::run },
    Measurement {
        name: "start",
        about: "from execve to the first event, beside 1,000 processes",
        run: start::run,
    },
    Measurement { name: "memory", about: "resident memory, idle and with many processes", run: memory::run },
    Measurement { name: "lines", about: "bytes of timelines", run: lines::run },
];

/// Finds a measurement.
pub(crate) fn find(name: &str) -> Option<&'static Measurement> {
    ALL.iter().find(|measurement| measurement.name == name)
}

/// A table, and the figures of it that goals are set for.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) note: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) figures: BTreeMap<&'static str, f64>,
}

impl Finding {
    fn new(name: &'static str, title: &'static str, columns: &[&'static str]) -> Self {
        let columns = columns.to_vec();
        Self { name, title, note: String::new(), columns, rows: Vec::new(), figures: BTreeMap::new() }
    }
}

/// The tracer as it is without options.
const DEFAULT: Tool = Tool::tracer("default", "full", &[]);

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
