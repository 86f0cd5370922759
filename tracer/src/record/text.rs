//! How bytes, times and identities become JSON strings, without allocating.

use std::fmt::{self, Display, Formatter, Write as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeSeq};

/// Bytes of a [`Time`] as text.
const TIME_BYTES: usize = 30;

/// A moment, in ns since 1970 (UTC). Shown as RFC 3339 with nine digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    /// From ns of CLOCK_BOOTTIME and what is to be added to get CLOCK_REALTIME.
    pub fn from_boot(ktime_ns: u64, wall_offset_ns: i64) -> Self {
        let boot = i64::try_from(ktime_ns).unwrap_or(i64::MAX);
        Self(boot.saturating_add(wall_offset_ns))
    }

    /// Reads what [`Display`] shows; `None` when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |from, to| text.get(from..to)?.parse::<i64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second, nanos) =
            (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 29)?);
        // As in `Display`, the other way round.
        let year = year - i64::from(month <= 2);
        let march_month = (month + 9) % 12;
        let of_era = {
            let year_of_era = year.rem_euclid(400);
            365 * year_of_era + year_of_era / 4 - year_of_era / 100 + (153 * march_month + 2) / 5 + day - 1
        };
        let days = year.div_euclid(400) * 146_097 + of_era - 719_468;
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        let time = Self(i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()?);
        // What is no date, as the 30th of February, would be shown as another one.
        (time.to_string() == text).then_some(time)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        Self::parse(text).ok_or_else(|| de::Error::custom(format_args!("{text} is no time")))
    }
}

impl Time {
    /// As text. Times are most of what is calculated for a line, so nothing here goes through `fmt`.
    fn text(self) -> [u8; TIME_BYTES] {
        const SECOND: i64 = 1_000_000_000;
        const DAY: i64 = 86_400;
        let (seconds, nanos) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Days are counted from 0000-03-01 in eras of 400 years, so that a leap day ends its year.
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        // All of them are small: an i64 of ns ends in the year 2262.
        for (at, number) in [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, of_day / 3_600),
            (14, of_day / 60 % 60),
            (17, of_day % 60),
            (20, nanos / 10_000_000),
            (22, nanos / 100_000 % 100),
            (24, nanos / 1_000 % 100),
            (26, nanos / 10 % 100),
        ] {
            let number = number as u8;
            text[at] = b'0' + number / 10;
            text[at + 1] = b'0' + number % 10;
        }
        text[28] = b'0' + (nanos % 10) as u8;
        text
    }
}

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(ascii(&self.text()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ascii(&self.text()))
    }
}

/// Text that was made here, digits and letters.
pub(super) fn ascii(text: &[u8]) -> &str {
    debug_assert!(text.is_ascii());
    // SAFETY: only digits and letters are written to it.
    unsafe { std::str::from_utf8_unchecked(text) }
}

/// A number shown as a string, as ECS wants it of user ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decimal(pub u32);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

/// The identity of a process life: unique within a boot, and almost surely among machines.
///
/// Twelve bytes: a hash of the boot id (4), the pid (3), the start time in clock ticks (5), each big
/// endian; shown in base64url as 16 characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntityId([u8; 12]);

impl EntityId {
    /// Of the process `tgid` that started `start_ticks` clock ticks after the boot hashed to `boot`.
    pub fn new(boot: u32, tgid: u32, start_ticks: u64) -> Self {
        let [b0, b1, b2, b3] = boot.to_be_bytes();
        let [_, p0, p1, p2] = tgid.to_be_bytes();
        let [_, _, _, t0, t1, t2, t3, t4] = start_ticks.to_be_bytes();
        Self([b0, b1, b2, b3, p0, p1, p2, t0, t1, t2, t3, t4])
    }

    /// Reads what [`Display`] shows; `None` when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 12];
        if text.len() != 16 {
            return None;
        }
        for (digits, bytes) in text.as_bytes().chunks(4).zip(bytes.chunks_mut(3)) {
            let group = digits.iter().try_fold(0, |group: u32, digit| {
                let six = URL.iter().position(|of| of == digit)?;
                Some(group << 6 | six as u32)
            })?;
            bytes.copy_from_slice(&group.to_be_bytes()[1..]);
        }
        Some(Self(bytes))
    }

    /// What it was made of: the hash of the boot id, the pid, the start in clock ticks.
    pub fn parts(self) -> (u32, u32, u64) {
        let [b0, b1, b2, b3, p0, p1, p2, t0, t1, t2, t3, t4] = self.0;
        (
            u32::from_be_bytes([b0, b1, b2, b3]),
            u32::from_be_bytes([0, p0, p1, p2]),
            u64::from_be_bytes([0, 0, 0, t0, t1, t2, t3, t4]),
        )
    }
}

impl<'de> Deserialize<'de> for EntityId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        Self::parse(text).ok_or_else(|| de::Error::custom(format_args!("{text} is no entity id")))
    }
}

/// FNV-1a of a boot id.
pub fn boot_hash(boot_id: &[u8; 16]) -> u32 {
    boot_id.iter().fold(0x811c_9dc5, |hash: u32, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl EntityId {
    fn text(self) -> [u8; 16] {
        let mut text = [0; 16];
        for (digits, bytes) in text.chunks_mut(4).zip(self.0.chunks(3)) {
            for (digit, from) in digits.iter_mut().zip(group(bytes, URL)) {
                *digit = from;
            }
        }
        text
    }
}

impl Display for EntityId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(ascii(&self.text()))
    }
}

