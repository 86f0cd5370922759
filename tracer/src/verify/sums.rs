//! The sums within a line. They are made with saturation, as those of the stream are.

use super::{
    line::{Exec, Fork, Story},
    reasons::At,
};
use crate::record::{Copies, CowBy, CowByPage, CowByRegion, CowCounts, Start, Usage};

const PAGE_BYTES: u64 = 4096;

fn sum<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

/// What is not counted is null, and adds nothing.
fn or_none(count: Option<u64>) -> u64 {
    count.unwrap_or(0)
}

pub(super) fn plus(one: Copies, other: Copies) -> Copies {
    Copies {
        copies: one.copies.saturating_add(other.copies),
        reuses: one.reuses.zip(other.reuses).map(|(one, other)| one.saturating_add(other)),
        bytes: one.bytes.saturating_add(other.bytes),
    }
}

/// Of `tracer.cow`, what `tracer.fork` has of it.
pub(super) fn total(cow: &CowCounts) -> Copies {
    Copies { copies: cow.copies, reuses: cow.reuses, bytes: cow.bytes }
}

/// Two sums of the same things must be the same.
pub(super) fn same(at: &mut At<'_>, what: &str, sum: Copies, of: &str, other: Copies) {
    at.same(format_args!("{what}.copies"), sum.copies, of, other.copies);
    at.same(format_args!("{what}.bytes"), sum.bytes, of, other.bytes);
    match (sum.reuses, other.reuses) {
        (Some(reuses), Some(others)) => at.same(format_args!("{what}.reuses"), reuses, of, others),
        (None, None) => {}
        _ => at.expect(false, format_args!("{what}.reuses is null, or {of} is, but not both")),
    }
}

/// Whether nothing of `part` is more than in `whole`.
pub(super) fn is_within(part: Copies, whole: Copies) -> bool {
    part.copies <= whole.copies
        && part.bytes <= whole.bytes
        && part.reuses.zip(whole.reuses).is_none_or(|(part, whole)| part <= whole)
}

/// The parts of `tracer.cow`, which are made of counters read at one time.
pub(super) fn cow(at: &mut At<'_>, cow: &CowCounts) {
    let CowBy { user, kernel, gup, remote_candidates: _, eager } = cow.by;
    let by_faults = user.saturating_add(or_none(kernel));
    let all = sum([by_faults, or_none(gup), or_none(eager)]);
    at.same("tracer.cow.copies", cow.copies, "the sum of tracer.cow.by", all);
    if let Some(CowByPage { anon, ksm, file, file_first, swap, huge }) = cow.by_page {
        let pages = sum([anon, ksm, file, or_none(file_first), or_none(swap), huge]);
        at.same("the sum of tracer.cow.by_page", pages, "by.user and by.kernel", by_faults);
    }
    let reuses = or_none(cow.reuses);
    at.expect(
        or_none(cow.huge_reuses) <= reuses,
        format_args!("tracer.cow.huge_reuses is more than the {reuses} reuses"),
    );
    let upgrades = or_none(cow.zero_upgrades);
    at.expect(
        or_none(cow.huge_zero_upgrades) <= upgrades,
        format_args!("tracer.cow.huge_zero_upgrades is more than the {upgrades} zero_upgrades"),
    );
    if let Some(after) = cow.after_exec {
        at.expect(is_within(after, total(cow)), format_args!("tracer.cow.after_exec is more than the whole"));
    }
}

/// CPU time is divided in two. Until the reap more can have been told of it than was measured at the end.
pub(super) fn usage(at: &mut At<'_>, usage: &Usage) {
    let Usage { user_ns, system_ns, cpu_ns, is_final, max_rss_bytes: _ } = *usage;
    let told = user_ns.saturating_add(system_ns);
    at.expect(
        told == cpu_ns || (!is_final && told > cpu_ns),
        format_args!("tracer.usage.cpu_ns is {cpu_ns}, but the sum of user_ns and system_ns is {told}"),
    );
}

