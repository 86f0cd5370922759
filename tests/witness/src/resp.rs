//! A client of Redis: its protocol (RESP2) over a Unix socket, as far as it is needed here.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// Longest answer to be waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// Commands that are sent before their answers are read.
const BATCH: usize = 64;

/// A connection.
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One command and its answer.
    pub(crate) fn command(&mut self, words: &[&str]) -> Result<String> {
        self.send(words)?;
        self.answer()
    }

    /// A command without an answer: the server ends.
    pub(crate) fn send(&mut self, words: &[&str]) -> Result<()> {
        let mut bytes = Vec::new();
        encode(&mut bytes, words);
        self.0.get_mut().write_all(&bytes).context("a command to Redis")
    }

    /// Gives the keys from 0 to `count` the value `value`.
    pub(crate) fn set(&mut self, count: usize, value: &str) -> Result<()> {
        let mut bytes = Vec::new();
        for first in (0..count).step_by(BATCH) {
            let keys = first..count.min(first + BATCH);
            bytes.clear();
            for key in keys.clone() {
                encode(&mut bytes, &["SET", &format!("key:{key:08}"), value]);
            }
            self.0.get_mut().write_all(&bytes).context("keys for Redis")?;
            for _ in keys {
                self.answer()?;
            }
        }
        Ok(())
    }

    /// What the server says of itself.
    pub(crate) fn info(&mut self) -> Result<Info> {
        let text = self.command(&["INFO", "everything"])?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(Info(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("an answer of Redis")?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", rest)) => Ok(rest.to_owned()),
            Some(("$", length)) => {
                let length: usize = length.parse().context("an answer of Redis")?;
                // A line end follows.
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes).context("an answer of Redis")?;
                bytes.truncate(length);
                Ok(String::from_utf8(bytes)?)
            }
            _ => bail!("Redis answered {line:?}"),
        }
    }
}

fn encode(bytes: &mut Vec<u8>, words: &[&str]) {
    bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
}

/// The fields of INFO.
pub(crate) struct Info(HashMap<String, String>);

impl Info {
    pub(crate) fn text(&self, field: &str) -> Result<&str> {
        self.0.get(field).map(String::as_str).with_context(|| format!("Redis does not tell {field}"))
    }

    pub(crate) fn number(&self, field: &str) -> Result<u64> {
        self.text(field)?.parse().with_context(|| field.to_owned())
    }
}
