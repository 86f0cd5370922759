//! The programs that processes run: shared by all processes that inherited them, and kept in buffers
//! that are used again, so that a steady load allocates nothing.

use tracer_common::place::File;

use super::interpreters::Chain;

/// A program in the [`Images`]; whoever keeps one holds a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageId(u32);

/// What exec was given.
#[derive(Debug, Default)]
pub(super) struct Image {
    references: u32,
    path_len: usize,
    interp_len: usize,
    args_len: usize,
    /// Path, interpreter, arguments and environment one after the other.
    bytes: Vec<u8>,
    /// Number of arguments.
    pub(super) argc: u32,
    /// Bytes of all arguments, also of those that were cut off.
    pub(super) args_bytes: u32,
    /// The file that runs; `None` when it is not known.
    pub(super) file: Option<File>,
    /// Flags of the exec; 0 when it was not seen.
    pub(super) flags: u32,
    env: Option<EnvSize>,
}

/// How large an environment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EnvSize {
    /// Variables; `None` when that is not known.
    pub(super) count: Option<u32>,
    /// Bytes, also of those that were cut off.
    pub(super) bytes: u32,
    /// Some were.
    pub(super) is_cut: bool,
}

impl Image {
    /// The path as given.
    pub(super) fn path(&self) -> &[u8] {
        &self.bytes[..self.path_len]
    }

    /// The interpreter of a script; empty when there is none.
    pub(super) fn interp(&self) -> &[u8] {
        &self.bytes[self.path_len..][..self.interp_len]
    }

    /// The file that runs.
    pub(super) fn executable(&self) -> &[u8] {
        match self.interp() {
            [] => self.path(),
            interp => interp,
        }
    }

    /// The arguments.
    pub(super) fn args(&self) -> &[u8] {
        &self.bytes[self.path_len + self.interp_len..][..self.args_len]
    }

    /// The environment; `None` when it is not known.
    pub(super) fn env(&self) -> Option<(&[u8], EnvSize)> {
        Some((&self.bytes[self.path_len + self.interp_len + self.args_len..], self.env?))
    }

    /// What runs the file.
    pub(super) fn chain(&self) -> Chain<'_> {
        Chain::new(self.path(), self.interp(), self.args())
    }
}

/// All programs that a process in the table runs or ran.
#[derive(Debug, Default)]
pub(super) struct Images {
    images: Vec<Image>,
    free: Vec<u32>,
}

/// What a new image is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) path: &'a [u8],
    pub(super) interp: &'a [u8],
    pub(super) args: &'a [u8],
    pub(super) argc: u32,
    pub(super) args_bytes: u32,
    pub(super) file: Option<File>,
    pub(super) flags: u32,
    /// The environment as far as it is there, and how large it is; `None` when it is not known.
    pub(super) env: Option<(&'a [u8], EnvSize)>,
}

impl Images {
    /// Enters a program; the caller holds the reference.
    pub(super) fn insert(&mut self, parts: Parts<'_>) -> ImageId {
        let Parts { path, interp, args, argc, args_bytes, file, flags, env } = parts;
        let id = self.free.pop().unwrap_or_else(|| {
            self.images.push(Image::default());
            u32::try_from(self.images.len() - 1).expect("fewer images than five per process")
        });
        let image = &mut self.images[id as usize];
        let env_bytes = env.map_or(&[][..], |(variables, _)| variables);
        image.bytes.clear();
        image.bytes.reserve_exact(path.len() + interp.len() + args.len() + env_bytes.len());
        image.bytes.extend_from_slice(path);
        image.bytes.extend_from_slice(interp);
        image.bytes.extend_from_slice(args);
        image.bytes.extend_from_slice(env_bytes);
        image.path_len = path.len();
        image.interp_len = interp.len();
        image.args_len = args.len();
        image.references = 1;
        image.argc = argc;
        image.args_bytes = args_bytes;
        image.file = file;
        image.flags = flags;
        image.env = env.map(|(_, size)| size);
        ImageId(id)
    }

    /// Takes one more reference.
    pub(super) fn retain(&mut self, id: ImageId) -> ImageId {
        self.images[id.0 as usize].references += 1;
        id
    }

    /// Gives a reference back.
    pub(super) fn release(&mut self, id: ImageId) {
        let image = &mut self.images[id.0 as usize];
        image.references -= 1;
        if image.references == 0 {
            self.free.push(id.0);
        }
    }

    pub(super) fn get(&self, id: ImageId) -> &Image {
        &self.images[id.0 as usize]
    }

    /// Programs that are referred to.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.images.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_shared_and_used_again() {
        let mut images = Images::default();
        let none = Parts {
            path: b"",
            interp: b"",
            args: b"",
            argc: 0,
            args_bytes: 0,
            file: None,
            flags: 0,
            env: None,
        };
        let size = EnvSize { count: Some(1), bytes: 4, is_cut: false };
        let parts = Parts {
            path: b"./run.sh",
            interp: b"/bin/sh",
            args: b"sh\0-e\0",
            argc: 2,
            args_bytes: 6,
            file: Some(File { inode: 7, ..File::default() }),
            flags: 3,
            env: Some((b"A=1\0", size)),
        };
        let first = images.insert(parts);
        let second = images.retain(first);
        images.release(first);
        assert_eq!(images.get(second).path(), b"./run.sh");
        assert_eq!(images.get(second).executable(), b"/bin/sh");
        assert_eq!(images.get(second).args(), b"sh\0-e\0");
        assert_eq!(images.get(second).env(), Some((&b"A=1\0"[..], size)));
        images.release(second);
        assert_eq!(images.len(), 0);
        let again = images.insert(Parts { path: b"/bin/ls", ..none });
        assert_eq!(again, first);
        assert_eq!(images.get(again).file, None);
        assert_eq!(images.get(again).executable(), b"/bin/ls");
        assert_eq!(images.get(again).args(), b"");
        assert_eq!((images.get(again).env(), images.get(again).flags), (None, 0));
    }
}
