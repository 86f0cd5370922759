//! Constants of a load: the daemon writes them into the instructions of the programs.
//!
//! Read from `.rodata` they would be the same to the verifier, which drops the branches that they exclude, but each use
//! would be a load, from lines that nothing else keeps in the cache.

use crate::{offsets::Offsets, settings::Settings};

/// All of them.
#[repr(C)]
pub struct Constants {
    /// Where the kernel keeps what is read.
    pub offsets: Offsets,
    /// What is asked for, and what the kernel can do.
    pub settings: Settings,
}

/// Number of constants.
pub const CONSTANTS: usize = size_of::<Constants>() / size_of::<u32>();

/// The upper half of what the object loads where a constant is to be; the lower is its number.
pub const MARK: u32 = 0x7ace_ca11;

/// What the object loads for the constant at this byte of [`Constants`].
pub const fn placeholder(byte: usize) -> u64 {
    (MARK as u64) << 32 | (byte / size_of::<u32>()) as u64
}

/// Code of the instruction that loads 64 bits (BPF_LD | BPF_IMM | BPF_DW). It takes the place of two: the second has only
/// the upper half of the number.
pub const LOAD: u8 = 0x18;