/// The sums of a whole life, at whose end no counter moves any more.
pub(super) fn timeline(at: &mut At<'_>, story: &Story) {
    if let Some(counts) = &story.cow {
        cow(at, counts);
        if counts.by_page.is_none_or(|by_page| by_page.huge == 0) {
            let bytes = counts.copies.saturating_mul(PAGE_BYTES);
            at.same("tracer.cow.bytes", counts.bytes, "that of so many small pages", bytes);
        }
        if let Some(CowByRegion { heap, stack, data, file, anon }) = counts.by_region {
            let regions = sum([heap, stack, data, file, anon]);
            let by_faults = counts.by.user.saturating_add(or_none(counts.by.kernel));
            at.same("the sum of tracer.cow.by_region", regions, "by.user and by.kernel", by_faults);
        }
    }
    if let Some(of_fork) = &story.fork {
        fork(at, story, of_fork);
    }
    exec(at, &story.exec);
    if let Some(of_life) = &story.usage {
        usage(at, of_life);
    }
    let children = &story.children;
    let all = sum([children.forks, children.vforks, children.spawns, children.clones]);
    at.expect(
        children.execs_followed <= all,
        format_args!("tracer.children.execs_followed is {} of {all} children", children.execs_followed),
    );
}

fn exec(at: &mut At<'_>, exec: &Exec) {
    at.expect(
        exec.tries.is_none() || exec.seq > 0,
        format_args!("tracer.exec.tries is not null, but tracer.exec.seq is 0"),
    );
    if let Some(Start { first_ns, entry_ns: Some(entry_ns), .. }) = exec.start {
        at.expect(
            entry_ns >= first_ns,
            format_args!("tracer.exec.start.entry_ns is {entry_ns}, less than the {first_ns} of first_ns"),
        );
    }
    let (failures, before) = (or_none(exec.failures), exec.failures_before());
    at.expect(
        before <= failures,
        format_args!("tracer.exec.failures is {failures}, but {before} failed before the last exec alone"),
    );
}

fn fork(at: &mut At<'_>, story: &Story, fork: &Fork) {
    let Fork { before_exec, by_parent, wasted, shares_mm, .. } = fork;
    at.expect(
        !shares_mm || by_parent.is_none(),
        format_args!("tracer.fork.by_parent is not null, though parent and child share the memory"),
    );
    match (before_exec, by_parent, wasted) {
        (Some(before), Some(parent), Some(wasted)) if story.exec.seq > 0 => {
            same(at, "tracer.fork.wasted", *wasted, "before_exec and by_parent", plus(*before, *parent));
        }
        (Some(_), Some(_), None) if story.exec.seq > 0 => {
            at.expect(false, format_args!("tracer.fork.wasted is null, but its parts are known"));
        }
        (.., wasted) => at.expect(
            wasted.is_none(),
            format_args!("tracer.fork.wasted is not null without an exec and both of its parts"),
        ),
    }
    match (before_exec, story.exec.wasted) {
        (_, Some(_)) if *shares_mm && story.exec.seq == 1 => at.expect(
            false,
            format_args!(
                "tracer.exec.wasted is not null, though the only exec left the memory to the parent"
            ),
        ),
        (Some(before), Some(wasted)) if story.exec.seq == 1 => {
            same(at, "tracer.exec.wasted", wasted, "before_exec of the only exec", *before);
        }
        _ => {}
    }
    let (Some(before), Some(cow)) = (before_exec, &story.cow) else { return };
    let whole = total(cow);
    match (story.exec.seq, cow.after_exec) {
        (0, _) => same(at, "tracer.fork.before_exec", *before, "all that it copied", whole),
        (1, Some(after)) => {
            same(at, "tracer.cow", whole, "before and after the only exec", plus(*before, after));
        }
        (_, Some(after)) => at.expect(
            is_within(plus(*before, after), whole),
            format_args!("before_exec and after_exec are more than the whole of tracer.cow"),
        ),
        (_, None) => {}
    }
}
