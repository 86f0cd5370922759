//! Lines into a file, a pipe or a terminal.
//!
//! A file that exists is kept as `NAME.old`. It is moved there only by [`Pending::commit`], when all
//! that can go wrong before the first line has gone well: a run that cannot start costs no data.
//! When a write fails half-way, a regular file is cut back to its last whole line.

use std::{
    ffi::OsString,
    fs, io,
    io::{Seek, SeekFrom, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use super::Sink;
use crate::{config, error::Error};

/// An open file, pipe or terminal.
#[derive(Debug)]
pub struct File {
    file: fs::File,
    regular: bool,
}

impl File {
    /// Standard output, as it was given to us.
    pub fn stdout() -> io::Result<Self> {
        Self::new(fs::File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn new(file: fs::File) -> io::Result<Self> {
        let regular = file.metadata()?.is_file();
        Ok(Self { file, regular })
    }

    /// The file itself.
    pub fn into_inner(self) -> fs::File {
        self.file
    }

    /// A descriptor that tells when nobody reads any more; `None` for a regular file.
    pub fn reader(&self) -> io::Result<Option<OwnedFd>> {
        (!self.regular).then(|| self.file.as_fd().try_clone_to_owned()).transpose()
    }

    /// Takes the last `torn` bytes away again, if they are the end of a regular file.
    fn cut(&mut self, torn: u64) -> io::Result<()> {
        if torn == 0 || !self.regular {
            return Ok(());
        }
        let length = self.file.metadata()?.len();
        if self.file.stream_position()? == length && length >= torn {
            self.file.set_len(length - torn)?;
            self.file.seek(SeekFrom::End(0))?;
        }
        Ok(())
    }

    fn poll(&self, events: libc::c_short, timeout: libc::c_int) -> libc::c_short {
        let mut fd = libc::pollfd { fd: self.file.as_raw_fd(), events, revents: 0 };
        // SAFETY: one valid pollfd, which outlives the call.
        unsafe { libc::poll(&mut fd, 1, timeout) };
        fd.revents
    }
}

impl Sink for File {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while let Err(error) = write_from(&mut self.file, lines, &mut done) {
            if error.kind() == io::ErrorKind::WouldBlock {
                // Somebody made our end of the pipe non-blocking: wait for the reader.
                self.poll(libc::POLLOUT, -1);
                continue;
            }
            // The first error is the one to report; a failing cut has the same cause.
            let _ = self.cut(torn(&lines[..done]));
            return Err(error);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn is_closed(&self) -> bool {
        !self.regular && self.poll(0, 0) & libc::POLLERR != 0
    }
}

/// Writes `bytes` from index `done` on, which is moved on by what was written.
fn write_from(out: &mut impl Write, bytes: &[u8], done: &mut usize) -> io::Result<()> {
    while let Some(rest) = bytes.get(*done..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes after the last line break.
fn torn(written: &[u8]) -> u64 {
    written.iter().rev().take_while(|&&byte| byte != b'\n').count() as u64
}

/// An output that is known to open, but has not replaced anything yet.
#[derive(Debug)]
pub struct Pending {
    file: fs::File,
    /// The temporary name and the final one; none when the place is written to as it is.
    names: Option<(PathBuf, PathBuf)>,
}

impl Pending {
    /// Opens what the user named.
    pub fn open(output: &config::Output) -> Result<Self, Error> {
        match output {
            config::Output::Stdout => {
                let file = File::stdout()
                    .map_err(|error| Error::io("open stdout", &error, "name a file with --output FILE"))?;
                Ok(Self { file: file.file, names: None })
            }
            config::Output::File(path) => Self::create(path),
        }
    }

    /// Makes sure that `path` can be made. What is no regular file, as a pipe, a device or a
    /// symbolic link, is appended to as it is.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            let what = format!("open {}", path.display());
            Error::io(what, &error, "name a file that can be written")
        };
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let file = fs::OpenOptions::new().append(true).open(path).map_err(failed)?;
                return Ok(Self { file, names: None });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let temporary = with_suffix(path, &format!(".{}.tmp", std::process::id()));
        let file = fs::File::create_new(&temporary).map_err(failed)?;
        Ok(Self { file, names: Some((temporary, path.to_owned())) })
    }

    /// Puts the new file in place; one that was there is kept as `NAME.old`.
    pub fn commit(mut self) -> Result<File, Error> {
        if let Some((temporary, path)) = self.names.take() {
            let moved = match fs::rename(&path, with_suffix(&path, ".old")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => fs::rename(&temporary, &path),
            };
            if let Err(error) = moved {
                let _ = fs::remove_file(&temporary);
                let what = format!("open {}", path.display());
                return Err(Error::io(what, &error, "name a file that can be written"));
            }
        }
        let file = self.file.try_clone().and_then(File::new);
        file.map_err(|error| Error::io("open the output", &error, "name another file"))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.names {
            let _ = fs::remove_file(temporary);
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `step` bytes at a time, every second call is interrupted; full after `room` bytes.
    struct Narrow {
        taken: Vec<u8>,
        step: usize,
        room: usize,
        interrupted: bool,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = bytes.len().min(self.step).min(self.room - self.taken.len());
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_and_interrupted_writes_are_continued() {
        let mut out = Narrow { taken: Vec::new(), step: 3, room: 100, interrupted: false };
        let mut done = 0;
        write_from(&mut out, b"one\ntwo\nthree\n", &mut done).unwrap();
        assert_eq!((out.taken.as_slice(), done), (&b"one\ntwo\nthree\n"[..], 14));
    }

    #[test]
    fn a_full_disk_tells_how_far_it_came() {
        let mut out = Narrow { taken: Vec::new(), step: 3, room: 10, interrupted: false };
        let mut done = 0;
        let error = write_from(&mut out, b"one\ntwo\nthree\n", &mut done).unwrap_err();
        assert_eq!((error.kind(), done), (io::ErrorKind::StorageFull, 10));
        assert_eq!(torn(&out.taken), 2);
    }

    #[test]
    fn the_torn_end_is_what_follows_the_last_line_break() {
        assert_eq!((torn(b""), torn(b"a\n"), torn(b"a\nbc"), torn(b"abc")), (0, 0, 2, 3));
    }

    #[test]
    fn a_regular_file_is_cut_back_to_its_last_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut file = Pending::create(&path).unwrap().commit().unwrap();
        file.write(b"one\ntwo\nth").unwrap();
        file.cut(2).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        file.write(b"new\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\nnew\n");
    }

    #[test]
    fn what_others_appended_is_not_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut file = Pending::create(&path).unwrap().commit().unwrap();
        file.write(b"one\ntw").unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"other").unwrap();
        file.cut(2).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwother");
    }

    #[test]
    fn an_existing_file_becomes_old_only_on_commit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, "first").unwrap();
        drop(Pending::create(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let mut file = Pending::create(&path).unwrap().commit().unwrap();
        file.write(b"second\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second\n");
        assert_eq!(fs::read(directory.path().join("out.old")).unwrap(), b"first");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_is_followed_and_never_moved() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("out"), directory.path().join("link"));
        fs::write(&path, "one\n").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = Pending::create(&link).unwrap().commit().unwrap();
        file.write(b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_full_device_is_an_error() {
        let mut file = Pending::create(Path::new("/dev/full")).unwrap().commit().unwrap();
        let error = file.write(b"line\n").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn a_pipe_without_reader_is_seen() {
        let (reader, writer) = io::pipe().unwrap();
        let mut file = File::new(fs::File::from(std::os::fd::OwnedFd::from(writer))).unwrap();
        assert!(!file.is_closed());
        drop(reader);
        assert!(file.is_closed());
        assert_eq!(file.write(b"line\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_one_line() {
        let error = Pending::create(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.code, crate::error::Code::Runtime);
        assert!(error.to_string().starts_with("open /nowhere/at/all: No such file"), "{error}");
    }
}
