//! Maps that are mapped into our memory, and the tables made of them: see [`tracer_common::slot`].

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{HashMap, Map, MapData};
use tracer_common::{
    Wire,
    slot::{Slot, owner},
};

use super::{
    Error,
    maps::{BPF_NOEXIST, Value, refused},
};

/// An array map in our memory: reading it costs no system call.
pub(super) struct Mapped<T> {
    at: NonNull<T>,
    len: usize,
    _map: MapData,
}

impl<T: Wire> Mapped<T> {
    /// Maps `len` elements, which must be what the map has; only a map made to be mapped can be.
    pub(super) fn new(map: Map, name: &str, len: usize) -> Result<Self, Error> {
        let failed = |why: &dyn std::fmt::Display| Error::Load(format!("map {name}: {why}"));
        let Map::Array(map) = map else { return Err(failed(&"not an array")) };
        // SAFETY: a new mapping of a map of this size; the kernel rounds it up to pages.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(failed(&io::Error::last_os_error()));
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| failed(&"no address"))?;
        Ok(Self { at, len, _map: map })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Element `index`. The kernel side writes to it at the same time, word by word.
    ///
    /// # Panics
    /// When there is no such element.
    pub(super) fn element(&self, index: usize) -> *mut T {
        assert!(index < self.len);
        // SAFETY: inside the mapping.
        unsafe { self.at.add(index).as_ptr() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, not used any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

/// An array with a hash for what finds its element taken.
pub(super) struct Table<T: Wire + 'static> {
    array: Mapped<Slot<T>>,
    overflow: HashMap<MapData, u32, Value<T>>,
    names: [&'static str; 2],
}

impl<T: Wire + 'static> Table<T> {
    /// From its two maps. The number of `slots` is a power of two.
    pub(super) fn new(maps: [Map; 2], names: [&'static str; 2], slots: u32) -> Result<Self, Error> {
        let [array, overflow] = maps;
        let array = Mapped::new(array, names[0], slots as usize)?;
        let overflow = HashMap::try_from(overflow).map_err(refused(names[1]))?;
        Ok(Self { array, overflow, names })
    }

    fn slot(&self, id: u32) -> *mut Slot<T> {
        self.array.element(id as usize & (self.array.len() - 1))
    }

    /// Enters a value unless `id` has one.
    ///
    /// # Errors
    /// When there is no room.
    pub(super) fn insert(&mut self, id: u32, value: T) -> Result<(), Error> {
        if self.get(id).is_some() {
            return Ok(());
        }
        let slot = self.slot(id);
        let [owned_by, claims, elsewhere] = words(slot);
        if owned_by.load(Ordering::Acquire) == 0 {
            if claims.fetch_add(1, Ordering::AcqRel) == 0 {
                // SAFETY: the element is ours.
                unsafe { (&raw mut (*slot).value).write_volatile(value) };
                owned_by.store(owner(id), Ordering::Release);
                if self.overflow.get(&id, 0).is_ok() {
                    // Born at the same time: what the kernel side knows of it is more.
                    self.release(id);
                }
                return Ok(());
            }
            claims.fetch_sub(1, Ordering::AcqRel);
        }
        elsewhere.fetch_add(1, Ordering::AcqRel);
        let Err(error) = self.overflow.insert(id, Value(value), BPF_NOEXIST) else { return Ok(()) };
        elsewhere.fetch_sub(1, Ordering::AcqRel);
        if self.get(id).is_some() { Ok(()) } else { Err(refused(self.names[1])(error)) }
    }

    /// Drops the value of `id`, wherever it is.
    pub(super) fn remove(&mut self, id: u32) {
        self.release(id);
        if self.overflow.remove(&id).is_ok() {
            let [_, _, elsewhere] = words(self.slot(id));
            elsewhere.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Gives up the element of `id`, if it is its own.
    fn release(&mut self, id: u32) {
        let [owned_by, claims, _] = words(self.slot(id));
        if owned_by.compare_exchange(owner(id), 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            claims.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The value of `id`, if it has one. The kernel side goes on writing to it.
    pub(super) fn get(&self, id: u32) -> Option<T> {
        let slot = self.slot(id);
        let [owned_by, _, elsewhere] = words(slot);
        if owned_by.load(Ordering::Acquire) == owner(id) {
            // SAFETY: inside the mapping; any bit pattern is a `T`.
            let value = unsafe { (&raw const (*slot).value).read_volatile() };
            return (owned_by.load(Ordering::Acquire) == owner(id)).then_some(value);
        }
        if elsewhere.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.overflow.get(&id, 0).ok().map(|Value(value)| value)
    }
}

/// Owner, claims and elsewhere of an element.
fn words<'a, T>(slot: *mut Slot<T>) -> [&'a AtomicU64; 3] {
    // SAFETY: aligned words in a mapping that lives as long as the table; both sides work on them atomically.
    unsafe {
        [&raw mut (*slot).owner, &raw mut (*slot).claims, &raw mut (*slot).elsewhere]
            .map(|word| AtomicU64::from_ptr(word))
    }
}
