//! What the tracer says of itself in its lines.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::tool::{Lengths, Outcome};

/// The first line.
#[derive(Debug, PartialEq)]
pub(crate) struct Hello {
    pub(crate) cow_level: String,
    /// The tracepoints that have a program.
    pub(crate) hooks: Vec<String>,
}

/// Whether there is a whole line by now.
pub(crate) fn has_line(output: &Path) -> Result<bool> {
    match std::fs::read(output) {
        Ok(bytes) => Ok(bytes.contains(&b'\n')),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn hello(output: &Path) -> Result<Hello> {
    let mut line = String::new();
    BufReader::new(File::open(output)?).read_line(&mut line)?;
    parse_hello(&line).context("the tracer's first line is no hello")
}

fn parse_hello(line: &str) -> Option<Hello> {
    let line: Value = serde_json::from_str(line).ok()?;
    let hooks = line.pointer("/tracer/hooks")?.as_object()?;
    Some(Hello {
        cow_level: line.pointer("/tracer/cow_level")?.as_str()?.to_owned(),
        hooks: hooks.iter().filter(|(_, hook)| hook["on"] == true).map(|(name, _)| name.clone()).collect(),
    })
}

/// Reads a finished stream.
pub(crate) fn read(output: &Path, outcome: &mut Outcome) -> Result<()> {
    let mut timelines = Vec::new();
    let mut last = String::new();
    let mut lost = 0;
    for line in BufReader::new(File::open(output)?).lines() {
        let line = line?;
        let bytes = line.len() as u64 + 1;
        outcome.lines += 1;
        outcome.bytes += bytes;
        if line.contains(r#""action":"timeline""#) {
            timelines.push(bytes);
        } else if line.contains(r#""action":"lost""#) {
            lost += lost_events(&serde_json::from_str(&line)?);
        }
        last = line;
    }
    let bye: Value = serde_json::from_str(&last).context("the tracer's last line")?;
    outcome.events =
        Some(bye.pointer("/tracer/received").and_then(Value::as_u64).context("no count in bye")?);
    outcome.lost = Some(lost);
    outcome.timelines = timelines.len() as u64;
    outcome.timeline_bytes = lengths(timelines);
    Ok(())
}

fn lengths(mut bytes: Vec<u64>) -> Option<Lengths> {
    bytes.sort_unstable();
    let at = |percent| bytes.get(bytes.len() * percent / 100).copied();
    Some(Lengths { median: at(50)?, high: at(90)? })
}

/// The number in a `lost` line.
fn lost_events(line: &Value) -> u64 {
    line.pointer("/tracer/lost/count").and_then(Value::as_u64).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_middle_and_of_a_tenth() {
        assert_eq!(lengths((1..=100).rev().collect()), Some(Lengths { median: 51, high: 91 }));
        assert_eq!(lengths(vec![7]), Some(Lengths { median: 7, high: 7 }));
        assert_eq!(lengths(Vec::new()), None);
    }

    #[test]
    fn only_hooks_that_are_on_count() {
        let line = r#"{"tracer":{"hooks":{"a":{"on":true},"b":{"on":false}},"cow_level":"lite"}}"#;
        let hello = parse_hello(line).unwrap();
        assert_eq!(hello, Hello { cow_level: "lite".into(), hooks: vec!["a".into()] });
        assert_eq!(parse_hello("{}"), None);
    }
}