impl Serialize for EntityId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ascii(&self.text()))
    }
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Up to three bytes as four digits; those that stand for no byte are to be padding.
fn group(bytes: &[u8], alphabet: &[u8; 64]) -> [u8; 4] {
    let mut group = [0; 4];
    group[1..=bytes.len()].copy_from_slice(bytes);
    let group = u32::from_be_bytes(group);
    [18, 12, 6, 0].map(|shift| alphabet[(group >> shift & 63) as usize])
}

/// Bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base64<'a>(pub &'a [u8]);

impl Display for Base64<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for bytes in self.0.chunks(3) {
            let digits = group(bytes, STANDARD);
            f.write_str(ascii(&digits[..=bytes.len()]))?;
            f.write_str(&"=="[..3 - bytes.len()])?;
        }
        Ok(())
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes that ought to be UTF-8; what is not becomes U+FFFD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(pub &'a [u8]);

impl Text<'_> {
    /// The same, at most `bytes` long.
    #[must_use]
    pub fn cut(self, bytes: usize) -> Self {
        Self(cut(self.0, bytes))
    }
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_str(self),
        }
    }
}

/// Arguments: each ends in a NUL, the last one may lack it when it was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args<'a>(pub &'a [u8]);

impl<'a> Args<'a> {
    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = Text<'a>> {
        self.0.split_inclusive(|&byte| byte == 0).map(|arg| Text(arg.strip_suffix(&[0]).unwrap_or(arg)))
    }

    /// The bytes in base64, when an argument is not UTF-8.
    pub fn exact(self) -> Option<Base64<'a>> {
        std::str::from_utf8(self.0).is_err().then_some(Base64(self.0))
    }

    /// The same, at most `bytes` long in all.
    #[must_use]
    pub fn cut(self, bytes: usize) -> Self {
        Self(cut(self.0, bytes))
    }
}

impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for arg in self.iter() {
            seq.serialize_element(&arg)?;
        }
        seq.end()
    }
}

/// At most `len` bytes from the start of `bytes`, not ending within a character.
fn cut(bytes: &[u8], len: usize) -> &[u8] {
    let Some(short) = bytes.get(..len) else {
        return bytes;
    };
    // A character has at most four bytes, so at most three are taken off; other bytes stay.
    let whole = (0..short.len().min(4)).find_map(|back| {
        let candidate = &short[..short.len() - back];
        let last = candidate.utf8_chunks().last()?;
        last.invalid().is_empty().then_some(candidate)
    });
    whole.unwrap_or(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Serialize) -> String {
        serde_json::to_string(&value).unwrap()
    }

    #[test]
    fn times() {
        for (ns, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_767_225_600_123_456_789, "2026-01-01T00:00:00.123456789Z"),
            (4_107_542_399_000_000_001, "2100-02-28T23:59:59.000000001Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(Time(ns).to_string(), expected);
            assert_eq!(Time::parse(expected), Some(Time(ns)));
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "2026-02-30T00:00:00.000000000Z",
            "2026-13-01T00:00:00.000000000Z",
            "2026-01-01T24:00:00.000000000Z",
            "2026-01-01T00:00:00.000000000",
            "2026-01-01T00:00:00.0000000é0Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }

    #[test]
    fn identities_are_sixteen_characters_and_differ() {
        let boot = boot_hash(&[7; 16]);
        let id = EntityId::new(boot, 4242, 123_456);
        assert_eq!(id.to_string().len(), 16);
        assert_ne!(id, EntityId::new(boot, 4242, 123_457));
        assert_ne!(id, EntityId::new(boot, 4243, 123_456));
        assert_eq!(EntityId::parse(&id.to_string()), Some(id));
        assert_eq!(id.parts(), (boot, 4242, 123_456));
        assert_eq!(EntityId::parse("short"), None);
        assert_eq!(EntityId::parse(&"+".repeat(16)), None);
        assert_eq!(EntityId::new(0, 0, 0).to_string(), "A".repeat(16));
        assert_eq!(EntityId::new(u32::MAX, u32::MAX, u64::MAX).to_string(), "_".repeat(16));
    }

    #[test]
    fn base64() {
        for (bytes, expected) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\0", "//4A")]
        {
            assert_eq!(Base64(bytes).to_string(), expected);
        }
    }

    #[test]
    fn text_is_always_valid_json() {
        assert_eq!(json(Text(b"a\"b\x01")), r#""a\"b\u0001""#);
        assert_eq!(json(Text(b"a\xffb\xe2\x82")), "\"a\u{fffd}b\u{fffd}\"");
    }

    #[test]
    fn args_may_be_empty_and_cut() {
        assert_eq!(json(Args(b"")), "[]");
        assert_eq!(json(Args(b"a\0\0b")), r#"["a","","b"]"#);
        assert_eq!(json(Args(b"a\0\0")), r#"["a",""]"#);
        assert!(Args("caf\u{e9}\0".as_bytes()).exact().is_none());
        assert!(Args(b"\xff\0").exact().is_some());
    }

    #[test]
    fn a_cut_keeps_characters_whole() {
        let euro = "a\u{20ac}".as_bytes();
        assert_eq!(cut(euro, 4), euro);
        assert_eq!(cut(euro, 3), b"a");
        assert_eq!(cut(euro, 2), b"a");
        assert_eq!(cut(euro, 1), b"a");
        assert_eq!(cut(euro, 0), b"");
        assert_eq!(cut(b"\xff\xff\xff\xff\xff", 4), b"\xff\xff\xff\xff");
    }
}
