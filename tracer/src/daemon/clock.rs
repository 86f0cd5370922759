//! The clocks: records carry nanoseconds since boot, lines show the time of day.

use std::time::Duration;

/// Nanoseconds of CLOCK_BOOTTIME, the clock of the kernel's records.
pub(super) fn since_boot_ns() -> u64 {
    // The boot clock is never negative.
    read(libc::CLOCK_BOOTTIME) as u64
}

/// What to add to nanoseconds since boot for the time of day.
pub(super) fn wall_offset_ns() -> i64 {
    // The time of day is read between two readings of the boot clock; the closest of a few tries.
    let tries = (0..5).map(|_| {
        let before = read(libc::CLOCK_BOOTTIME);
        let wall = read(libc::CLOCK_REALTIME);
        let after = read(libc::CLOCK_BOOTTIME);
        (after - before, wall - (before + (after - before) / 2))
    });
    tries.min().map_or(0, |(_, offset)| offset)
}

/// Something that is due every so often.
pub(super) struct Timer {
    interval_ns: Option<u64>,
    due_ns: u64,
}

impl Timer {
    /// First due one interval after `now_ns`; never without an interval.
    pub(super) fn new(interval: Option<Duration>, now_ns: u64) -> Self {
        let interval_ns = interval.map(|interval| interval.as_nanos() as u64);
        Self { interval_ns, due_ns: now_ns + interval_ns.unwrap_or(0) }
    }

    /// Whether it is ever due.
    pub(super) fn is_on(&self) -> bool {
        self.interval_ns.is_some()
    }

    /// When it is due; `None` when never.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.interval_ns.map(|_| self.due_ns)
    }

    /// Whether it is due; if so, it is due again an interval later. What was missed is left out.
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        let Some(interval_ns) = self.interval_ns else { return false };
        if now_ns < self.due_ns {
            return false;
        }
        let late_ns = (now_ns - self.due_ns) % interval_ns.max(1);
        self.due_ns = now_ns - late_ns + interval_ns;
        true
    }
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is valid and outlives the call; both clocks exist on every supported kernel.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_once_an_interval() {
        let mut timer = Timer::new(Some(Duration::from_nanos(10)), 100);
        let due: Vec<u64> = (100..140).filter(|&now| timer.is_due(now)).collect();
        assert_eq!(due, [110, 120, 130]);
        assert!(timer.is_due(1003) && !timer.is_due(1009) && timer.is_due(1010));
        let mut never = Timer::new(None, 0);
        assert!(!never.is_due(u64::MAX) && !never.is_on());
    }

    #[test]
    fn the_offset_leads_to_the_time_of_day() {
        let unix = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as i64;
        let ours = since_boot_ns() as i64 + wall_offset_ns();
        assert!((ours - unix).abs() < 1_000_000_000, "{ours} {unix}");
    }
}
