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

/// Part of an array map in our memory: reading it costs no system call, and needs no privilege. All of its pages are
/// there at once, and count as ours.
struct Mapping<T> {
    at: NonNull<T>,
    first: usize,
    len: usize,
}

impl<T: Wire> Mapping<T> {
    /// Maps `len` elements from element `first` on, whose offset must be a multiple of the page size. Only a map made to
    /// be mapped can be.
    fn new(map: &MapData, first: usize, len: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(first * size_of::<T>()).map_err(io::Error::other)?;
        // SAFETY: a new mapping of a map, which the kernel keeps from being longer than it; it rounds it up to pages.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("no address"))?;
        Ok(Self { at, first, len })
    }

    /// Element `index`, if it is in here. The kernel side writes to it at the same time, word by word.
    fn element(&self, index: usize) -> Option<*mut T> {
        let within = index.checked_sub(self.first).filter(|within| *within < self.len)?;
        // SAFETY: inside the mapping.
        Some(unsafe { self.at.add(within).as_ptr() })
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, not used any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

fn array(map: Map, name: &str) -> Result<MapData, Error> {
    match map {
        Map::Array(map) => Ok(map),
        _ => Err(Error::Load(format!("map {name}: not an array"))),
    }
}

/// A small array map, all of it in our memory.
pub(super) struct Mapped<T> {
    all: Mapping<T>,
    _map: MapData,
}

impl<T: Wire> Mapped<T> {
    /// Maps `len` elements, which must be what the map has.
    pub(super) fn new(map: Map, name: &str, len: usize) -> Result<Self, Error> {
        let map = array(map, name)?;
        let all = Mapping::new(&map, 0, len).map_err(|e| Error::Load(format!("map {name}: {e}")))?;
        Ok(Self { all, _map: map })
    }

    /// All elements. The kernel side writes to them at the same time, word by word.
    pub(super) fn iter(&self) -> impl Iterator<Item = *mut T> {
        (0..self.all.len).filter_map(|index| self.all.element(index))
    }
}

/// Elements of a window. The size of one is a multiple of 8 bytes, so that each window begins with a page.
const WINDOW: usize = 512;

/// A large array map, of which only the window around the last element asked for is in our memory.
struct Windowed<T> {
    window: Option<Mapping<T>>,
    len: usize,
    map: MapData,
}

impl<T: Wire> Windowed<T> {
    const IS_WORDS: () = assert!(size_of::<T>().is_multiple_of(8));

    /// Element `index`, which is valid until the next call. The kernel side writes to it at the same time.
    fn element(&mut self, index: usize) -> io::Result<*mut T> {
        () = Self::IS_WORDS;
        if let Some(at) = self.window.as_ref().and_then(|window| window.element(index)) {
            return Ok(at);
        }
        self.window = None;
        let first = index - index % WINDOW;
        let window = self.window.insert(Mapping::new(&self.map, first, WINDOW.min(self.len - first))?);
        window.element(index).ok_or_else(|| io::Error::other("no such element"))
    }
}

/// An array with a hash for what finds its element taken.
pub(super) struct Table<T: Wire + 'static> {
    array: Windowed<Slot<T>>,
    overflow: HashMap<MapData, u32, Value<T>>,
    names: [&'static str; 2],
}

impl<T: Wire + 'static> Table<T> {
    /// From its two maps. The number of `slots` is a power of two.
    pub(super) fn new(maps: [Map; 2], names: [&'static str; 2], slots: u32) -> Result<Self, Error> {
        let [map, overflow] = maps;
        let map = array(map, names[0])?;
        let array = Windowed { window: None, len: slots as usize, map };
        let overflow = HashMap::try_from(overflow).map_err(refused(names[1]))?;
        Ok(Self { array, overflow, names })
    }

    /// The number of the element of `id`.
    pub(super) fn index(&self, id: u32) -> usize {
        id as usize & (self.array.len - 1)
    }

    fn slot(&mut self, id: u32) -> io::Result<*mut Slot<T>> {
        self.array.element(self.index(id))
    }

    /// Enters a value unless `id` has one.
    ///
    /// # Errors
    /// When there is no room.
    pub(super) fn insert(&mut self, id: u32, value: T) -> Result<(), Error> {
        if self.get(id).is_some() {
            return Ok(());
        }
        let slot = self.slot(id).map_err(|e| Error::Load(format!("map {}: {e}", self.names[0])))?;
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
        if self.overflow.remove(&id).is_ok()
            && let Ok(slot) = self.slot(id)
        {
            let [_, _, elsewhere] = words(slot);
            elsewhere.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Gives up the element of `id`, if it is its own.
    fn release(&mut self, id: u32) {
        let Ok(slot) = self.slot(id) else { return };
        let [owned_by, claims, _] = words(slot);
        if owned_by.compare_exchange(owner(id), 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            claims.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The value of `id`, if it has one that can be read. The kernel side goes on writing to it.
    pub(super) fn get(&mut self, id: u32) -> Option<T> {
        let slot = self.slot(id).inspect_err(|e| log::debug!("map {}: {e}", self.names[0])).ok()?;
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
    // SAFETY: aligned words in the window, which stays until another element is asked for; both sides work on them
    // atomically.
    unsafe {
        [&raw mut (*slot).owner, &raw mut (*slot).claims, &raw mut (*slot).elsewhere]
            .map(|word| AtomicU64::from_ptr(word))
    }
}
