//! The lines that tracer wrote.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::absent;

/// A parsed stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The lines in order, with what they leave out.
    pub(crate) lines: Vec<Value>,
    /// What was wrong with the text itself.
    pub(crate) errors: Vec<String>,
}

static UNTOLD: AtomicU32 = AtomicU32::new(0);

/// How many streams so far lack the freeing of a process that was reaped.
pub(crate) fn untold() -> u32 {
    UNTOLD.load(Ordering::Relaxed)
}

/// Whether a line says that the kernel did not tell of the freeing: `/proc` told of the reap, or the wait call did.
fn lacks_free(line: &Value) -> bool {
    at(line, "/tracer/lost/stage") == "untold"
        || (at(line, "/tracer/reap/exact") == true && at(line, "/tracer/usage/final") == false)
}

/// The value at `pointer`; null when there is none.
pub(crate) fn at<'a>(line: &'a Value, pointer: &str) -> &'a Value {
    line.pointer(pointer).unwrap_or(&Value::Null)
}

/// The number at `pointer`; -1 when there is none, which no count can be.
pub(crate) fn number(line: &Value, pointer: &str) -> i64 {
    at(line, pointer).as_i64().unwrap_or(-1)
}

impl Stream {
    /// Parses whole lines; what follows the last line end is an error.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut stream = Self::default();
        for (index, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let number = index + 1;
            if !line.ends_with(b"\n") {
                stream.errors.push(format!("line {number} is torn: {}", line.escape_ascii()));
            }
            match serde_json::from_slice(line) {
                Ok(mut value) => {
                    absent::fill_in(&mut value);
                    stream.lines.push(value);
                }
                Err(error) => {
                    stream.errors.push(format!("line {number} is no JSON: {error}: {}", line.escape_ascii()))
                }
            }
        }
        if stream.lines.iter().any(lacks_free) {
            UNTOLD.fetch_add(1, Ordering::Relaxed);
        }
        stream
    }

    /// Lines whose `event.action` is `action`.
    pub(crate) fn of<'a>(&'a self, action: &str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| at(line, "/event/action") == action)
    }

    /// All timelines.
    pub(crate) fn timelines(&self) -> Vec<&Value> {
        self.of("timeline").collect()
    }
}

/// Lines, cut to a length that can be read, for a message.
pub(crate) fn show<'a>(lines: impl IntoIterator<Item = &'a Value>) -> String {
    lines.into_iter().fold(String::new(), |mut text, line| {
        let line = line.to_string();
        let cut = line.char_indices().nth(3_000).map_or(line.len(), |(index, _)| index);
        let _ = writeln!(text, "  {}", &line[..cut]);
        text
    })
}
