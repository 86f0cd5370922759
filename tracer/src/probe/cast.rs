//! The instruction of the programs that aya knows nothing of: a call of the kernel's `bpf_rdonly_cast`.

use tracer_common::settings::{CAST_CALL, CAST_NOTHING, CAST_TYPE};

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

/// The object with each such call made one that this kernel knows.
pub(super) fn patched(object: &[u8], cast: Option<Cast>) -> Vec<u8> {
    let call = match cast {
        Some(cast) => u64::from(cast.function) << 32 | CAST_CALL & u64::from(u32::MAX),
        None => CAST_NOTHING,
    };
    let mut object = object.to_vec();
    // Instructions are of eight bytes, in sections that are aligned to as many.
    for instruction in object.as_chunks_mut::<8>().0 {
        if *instruction == CAST_CALL.to_le_bytes() {
            *instruction = call.to_le_bytes();
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
        assert_eq!(words(patched(&object, cast)), [1, 0x7_0000_2085, CAST_CALL + 1, 0x7_0000_2085]);
        assert_eq!(words(patched(&object, None)), [1, 0x10bf, CAST_CALL + 1, 0x10bf]);
    }
}
