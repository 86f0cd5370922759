//! When the next tick is due: soon while something happens, and not at all while nothing does.
//!
//! The kernel side wakes us with the first record after we have read all others, and again when much is waiting. The
//! first one only begins a tick's wait: to read each record by itself would cost ten times the record.

use std::time::Duration;

/// How often the ring is emptied, time is told to the lifecycle, and lines are handed on, while there is anything.
pub(super) const TICK: Duration = Duration::from_millis(50);
const TICK_NS: u64 = TICK.as_nanos() as u64;

/// The pace of the daemon's loop.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the next tick is due; `None` while nothing happens.
    tick_ns: Option<u64>,
    /// Times that the ring has called since it was last emptied.
    calls: u32,
}

impl Pace {
    /// There may be something to do from now on.
    pub(super) fn new(now_ns: u64) -> Self {
        Self { tick_ns: Some(now_ns), calls: 0 }
    }

    /// The ring has called. True when it must be emptied at once.
    pub(super) fn called(&mut self, now_ns: u64) -> bool {
        self.calls += 1;
        self.tick_ns.get_or_insert(now_ns + TICK_NS);
        self.calls > 1
    }

    /// The ring was emptied between two ticks.
    pub(super) fn drained(&mut self) {
        self.calls = 0;
    }

    /// A tick is over; `busy`: it found something, or something will be due.
    pub(super) fn ticked(&mut self, now_ns: u64, busy: bool) {
        self.calls = 0;
        self.tick_ns = busy.then_some(now_ns + TICK_NS);
    }

    /// Until when there is nothing to do, when the timers are due at `timers`; `None`: until something calls.
    pub(super) fn next_ns(&self, timers: [Option<u64>; 2]) -> Option<u64> {
        self.tick_ns.into_iter().chain(timers.into_iter().flatten()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn an_idle_machine_waits_for_the_timers_only() {
        let mut pace = Pace::new(SECOND);
        assert_eq!(pace.next_ns([None, None]), Some(SECOND));
        pace.ticked(SECOND, false);
        assert_eq!(pace.next_ns([None, None]), None);
        assert_eq!(pace.next_ns([Some(11 * SECOND), Some(3 * SECOND)]), Some(3 * SECOND));
    }

    #[test]
    fn the_first_record_waits_for_a_tick_and_many_do_not() {
        let mut pace = Pace::default();
        assert!(!pace.called(SECOND));
        assert_eq!(pace.next_ns([None, None]), Some(SECOND + TICK_NS));
        assert!(pace.called(SECOND + 1));
        pace.drained();
        // The tick stays where it is: whatever else calls, time goes on.
        assert!(!pace.called(SECOND + 2));
        assert_eq!(pace.next_ns([None, None]), Some(SECOND + TICK_NS));
    }

    #[test]
    fn ticks_go_on_while_they_find_something() {
        let mut pace = Pace::default();
        pace.called(SECOND);
        pace.ticked(2 * SECOND, true);
        assert_eq!(pace.next_ns([Some(9 * SECOND), None]), Some(2 * SECOND + TICK_NS));
        assert!(!pace.called(2 * SECOND + 1));
        assert!(pace.called(2 * SECOND + 2));
    }
}
