//! Puts records into the ring and counts what became of them.

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_boot_ns},
    maps::ring_buf::RingBufEntry,
};
use tracer_common::{
    Wire,
    event::{Header, Kind},
    state::Fates,
};

use crate::{
    kernel::setting,
    maps::{EVENTS, Tailed, atomic_add, stats},
};

/// The reader is woken by a record if it has read all before it (`ringbuf_commit()` in kernel/bpf/ringbuf.c).
const WAKEUP_IF_FIRST: u64 = 0;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

#[derive(Clone, Copy)]
enum Fate {
    Seen,
    Submitted,
    RingFull,
}

#[inline(always)]
fn tally(kind: Kind, fate: Fate) {
    let Some(stats) = stats() else { return };
    // SAFETY: a map value; `kind` is below KINDS.
    let count = unsafe {
        let fates = (&raw mut (*stats).records).cast::<Fates>().add(kind as usize);
        match fate {
            Fate::Seen => &raw mut (*fates).seen,
            Fate::Submitted => &raw mut (*fates).submitted,
            Fate::RingFull => &raw mut (*fates).ring_full,
        }
    };
    atomic_add(count, 1);
}

/// As [`wakeup`], asked before the record of `size` bytes is in the ring.
#[inline(always)]
fn wakeup_before(size: u64) -> u64 {
    let waiting = EVENTS.query(BPF_RB_AVAIL_DATA);
    let mark = u64::from(setting!(watermark_bytes));
    if waiting < mark && waiting + size >= mark { BPF_RB_FORCE_WAKEUP } else { WAKEUP_IF_FIRST }
}

/// Wakes the reader once for each watermark's worth of data: a wake-up costs ten times the record. What stays below
/// has woken it with its first record, and waits for its next tick.
#[inline(always)]
fn wakeup(size: u64) -> u64 {
    let waiting = EVENTS.query(BPF_RB_AVAIL_DATA);
    let mark = u64::from(setting!(watermark_bytes));
    if waiting >= mark && waiting.saturating_sub(size) < mark { BPF_RB_FORCE_WAKEUP } else { WAKEUP_IF_FIRST }
}

/// The header of a record that is written now.
#[inline(always)]
pub(crate) fn header(kind: Kind, flags: u32, tgid: u32, tid: u32, start_time_ns: u64, size: u32) -> Header {
    Header {
        kind: kind as u32,
        flags,
        // SAFETY: helpers without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        tid,
        tgid,
        size,
        // SAFETY: as above.
        ktime_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_time_ns,
    }
}

/// Reserves a record of fixed size, lets `fill` write all of it, and submits it.
#[inline(always)]
pub(crate) fn emit<T: Wire + 'static>(kind: Kind, fill: impl FnOnce(*mut T)) {
    if let Some(mut slot) = reserve(kind) {
        fill(slot.as_mut_ptr());
        submit(kind, slot);
    }
}

/// Room for a record of fixed size; it must be submitted.
#[inline(always)]
pub(crate) fn reserve<T: Wire + 'static>(kind: Kind) -> Option<RingBufEntry<T>> {
    tally(kind, Fate::Seen);
    let slot = EVENTS.reserve::<T>(0);
    if slot.is_none() {
        tally(kind, Fate::RingFull);
    }
    slot
}

/// Hands a record over, all of which was written.
#[inline(always)]
pub(crate) fn submit<T: Wire>(kind: Kind, slot: RingBufEntry<T>) {
    slot.submit(wakeup(size_of::<T>() as u64));
    tally(kind, Fate::Submitted);
}

/// Copies a record with `tail_len` bytes of tail into the ring.
#[inline(always)]
pub(crate) fn emit_tailed<T: Wire, const BYTES: usize>(
    kind: Kind,
    record: *const Tailed<T, BYTES>,
    tail_len: u32,
) {
    tally(kind, Fate::Seen);
    let size: usize;
    // The compiler may know that it is in bounds, and would drop the check that the verifier needs.
    // SAFETY: a move between registers.
    unsafe {
        core::arch::asm!(
            "{size} = {sum}",
            size = lateout(reg) size,
            sum = in(reg) size_of::<T>() + tail_len as usize,
            options(pure, nomem, nostack),
        );
    }
    if size > size_of::<T>() + BYTES {
        return;
    }
    // SAFETY: the size was checked against the map value that holds the record.
    let bytes = unsafe { core::slice::from_raw_parts(record.cast::<u8>(), size) };
    let fate = match EVENTS.output::<[u8]>(bytes, wakeup_before(size as u64)) {
        Ok(()) => Fate::Submitted,
        Err(_) => Fate::RingFull,
    };
    tally(kind, fate);
}
