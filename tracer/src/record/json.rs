//! JSON into a buffer: what `serde_json` would write, byte for byte, at half the cost.
//!
//! `serde_json` writes to anything, and looks for characters to escape in the name of each field, of which a timeline
//! has some eighty. Here names are known to need none. A build with debug assertions, as for
//! tests, compares the two for each line.

use std::fmt::{self, Display, Write as _};

use serde::{
    Serialize, Serializer,
    ser::{self, Error as _, Impossible},
};

/// Serializes into the bytes, behind what is there.
pub(super) struct Json<'o>(pub(super) &'o mut Vec<u8>);

/// Why a value has no place in a line: all types that are written have one.
pub(super) type Error = serde_json::Error;

/// For each byte: 0 when it stands for itself in a string, else what follows the backslash.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[b'\t' as usize] = b't';
    escapes[b'\n' as usize] = b'n';
    escapes[0x0c] = b'f';
    escapes[b'\r' as usize] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

/// Appends all parts, with one look at the room that is left.
#[inline(always)]
fn append<const PARTS: usize>(out: &mut Vec<u8>, parts: [&[u8]; PARTS]) {
    let len = parts.iter().map(|part| part.len()).sum();
    out.reserve(len);
    let mut at = out.spare_capacity_mut().as_mut_ptr().cast::<u8>();
    for part in parts {
        // SAFETY: room for all of them was reserved, which nothing borrows; so a part cannot overlap with it.
        unsafe {
            at.copy_from_nonoverlapping(part.as_ptr(), part.len());
            at = at.add(part.len());
        }
    }
    // SAFETY: so many bytes were written there.
    unsafe { out.set_len(out.len() + len) };
}

/// Whether no byte of a string has to be escaped.
fn is_plain(text: &[u8]) -> bool {
    !text.iter().fold(false, |special, &byte| special | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
}

impl Json<'_> {
    fn string(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            append(self.0, [b"\"", text.as_bytes(), b"\""]);
        } else {
            self.0.push(b'"');
            self.escaped(text);
            self.0.push(b'"');
        }
    }

    /// A part of a string.
    #[cold]
    fn escaped(&mut self, text: &str) {
        let out = &mut *self.0;
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|&byte| ESCAPES[usize::from(byte)] != 0) {
            let (plain, special) = rest.split_at(at);
            out.extend_from_slice(plain);
            if let [byte, after @ ..] = special {
                match ESCAPES[usize::from(*byte)] {
                    b'u' => {
                        const DIGITS: &[u8; 16] = b"0123456789abcdef";
                        let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
                        out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                    }
                    letter => out.extend_from_slice(&[b'\\', letter]),
                }
                rest = after;
            }
        }
        out.extend_from_slice(rest);
    }

    fn number(&mut self, number: impl itoa::Integer) {
        append(self.0, [itoa::Buffer::new().format(number).as_bytes()]);
    }
}

/// The inside of a string.
struct Inside<'j, 'o>(&'j mut Json<'o>);

impl fmt::Write for Inside<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escaped(text);
        Ok(())
    }
}

/// A list, or the fields of an object, some of which are written.
pub(super) struct Parts<'j, 'o> {
    json: &'j mut Json<'o>,
    is_first: bool,
}

impl<'j, 'o> Parts<'j, 'o> {
    fn begin(json: &'j mut Json<'o>, bracket: u8) -> Result<Self, Error> {
        json.0.push(bracket);
        Ok(Self { json, is_first: true })
    }

    fn comma(&mut self) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.json.0.push(b',');
        }
    }

    /// A field whose name is an identifier, or was renamed to something as harmless. Inlined, so that the length of
    /// the name is known.
    #[inline(always)]
    fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let quote: &[u8] = if std::mem::replace(&mut self.is_first, false) { b"\"" } else { b",\"" };
        append(self.json.0, [quote, name.as_bytes(), b"\":"]);
        value.serialize(&mut *self.json)
    }

    fn end(self, bracket: u8) {
        self.json.0.push(bracket);
    }
}

/// Panics when `value`, which was written behind `start`, is not as `serde_json` writes it.
#[cfg(debug_assertions)]
pub(super) fn compare(value: &impl Serialize, start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    serde_json::to_writer(&mut *out, value).expect("a Vec takes all bytes");
    let (ours, theirs) = out[start..].split_at(end - start);
    assert!(ours == theirs, "{} is written for {}", ours.escape_ascii(), theirs.escape_ascii());
    out.truncate(end);
}

