//! A file system in one file: what the kernel unpacks into memory before it starts `/init`.
//!
//! The format is cpio "newc", described in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An image that starts `init` and has nothing else but mount points, a console, and a module in `/modules`.
pub(crate) fn image(init: &[u8], (module, content): (&str, &[u8])) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["dev", "modules", "proc", "sys", "tmp"] {
        archive.add(folder, DIRECTORY | 0o755, (0, 0), &[]);
    }
    // The kernel opens it as /init's standard input, output and error.
    archive.add("dev/console", CHARACTER_DEVICE | 0o600, (5, 1), &[]);
    archive.add(&format!("modules/{module}"), REGULAR | 0o644, (0, 0), content);
    archive.add("init", REGULAR | 0o755, (0, 0), init);
    archive.finish()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// Appends one entry; folders go before what is in them.
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(data.len()).expect("a file of an initramfs is below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        // inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2),
        // size of the name, checksum (none in this format).
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    /// Names and contents end at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Entry {
        name: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    /// Reads the entries back.
    fn entries(mut archive: &[u8]) -> Vec<Entry> {
        let mut found = Vec::new();
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |index: usize| {
                let text = &archive[6 + 8 * index..][..8];
                u32::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            let content = archive[start..start + size].to_vec();
            if name == "TRAILER!!!" {
                return found;
            }
            let (mode, device) = (field(1), (field(9), field(10)));
            found.push(Entry { name, mode, device, content });
            archive = &archive[(start + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn holds_init_console_module_and_mount_points() {
        let image = image(b"hello", ("disk.ko", b"module"));
        assert_eq!(image.len() % 4, 0);
        let entries = entries(&image);
        let names: Vec<_> = entries.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, ["dev", "modules", "proc", "sys", "tmp", "dev/console", "modules/disk.ko", "init"]);
        assert_eq!((entries[5].mode, entries[5].device), (0o020_600, (5, 1)));
        assert_eq!((entries[6].mode, &*entries[6].content), (0o100_644, &b"module"[..]));
        assert_eq!((entries[7].mode, &*entries[7].content), (0o100_755, &b"hello"[..]));
    }
}
