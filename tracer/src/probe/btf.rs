//! Reads the kernel's own type information: where a struct keeps a member, and what exists at all.
//!
//! Format: Documentation/bpf/btf.rst in the kernel tree; kinds up to ENUM64 (6.0).

use foldhash::{HashMap, HashMapExt as _};

const MAGIC: u16 = 0xeb9f;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Why type information could not be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The data stop in the middle of something.
    #[error("the kernel's BTF ends in the middle of a record at byte {0}")]
    Truncated(usize),
    /// These are no type information, or of another byte order.
    #[error("not BTF: it begins with {0:#06x}, not {MAGIC:#06x}")]
    Magic(u16),
    /// A kind that was invented after this program.
    #[error("the kernel's BTF has a type of kind {0}, which this version of tracer does not know")]
    Kind(u32),
}

#[derive(Clone, Copy)]
struct Type {
    /// Where what follows the fixed part begins.
    tail: usize,
    name: u32,
    kind: u32,
    len: usize,
    /// For structs: member offsets hold a bit-field size in their upper byte.
    kind_flag: bool,
    size_or_type: u32,
}

/// A view over the type information of a kernel.
pub struct Btf<'a> {
    data: &'a [u8],
    strings: &'a [u8],
    types: Vec<Type>,
    structs: HashMap<&'a [u8], u32>,
    typedefs: HashMap<&'a [u8], u32>,
    enums: HashMap<&'a [u8], u32>,
    functions: HashMap<&'a [u8], u32>,
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, Error> {
    data.get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|word| u32::from_ne_bytes(*word))
        .ok_or(Error::Truncated(at))
}

impl<'a> Btf<'a> {
    /// Indexes the types in `data`, as read from `/sys/kernel/btf/vmlinux`.
    pub fn parse(data: &'a [u8]) -> Result<Self, Error> {
        let magic = data.first_chunk().map(|word| u16::from_ne_bytes(*word)).ok_or(Error::Truncated(0))?;
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        let header = |at| u32_at(data, at).map(|word| word as usize);
        let header_len = header(4)?;
        let (mut at, strings_at) = (header_len + header(8)?, header_len + header(16)?);
        let end = at + header(12)?;
        let strings = data.get(strings_at..strings_at + header(20)?).ok_or(Error::Truncated(strings_at))?;
        let void = Type { tail: 0, name: 0, kind: 0, len: 0, kind_flag: false, size_or_type: 0 };
        let mut btf = Self {
            data,
            strings,
            types: vec![void],
            structs: HashMap::new(),
            typedefs: HashMap::new(),
            enums: HashMap::new(),
            functions: HashMap::new(),
        };
        while at < end {
            let info = u32_at(data, at + 4)?;
            let ty = Type {
                tail: at + 12,
                name: u32_at(data, at)?,
                kind: (info >> 24) & 0x1f,
                len: (info & 0xffff) as usize,
                kind_flag: info >> 31 == 1,
                size_or_type: u32_at(data, at + 8)?,
            };
            at = ty.tail
                + match ty.kind {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => 12 * ty.len,
                    ENUM | FUNC_PROTO => 8 * ty.len,
                    PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
                    kind => return Err(Error::Kind(kind)),
                };
            btf.index(ty);
        }
        Ok(btf)
    }

    fn index(&mut self, ty: Type) {
        let id = self.types.len() as u32;
        self.types.push(ty);
        let names = match ty.kind {
            STRUCT => &mut self.structs,
            TYPEDEF => &mut self.typedefs,
            ENUM => &mut self.enums,
            FUNC => &mut self.functions,
            _ => return,
        };
        names.entry(string(self.strings, ty.name)).or_insert(id);
    }

    /// Byte offset of a dotted member path, such as `mmap_lock.count` or `rss_stat[1].count`; `None` when there is
    /// no such member or element, or it is a bit-field.
    pub fn member(&self, of: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(of.as_bytes())?;
        let mut bits = 0;
        for part in path.split('.') {
            let (name, element) = match part.split_once('[') {
                Some((name, rest)) => (name, Some(rest.strip_suffix(']')?.parse().ok()?)),
                None => (part, None),
            };
            let (offset, member) = self.find(id, name.as_bytes())?;
            bits += offset;
            id = member;
            if let Some(element) = element {
                let (offset, member) = self.element(id, element)?;
                bits += offset;
                id = member;
            }
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Number of the first bit of a bit-field, or of another member.
    pub fn bit(&self, of: &str, name: &str) -> Option<u32> {
        let id = *self.structs.get(of.as_bytes())?;
        self.find(id, name.as_bytes()).map(|(bits, _)| bits)
    }

    /// Bytes of a struct.
    pub fn size(&self, of: &str) -> Option<u32> {
        self.structs.get(of.as_bytes()).map(|&id| self.resolve(id).size_or_type)
    }

    /// True when the kernel has the tracepoint, in a form that typed programs can attach to.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.typedefs.contains_key(format!("btf_trace_{name}").as_bytes())
    }

    /// How many arguments a tracepoint has.
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let &id = self.typedefs.get(format!("btf_trace_{name}").as_bytes())?;
        // typedef void (*btf_trace_NAME)(void *, ARGUMENTS)
        let pointer = self.resolve(id);
        let function = self.resolve(pointer.size_or_type);
        (pointer.kind == PTR && function.kind == FUNC_PROTO).then(|| function.len.saturating_sub(1))
    }

