//! From the kernel side's counters to what a record says of them.
//!
//! Counters are sums of what programs did and are not trusted: no addition here can overflow.

use tracer_common::counter::{
    Class, Counters, DEMAND_ZERO, EAGER, FAILED, FILL, GUP, GUP_ZERO, HUGE_BYTES, IN_DATA, IN_FILE, IN_HEAP,
    IN_STACK, LOST_RACE, Mode, PAGE_BYTES, REMOTE, SEGV, SPLIT, SPURIOUS, Totals, UFFD, UNSORTED, UNSURE,
    WRITE_NOTIFY, index,
};

use super::copies::Copies;
use crate::{
    level::Level,
    record::{CowBy, CowByPage, CowByRegion, CowCounts, Faults},
};

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
    let of_files = [Class::File, Class::FileFirst];
    let anonymous = sum(SMALL
        .into_iter()
        .filter(|class| !of_files.contains(class))
        .map(|class| both(counters, class))
        .chain([at(counters, GUP), at(counters, UNSORTED)]));
    let small =
        sum(of_files.map(|class| both(counters, class)).into_iter().chain([anonymous, at(counters, EAGER)]));
    let huge = at(counters, HUGE_BYTES);
    Totals {
        copies: small.saturating_add(both(counters, Class::Huge)),
        reuses: both(counters, Class::Reuse).saturating_add(both(counters, Class::HugeReuse)),
        bytes: small.saturating_mul(PAGE_BYTES).saturating_add(huge),
        unshared_bytes: anonymous.saturating_mul(PAGE_BYTES).saturating_add(huge),
    }
}

/// What `tracer.cow` says at this level; `at_last_exec` are the totals when the running program began.
pub(super) fn counts(counters: &Counters, at_last_exec: Option<Totals>, level: Level) -> CowCounts {
    let totals = totals(counters);
    let by_mode =
        |mode| sum(SMALL.into_iter().chain([Class::Huge]).map(|class| in_mode(counters, class, mode)));
    let by_fault = |count: u64| level.has_classes().then_some(count);
    let by_allocation = |count: u64| level.has_allocations().then_some(count);
    let huge_zero_upgrades = both(counters, Class::HugeZero);
    CowCounts {
        copies: totals.copies,
        bytes: totals.bytes,
        reuses: by_fault(totals.reuses),
        huge_reuses: by_fault(both(counters, Class::HugeReuse)),
        zero_upgrades: by_fault(sum([
            both(counters, Class::Zero),
            huge_zero_upgrades,
            at(counters, GUP_ZERO),
        ])),
        huge_zero_upgrades: by_fault(huge_zero_upgrades),
        by: CowBy {
            user: by_mode(Mode::User).saturating_add(at(counters, UNSORTED)),
            kernel: by_fault(by_mode(Mode::Kernel)),
            gup: by_allocation(at(counters, GUP)),
            remote_candidates: by_allocation(at(counters, REMOTE)),
            eager: by_allocation(at(counters, EAGER)),
        },
        by_page: level.has_classes().then(|| CowByPage {
            anon: both(counters, Class::Anon),
            ksm: both(counters, Class::Ksm),
            file: both(counters, Class::File),
            file_first: by_allocation(both(counters, Class::FileFirst)),
            swap: by_allocation(both(counters, Class::Swap)),
            huge: both(counters, Class::Huge),
        }),
        by_region: level.has_classes().then(|| by_region(counters)),
        after_exec: at_last_exec.map(|then| Copies::from(totals).since(then.into()).shown(level)),
    }
}

/// The copies by faults; those that no region has a counter for were of other anonymous memory.
fn by_region(counters: &Counters) -> CowByRegion {
    let [heap, stack, data, file] = [IN_HEAP, IN_STACK, IN_DATA, IN_FILE].map(|of| at(counters, of));
    let all = sum(SMALL.into_iter().chain([Class::Huge]).map(|class| both(counters, class)));
    CowByRegion { heap, stack, data, file, anon: all.saturating_sub(sum([heap, stack, data, file])) }
}

/// What `tracer.faults` says at this level.
pub(super) fn faults(minor: u64, major: u64, counters: Option<&Counters>, level: Level) -> Faults {
    let get = |counter| counters.filter(|_| level.has_classes()).map(|counters| at(counters, counter));
    let by_allocation = |counter| get(counter).filter(|_| level.has_allocations());
    Faults {
        minor,
        major,
        demand_zero: by_allocation(DEMAND_ZERO),
        file: by_allocation(FILL),
        write_notify: get(WRITE_NOTIFY),
        segv: get(SEGV),
        spurious: get(SPURIOUS),
        uffd: get(UFFD),
        failed: get(FAILED),
        lost_races: get(LOST_RACE),
        splits: get(SPLIT),
        unsure: by_allocation(UNSURE),
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
        counters[UNSORTED as usize] = 0;
        let cow = counts(&counters, None, Level::Full);
        let CowBy { user, kernel, gup, remote_candidates: _, eager } = cow.by;
        let sum = |parts: &[Option<u64>]| parts.iter().map(|part| part.unwrap()).sum::<u64>();
        assert_eq!(user + sum(&[kernel, gup, eager]), cow.copies);
        let CowByPage { anon, ksm, file, file_first, swap, huge } = cow.by_page.unwrap();
        assert_eq!(anon + ksm + file + huge + sum(&[file_first, swap]), user + kernel.unwrap());
    }

    #[test]
    fn regions_are_divided_completely() {
        let mut counters = [0; COUNTERS];
        counters[index(Class::Anon, Mode::User) as usize] = 100;
        for (counter, count) in [(IN_HEAP, 10), (IN_STACK, 20), (IN_DATA, 30), (IN_FILE, 15)] {
            counters[counter as usize] = count;
        }
        let CowByRegion { heap, stack, data, file, anon } = by_region(&counters);
        assert_eq!([heap, stack, data, file, anon], [10, 20, 30, 15, 25]);
    }

    #[test]
    fn a_lower_level_says_null() {
        let mut counters = [0; COUNTERS];
        counters[UNSORTED as usize] = 7;
        let lite = counts(&counters, None, Level::Lite);
        assert_eq!((lite.copies, lite.by.user, lite.bytes), (7, 7, 7 * PAGE_BYTES));
        assert_eq!((lite.reuses, lite.by.kernel, lite.by_page, lite.by_region), (None, None, None, None));
        let fault = counts(&counters, None, Level::Fault);
        assert_eq!((fault.reuses, fault.by.kernel, fault.by.gup), (Some(0), Some(0), None));
        assert_eq!(faults(1, 2, Some(&counters), Level::Fault).demand_zero, None);
        assert_eq!(faults(1, 2, Some(&counters), Level::Fault).segv, Some(0));
        assert_eq!(faults(1, 2, Some(&counters), Level::Lite).segv, None);
    }

    #[test]
    fn garbage_saturates() {
        let cow = counts(&[u64::MAX; COUNTERS], Some(Totals::default()), Level::Full);
        assert_eq!(cow.copies, u64::MAX);
        assert_eq!(cow.after_exec.map(|c| c.bytes), Some(u64::MAX));
    }
}
