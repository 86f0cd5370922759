//! What ran a file, and the environment that it was given.

use serde::{Serialize, Serializer};

use super::Text;

/// Most interpreters of a file: the kernel refuses more (exec_binprm() in fs/exec.c).
pub const MAX_INTERPRETERS: usize = 5;

/// The interpreters of a script, from that of the file given to exec on; the last one is what runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interpreters<'a> {
    list: [Text<'a>; MAX_INTERPRETERS],
    len: usize,
}

impl<'a> Interpreters<'a> {
    /// Puts one before all others; `false` when there are as many as there can be.
    #[must_use]
    pub fn precede(&mut self, interpreter: Text<'a>) -> bool {
        let is_room = self.len < MAX_INTERPRETERS;
        if is_room {
            self.list.rotate_right(1);
            self.list[0] = interpreter;
            self.len += 1;
        }
        is_room
    }

    /// In order.
    pub fn as_slice(&self) -> &[Text<'a>] {
        &self.list[..self.len]
    }

    /// Each at most `bytes` long.
    #[must_use]
    pub fn cut(self, bytes: usize) -> Self {
        Self { list: self.list.map(|path| path.cut(bytes)), ..self }
    }
}

impl Interpreters<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Serialize for Interpreters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.as_slice())
    }
}

/// How the kernel runs a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// By itself.
    Elf,
    /// By the interpreter that its first line names.
    Script,
    /// By an interpreter that was registered for files like it.
    BinfmtMisc,
}

/// How large the environment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct EnvSize {
    pub count: Option<u32>,
    pub bytes: u32,
    pub truncated: bool,
}