    /// The number that an enumeration gives to a name, as `bpf_func_id` has one for each helper.
    pub fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        let ty = self.resolve(*self.enums.get(of.as_bytes())?);
        let mut values = (0..ty.len).map(|i| ty.tail + 8 * i);
        let at = values
            .find(|&at| u32_at(self.data, at).is_ok_and(|at| string(self.strings, at) == name.as_bytes()))?;
        u32_at(self.data, at + 4).ok()
    }

    /// The id of a struct.
    pub fn struct_id(&self, name: &str) -> Option<u32> {
        self.structs.get(name.as_bytes()).copied()
    }

    /// The id of a function.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.functions.get(name.as_bytes()).copied()
    }

    /// Looks through anonymous structs and unions, as C does: offset in bits, and type.
    fn find(&self, id: u32, want: &[u8]) -> Option<(u32, u32)> {
        let ty = self.resolve(id);
        if ty.kind != STRUCT && ty.kind != UNION {
            return None;
        }
        (0..ty.len).find_map(|i| {
            let at = ty.tail + 12 * i;
            let name = string(self.strings, u32_at(self.data, at).ok()?);
            let member = u32_at(self.data, at + 4).ok()?;
            let raw = u32_at(self.data, at + 8).ok()?;
            let bits = if ty.kind_flag { raw & 0xff_ffff } else { raw };
            if name == want {
                return Some((bits, member));
            }
            let (inner, found) = if name.is_empty() { self.find(member, want)? } else { return None };
            Some((bits + inner, found))
        })
    }

    /// Of an array: offset in bits of an element, and its type.
    fn element(&self, id: u32, index: u32) -> Option<(u32, u32)> {
        let ty = self.resolve(id);
        if ty.kind != ARRAY || index >= u32_at(self.data, ty.tail + 8).ok()? {
            return None;
        }
        let id = u32_at(self.data, ty.tail).ok()?;
        let of = self.resolve(id);
        let bytes = if of.kind == PTR { 8 } else { of.size_or_type };
        Some((index * bytes * 8, id))
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Type {
        loop {
            let ty = self.types.get(id as usize).copied().unwrap_or(self.types[0]);
            match ty.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = ty.size_or_type,
                _ => return ty,
            }
        }
    }
}

fn string(strings: &[u8], at: u32) -> &[u8] {
    let rest = strings.get(at as usize..).unwrap_or_default();
    rest.split(|&b| b == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct s { int a; union { int b; int c; }; struct { int n; } d[3]; }`, `enum e { V }`, and
    /// `typedef void (*btf_trace_x)(void *, int)`.
    fn sample() -> Vec<u8> {
        let mut strings = vec![0];
        let mut name = |s: &str| {
            let at = strings.len() as u32;
            strings.extend_from_slice(s.as_bytes());
            strings.push(0);
            at
        };
        let types = [
            vec![name("int"), INT << 24, 4, 32],
            vec![0, UNION << 24 | 2, 4, name("b"), 1, 0, name("c"), 1, 0],
            vec![name("s"), STRUCT << 24 | 3, 20, name("a"), 1, 0, 0, 2, 32, name("d"), 9, 64],
            vec![name("btf_trace_x"), TYPEDEF << 24, 6],
            vec![name("e"), ENUM << 24 | 1, 4, name("V"), 0],
            vec![0, PTR << 24, 7],
            vec![0, FUNC_PROTO << 24 | 2, 0, 0, 0, 0, 1],
            vec![0, STRUCT << 24 | 1, 4, name("n"), 1, 0],
            vec![0, ARRAY << 24, 0, 8, 1, 3],
            vec![name("f"), FUNC << 24, 7],
        ]
        .concat();
        let words = [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32];
        let mut data = MAGIC.to_ne_bytes().to_vec();
        data.extend_from_slice(&[1, 0]);
        for word in words.iter().chain(&types) {
            data.extend_from_slice(&word.to_ne_bytes());
        }
        data.extend_from_slice(&strings);
        data
    }

    #[test]
    fn members_of_anonymous_unions_are_found() {
        let data = sample();
        let btf = Btf::parse(&data).expect("the sample is well-formed");
        assert_eq!(btf.member("s", "a"), Some(0));
        assert_eq!(btf.member("s", "c"), Some(4));
        assert_eq!(btf.member("s", "e"), None);
        assert_eq!(btf.member("t", "a"), None);
        assert_eq!(btf.size("s"), Some(20));
    }

    #[test]
    fn elements_of_arrays_are_found() {
        let data = sample();
        let btf = Btf::parse(&data).expect("the sample is well-formed");
        assert_eq!(btf.member("s", "d"), Some(8));
        assert_eq!(btf.member("s", "d[2]"), Some(16));
        assert_eq!(btf.member("s", "d[1].n"), Some(12));
        for wrong in ["d[3].n", "d.n", "a[0]", "d[", "d[x]", "d[-1]"] {
            assert_eq!(btf.member("s", wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tracepoints_and_enumerators_are_found_by_name() {
        let data = sample();
        let btf = Btf::parse(&data).expect("the sample is well-formed");
        assert!(btf.has_tracepoint("x") && !btf.has_tracepoint("y"));
        assert_eq!((btf.tracepoint_arguments("x"), btf.tracepoint_arguments("y")), (Some(1), None));
        assert_eq!((btf.enumerator("e", "V"), btf.enumerator("e", "W")), (Some(0), None));
    }

    #[test]
    fn structs_and_functions_have_ids() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!((btf.struct_id("s"), btf.struct_id("f")), (Some(3), None));
        assert_eq!((btf.function_id("f"), btf.function_id("s")), (Some(10), None));
    }

    #[test]
    fn damaged_data_are_refused() {
        assert_eq!(Btf::parse(&[0, 0]).err(), Some(Error::Magic(0)));
        let data = sample();
        for len in 0..data.len() {
            assert!(Btf::parse(&data[..len]).is_err(), "cut at {len}");
        }
    }
}
