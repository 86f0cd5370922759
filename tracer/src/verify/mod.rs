//! `tracer verify`: from the lines of a stream alone, whether it is whole and agrees with itself.
//! `docs/verify.md` says what is proven and what is not.
//!
//! Lines are read one at a time and none is kept. What is remembered of a run is bounded.

mod account;
mod family;
mod life;
mod line;
mod read;
mod reasons;
mod run;
mod schema;
mod sums;

use std::fmt;

use serde_json::Value;

pub use read::{read, verify};
pub use reasons::Reason;

use self::{family::MOST_LIVES, reasons::Reasons, run::Run, schema::Schema};
use crate::record::MAX_LINE_BYTES;

/// The published schema.
const SCHEMA: &str = include_str!("../../../docs/schema.json");

/// Takes the lines of a stream in.
#[derive(Debug)]
pub struct Verifier {
    schema: Schema,
    most_lives: usize,
    reasons: Reasons,
    run: Option<Run>,
    counts: Counts,
}

/// What a stream has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines.
    pub lines: u64,
    /// Runs.
    pub runs: u64,
    /// Timelines.
    pub timelines: u64,
    /// Events that were declared lost.
    pub lost: u64,
    /// Lives that were forgotten because there were too many: those named by later lines were not compared with them.
    pub forgotten: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, runs, timelines, lost, forgotten } = self;
        write!(f, "runs: {runs}, lines: {lines}, timelines: {timelines}, events declared lost: {lost}")?;
        if *forgotten > 0 {
            write!(f, ", lives forgotten, not compared with later ones: {forgotten}")?;
        }
        Ok(())
    }
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was read.
    pub counts: Counts,
    /// The first reasons against the stream.
    pub reasons: Vec<Reason>,
    /// How many there are. None: the stream is proven.
    pub reasons_count: u64,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new(MOST_LIVES)
    }
}

impl Verifier {
    /// Remembers at most so many lives of a run.
    fn new(most_lives: usize) -> Self {
        let schema = serde_json::from_str(SCHEMA).map_err(|error| error.to_string());
        let schema = schema.and_then(Schema::new);
        Self {
            schema: schema.expect("the schema is part of the program, and a test reads it"),
            most_lives,
            reasons: Reasons::default(),
            run: None,
            counts: Counts::default(),
        }
    }

    /// Takes the next line with its end; of a line that is too long, the beginning will do.
    pub fn line(&mut self, line: &[u8]) {
        self.counts.lines += 1;
        let number = self.counts.lines;
        let value = if line.len() > MAX_LINE_BYTES {
            Err(format!("it is longer than {MAX_LINE_BYTES} bytes"))
        } else if !line.ends_with(b"\n") {
            Err("it has no end: the stream was cut".to_owned())
        } else {
            serde_json::from_slice::<Value>(line).map_err(|error| format!("it is no JSON: {error}"))
        };
        let result = value.and_then(|value| self.value(number, &value));
        if let Err(what) = result {
            self.reasons.add(number, format_args!("{what}"));
            if let Some(run) = self.run.as_mut().filter(|run| !run.is_over) {
                run.skip();
            }
        }
    }

    /// The stream ends.
    pub fn finish(mut self) -> Verdict {
        self.end_run(self.counts.lines, "the stream ends here");
        if self.counts.lines == 0 {
            self.reasons.add(1, format_args!("there is no line"));
        }
        let Reasons { first, count } = self.reasons;
        Verdict { counts: self.counts, reasons: first, reasons_count: count }
    }

    /// Finds the run of a line; fails when nothing can be told of the line.
    fn value(&mut self, number: u64, value: &Value) -> Result<(), String> {
        let action = value["event"]["action"].as_str().ok_or("it has no event.action")?;
        let sequence = value["event"]["sequence"].as_u64().ok_or("it has no event.sequence")?;
        if action == "hello" {
            self.begin_run(number, None);
        } else if self.run.as_ref().is_none_or(|run| run.is_over) {
            let what = format_args!("{action} without hello, number {sequence}: the beginning was cut off");
            self.reasons.add(number, what);
            self.begin_run(number, Some(sequence));
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        run.number(&mut self.reasons, number, sequence);
        run.is_over = action == "bye";
        if let Err(mismatch) = self.schema.check(action, run.is_compact, value) {
            run.not_read();
            self.reasons.add(number, format_args!("not as the schema says: {mismatch}"));
        } else if let Err(error) = run.line(&mut self.reasons, number, action, value) {
            run.not_read();
            self.reasons.add(number, format_args!("{error}"));
        }
        Ok(())
    }

    /// Begins a run in line `line`; it may be `cut` and begin with a later number.
    fn begin_run(&mut self, line: u64, cut: Option<u64>) {
        self.end_run(line, "another one begins here");
        self.counts.runs += 1;
        self.run = Some(Run::new(line, cut, self.most_lives));
    }

    /// Closes the run that was read last, at line `line`, because of `why`.
    fn end_run(&mut self, line: u64, why: &str) {
        let Some(run) = self.run.take() else { return };
        if !run.is_over {
            let first = run.line;
            self.reasons.add(line, format_args!("the run that began in line {first} has no bye: {why}"));
        }
        let Counts { timelines, lost, forgotten, .. } = &mut self.counts;
        *timelines = timelines.saturating_add(run.family.told);
        *lost = lost.saturating_add(run.accounts.lost);
        *forgotten = forgotten.saturating_add(run.family.forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden file of a parent with children, `more` times.
    fn verdict(most_lives: usize, more: usize) -> Verdict {
        let lines = include_str!("../../tests/golden/overlapping_children.jsonl");
        let mut verifier = Verifier::new(most_lives);
        lines.repeat(more).split_inclusive('\n').for_each(|line| verifier.line(line.as_bytes()));
        verifier.finish()
    }

    #[test]
    fn lives_that_are_too_many_are_forgotten_and_counted() {
        let all = verdict(MOST_LIVES, 1);
        assert_eq!((all.reasons_count, all.counts.forgotten), (0, 0), "{all:?}");
        for most_lives in 0..3 {
            let some = verdict(most_lives, 1);
            assert_eq!(some.reasons, vec![], "{most_lives}");
            assert!(some.counts.forgotten > 0, "{most_lives}");
            assert!(some.counts.to_string().contains("lives forgotten"));
            assert_eq!(some.counts.timelines, all.counts.timelines);
        }
        assert_eq!(verdict(1, 2).counts.forgotten, 2 * verdict(1, 1).counts.forgotten);
    }
}
