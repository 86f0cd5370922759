//! What speaks against a stream.

use std::fmt;

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The line that shows it, from 1.
    pub line: u64,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// The first reasons, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    pub(super) first: Vec<Reason>,
    pub(super) count: u64,
}

impl Reasons {
    /// Most that are kept.
    pub(super) const KEPT: usize = 20;

    pub(super) fn add(&mut self, line: u64, what: fmt::Arguments<'_>) {
        self.count += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(Reason { line, what: what.to_string() });
        }
    }

    /// Collects what line `line` shows.
    pub(super) fn at(&mut self, line: u64) -> At<'_> {
        At { line, reasons: self }
    }
}

/// A line, and where to say what is wrong with it.
#[derive(Debug)]
pub(super) struct At<'a> {
    pub(super) line: u64,
    reasons: &'a mut Reasons,
}

impl At<'_> {
    /// Something must hold; `otherwise` is what to say if not.
    pub(super) fn expect(&mut self, holds: bool, otherwise: fmt::Arguments<'_>) {
        if !holds {
            self.reasons.add(self.line, otherwise);
        }
    }

    /// Two numbers must be the same.
    pub(super) fn same(&mut self, what: impl fmt::Display, number: u64, of: &str, other: u64) {
        self.expect(number == other, format_args!("{what} is {number}, but {of} is {other}"));
    }
}
