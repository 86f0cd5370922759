//! The clocks: records carry nanoseconds since boot, lines show the time of day.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Duration,
};

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

/// Wakes the loop at a time of the boot clock, once. A timer of the runtime would take up to three waits for one of
/// seconds: it goes down a wheel.
pub(super) struct Alarm {
    timer: OwnedFd,
    set_ns: Option<u64>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; a descriptor that it returns is nobody else's.
        let timer = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { timer, set_ns: None })
    }

    /// Sets it to a time, at once when that is past, or off. What is there for an earlier setting is gone.
    pub(super) fn set(&mut self, at_ns: Option<u64>) -> io::Result<()> {
        if at_ns == self.set_ns {
            return Ok(());
        }
        const SECOND: u64 = 1_000_000_000;
        const OFF: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // The first nanosecond stands for 0, which would be off.
        let at = at_ns.map_or(OFF, |ns| libc::timespec {
            tv_sec: (ns.max(1) / SECOND) as libc::time_t,
            tv_nsec: (ns.max(1) % SECOND) as libc::c_long,
        });
        let setting = libc::itimerspec { it_interval: OFF, it_value: at };
        let timer = self.timer.as_raw_fd();
        // SAFETY: the struct is valid and outlives the call; nothing is asked back.
        let result =
            unsafe { libc::timerfd_settime(timer, libc::TFD_TIMER_ABSTIME, &setting, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.set_ns = at_ns;
        Ok(())
    }
}

impl AsFd for Alarm {
    /// Readable from the time on, until it is set again.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
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
    fn an_alarm_is_due_from_its_time_on_until_it_is_set_again() {
        fn is_due_within(alarm: &Alarm, timeout_ms: i32) -> bool {
            let mut fd = libc::pollfd { fd: alarm.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd, which outlives the call.
            unsafe { libc::poll(&mut fd, 1, timeout_ms) == 1 }
        }
        let mut alarm = Alarm::new().unwrap();
        assert!(!is_due_within(&alarm, 0));
        let soon_ns = since_boot_ns() + 1_000_000;
        alarm.set(Some(soon_ns)).unwrap();
        assert!(is_due_within(&alarm, 10_000) && since_boot_ns() >= soon_ns);
        alarm.set(Some(u64::MAX)).unwrap();
        assert!(!is_due_within(&alarm, 0));
        alarm.set(Some(0)).unwrap();
        assert!(is_due_within(&alarm, 10_000), "what is past is due at once");
        alarm.set(None).unwrap();
        assert!(!is_due_within(&alarm, 0));
    }

    #[test]
    fn the_offset_leads_to_the_time_of_day() {
        let unix = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as i64;
        let ours = since_boot_ns() as i64 + wall_offset_ns();
        assert!((ours - unix).abs() < 1_000_000_000, "{ours} {unix}");
    }
}
