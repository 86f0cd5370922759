//! Where the lines go. A [`Sink`] takes whole lines; [`jsonl`] makes them of records, numbers and
//! buffers them; [`mod@file`] keeps whatever was written whole, also when the disk is full.

pub mod file;
pub mod jsonl;

use std::io;

/// A place to write lines to.
pub trait Sink {
    /// Writes whole lines. After an error, what stays written ends in a whole line where the place
    /// allows that; nothing more is to be written.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Hands on what the sink itself may hold back.
    fn flush(&mut self) -> io::Result<()>;

    /// Whether nobody reads any more, so that writing is in vain.
    fn is_closed(&self) -> bool {
        false
    }
}
