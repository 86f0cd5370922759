//! The rows of the case table in docs/cow.md: what was true and what tracer said. `cargo xtask` collects them.

use std::fmt::Display;

/// Tells the result of a case on this kernel. A case that cannot be made here has a reason as its `truth`, and `-` as what was seen.
pub(crate) fn tell(case: &str, truth: impl Display, seen: impl Display) {
    println!("case {case} | {truth} | {seen}");
}
