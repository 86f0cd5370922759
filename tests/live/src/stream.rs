//! The lines that tracer wrote, and the rules that every stream of lines keeps.

use std::fmt::Write as _;

use serde_json::Value;

/// Most bytes of a line, its end included.
const LINE_BYTES: usize = 7_900;

/// A parsed stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The lines in order.
    pub(crate) lines: Vec<Value>,
    /// What was wrong with the text itself.
    pub(crate) errors: Vec<String>,
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
            } else if line.len() > LINE_BYTES {
                stream.errors.push(format!("line {number} has {} bytes", line.len()));
            }
            match serde_json::from_slice(line) {
                Ok(value) => stream.lines.push(value),
                Err(error) => {
                    stream.errors.push(format!("line {number} is no JSON: {error}: {}", line.escape_ascii()))
                }
            }
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

    /// What does not hold although it must in every complete stream.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut errors = self.errors.clone();
        let action =
            |line: Option<&Value>| line.map(|line| at(line, "/event/action").clone()).unwrap_or_default();
        for (place, line, want) in
            [("first", self.lines.first(), "hello"), ("last", self.lines.last(), "bye")]
        {
            if action(line) != want {
                errors.push(format!("the {place} line is {}, not {want}", action(line)));
            }
        }
        for (index, line) in self.lines.iter().enumerate() {
            let want = index as i64 + 1;
            if number(line, "/event/sequence") != want {
                errors.push(format!("event.sequence is {}, not {want}", at(line, "/event/sequence")));
                break;
            }
        }
        errors.extend(self.of("lost").map(|line| format!("lost: {line}")));
        errors.extend(self.timelines().into_iter().flat_map(sums));
        errors
    }
}

/// Sums that agree in each timeline.
fn sums(line: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let mut expect = |what: &str, left: i64, right: i64| {
        if left != right {
            errors.push(format!("pid {}: {what}: {left} and {right}", at(line, "/process/pid")));
        }
    };
    let cow = at(line, "/tracer/cow");
    if cow.is_object() {
        // What the level does not count is null.
        let sum = |keys: &[&str]| keys.iter().map(|key| number(cow, key).max(0)).sum::<i64>();
        let copies = number(cow, "/copies");
        expect("copies and their modes", copies, sum(&["/by/user", "/by/kernel", "/by/gup", "/by/eager"]));
        if at(cow, "/by_page").is_object() {
            let pages =
                ["anon", "ksm", "file", "file_first", "swap", "huge"].map(|of| format!("/by_page/{of}"));
            let regions = ["heap", "stack", "data", "file", "anon"].map(|of| format!("/by_region/{of}"));
            let of = |keys: &[String]| sum(&keys.iter().map(String::as_str).collect::<Vec<_>>());
            let faults = sum(&["/by/user", "/by/kernel"]);
            expect("copies by faults and their pages", faults, of(&pages));
            expect("copies by faults and their regions", faults, of(&regions));
        }
        let after = at(cow, "/after_exec");
        if after.is_object() && number(line, "/tracer/exec/seq") == 1 && at(line, "/tracer/fork").is_object()
        {
            let before = at(line, "/tracer/fork/before_exec");
            for key in ["/copies", "/reuses"].into_iter().filter(|key| !at(cow, key).is_null()) {
                expect(key, number(cow, key), number(before, key) + number(after, key));
            }
        }
    }
    let wasted = at(line, "/tracer/fork/wasted");
    if wasted.is_object() {
        let fork = at(line, "/tracer/fork");
        // What fork copied at once is among what the parent paid.
        let copies = number(fork, "/before_exec/copies") + number(fork, "/by_parent/copies");
        expect("wasted copies and their parts", number(wasted, "/copies"), copies);
    }
    errors
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
