//! Collects everything that is wrong in a run, so that one failure shows all of it.

use std::fmt::{Debug, Display};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    cases,
    harness::Run,
    stream::{at, show},
};

/// Most faults, and most lines, of a message.
const MOST: usize = 30;

/// The result of a test.
pub(crate) type Outcome = Result<(), Failed>;

/// What was found wrong in a run.
pub(crate) struct Check<'a> {
    run: &'a Run,
    errors: Vec<String>,
    lines: Vec<&'a Value>,
}

impl<'a> Check<'a> {
    /// Starts with the rules that every stream keeps, and with what was lost.
    pub(crate) fn new(run: &'a Run) -> Self {
        let errors = run.violations().into_iter().chain(run.losses()).collect();
        Self { run, errors, lines: Vec::new() }
    }

    /// Starts with the rules that every stream keeps, for runs that are meant to lose something.
    pub(crate) fn lossy(run: &'a Run) -> Self {
        Self { run, errors: run.violations(), lines: Vec::new() }
    }

    /// Without these rules, for runs that are meant to break some.
    pub(crate) fn bare(run: &'a Run) -> Self {
        Self { run, errors: Vec::new(), lines: Vec::new() }
    }

    /// Adds a fault.
    pub(crate) fn fail(&mut self, what: impl Display) {
        self.errors.push(what.to_string());
    }

    /// Something must hold.
    pub(crate) fn that(&mut self, holds: bool, what: impl Display) {
        if !holds {
            self.fail(what);
        }
    }

    /// Two values must be the same.
    pub(crate) fn same<T: PartialEq + Debug>(&mut self, what: impl Display, have: T, want: T) {
        self.that(have == want, format!("{what}: have {have:?}, want {want:?}"));
    }

    /// Two values must be the same, and a row of docs/conformance.md shows both.
    pub(crate) fn row(&mut self, row: &str, have: impl Into<Value>, want: impl Into<Value>) {
        let (have, want) = (have.into(), want.into());
        cases::row(row, &want, &have);
        self.same(row, have, want);
    }

    /// How many faults were found so far.
    pub(crate) fn faults(&self) -> usize {
        self.errors.len()
    }

    /// A field of a line must have a value.
    pub(crate) fn field(&mut self, line: &'a Value, pointer: &str, want: impl Into<Value>) {
        let (have, want) = (at(line, pointer), want.into());
        if *have != want {
            self.fail(format!("pid {}: {pointer}: have {have}, want {want}", at(line, "/process/pid")));
            self.blame(line);
        }
    }

    /// A line to be shown with the faults.
    pub(crate) fn blame(&mut self, line: &'a Value) {
        if !self.lines.iter().any(|known| std::ptr::eq(*known, line)) {
            self.lines.push(line);
        }
    }

    /// The only timeline of a process; none or more than one is a fault.
    pub(crate) fn timeline(&mut self, pid: i64) -> Option<&'a Value> {
        let found: Vec<_> =
            self.run.stream.of("timeline").filter(|line| *at(line, "/process/pid") == pid).collect();
        if found.len() != 1 {
            self.fail(format!("pid {pid}: {} timelines", found.len()));
            self.lines.extend(&found);
        }
        found.first().copied()
    }

    /// All faults with what helps to understand them.
    pub(crate) fn done(mut self) -> Outcome {
        if self.errors.is_empty() {
            return Ok(());
        }
        if self.lines.is_empty() {
            self.lines = self.run.stream.timelines();
        }
        self.lines.truncate(MOST);
        // The account of the whole run.
        self.lines.extend(self.run.stream.lines.last());
        let hidden = self.errors.len().saturating_sub(MOST);
        self.errors.truncate(MOST);
        let errors = self.errors.join("\n");
        let more = if hidden > 0 { format!("\nand {hidden} more") } else { String::new() };
        let lines = show(self.lines);
        let Run { code, stderr, facts, .. } = self.run;
        Err(format!("{errors}{more}\nlines:\n{lines}facts: {facts}\nexit code: {code:?}\nstderr:\n{stderr}")
            .into())
    }
}
