//! The command that is run and traced: starting it, passing signals on, its exit status.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::PermissionsExt,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::PathBuf,
    process::{self, Child, ExitStatus},
};

use crate::error::{Code, Error, reason};

/// Where programs are looked for without PATH, as execvp does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A running command. It is our child, has our standard input, output and error, and stays in our
/// process group, so that a terminal's Ctrl-C reaches it by itself.
#[derive(Debug)]
pub struct Command {
    child: Child,
    end: OwnedFd,
}

impl Command {
    /// Starts `words`: the program, looked up in PATH, and its arguments.
    ///
    /// The standard library starts it by posix_spawn, which copies no page before the exec. PATH is
    /// searched here, so that a search is not on the command's timeline as a row of failed execs.
    pub fn spawn(words: &[OsString]) -> Result<Self, Error> {
        let (program, args) = words
            .split_first()
            .ok_or_else(|| Error::usage("run", "the command is empty", "name one after '--'"))?;
        let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let file = find(program, &path).unwrap_or_else(|| program.into());
        let child = process::Command::new(file)
            .arg0(program)
            .args(args)
            .spawn()
            .map_err(|error| not_started(&program.to_string_lossy(), &error))?;
        // A pid fits; the child is ours and not reaped, so the pid is still its own.
        let end = pidfd(child.id() as libc::pid_t)
            .map_err(|error| Error::io("watch the command", &error, "allow more open files (ulimit -n)"))?;
        Ok(Self { child, end })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Becomes readable when the command ends.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Passes a signal on. A command that has ended in the meantime misses nothing.
    pub fn signal(&self, number: i32) {
        // SAFETY: a plain system call. The child is not reaped before `try_wait` has said so, and
        // `signal` is not called after that, so the pid cannot be another process's.
        unsafe { libc::kill(self.child.id() as libc::pid_t, number) };
    }

    /// Reaps the command if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        // It fails only when there is no such child: it was reaped by somebody else, as when
        // SIGCHLD is ignored. Its status is lost then.
        self.child.try_wait().unwrap_or(Some(ExitStatus::from_raw(0)))
    }
}

/// Exit status for a command that ended with `status`, as shells show it.
pub fn exit_code(status: ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(u8::MAX),
        None => signal_code(status.signal().unwrap_or(0)),
    }
}

/// Exit status for an end by a signal, as shells show it.
pub fn signal_code(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

/// The first executable file of this name in the directories of `path`.
fn find(program: &OsStr, path: &OsStr) -> Option<PathBuf> {
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return None;
    }
    env::split_paths(path)
        // An empty directory is the present one; the dot keeps the name from being looked up again.
        .map(|directory| PathBuf::from(".").join(directory).join(program))
        .find(|file| {
            fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
        })
}

fn not_started(program: &str, error: &io::Error) -> Error {
    let what = format!("run {program}");
    let (code, remedy) = match error.raw_os_error() {
        Some(libc::ENOENT) => (Code::NotFound, "check its name and PATH"),
        Some(libc::EACCES | libc::EPERM) => {
            (Code::NotExecutable, "check that it is a program and may be executed")
        }
        Some(libc::ENOEXEC) => (Code::NotExecutable, "give a program, or begin the script with #!"),
        Some(libc::E2BIG) => (Code::NotExecutable, "give shorter arguments"),
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
            (Code::Runtime, "free resources or raise the limit (ulimit)")
        }
        _ => (Code::NotExecutable, "check that it is a program for this machine"),
    };
    Error::new(code, what, reason(error), remedy)
}

fn pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call (Linux 5.3) with integer arguments.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else has it. It was checked not to be negative, and
    // descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn wait(mut command: Command) -> u8 {
        loop {
            if let Some(status) = command.try_wait() {
                return exit_code(status);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    #[test]
    fn the_status_is_passed_through() {
        assert_eq!(wait(Command::spawn(&words(&["sh", "-c", "exit 7"])).unwrap()), 7);
        assert_eq!(wait(Command::spawn(&words(&["sh", "-c", "kill -KILL $$"])).unwrap()), 137);
    }

    #[test]
    fn a_program_is_looked_for_in_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, mode) in [("a/tool", 0o644), ("b/tool", 0o755)] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = env::join_paths([at("none"), at("a"), at("b")]).unwrap();
        assert_eq!(find("tool".as_ref(), &path), Some(at("b/tool")));
        assert_eq!(find("other".as_ref(), &path), None);
        assert_eq!(find("./tool".as_ref(), &path), None);
        assert_eq!(find("".as_ref(), &path), None);
    }

    #[test]
    fn a_signal_reaches_it() {
        let command = Command::spawn(&words(&["sleep", "60"])).unwrap();
        command.signal(libc::SIGTERM);
        assert_eq!(wait(command), 143);
    }

    #[test]
    fn what_cannot_be_run_has_its_own_status() {
        let code = |name: &str| Command::spawn(&words(&[name])).unwrap_err().code;
        assert_eq!(code("/nowhere/at/all"), Code::NotFound);
        assert_eq!(code("no-such-program-in-path"), Code::NotFound);
        assert_eq!(code("/etc"), Code::NotExecutable);
        assert_eq!(code("/etc/passwd"), Code::NotExecutable);
    }
}
