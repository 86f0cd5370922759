//! The directory that a program began in.

use tracer_common::event::{Cwd, FLAG_PATH_CUT};

use super::{Lifecycle, Output, process::Process};
use crate::record::Text;

/// What `/proc/PID/cwd` has behind a directory that was removed, too (fs/d_path.c).
const DELETED: &[u8] = b" (deleted)";

impl Lifecycle {
    /// A process is about to run a new program in a directory.
    pub(super) fn cwd(&mut self, cwd: &Cwd, names: &[u8], out: &mut dyn Output) {
        let header = &cwd.header;
        self.advance(header.ktime_ns);
        let Some(key) = self.life(self.id_of(header), header.start_time_ns, out) else {
            return;
        };
        if let Some(process) = self.table.get_mut(key) {
            let is_whole = header.flags & FLAG_PATH_CUT == 0;
            process.next_directory = is_whole.then(|| path(names, cwd.deleted != 0));
        }
    }

    /// The directory that its last program began in; `None` when that was not asked for.
    pub(super) fn working_directory<'a>(&self, process: &'a Process) -> Option<Option<Text<'a>>> {
        self.config.cwd.then(|| process.ran.as_ref().and_then(|ran| ran.directory.as_deref()).map(Text))
    }
}

/// The path of a directory, from its names up to the root, each with a NUL.
fn path(names: &[u8], is_deleted: bool) -> Box<[u8]> {
    let mut path = Vec::with_capacity(names.len() + 1 + DELETED.len());
    for name in names.split(|&byte| byte == 0).rev().filter(|name| !name.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    if is_deleted {
        path.extend_from_slice(DELETED);
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_a_path() {
        for (names, is_deleted, expected) in [
            (&b""[..], false, &b"/"[..]),
            (b"tmp\0", false, b"/tmp"),
            (b"b\0a\0srv\0", false, b"/srv/a/b"),
            (b"gone\0tmp\0", true, b"/tmp/gone (deleted)"),
        ] {
            assert_eq!(&*path(names, is_deleted), expected);
        }
    }
}
