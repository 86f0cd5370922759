//! Which processes the kernel side traces by their names (`--comm`).

use crate::event::COMM_BYTES;

/// Most patterns that it looks for.
pub const MOST: usize = 8;

/// A name as the programs compare it: two words.
pub type Words = [u64; 2];

/// The words of a name.
pub const fn words(name: [u8; COMM_BYTES]) -> Words {
    let [a, b, c, d, e, f, g, h, rest @ ..] = name;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest)]
}

/// A pattern: the bytes of a name that are compared, and with what.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// What they have to be; 0 where none is compared.
    pub value: Words,
    /// All ones where a byte is compared.
    pub mask: Words,
}

impl Name {
    /// The name of nobody: a byte that is not compared has to be another one than 0.
    pub const NOBODY: Self = Self { value: [1, 0], mask: [0, 0] };

    /// True when a process of this name may be asked for.
    pub const fn may_be(&self, name: Words) -> bool {
        (name[0] & self.mask[0] ^ self.value[0]) | (name[1] & self.mask[1] ^ self.value[1]) == 0
    }
}

/// The names that are asked for, in `.rodata`; how many tells [`Settings::names`](crate::settings::Settings::names).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Those behind the last one are [`Name::NOBODY`].
    pub all: [Name; MOST],
}

impl Names {
    /// None: processes are not told apart by their names.
    pub const NONE: Self = Self { all: [Name::NOBODY; MOST] };

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.all.iter().filter(|name| **name != Name::NOBODY).count() as u32
    }

    /// True when a process of this name may be asked for.
    pub fn may_be(&self, name: Words) -> bool {
        self.all.iter().any(|one| one.may_be(name))
    }
}

wire! {
    Name = 4 * 8,
    Names = MOST * size_of::<Name>(),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_the_name_of_nobody() {
        for name in
            [[0; COMM_BYTES], [1; COMM_BYTES], [0xff; COMM_BYTES], *b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"]
        {
            assert!(!Name::NOBODY.may_be(words(name)) && !Names::NONE.may_be(words(name)));
        }
        assert_eq!(Names::NONE.count(), 0);
    }

    #[test]
    fn a_name_is_found_among_several() {
        let red = Name { value: words(*b"red\0\0\0\0\0\0\0\0\0\0\0\0\0"), mask: [0xff_ffff, 0] };
        let mut names = Names::NONE;
        names.all[0] = red;
        assert_eq!(names.count(), 1);
        assert!(names.may_be(words(*b"redis-server\0\0\0\0")));
        assert!(!names.may_be(words(*b"re\0s-server\0\0\0\0\0")));
    }
}
