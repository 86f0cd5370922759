//! The lines of tables: what was true and what tracer said, and how large its programs are. `cargo xtask` collects them.

use std::fmt::Display;

use serde_json::Value;

/// Tells the result of a case of docs/cow.md on this kernel. A case that cannot be made here has a reason as its `truth`,
/// and `-` as what was seen.
pub(crate) fn tell(case: &str, truth: impl Display, seen: impl Display) {
    println!("case {case} | {truth} | {seen}");
}

/// Tells a row of docs/conformance.md.
pub(crate) fn row(row: &str, truth: &Value, seen: &Value) {
    println!("row {row} | {} | {}", show(truth), show(seen));
}

/// Tells why there is no such row here.
pub(crate) fn no_row(row: &str, why: impl Display) {
    println!("row {row} | {why} | -");
}

/// Tells how many instructions of a program the verifier goes through: a row of docs/verifier.md.
pub(crate) fn size(program: &str, instructions: u64) {
    println!("program {program} | {instructions}");
}

/// A list with equal neighbours told once, a text without quotes.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let same: Vec<_> = values.chunk_by(PartialEq::eq).collect();
            let shown = same.into_iter().map(|same| match same.len() {
                1 => show(&same[0]),
                count => format!("{} x{count}", show(&same[0])),
            });
            shown.collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}
