//! The tables of processes and of threads: an array and a hash for what finds its element taken.
//!
//! How they are shared between CPUs, and with the daemon, is told in [`tracer_common::slot`].

use aya_ebpf::maps::{Array, HashMap};
use tracer_common::slot::{Slot, owner};

use crate::{kernel::setting, maps::atomic_add};

/// Flags of a map update: only where there is no entry yet, and only where there is one (include/uapi/linux/bpf.h).
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

/// A table. The daemon sets the sizes of both maps and `slot_mask`.
pub(crate) trait Table {
    type Value: Copy + 'static;

    fn array() -> &'static Array<Slot<Self::Value>>;
    fn overflow() -> &'static HashMap<u32, Self::Value>;

    #[inline(always)]
    fn slot(id: u32) -> Option<*mut Slot<Self::Value>> {
        Self::array().get_ptr_mut(id & setting!(slot_mask))
    }

    /// The value of `id`, if it has one.
    #[inline(always)]
    fn get(id: u32) -> Option<*mut Self::Value> {
        let slot = Self::slot(id)?;
        // SAFETY: a map value; other CPUs write whole words.
        unsafe {
            if (&raw const (*slot).owner).read_volatile() == owner(id) {
                return Some(&raw mut (*slot).value);
            }
            if (&raw const (*slot).elsewhere).read_volatile() == 0 {
                return None;
            }
        }
        Self::overflow().get_ptr_mut(id)
    }

    /// Enters a new value, in the place of an old one if need be; `false` when there is no room. Nobody else
    /// enters one for `id` at the same time.
    #[inline(always)]
    fn insert(id: u32, new: &Self::Value) -> bool {
        let Some(slot) = Self::slot(id) else { return false };
        // SAFETY: as in `get`.
        unsafe {
            let owned_by = (&raw const (*slot).owner).read_volatile();
            if owned_by == owner(id) {
                (*slot).value = *new;
                return true;
            }
            if owned_by == 0 {
                let claims = &raw mut (*slot).claims;
                atomic_add(claims, 1);
                if claims.read_volatile() == 1 {
                    (*slot).value = *new;
                    (&raw mut (*slot).owner).write_volatile(owner(id));
                    return true;
                }
                atomic_add(claims, u64::MAX);
            }
        }
        // When that failed: in the place of its own entry only, since a new one must be counted in `elsewhere`.
        Self::insert_elsewhere(id, new) || Self::overflow().insert(id, new, BPF_EXIST).is_ok()
    }

    /// Enters a new value into the hash, unless there is one; `false` then, or when there is no room.
    #[inline(always)]
    fn insert_elsewhere(id: u32, new: &Self::Value) -> bool {
        let Some(slot) = Self::slot(id) else { return false };
        // SAFETY: as in `get`.
        let elsewhere = unsafe { &raw mut (*slot).elsewhere };
        // Who looks for the value once it is there must not be told that there is none.
        atomic_add(elsewhere, 1);
        let inserted = Self::overflow().insert(id, new, BPF_NOEXIST).is_ok();
        if !inserted {
            atomic_add(elsewhere, u64::MAX);
        }
        inserted
    }

    /// Drops the value of `id`, wherever it is. Both places have one when the daemon and the process entered it at the
    /// same time, and when its pid is used again after an end that was missed.
    #[inline(always)]
    fn remove(id: u32) {
        let Some(slot) = Self::slot(id) else { return };
        // SAFETY: as in `get`.
        unsafe {
            if (&raw const (*slot).owner).read_volatile() == owner(id) {
                (&raw mut (*slot).owner).write_volatile(0);
                atomic_add(&raw mut (*slot).claims, u64::MAX);
            }
            if (&raw const (*slot).elsewhere).read_volatile() == 0 {
                return;
            }
        }
        if Self::overflow().remove(id).is_ok() {
            // SAFETY: as in `get`.
            atomic_add(unsafe { &raw mut (*slot).elsewhere }, u64::MAX);
        }
    }
}
