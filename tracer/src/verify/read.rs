//! The command: a file, or stdin, line by line in bounded memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
};

use super::{Verdict, Verifier};
use crate::{
    config,
    error::{Code, Error},
    record::MAX_LINE_BYTES,
};

/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Reads a whole stream.
pub fn read(mut input: impl BufRead) -> io::Result<Verdict> {
    let mut verifier = Verifier::default();
    let mut line = Vec::with_capacity(MAX_LINE_BYTES + 1);
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(verifier.finish());
        }
        if read > MAX_LINE_BYTES && !line.ends_with(b"\n") {
            skip_line(&mut input)?;
        }
        verifier.line(&line);
    }
}

/// Reads on to the end of a line without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() || used == 0 {
            return Ok(());
        }
    }
}

/// `tracer verify`. Returns the exit status.
pub fn verify(options: &config::Verify) -> Result<u8, Error> {
    let name = options.input.as_ref().map_or("stdin".to_owned(), |path| path.display().to_string());
    let verdict = match &options.input {
        Some(path) => File::open(path).and_then(|file| read(BufReader::with_capacity(BUFFER_BYTES, file))),
        None => read(io::stdin().lock()),
    };
    let verdict = verdict.map_err(|error| {
        let why = crate::error::reason(&error);
        Error::usage(format_args!("read {name}"), why, "name a file of JSON lines, or - for stdin")
    })?;
    let mut text = String::new();
    for reason in &verdict.reasons {
        text.push_str(&format!("{name}: {reason}\n"));
    }
    if verdict.reasons_count == 0 {
        text.push_str(&format!("{name}: proven; {}\n", verdict.counts));
    }
    // A reader that has gone is told by the exit status.
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(Error::io("write to stdout", &error, "free some space or write elsewhere"));
    }
    if verdict.reasons_count == 0 {
        return Ok(Code::Ok as u8);
    }
    let why = format!("refuted; reasons: {}, {}", verdict.reasons_count, verdict.counts);
    let remedy = format_args!("stdout has the first {}", verdict.reasons.len());
    Err(Error::new(Code::Runtime, format_args!("verify {name}"), why, remedy))
}
