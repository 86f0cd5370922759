//! Sums of copy-on-write work, as the bills add and divide them.
//!
//! They come from what programs did and are not trusted: nothing here can overflow.

use tracer_common::counter::Totals;

use crate::{level::Level, record};

/// Copies and reuses of one process, or on one bill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// Pages copied; a huge page counts as one.
    pub(super) copies: u64,
    /// Pages made writable without a copy.
    pub(super) reuses: u64,
    /// Bytes copied.
    pub(super) bytes: u64,
    /// Those that were copied out of memory shared since a fork.
    pub(super) unshared_bytes: u64,
}

impl From<Totals> for Copies {
    fn from(totals: Totals) -> Self {
        let Totals { copies, reuses, bytes, unshared_bytes } = totals;
        Self { copies, reuses, bytes, unshared_bytes }
    }
}

impl Copies {
    fn with(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            copies: of(self.copies, other.copies),
            reuses: of(self.reuses, other.reuses),
            bytes: of(self.bytes, other.bytes),
            unshared_bytes: of(self.unshared_bytes, other.unshared_bytes),
        }
    }

    /// Both together.
    #[must_use]
    pub(super) fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What is more here than in `earlier`.
    #[must_use]
    pub(super) fn since(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// The greater of each.
    #[must_use]
    pub(super) fn max(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    /// As a record says it; without reuses where they are not known.
    pub(super) fn shown(self, level: Level) -> record::Copies {
        record::Copies {
            copies: self.copies,
            reuses: level.has_classes().then_some(self.reuses),
            bytes: self.bytes,
        }
    }
}
