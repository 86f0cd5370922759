//! The elements of the tables that are looked up on every fault: an array in which number `id` has the element
//! `id & mask`, and a hash beside it for those that find their element taken.
//!
//! A look-up in an array is a few instructions, one in a hash a call of about 70 ns. Where pids do not exceed the
//! array, as with the default of `kernel.pid_max` on small machines, the hash is never used.

use crate::Wire;

/// An element of such an array. All of it zero: free.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<T> {
    /// Whose the value is, see [`owner`]; 0 when it is free.
    pub owner: u64,
    /// Those that own the element or try to. Each adds itself; the one that then reads 1 has it, others step back.
    pub claims: u64,
    /// Values of this element's numbers that are in the hash.
    pub elsewhere: u64,
    /// Means something while it has an owner.
    pub value: T,
}

// SAFETY: `repr(C)`, three u64 and a `Wire` whose size and alignment are checked not to leave a gap.
unsafe impl<T: Wire> Wire for Slot<T> {}

/// [`Slot::owner`] for number `id`, which may be 0.
pub const fn owner(id: u32) -> u64 {
    1 << 32 | id as u64
}

/// Elements of an array for `max` values; a power of two.
pub const fn slots(max: u32) -> u32 {
    if max > 1 << 30 { 1 << 30 } else { max.next_power_of_two() }
}

/// Entries of the hash beside it. Of numbers without any order, four fifths of `max` find room.
pub const fn overflow(max: u32) -> u32 {
    max / 4 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_not_number_0() {
        assert_ne!(owner(0), 0);
        assert_ne!(owner(0), owner(1));
    }

    #[test]
    fn the_array_has_room_for_all() {
        for max in [1, 2, 3, 1000, 65_536, 65_537] {
            assert!(slots(max) >= max && slots(max).is_power_of_two());
        }
    }
}
