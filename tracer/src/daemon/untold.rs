//! Reaps that the kernel did not tell of.
//!
//! `sched_process_free` runs in a softirq, on top of whatever task has the CPU. One kernel (6.18, in a microVM) was seen to skip
//! it there without counting that: such a life would stay a zombie for ever. `/proc` knows better.

use std::collections::HashMap;

use tracer_common::event::Kind;

use super::processes::{Life, is_there};
use crate::{
    decode::{Event, Loss, LossStage},
    pipeline::Pipeline,
    sink::Sink,
};

/// How long after a life has left `/proc` the kernel may take to tell of it: an RCU period, which is half a second
/// where CPU time is short.
const TOLD_WITHIN_NS: u64 = 5_000_000_000;
/// How often `/proc` is read for it, at most.
const EVERY_NS: u64 = 250_000_000;
/// Most lives that are looked up at a time.
const MOST: usize = 1_024;

/// Lives that have ended and have left `/proc`, with the time when that was noticed.
#[derive(Debug, Default)]
pub(super) struct Untold {
    gone: HashMap<Life, u64>,
    next_ns: u64,
}

impl Untold {
    /// Whether the kernel may still tell of one.
    pub(super) fn is_waiting(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Looks for them, unless it did a moment ago, and tells the lifecycle of those that the kernel will not tell of.
    pub(super) fn look<S: Sink>(&mut self, pipeline: &mut Pipeline<S>, now: u64) {
        if now < self.next_ns {
            return;
        }
        self.next_ns = now.saturating_add(EVERY_NS);
        let unreaped: Vec<Life> = pipeline.lifecycle().unreaped().take(MOST).collect();
        for life in self.late(&unreaped, is_there, now) {
            let (tgid, start_ticks) = life;
            let stage = LossStage::Untold;
            pipeline.event(&Event::Loss(Loss { ktime_ns: now, stage, record: Some(Kind::Free), count: 1 }));
            pipeline.event(&Event::Gone { tgid, start_ticks });
        }
    }

    /// Those of `unreaped` that have been gone for too long.
    fn late(&mut self, unreaped: &[Life], is_there: impl Fn(Life) -> bool, now: u64) -> Vec<Life> {
        let before = std::mem::take(&mut self.gone);
        let gone = unreaped.iter().copied().filter(|&life| !is_there(life));
        self.gone = gone.map(|life| (life, before.get(&life).copied().unwrap_or(now))).collect();
        self.gone
            .extract_if(|_, since| now.saturating_sub(*since) >= TOLD_WITHIN_NS)
            .map(|(life, _)| life)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reap_is_late_when_the_life_has_been_gone_for_long() {
        let mut untold = Untold::default();
        let is_there = |(tgid, _): Life| tgid == 1;
        let (zombie, gone) = ((1, 10), (2, 20));
        assert_eq!(untold.late(&[zombie, gone], is_there, 7), []);
        assert!(untold.is_waiting());
        assert_eq!(untold.late(&[zombie, gone], is_there, 6 + TOLD_WITHIN_NS), []);
        assert_eq!(untold.late(&[zombie, gone], is_there, 7 + TOLD_WITHIN_NS), [gone]);
        assert!(!untold.is_waiting());
    }

    #[test]
    fn one_that_the_kernel_tells_of_is_forgotten() {
        let mut untold = Untold::default();
        assert_eq!(untold.late(&[(2, 20)], |_| false, 0), []);
        assert_eq!(untold.late(&[], |_| false, TOLD_WITHIN_NS), []);
        assert!(!untold.is_waiting());
        assert_eq!(untold.late(&[(2, 20)], |_| false, TOLD_WITHIN_NS), [], "gone since now");
    }
}
