//! Messages of libraries, and of the eBPF programs through them, on stderr.

use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            let _ = writeln!(io::stderr(), "tracer: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
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
