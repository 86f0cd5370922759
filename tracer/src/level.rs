//! How closely copy-on-write is followed, and what is not known at each level.

use serde::{Deserialize, Serialize};

/// Each level sees all that the one before it sees. How: `docs/cow.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is counted.
    Off,
    /// Only the flush that follows a copy is seen: pages replaced by faults in user mode, without their kinds.
    Lite,
    /// Faults are followed from beginning to end: each copy and reuse of a page that was mapped, by its kind.
    Fault,
    /// Page allocations, too: copies of pages that were not mapped, by pinning and by fork itself.
    #[default]
    Full,
}

/// The fields of the stream that are null at [`Level::Fault`]: they come from page allocations.
const NOT_BY_FAULT: [&str; 9] = [
    "tracer.cow.by.gup",
    "tracer.cow.by.remote_candidates",
    "tracer.cow.by.eager",
    "tracer.cow.by_page.file_first",
    "tracer.cow.by_page.swap",
    "tracer.faults.demand_zero",
    "tracer.faults.file",
    "tracer.faults.unsure",
    "tracer.fork.eager_copies",
];

/// At [`Level::Lite`]. Of `tracer.faults` all but minor and major.
const NOT_BY_LITE: [&str; 20] = [
    "tracer.cow.reuses",
    "tracer.cow.huge_reuses",
    "tracer.cow.zero_upgrades",
    "tracer.cow.huge_zero_upgrades",
    "tracer.cow.by.kernel",
    "tracer.cow.by.gup",
    "tracer.cow.by.remote_candidates",
    "tracer.cow.by.eager",
    "tracer.cow.by_page",
    "tracer.cow.by_region",
    "tracer.cow.after_exec.reuses",
    "tracer.fork.before_exec.reuses",
    "tracer.fork.by_parent.reuses",
    "tracer.fork.wasted.reuses",
    "tracer.fork.eager_copies",
    "tracer.children.paid.reuses",
    "tracer.shared",
    "tracer.faults",
    "tracer.exec.start",
    "tracer.exec.wasted.reuses",
];

/// At [`Level::Off`]. Of `tracer.faults` all but minor and major.
const NOT_BY_OFF: [&str; 11] = [
    "tracer.cow",
    "tracer.delta",
    "tracer.shared",
    "tracer.fork.before_exec",
    "tracer.fork.by_parent",
    "tracer.fork.eager_copies",
    "tracer.fork.wasted",
    "tracer.children.paid",
    "tracer.faults",
    "tracer.exec.start",
    "tracer.exec.wasted",
];

impl Level {
    /// All, from the highest.
    pub const ALL: [Self; 4] = [Self::Full, Self::Fault, Self::Lite, Self::Off];

    /// Its name on the command line and in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Lite => "lite",
            Self::Fault => "fault",
            Self::Full => "full",
        }
    }

    /// Copies are counted.
    pub const fn has_copies(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Copies are told from reuses and other faults, and by their kinds.
    pub const fn has_classes(self) -> bool {
        matches!(self, Self::Fault | Self::Full)
    }

    /// Page allocations are seen.
    pub const fn has_allocations(self) -> bool {
        matches!(self, Self::Full)
    }

    /// The fields of the stream that are null at this level.
    pub const fn unknown(self) -> &'static [&'static str] {
        match self {
            Self::Off => &NOT_BY_OFF,
            Self::Lite => &NOT_BY_LITE,
            Self::Fault => &NOT_BY_FAULT,
            Self::Full => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_level_does_not_know_no_lower_one_knows() {
        for pair in Level::ALL.windows(2) {
            let [higher, lower] = pair else { unreachable!("windows of two") };
            assert!(higher > lower);
            for field in higher.unknown() {
                let covers = |of: &&str| field == of || field.starts_with(&format!("{of}."));
                assert!(lower.unknown().iter().any(covers), "{field} at {lower:?}");
            }
        }
    }
}
