//! The maps, typed.

use std::fs;

use aya::maps::{Array, Map, MapData};
use tracer_common::{
    Wire,
    counter::{COUNTERS, Totals},
    event::COMM_BYTES,
    settings::{Calibration, Control},
    start::Start,
    state::{NOT_MADE_BY_CALL, Process, Stats, THREAD_BYTES},
};

use super::{
    Error,
    table::{Mapped, Table},
};

/// A wire struct as aya wants to see it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Value<T>(pub(super) T);

// SAFETY: a `Wire` struct is plain integers without padding.
unsafe impl<T: Wire + 'static> aya::Pod for Value<T> {}

/// Flag of a map update: an entry that is there stays (include/uapi/linux/bpf.h).
pub(super) const BPF_NOEXIST: u64 = 1;

pub(super) fn refused(map: &'static str) -> impl Fn(aya::maps::MapError) -> Error {
    move |e| Error::Load(format!("map {map}: {e}"))
}

/// CPUs that the kernel could ever have; the length of `STATS`.
pub(super) fn possible_cpus() -> u32 {
    let list = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = list.trim_end().rsplit([',', '-']).next().and_then(|cpu| cpu.parse::<u32>().ok());
    last.map_or(1, |cpu| cpu + 1)
}

/// `STATS`.
pub(super) struct Counts(Mapped<Stats>);

impl Counts {
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        Mapped::new(map, "STATS", possible_cpus() as usize).map(Self)
    }

    /// The sums over all CPUs.
    pub(super) fn total(&self) -> Stats {
        let mut sum = Stats::default();
        for one in self.0.iter() {
            // SAFETY: inside the mapping; each word is read once.
            let one = unsafe { one.read_volatile() };
            let Stats { records, process_full, thread_full, late } = one;
            for (to, from) in sum.records.iter_mut().zip(records) {
                to.seen += from.seen;
                to.submitted += from.submitted;
                to.ring_full += from.ring_full;
            }
            sum.process_full += process_full;
            sum.thread_full += thread_full;
            sum.late += late;
        }
        sum
    }
}

/// `PROCESSES` and `PROCESS_OVERFLOW`.
pub(super) type Processes = Table<Process>;

/// `THREADS` and `THREAD_OVERFLOW`.
pub(super) type Threads = Table<State>;

/// What the kernel side keeps of a thread; it means nothing here.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct State([u64; THREAD_BYTES / 8]);

// SAFETY: `repr(C)`, u64 only.
unsafe impl Wire for State {}

impl Processes {
    /// Enters a process whose birth was not seen, unless the kernel side did it first. `start_time_ns` may be 0.
    ///
    /// # Errors
    /// When the table is full.
    pub(super) fn enter(&mut self, tgid: u32, start_time_ns: u64, is_outside: bool) -> Result<(), Error> {
        let new = Process {
            start_time_ns,
            clone_flags: 0,
            parent_start_time_ns: 0,
            exec_mm: 0,
            mm: 0,
            mm_totals: Totals::default(),
            parent_tgid: 0,
            outside: if is_outside { NOT_MADE_BY_CALL } else { 0 },
            comm_before: [0; COMM_BYTES],
            counters: [0; COUNTERS],
            start: Start::default(),
            run_delay: 0,
        };
        self.insert(tgid, new)
    }
}

/// The programs' only global variable that can change.
pub(super) const CONTROL: &str = ".bss";

/// [`CONTROL`].
pub(super) struct Controls(Array<MapData, Value<Control>>);

impl Controls {
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        Array::try_from(map).map(Self).map_err(refused(CONTROL))
    }

    pub(super) fn set(&mut self, control: &Control) -> Result<(), Error> {
        self.0.set(0, Value(*control), 0).map_err(refused(CONTROL))
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
