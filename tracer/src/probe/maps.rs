//! The maps, typed.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
};

use aya::maps::{Array, HashMap, Map, MapData};
use tracer_common::{
    counter::{COUNTERS, Totals},
    event::{KINDS, Process, Stats, THREAD_BYTES},
    settings::{Calibration, Control},
};

use super::Error;

/// A wire struct as aya wants to see it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Value<T>(pub(super) T);

// SAFETY: a `Wire` struct is plain integers without padding.
unsafe impl<T: tracer_common::Wire + 'static> aya::Pod for Value<T> {}

/// Flag of a map update: an entry that is there stays (include/uapi/linux/bpf.h).
const BPF_NOEXIST: u64 = 1;

fn refused(map: &'static str) -> impl Fn(aya::maps::MapError) -> Error {
    move |e| Error::Load(format!("map {map}: {e}"))
}

/// No event was seen.
pub(super) const NO_STATS: Stats = Stats {
    seen: [0; KINDS],
    submitted: [0; KINDS],
    ring_full: [0; KINDS],
    process_full: 0,
    thread_full: 0,
    late: 0,
};

/// CPUs that the kernel could ever have; the length of `STATS`.
pub(super) fn possible_cpus() -> u32 {
    let list = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = list.trim_end().rsplit([',', '-']).next().and_then(|cpu| cpu.parse::<u32>().ok());
    last.map_or(1, |cpu| cpu + 1)
}

/// `STATS`, mapped into our memory, so that reading it costs no system call.
pub(super) struct Counts {
    at: NonNull<Stats>,
    len: usize,
    _map: MapData,
}

impl Counts {
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        let Map::Array(map) = map else {
            return Err(Error::Load("map STATS: not an array".to_owned()));
        };
        let len = possible_cpus() as usize;
        // SAFETY: a new mapping of a map of this size; the kernel rounds it up to pages.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<Stats>(),
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Error::Load(format!("map STATS: {}", std::io::Error::last_os_error())));
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| Error::Load("map STATS: no address".to_owned()))?;
        Ok(Self { at, len, _map: map })
    }

    /// The sums over all CPUs.
    pub(super) fn total(&self) -> Stats {
        let mut sum = NO_STATS;
        for cpu in 0..self.len {
            // SAFETY: inside the mapping. The kernel side writes at the same time, word by word; each
            // word is read once.
            let one = unsafe { self.at.add(cpu).read_volatile() };
            let add = |to: &mut [u64; KINDS], from: [u64; KINDS]| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            };
            let Stats { seen, submitted, ring_full, process_full, thread_full, late } = one;
            add(&mut sum.seen, seen);
            add(&mut sum.submitted, submitted);
            add(&mut sum.ring_full, ring_full);
            sum.process_full += process_full;
            sum.thread_full += thread_full;
            sum.late += late;
        }
        sum
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, not used any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len * size_of::<Stats>()) };
    }
}

/// `PROCESSES`.
pub(super) struct Processes(HashMap<MapData, u32, Value<Process>>);

impl Processes {
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        HashMap::try_from(map).map(Self).map_err(refused("PROCESSES"))
    }

    /// Enters a process, unless the kernel side did it first.
    pub(super) fn insert(&mut self, tgid: u32, start_time_ns: u64) -> Result<(), Error> {
        let new = Process {
            start_time_ns,
            clone_flags: 0,
            parent_start_time_ns: 0,
            exec_mm: 0,
            mm: 0,
            mm_totals: Totals::default(),
            parent_tgid: 0,
            reserved: 0,
            counters: [0; COUNTERS],
        };
        match self.0.insert(tgid, Value(new), BPF_NOEXIST) {
            Err(_) if self.get(tgid).is_some() => Ok(()),
            result => result.map_err(refused("PROCESSES")),
        }
    }

    pub(super) fn remove(&mut self, tgid: u32) {
        // It may have gone by itself.
        let _ = self.0.remove(&tgid);
    }

    pub(super) fn get(&self, tgid: u32) -> Option<Process> {
        self.0.get(&tgid, 0).ok().map(|Value(process)| process)
    }

    /// Entries that come or go meanwhile may be seen or not.
    pub(super) fn each(&self, each: &mut dyn FnMut(u32, &Process)) {
        for (tgid, Value(process)) in self.0.iter().flatten() {
            each(tgid, &process);
        }
    }
}

/// `THREADS`.
pub(super) struct Threads(HashMap<MapData, u32, [u8; THREAD_BYTES]>);

impl Threads {
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        HashMap::try_from(map).map(Self).map_err(refused("THREADS"))
    }

    pub(super) fn remove(&mut self, tid: u32) {
        // A thread without a write fault has no entry.
        let _ = self.0.remove(&tid);
    }
}

/// `CONTROL`.
pub(super) struct Controls(Array<MapData, Value<Control>>);

impl Controls {
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        Array::try_from(map).map(Self).map_err(refused("CONTROL"))
    }

    pub(super) fn set(&mut self, control: &Control) -> Result<(), Error> {
        self.0.set(0, Value(*control), 0).map_err(refused("CONTROL"))
    }
}

/// `CALIBRATION`.
pub(super) struct Questions(Array<MapData, Value<Calibration>>);

impl Questions {
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        Array::try_from(map).map(Self).map_err(refused("CALIBRATION"))
    }

    pub(super) fn ask(&mut self, question: &Calibration) -> Result<(), String> {
        self.0.set(0, Value(*question), 0).map_err(|e| format!("map CALIBRATION: {e}"))
    }

    pub(super) fn answer(&self) -> Result<Calibration, String> {
        self.0.get(&0, 0).map(|Value(answer)| answer).map_err(|e| format!("map CALIBRATION: {e}"))
    }
}
