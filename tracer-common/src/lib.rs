//! What the eBPF programs and the daemon share: the wire records, the counters, the offsets of
//! kernel fields and the load-time settings.
//!
//! Everything here is plain data with a fixed layout. A change of layout is caught at compile time
//! by the size asserts beside each struct.
#![no_std]

/// Says of structs that they may cross as bytes, and asserts their size: it proves that there is no padding.
macro_rules! wire {
    ($($name:ident = $size:expr),* $(,)?) => { $(
        // SAFETY: `repr(C)`, integers and arrays only; the size assert proves there is no padding.
        unsafe impl $crate::Wire for $name {}
        const _: () = assert!(size_of::<$name>() == $size);
    )* };
}

pub mod constant;
pub mod counter;
pub mod event;
pub mod ledger;
pub mod names;
pub mod offsets;
pub mod place;
pub mod settings;
pub mod slot;
pub mod start;
pub mod state;

/// Marks a struct that may cross between the kernel and the daemon as bytes.
///
/// # Safety
/// The type is `repr(C)`, holds only integers and arrays of them, and has no padding, so that every
/// bit pattern is a value and no uninitialised byte is ever read.
pub unsafe trait Wire: Copy {}

/// Reads a `T` from the start of `bytes`; `None` when they are too few.
pub fn read<T: Wire>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, the read is unaligned, and every bit pattern is a `T`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes of `value`.
pub fn bytes<T: Wire>(value: &T) -> &[u8] {
    // SAFETY: `T` has no padding, so all of its bytes are initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}
