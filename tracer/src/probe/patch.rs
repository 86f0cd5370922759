//! The instructions of the programs that are written when the kernel is known: constants, and calls of the kernel's
//! `bpf_rdonly_cast`, of which aya knows nothing.

use tracer_common::{
    constant::{CONSTANTS, LOAD, MARK},
    settings::{CAST_CALL, CAST_NOTHING, CAST_TYPE},
};

use super::{btf::Btf, kernel};

/// What the call needs from the kernel's BTF.
#[derive(Clone, Copy)]
pub(super) struct Cast {
    /// Id of the function.
    function: u32,
    /// Id of [`CAST_TYPE`].
    pub(super) of: u32,
    /// Id of `struct task_struct`.
    pub(super) task: u32,
}

impl Cast {
    /// `None` on kernels without it (before 6.2), or when the kernel's memory must not be read.
    pub(super) fn of_kernel(btf: &Btf<'_>) -> Option<Self> {
        let (function, task) = (btf.function_id("bpf_rdonly_cast")?, btf.struct_id("task_struct")?);
        let cast = Self { function, of: btf.struct_id(CAST_TYPE)?, task };
        kernel::can_read().then_some(cast)
    }
}

/// The object with each constant in its place, and with each call of the cast made one that this kernel knows.
pub(super) fn patched(object: &[u8], constants: &[u32; CONSTANTS], cast: Option<Cast>) -> Vec<u8> {
    let call = match cast {
        Some(cast) => u64::from(cast.function) << 32 | CAST_CALL & u64::from(u32::MAX),
        None => CAST_NOTHING,
    };
    let mut object = object.to_vec();
    // Instructions are of eight bytes, in sections that are aligned to as many. The upper four are a number.
    let instructions = object.as_chunks_mut::<8>().0;
    for at in 0..instructions.len() {
        if instructions[at] == CAST_CALL.to_le_bytes() {
            instructions[at] = call.to_le_bytes();
        }
        if let Some([first, second]) = instructions.get_mut(at..at + 2)
            && first[0] == LOAD
            && *second == (u64::from(MARK) << 32).to_le_bytes()
            && let number = u32::from_le_bytes([first[4], first[5], first[6], first[7]])
            && let Some(value) = constants.get(number as usize)
        {
            first[4..].copy_from_slice(&value.to_le_bytes());
            *second = [0; 8];
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calls_are_changed() {
        let object = [1, CAST_CALL, CAST_CALL + 1, CAST_CALL].map(u64::to_le_bytes).concat();
        let cast = Some(Cast { function: 7, of: 8, task: 9 });
        let words =
            |object: Vec<u8>| object.as_chunks().0.iter().map(|w| u64::from_le_bytes(*w)).collect::<Vec<_>>();
        let none = [0; CONSTANTS];
        assert_eq!(words(patched(&object, &none, cast)), [1, 0x7_0000_2085, CAST_CALL + 1, 0x7_0000_2085]);
        assert_eq!(words(patched(&object, &none, None)), [1, 0x10bf, CAST_CALL + 1, 0x10bf]);
    }

    #[test]
    fn constants_get_their_values() {
        let mut constants = [0; CONSTANTS];
        constants[3] = 0xffff_fffe;
        // `r5 = <constant 3> ll`, and the same in another instruction's place.
        let load = |code: u64, number: u64| [number << 32 | 0x500 | code, u64::from(MARK) << 32];
        let object = [load(0x18, 3), load(0x18, CONSTANTS as u64), load(0x85, 3)].concat();
        let object: Vec<u8> = object.into_iter().flat_map(u64::to_le_bytes).collect();
        let words: Vec<_> = patched(&object, &constants, None)
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        assert_eq!(words[..2], [0xffff_fffe_0000_0518, 0]);
        assert_eq!(words[2..4], load(0x18, CONSTANTS as u64));
        assert_eq!(words[4..], load(0x85, 3));
    }
}
