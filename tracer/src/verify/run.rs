//! One run, from `hello` to `bye`: each line has its number, and goes to those that know its kind.

use serde::Deserialize;
use serde_json::Value;

use super::{
    account::Accounts,
    family::Family,
    life::{self, Boot},
    line::{Account, Compact, Hello, Lost, Step, Timeline},
    reasons::Reasons,
    sums,
};
use crate::record::boot_hash;

/// A run that is being read.
#[derive(Debug)]
pub(super) struct Run {
    /// Its first line.
    pub(super) line: u64,
    /// Its `bye` was read.
    pub(super) is_over: bool,
    /// All lines until now were there and could be read: what needs all of them can be checked.
    is_whole: bool,
    /// The number that the next line has.
    expected: u64,
    boot: Option<Boot>,
    /// Lines were filtered out, or may have been.
    is_filtered: bool,
    /// Only processes of some names are traced.
    is_named: bool,
    /// Its timelines are compact.
    pub(super) is_compact: bool,
    pub(super) accounts: Accounts,
    pub(super) family: Family,
}

impl Run {
    /// A run that begins in line `line`; one that is `cut` begins with this number.
    pub(super) fn new(line: u64, cut: Option<u64>, most_lives: usize) -> Self {
        Self {
            line,
            is_over: false,
            is_whole: cut.is_none(),
            expected: cut.unwrap_or(1),
            boot: None,
            is_filtered: false,
            is_named: false,
            is_compact: false,
            accounts: Accounts::default(),
            family: Family::new(most_lives),
        }
    }

    /// A line that cannot be read has its number, too.
    pub(super) fn skip(&mut self) {
        self.expected = self.expected.saturating_add(1);
        self.not_read();
    }

    /// What a line says is not known.
    pub(super) fn not_read(&mut self) {
        self.is_whole = false;
    }

    /// Its next line has this number.
    pub(super) fn number(&mut self, reasons: &mut Reasons, line: u64, sequence: u64) {
        let expected = self.expected;
        if sequence != expected {
            let what =
                format_args!("event.sequence is {sequence}, not {expected}: lines are missing or twice");
            reasons.add(line, what);
            self.is_whole = false;
        }
        self.expected = sequence.saturating_add(1);
    }

    /// A line that is as the schema says.
    pub(super) fn line(
        &mut self,
        reasons: &mut Reasons,
        line: u64,
        action: &str,
        value: &Value,
    ) -> Result<(), serde_json::Error> {
        let at = &mut reasons.at(line);
        if let Some(boot) = self.boot {
            boot.identities(at, "process", &value["process"]);
            boot.identities(at, "tracer", &value["tracer"]);
        }
        match action {
            "hello" => {
                let hello = Hello::deserialize(value)?.tracer;
                let clock_offset_ns = hello.clock_offset_ns;
                self.boot = boot_id(&hello.boot_id)
                    .map(|boot_id| Boot { hash: boot_hash(&boot_id), clock_offset_ns });
                at.expect(self.boot.is_some(), format_args!("tracer.boot_id is no UUID"));
                let filter = &value["tracer"]["filter"];
                let filters = filter.as_object().into_iter().flat_map(|filter| filter.values());
                self.is_compact = hello.compact;
                self.is_named = filter["comms"].as_array().is_some_and(|names| !names.is_empty());
                self.is_filtered = filters.filter_map(Value::as_array).any(|values| !values.is_empty());
            }
            "heartbeat" | "bye" => {
                let account = Account::deserialize(value)?;
                self.accounts.account(at, self.expected.saturating_sub(1), &account, &value["tracer"]);
                if action == "bye" {
                    self.accounts.bye(at, &account, self.is_whole);
                    if self.is_whole {
                        self.family.bye(reasons, line, &account.tracer, self.is_named);
                    }
                }
            }
            "lost" => {
                let lost = Lost::deserialize(value)?;
                self.accounts.lost(lost.time, lost.tracer.lost);
            }
            "timeline" if self.is_compact => {
                let life = Compact::deserialize(value)?;
                life::compact(at, &life);
                self.family.compact(at, &life);
            }
            "timeline" => {
                let timeline = Timeline::deserialize(value)?;
                life::timeline(at, self.boot, &timeline);
                sums::timeline(at, &timeline.tracer);
                self.accounts.timeline(at, &timeline);
                self.family.timeline(at, self.boot, &timeline, self.is_whole && !self.is_filtered);
            }
            _ => {
                let step = Step::deserialize(value)?;
                if let Some(usage) = &step.tracer.usage {
                    sums::usage(at, usage);
                }
                match action {
                    "cow" => self.family.progress(at, &step, self.is_whole && !self.is_filtered),
                    "reap" if self.is_whole => self.family.reap(at, &step),
                    "reap" => {}
                    _ => self.family.step(at, action, &step),
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a UUID.
fn boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> =
        text.chars().filter(|&c| c != '-').map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    bytes.try_into().ok()
}
