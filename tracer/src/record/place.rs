//! Where a process stands: session, terminal, namespaces, container; and the file that it runs.

use serde::{Deserialize, Serialize, Serializer};
use tracer_common::place::{self as wire, NAMESPACES};

use super::{Text, is_nothing, text::ascii};

/// The leader of a session or of a process group, in ECS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Leader {
    pub pid: u32,
}

impl Leader {
    /// `None` for 0: kernel threads have none.
    pub fn new(pid: u32) -> Option<Self> {
        (pid != 0).then_some(Self { pid })
    }
}

/// A controlling terminal, in ECS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Terminal {
    pub char_device: Device,
}

/// A device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    major: u32,
    minor: u32,
}

impl Terminal {
    /// From the kernel's number; `None` for 0, as there is none.
    pub fn new(number: u32) -> Option<Self> {
        let (major, minor) = wire::device(number);
        (number != 0).then_some(Self { char_device: Device { major, minor } })
    }
}

/// The container that a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Container<'a> {
    pub id: &'a str,
}

/// Inode numbers of namespaces, in the order of [`NAMESPACES`]; 0 where not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespaces(pub [u32; NAMESPACES.len()]);

/// The namespaces of a process that are not the machine's first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherNamespaces {
    /// Those of the process.
    pub own: Namespaces,
    /// The machine's first ones.
    pub first: Namespaces,
}

impl OtherNamespaces {
    fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let both = self.own.0.iter().zip(&self.first.0);
        let others = NAMESPACES.iter().zip(both).filter(|(_, (own, first))| **own != 0 && own != first);
        others.map(|(name, (own, _))| (*name, *own))
    }

    /// Known to be none.
    #[expect(clippy::ref_option, reason = "serde hands over a reference")]
    pub(super) fn are_none(namespaces: &Option<Self>) -> bool {
        namespaces.is_some_and(|namespaces| namespaces.iter().next().is_none())
    }
}

impl Serialize for OtherNamespaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// The file that a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct File<'a> {
    pub name: Option<Text<'a>>,
    pub device: DeviceText,
    pub inode: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub kind: FileKind,
}

/// What a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// One with a name.
    #[default]
    File,
    /// One that has none any more, or never had one.
    Deleted,
    /// Memory (memfd_create(2)).
    Memfd,
}

/// What the name of a memfd begins with (mm/memfd.c).
const MEMFD: &[u8] = b"memfd:";

impl<'a> From<&'a wire::File> for File<'a> {
    fn from(file: &'a wire::File) -> Self {
        let name = file.name.split(|&byte| byte == 0).next().unwrap_or_default();
        let kind = match (file.links, name.starts_with(MEMFD)) {
            (0, true) => FileKind::Memfd,
            (0, false) => FileKind::Deleted,
            _ => FileKind::File,
        };
        let name = (!name.is_empty()).then_some(Text(name));
        Self { name, device: DeviceText(file.device), inode: file.inode, kind }
    }
}

/// A device's number as `MAJOR:MINOR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceText(u32);

impl Serialize for DeviceText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (major, minor) = wire::device(self.0);
        let [mut major_text, mut minor_text] = [itoa::Buffer::new(); 2];
        let parts = [major_text.format(major), ":", minor_text.format(minor)];
        let (mut text, mut len) = ([0; 2 * 10 + 1], 0);
        for part in parts {
            text[len..len + part.len()].copy_from_slice(part.as_bytes());
            len += part.len();
        }
        serializer.serialize_str(ascii(&text[..len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Serialize) -> String {
        serde_json::to_string(&value).unwrap()
    }

    #[test]
    fn only_other_namespaces_are_told() {
        let first = Namespaces([1, 2, 3, 4, 5, 0, 7, 8]);
        let own = Namespaces([1, 2, 30, 4, 0, 6, 7, 8]);
        assert_eq!(json(OtherNamespaces { own, first }), r#"{"mnt":30,"time":6}"#);
        assert_eq!(json(OtherNamespaces { own: first, first }), "{}");
    }

    #[test]
    fn numbers_of_devices() {
        assert_eq!(json(DeviceText(wire::device_number(254, 300))), r#""254:300""#);
        assert_eq!(
            json(Terminal::new(wire::device_number(136, 5))),
            r#"{"char_device":{"major":136,"minor":5}}"#
        );
        assert_eq!(Terminal::new(0), None);
    }

    #[test]
    fn files_without_names() {
        let file = |links, text: &[u8]| {
            let mut name = [0; wire::FILE_NAME_BYTES];
            name[..text.len()].copy_from_slice(text);
            wire::File { inode: 9, device: wire::device_number(0, 1), links, name }
        };
        for (links, name, expected) in [
            (1, &b"dash"[..], r#"{"name":"dash","device":"0:1","inode":9}"#),
            (1, b"memfd:x", r#"{"name":"memfd:x","device":"0:1","inode":9}"#),
            (0, b"memfd:x", r#"{"name":"memfd:x","device":"0:1","inode":9,"kind":"memfd"}"#),
            (0, b"a.out", r#"{"name":"a.out","device":"0:1","inode":9,"kind":"deleted"}"#),
            (1, b"", r#"{"name":null,"device":"0:1","inode":9}"#),
        ] {
            assert_eq!(json(File::from(&file(links, name))), expected);
        }
    }
}
