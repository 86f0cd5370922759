//! From the kernel side's counters to what a record says of them.
//!
//! Counters are sums of what programs did and are not trusted: no addition here can overflow.

use tracer_common::counter::{
    Class, Counters, DEMAND_ZERO, EAGER, FAILED, FILL, GUP, GUP_ZERO, HUGE_BYTES, LOST_RACE, Mode,
    PAGE_BYTES, REMOTE, SEGV, SPLIT, SPURIOUS, Totals, UFFD, UNSURE, WRITE_NOTIFY, index,
};

use crate::record::{Copies, CowBy, CowByPage, CowCounts, Faults};

/// Classes that are copies of one small page.
const SMALL: [Class; 5] = [Class::Anon, Class::Ksm, Class::File, Class::FileFirst, Class::Swap];

fn sum(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(0, u64::saturating_add)
}

fn in_mode(counters: &Counters, class: Class, mode: Mode) -> u64 {
    counters[index(class, mode) as usize]
}

fn both(counters: &Counters, class: Class) -> u64 {
    in_mode(counters, class, Mode::User).saturating_add(in_mode(counters, class, Mode::Kernel))
}

fn at(counters: &Counters, counter: u32) -> u64 {
    counters[counter as usize]
}

/// The same sums as [`Totals::of`], which the kernel side uses, for any counters.
pub(super) fn totals(counters: &Counters) -> Totals {
    let small = sum(SMALL
        .map(|class| both(counters, class))
        .into_iter()
        .chain([at(counters, GUP), at(counters, EAGER)]));
    Totals {
        copies: small.saturating_add(both(counters, Class::Huge)),
        reuses: both(counters, Class::Reuse).saturating_add(both(counters, Class::HugeReuse)),
        zero_upgrades: sum([
            both(counters, Class::Zero),
            both(counters, Class::HugeZero),
            at(counters, GUP_ZERO),
        ]),
        bytes: small.saturating_mul(PAGE_BYTES).saturating_add(at(counters, HUGE_BYTES)),
    }
}

/// What `tracer.cow` says; `at_last_exec` are the totals when the running program began.
pub(super) fn counts(counters: &Counters, at_last_exec: Option<Totals>) -> CowCounts {
    let Totals { copies, reuses, zero_upgrades, bytes } = totals(counters);
    let by_mode =
        |mode| sum(SMALL.into_iter().chain([Class::Huge]).map(|class| in_mode(counters, class, mode)));
    CowCounts {
        copies,
        bytes,
        reuses,
        zero_upgrades,
        by: CowBy {
            user: by_mode(Mode::User),
            kernel: by_mode(Mode::Kernel),
            gup: at(counters, GUP),
            remote_candidates: at(counters, REMOTE),
            eager: at(counters, EAGER),
        },
        by_page: CowByPage {
            anon: both(counters, Class::Anon),
            ksm: both(counters, Class::Ksm),
            file: both(counters, Class::File).saturating_add(both(counters, Class::FileFirst)),
            swap: both(counters, Class::Swap),
            huge: both(counters, Class::Huge),
        },
        after_exec: at_last_exec.map(|then| Copies::from(totals(counters)).since(then.into())),
    }
}

/// What `tracer.faults` says.
pub(super) fn faults(minor: u64, major: u64, counters: Option<&Counters>) -> Faults {
    let get = |counter| counters.map(|counters| at(counters, counter));
    Faults {
        minor,
        major,
        demand_zero: get(DEMAND_ZERO),
        file: get(FILL),
        write_notify: get(WRITE_NOTIFY),
        segv: get(SEGV),
        spurious: get(SPURIOUS),
        uffd: get(UFFD),
        failed: get(FAILED),
        lost_races: get(LOST_RACE),
        splits: get(SPLIT),
        unsure: get(UNSURE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_common::counter::COUNTERS;

    #[test]
    fn totals_agree_with_the_kernel_side() {
        let mut counters = [0; COUNTERS];
        for (i, counter) in counters.iter_mut().enumerate() {
            *counter = 1 << i;
        }
        assert_eq!(totals(&counters), Totals::of(&counters));
        for hot in 0..COUNTERS {
            let mut counters = [0; COUNTERS];
            counters[hot] = 3;
            assert_eq!(totals(&counters), Totals::of(&counters), "{hot}");
        }
    }

    #[test]
    fn the_parts_of_the_copies_are_their_sum() {
        let mut counters = [0; COUNTERS];
        for (i, counter) in (1..).zip(&mut counters) {
            *counter = i * i;
        }
        let cow = counts(&counters, None);
        let CowBy { user, kernel, gup, remote_candidates: _, eager } = cow.by;
        assert_eq!(user + kernel + gup + eager, cow.copies);
        let CowByPage { anon, ksm, file, swap, huge } = cow.by_page;
        assert_eq!(anon + ksm + file + swap + huge, user + kernel);
    }

    #[test]
    fn garbage_saturates() {
        let cow = counts(&[u64::MAX; COUNTERS], Some(Totals::default()));
        assert_eq!(cow.copies, u64::MAX);
        assert_eq!(cow.after_exec.map(|c| c.bytes), Some(u64::MAX));
    }
}