/// What a line has none of.
fn none_of(what: &str) -> Error {
    Error::custom(format_args!("no line has {what}"))
}

impl<'j, 'o> Serializer for &'j mut Json<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'j, 'o>;
    type SerializeTuple = Parts<'j, 'o>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Parts<'j, 'o>;
    type SerializeStruct = Parts<'j, 'o>;
    type SerializeStructVariant = Impossible<(), Error>;

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }
    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.number(value);
        Ok(())
    }
    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }
    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }
    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }
    #[inline]
    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.number(value);
        Ok(())
    }
    fn serialize_f32(self, _: f32) -> Result<(), Error> {
        Err(none_of("a fraction"))
    }
    fn serialize_f64(self, _: f64) -> Result<(), Error> {
        Err(none_of("a fraction"))
    }
    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }
    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.string(value);
        Ok(())
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        Err(none_of("bytes"))
    }
    /// Without a `String` of its own, as the provided one has.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.0.push(b'"');
        write!(Inside(self), "{value}").map_err(Error::custom)?;
        self.0.push(b'"');
        Ok(())
    }
    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }
    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }
    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        append(self.0, [b"\"", variant.as_bytes(), b"\""]);
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(none_of("a choice with content"))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'j, 'o>, Error> {
        Parts::begin(self, b'[')
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts<'j, 'o>, Error> {
        Parts::begin(self, b'[')
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Impossible<(), Error>, Error> {
        Err(none_of("a nameless struct"))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        Err(none_of("a choice with content"))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'j, 'o>, Error> {
        Parts::begin(self, b'{')
    }
    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'j, 'o>, Error> {
        Parts::begin(self, b'{')
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        Err(none_of("a choice with content"))
    }
}

impl ser::SerializeSeq for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.comma();
        value.serialize(&mut *self.json)
    }
    fn end(self) -> Result<(), Error> {
        self.end(b']');
        Ok(())
    }
}

impl ser::SerializeTuple for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        ser::SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<(), Error> {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    /// All keys are strings; a number would end up without its quotes, as the test would see.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        key.serialize(&mut *self.json)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.json.0.push(b':');
        value.serialize(&mut *self.json)
    }
    fn end(self) -> Result<(), Error> {
        self.end(b'}');
        Ok(())
    }
}

impl ser::SerializeStruct for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.field(name, value)
    }
    fn end(self) -> Result<(), Error> {
        self.end(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn json(value: &impl Serialize) -> String {
        let mut out = b"before".to_vec();
        value.serialize(&mut Json(&mut out)).unwrap();
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    fn same(value: impl Serialize) {
        assert_eq!(json(&value), serde_json::to_string(&value).unwrap());
    }

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Name {
        OneOfThese,
    }

    #[derive(Serialize)]
    struct Inner {
        number: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<()>,
    }

    #[derive(Serialize)]
    struct Outer<'a> {
        #[serde(rename = "@first")]
        first: &'a str,
        #[serde(flatten)]
        inner: Inner,
        name: Name,
        empty: [Inner; 0],
        list: Vec<Inner>,
        map: BTreeMap<String, i64>,
        pair: (bool, char),
        nothing: (),
    }

    #[test]
    fn each_byte_of_a_string() {
        for character in (0..=0xff).map(char::from) {
            same(character);
            same(format!("a{character}b{character}"));
        }
    }

    #[test]
    fn numbers() {
        same([i64::MIN, -1, 0, 1, i64::MAX]);
        same([0, 9, 10, u64::MAX]);
        same((i8::MIN, i16::MIN, i32::MIN, u8::MAX, u16::MAX, u32::MAX));
    }

    #[test]
    fn what_no_line_has_is_an_error() {
        let mut out = Vec::new();
        for error in [1.5_f64.serialize(&mut Json(&mut out)), Ok::<u8, u8>(1).serialize(&mut Json(&mut out))]
        {
            assert!(error.unwrap_err().to_string().starts_with("no line has"));
        }
    }

    proptest! {
        #[test]
        fn the_same_as_serde_json(
            first in ".{0,40}", number in any::<Option<u8>>(), len in 0_usize..3,
            map in proptest::collection::btree_map(".{0,8}", any::<i64>(), 0..4), flag in any::<bool>(),
        ) {
            let inner = || Inner { number, left_out: None };
            let list = (0..len).map(|_| inner()).collect();
            let pair = (flag, 'ä');
            same(Outer { first: &first, inner: inner(), name: Name::OneOfThese, empty: [], list, map, pair, nothing: () });
        }
    }
}
