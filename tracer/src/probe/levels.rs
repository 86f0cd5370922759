//! Finds the highest level of counting copies that really works on this kernel.

use tracer_common::settings::{Control, HAS_ALLOC, TESTING};

use super::{
    calibrate,
    loader::Loaded,
    maps::{Controls, Processes, Threads},
    selftest,
    unavailable::NOT_READABLE,
};
use crate::level::Level;

/// What counting copies needs.
pub(super) struct Levels<'a> {
    pub(super) loaded: &'a mut Loaded,
    pub(super) processes: &'a mut Processes,
    pub(super) threads: &'a mut Threads,
    pub(super) controls: &'a mut Controls,
}

impl Levels<'_> {
    /// Tries each level from `wanted` down. A level is believed only when the fate of known pages was counted
    /// right. Its hooks are attached, but follow only the self-test as long as [`TESTING`] is set.
    ///
    /// Returns what was found out about the kernel as well, and why the level is not a higher one.
    pub(super) fn find(&mut self, wanted: Level) -> (Level, Control, String) {
        let mut reasons = Vec::new();
        if wanted < Level::Full {
            reasons.push(format!("--cow {}", wanted.name()));
        }
        let mut control = Control::default();
        let mut is_calibrated = false;
        if wanted.has_classes() && !self.loaded.offered().can_read {
            reasons.push(NOT_READABLE.to_owned());
        } else if wanted.has_copies() && self.loaded.offered().can_read {
            // Without classes it only saves time.
            match calibrate::run(self.loaded) {
                Ok(found) => (control, is_calibrated) = (found, true),
                Err(reason) if wanted.has_classes() => reasons.push(reason),
                Err(reason) => log::debug!("not calibrated: {reason}"),
            }
        }
        let can_try = |level: &Level| level.has_copies() && (is_calibrated || !level.has_classes());
        for level in Level::ALL.into_iter().filter(|level| *level <= wanted).filter(can_try) {
            control.flags &= !HAS_ALLOC;
            control.flags |= TESTING | if level.has_allocations() { HAS_ALLOC } else { 0 };
            match self.try_level(level, &control) {
                Ok(()) => return (level, control, reasons.join("; ")),
                Err(reason) => {
                    self.loaded.detach_faults();
                    log::warn!("copy-on-write counts of level {}: {reason}", level.name());
                    reasons.push(format!("level {}: {reason}", level.name()));
                }
            }
        }
        (Level::Off, control, reasons.join("; "))
    }

    fn try_level(&mut self, level: Level, control: &Control) -> Result<(), String> {
        self.controls.set(control).map_err(|e| e.to_string())?;
        self.loaded.attach_faults(level)?;
        selftest::run(self.processes, self.threads, level)
    }
}
