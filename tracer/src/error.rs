//! Errors that end the program: one line each, with what failed, why, and what to do about it.

use std::{fmt, io};

/// Exit status of the program. After `run -- CMD` it is CMD's own, or 128 plus the signal that ended it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All went well.
    Ok = 0,
    /// An error while running: the output, a file, the kernel.
    Runtime = 1,
    /// The command line is not right.
    Usage = 2,
    /// The kernel cannot be traced, or this program was built without its eBPF programs.
    Unsupported = 69,
    /// The user may not load eBPF programs.
    NoPrivilege = 77,
    /// CMD was found but cannot be run.
    NotExecutable = 126,
    /// CMD was not found.
    NotFound = 127,
}

/// Why the program ends before its time. It shows as one line: `WHAT: WHY; WHAT TO DO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The exit status.
    pub code: Code,
    what: String,
    why: String,
    remedy: String,
}

impl Error {
    /// An error of three parts; line breaks in them are turned into blanks.
    pub fn new(
        code: Code,
        what: impl fmt::Display,
        why: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        let line = |part: &dyn fmt::Display| {
            let text = part.to_string();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        Self { code, what: line(&what), why: line(&why), remedy: line(&remedy) }
    }

    /// A mistake on the command line.
    pub fn usage(what: impl fmt::Display, why: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::new(Code::Usage, what, why, remedy)
    }

    /// An input or output error.
    pub fn io(what: impl fmt::Display, why: &io::Error, remedy: impl fmt::Display) -> Self {
        Self::new(Code::Runtime, what, reason(why), remedy)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.remedy)
    }
}

impl std::error::Error for Error {}

/// The text of an I/O error without the error number that the standard library appends.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_three_parts() {
        let error = Error::new(Code::Runtime, "open\nx", "no\n\n  space", "free some\n");
        assert_eq!(error.to_string(), "open x: no space; free some");
    }

    #[test]
    fn an_io_error_is_shown_without_its_number() {
        let error = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(reason(&error), "No space left on device");
        assert_eq!(reason(&io::Error::other("plain")), "plain");
    }
}
