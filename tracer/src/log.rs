//! Messages of libraries, and of the eBPF programs through them, on stderr.

use std::io::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The library's advice is for its own users: what fails is told in our words.
        let least = if is_library(metadata.target()) { LevelFilter::Info } else { LevelFilter::Warn };
        metadata.level() <= log::max_level()
            && (log::max_level() >= least || metadata.level() == Level::Error)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            let _ = writeln!(io::stderr(), "tracer: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

fn is_library(target: &str) -> bool {
    target.split("::").next().is_some_and(|name| name.starts_with("aya"))
}

/// Sends messages to stderr from now on: warnings, with `-v` also information, with `-vv` all.
pub(crate) fn init(verbose: u8) {
    log::set_max_level(match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Trace,
    });
    // It fails when there is a logger already, as in tests: then that one is to be used.
    let _ = log::set_logger(&Stderr);
}
