//! Records as numbered JSON lines, buffered.
//!
//! Numbers have no holes: a record gets one only when its line is put into the buffer. The first
//! error of the sink is kept, and nothing is written after it.

use std::io;

use super::Sink;
use crate::{filter::Filter, record::Record, report::Summary};

/// Bytes in the buffer at which they are written without being asked to.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes the records that a [`Filter`] admits to a [`Sink`].
#[derive(Debug)]
pub struct JsonLines<S> {
    sink: S,
    filter: Filter,
    host: String,
    compact: bool,
    buffer: Vec<u8>,
    written: u64,
    filtered: u64,
    summary: Summary,
    error: Option<io::Error>,
}

impl<S: Sink> JsonLines<S> {
    /// Lines of this host into `sink`; `compact` ones of whole lives.
    pub fn new(sink: S, host: String, compact: bool, filter: Filter) -> Self {
        Self {
            sink,
            filter,
            host,
            compact,
            buffer: Vec::with_capacity(BUFFER_BYTES + 8192),
            written: 0,
            filtered: 0,
            summary: Summary::default(),
            error: None,
        }
    }

    /// Takes one record.
    pub fn record(&mut self, record: &Record<'_>) {
        if !self.filter.admits(record) {
            self.filtered += 1;
            return;
        }
        self.summary.add(record);
        if self.error.is_some() {
            return;
        }
        self.written += 1;
        match self.compact {
            true => record.write_compact(&self.host, self.written, &mut self.buffer),
            false => record.write_json(&self.host, self.written, &mut self.buffer),
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Writes what is in the buffer.
    pub fn flush(&mut self) {
        if self.error.is_none() && !self.buffer.is_empty() {
            let result = self.sink.write(&self.buffer).and_then(|()| self.sink.flush());
            self.error = result.err();
        }
        self.buffer.clear();
    }

    /// Takes note when nobody reads any more, also without anything to write.
    pub fn check_reader(&mut self) {
        if self.error.is_none() && self.sink.is_closed() {
            self.error = Some(io::ErrorKind::BrokenPipe.into());
        }
    }

    /// The first error of the sink.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// Lines written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Records that the filter kept back.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// What the records say in sum.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decode::LossStage,
        record::{Lost, Time},
    };

    /// Keeps what is written; fails after some writes.
    #[derive(Default)]
    struct Memory {
        bytes: Vec<u8>,
        writes_left: Option<u32>,
        closed: bool,
    }

    impl Sink for Memory {
        fn write(&mut self, lines: &[u8]) -> io::Result<()> {
            match &mut self.writes_left {
                Some(0) => return Err(io::ErrorKind::StorageFull.into()),
                Some(left) => *left -= 1,
                None => {}
            }
            self.bytes.extend_from_slice(lines);
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn is_closed(&self) -> bool {
            self.closed
        }
    }

    fn lost(count: u64) -> Record<'static> {
        Record::Lost(Lost { time: Time(0), count, stage: LossStage::Ring, record: None })
    }

    fn sequences(bytes: &[u8]) -> Vec<u64> {
        let sequence = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event"]["sequence"].as_u64().unwrap()
        };
        str::from_utf8(bytes).unwrap().lines().map(sequence).collect()
    }

    #[test]
    fn lines_are_numbered_without_a_hole() {
        let mut lines = JsonLines::new(Memory::default(), "host".into(), false, Filter::default());
        for count in 1..=5000 {
            lines.record(&lost(count));
        }
        let before_flush = lines.sink.bytes.len();
        assert!(before_flush >= BUFFER_BYTES, "a full buffer is written unasked");
        lines.flush();
        assert_eq!(sequences(&lines.sink.bytes), (1..=5000).collect::<Vec<_>>());
        assert_eq!((lines.written(), lines.filtered()), (5000, 0));
    }

    #[test]
    fn the_first_error_is_kept_and_nothing_is_written_after_it() {
        let sink = Memory { writes_left: Some(1), ..Memory::default() };
        let mut lines = JsonLines::new(sink, "host".into(), false, Filter::default());
        lines.record(&lost(1));
        lines.flush();
        assert!(lines.error().is_none());
        lines.record(&lost(2));
        lines.flush();
        lines.sink.writes_left = None;
        lines.record(&lost(3));
        lines.flush();
        assert_eq!(lines.error().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
        assert_eq!(sequences(&lines.sink.bytes), [1]);
    }

    #[test]
    fn a_reader_that_went_is_noticed_without_writing() {
        let mut lines = JsonLines::new(Memory::default(), "host".into(), false, Filter::default());
        lines.check_reader();
        assert!(lines.error().is_none());
        lines.sink.closed = true;
        lines.check_reader();
        assert_eq!(lines.error().map(io::Error::kind), Some(io::ErrorKind::BrokenPipe));
    }
}
