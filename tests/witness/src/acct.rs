//! Process accounting: one record for each process that ended, written by the kernel.

use std::{ffi::CString, fs, io, os::unix::ffi::OsStrExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};

// include/uapi/linux/acct.h
const RECORD_BYTES: usize = 64;
const VERSION: u8 = 3;
const VERSION_MASK: u8 = 0x0f;
const AFORK: u8 = 0x01;
const AXSIG: u8 = 0x10;

/// What `struct acct_v3` says of a process.
#[derive(Debug)]
pub(crate) struct Record {
    /// It never executed a program.
    pub(crate) forked_only: bool,
    /// A signal ended it.
    pub(crate) killed: bool,
    /// Its exit status as wait(2) returns it.
    pub(crate) status: u32,
    /// Its page faults without I/O, rounded when they are more than 8,191.
    pub(crate) minor: u64,
    /// What it called itself at its end.
    pub(crate) name: String,
}

/// Starts accounting, for the PID namespace of the caller.
pub(crate) fn start(file: &Path) -> io::Result<()> {
    let path = CString::new(file.as_os_str().as_bytes())?;
    // SAFETY: a NUL-terminated string that outlives the call.
    done(unsafe { libc::acct(path.as_ptr()) })
}

/// Ends it.
pub(crate) fn stop() -> io::Result<()> {
    // SAFETY: a null pointer means just that.
    done(unsafe { libc::acct(std::ptr::null()) })
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads all records of a file.
pub(crate) fn read(file: &Path) -> Result<Vec<Record>> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    ensure!(rest.is_empty(), "a record of process accounting is torn");
    records.iter().map(record).collect()
}

fn record(bytes: &[u8; RECORD_BYTES]) -> Result<Record> {
    let [flags, version, ..] = *bytes;
    let version = version & VERSION_MASK;
    ensure!(version == VERSION, "process accounting of version {version}, not {VERSION}");
    let name = &bytes[48..];
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(Record {
        forked_only: flags & AFORK != 0,
        killed: flags & AXSIG != 0,
        status: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        minor: count(bytes[42], bytes[43]),
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
    })
}

/// A `comp_t`: 13 bits, shifted by three times the exponent above them.
fn count(low: u8, high: u8) -> u64 {
    let value = u16::from_le_bytes([low, high]);
    u64::from(value & 0x1fff) << (3 * (value >> 13))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_where_the_kernel_writes_it() {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0] = AFORK | AXSIG;
        bytes[1] = VERSION;
        bytes[4] = 9;
        (bytes[42], bytes[43]) = (0x34, 0x12);
        bytes[48..52].copy_from_slice(b"name");
        let record = record(&bytes).unwrap();
        assert!(record.forked_only && record.killed);
        assert_eq!((record.status, record.minor), (9, 0x1234));
        assert_eq!(record.name, "name");
        bytes[1] = 2;
        assert!(super::record(&bytes).is_err());
    }

    #[test]
    fn large_counts_are_rounded() {
        assert_eq!(count(0xff, 0x1f), 8191);
        assert_eq!(count(0x00, 0x24), 8192);
    }
}
