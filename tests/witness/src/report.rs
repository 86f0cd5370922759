//! What was compared, and the table of it.

use std::fmt::{self, Display, Formatter};

/// All comparisons of a run.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

enum Row {
    Compared { what: String, ours: u64, theirs: u64, allowed: u64 },
    Skipped { what: String, why: String },
    Failed { what: String, why: String },
}

impl Report {
    /// Two counts that may differ by `allowed`.
    pub(crate) fn compare(&mut self, what: impl Into<String>, ours: u64, theirs: u64, allowed: u64) {
        self.rows.push(Row::Compared { what: what.into(), ours, theirs, allowed });
    }

    /// A witness that this kernel does not have.
    pub(crate) fn skip(&mut self, what: impl Into<String>, why: impl Display) {
        self.rows.push(Row::Skipped { what: what.into(), why: why.to_string() });
    }

    /// A witness that could not be asked although it should be there.
    pub(crate) fn failed(&mut self, what: impl Into<String>, error: &anyhow::Error) {
        self.rows
            .push(Row::Failed { what: what.into(), why: format!("{error:#}").trim().replace('\n', " ") });
    }

    /// True when something was compared and nothing differs or failed.
    pub(crate) fn all_agree(&self) -> bool {
        self.count(Row::agrees) > 0
            && self.rows.iter().all(|row| row.agrees() || matches!(row, Row::Skipped { .. }))
    }

    fn count(&self, is: impl Fn(&Row) -> bool) -> usize {
        self.rows.iter().filter(|row| is(row)).count()
    }
}

impl Row {
    fn agrees(&self) -> bool {
        matches!(self, Self::Compared { ours, theirs, allowed, .. } if ours.abs_diff(*theirs) <= *allowed)
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compared { what, ours, theirs, allowed } => {
                let difference = i128::from(*ours) - i128::from(*theirs);
                let verdict = if self.agrees() { "agrees" } else { "DIFFERS" };
                write!(f, "| {what} | {ours} | {theirs} | {difference:+} | {allowed} | {verdict} |")
            }
            Self::Skipped { what, why } => write!(f, "| {what} | | | | | skipped: {why} |"),
            Self::Failed { what, why } => write!(f, "| {what} | | | | | FAILED: {why} |"),
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | tracer | witness | differ by | allowed | |")?;
        writeln!(f, "|-|-:|-:|-:|-:|-|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        let agree = self.count(Row::agrees);
        let skipped = self.count(|row| matches!(row, Row::Skipped { .. }));
        writeln!(f, "{agree} agree, {} do not, {skipped} skipped", self.rows.len() - agree - skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: &[(u64, u64, u64)]) -> Report {
        let mut report = Report::default();
        for &(ours, theirs, allowed) in rows {
            report.compare("x", ours, theirs, allowed);
        }
        report
    }

    #[test]
    fn a_difference_over_what_is_allowed_fails() {
        assert!(report(&[(5, 5, 0), (7, 5, 2), (5, 7, 2)]).all_agree());
        assert!(!report(&[(5, 5, 0), (8, 5, 2)]).all_agree());
        assert!(!report(&[(2, 5, 2)]).all_agree());
    }

    #[test]
    fn nothing_compared_is_no_agreement() {
        let mut report = report(&[]);
        report.skip("y", "not here");
        assert!(!report.all_agree());
        report.compare("x", 1, 1, 0);
        assert!(report.all_agree());
        report.failed("z", &anyhow::anyhow!("gone"));
        assert!(!report.all_agree());
        assert!(report.to_string().ends_with("1 agree, 1 do not, 1 skipped\n"));
    }
}
