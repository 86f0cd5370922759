//! All lives of a run, as far as its lines name them: each is told once, in its order, among its parents and
//! children.
//!
//! The table is bounded: when it is full, the life that was told first is forgotten, and what needs all of them is
//! no longer checked.

use std::collections::{HashMap, VecDeque};

use super::{
    life::Boot,
    line::{AccountFields, Compact, Step, Timeline},
    reasons::{At, Reasons},
    sums,
};
use crate::record::{Children, Copies, CowCounts, EntityId, Time};

/// Lives that are remembered: 180 MB of them.
pub(super) const MOST_LIVES: usize = 400_000;

/// The kinds of children, as [`Children`] counts them.
const KINDS: [&str; 4] = ["fork", "vfork", "posix_spawn", "clone"];

/// The lives of a run.
#[derive(Debug)]
pub(super) struct Family {
    most: usize,
    /// In boxes: a table in which lives were forgotten has more places free than taken.
    lives: HashMap<EntityId, Box<Life>>,
    /// Those with a timeline, in its order.
    order: VecDeque<EntityId>,
    /// Timelines until now.
    pub(super) told: u64,
    /// Timelines of zombies that no line says are reaped.
    zombies: u64,
    /// Timelines do not tell whether they are of zombies.
    is_compact: bool,
    /// Lives that were forgotten, or had no room.
    pub(super) forgotten: u64,
}

/// What the lines say of a life.
#[derive(Debug, Default)]
struct Life {
    told: Option<Told>,
    /// It forked a life that has a timeline.
    is_parent: bool,
    /// The first and the last of its steps, and its exit.
    steps: Option<(Time, Time)>,
    exit: Option<Time>,
    /// Failed execs that its steps tell of.
    failures: u64,
    cow: Option<Copies>,
    children: Brood,
}

/// What its timeline says.
#[derive(Debug)]
struct Told {
    line: u64,
    start: Time,
    end: Option<Time>,
    is_zombie: bool,
    /// A line says that it was reaped.
    reaped: bool,
    /// What it says of its children; `None` when a loss may have touched that.
    children: Option<Children>,
}

/// Its children that have a timeline.
#[derive(Debug, Default)]
struct Brood {
    by_kind: [u64; KINDS.len()],
    paid: Copies,
    /// No child can have begun later than this one: when that may have been at the latest.
    first: Option<Time>,
    last: Option<Time>,
}

impl Family {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            lives: HashMap::new(),
            order: VecDeque::new(),
            told: 0,
            zombies: 0,
            is_compact: false,
            forgotten: 0,
        }
    }

    /// The life of this identity, if there is room for it.
    fn life(&mut self, id: EntityId) -> Option<&mut Life> {
        if self.lives.len() >= self.most && !self.lives.contains_key(&id) {
            self.forgotten += 1;
            let oldest = self.order.pop_front()?;
            self.lives.remove(&oldest);
        }
        Some(self.lives.entry(id).or_default())
    }

    /// A step of a process that is neither its progress nor its reap.
    pub(super) fn step(&mut self, at: &mut At<'_>, action: &str, step: &Step) {
        let Some(life) = self.life(step.process.entity_id) else { return };
        if action == "reparent" {
            // It can come at any time, also after the timeline.
            return;
        }
        let time = step.time;
        at.expect(
            life.told.is_none(),
            format_args!("{action} of pid {} after its timeline", step.process.pid),
        );
        if action == "thread" {
            // Of threads that end at once, any can tell the end of the process.
            return;
        }
        let (first, last) = life.steps.unwrap_or((time, time));
        life.steps = Some((first.min(time), last.max(time)));
        if action == "exit" {
            at.expect(life.exit.is_none(), format_args!("pid {} ends a second time", step.process.pid));
            life.exit = Some(time);
        }
        life.failures = life.failures.saturating_add(step.tracer.failures());
    }

    /// The progress of a process. When lines are `whole`, none was filtered out before it.
    pub(super) fn progress(&mut self, at: &mut At<'_>, step: &Step, whole: bool) {
        let (Some(cow), Some(delta)) = (&step.tracer.cow, step.tracer.delta) else { return };
        sums::cow(at, cow);
        let now = sums::total(cow);
        let Some(life) = self.life(step.process.entity_id) else { return };
        let pid = step.process.pid;
        at.expect(life.told.is_none(), format_args!("progress of pid {pid} after its timeline"));
        at.expect(sums::is_within(delta, now), format_args!("tracer.delta is more than tracer.cow"));
        match life.cow.replace(now) {
            Some(before) if whole => {
                sums::same(at, "tracer.cow", now, "the last one and tracer.delta", sums::plus(before, delta));
            }
            Some(before) => at.expect(
                sums::is_within(before, now),
                format_args!("tracer.cow of pid {pid} is less than it was before"),
            ),
            None => {}
        }
    }

    /// A process was reaped after its timeline.
    pub(super) fn reap(&mut self, at: &mut At<'_>, step: &Step) {
        let pid = step.process.pid;
        let complete = self.forgotten == 0;
        let life = self.lives.get_mut(&step.process.entity_id);
        let Some(told) = life.and_then(|life| life.told.as_mut()) else {
            at.expect(!complete, format_args!("reap of pid {pid} before its timeline"));
            return;
        };
        at.expect(!told.reaped, format_args!("pid {pid} is reaped a second time"));
        self.zombies -= u64::from(told.is_zombie && !told.reaped);
        told.reaped = true;
        if let (Some(end), Some(reap)) = (told.end, &step.tracer.reap) {
            let zombie_ns = step.time.0.saturating_sub(end.0);
            at.expect(
                u64::try_from(zombie_ns).ok().is_some_and(|ns| reap.zombie_ns == Some(ns)),
                format_args!(
                    "pid {pid} is reaped {zombie_ns} ns after its end, but tracer.reap.zombie_ns is {:?}",
                    reap.zombie_ns
                ),
            );
        }
    }

    /// A whole life. When lines are `whole`, none was filtered out before it.
    pub(super) fn timeline(&mut self, at: &mut At<'_>, boot: Option<Boot>, timeline: &Timeline, whole: bool) {
        let Timeline { process, tracer: story, .. } = timeline;
        self.told += 1;
        // Its parent was not told of it, and may not be traced.
        let is_late = story.missing.iter().any(|name| name == "before_match");
        let touched = |name: &String| name.starts_with("lost:") || name == "exit" || name == "counters";
        let is_zombie = process.end.is_some() && story.reap.is_none();
        let told = Told {
            line: at.line,
            start: process.start,
            end: process.end,
            is_zombie,
            reaped: false,
            children: (!story.missing.iter().any(touched)).then_some(story.children),
        };
        let whole = whole && self.forgotten == 0;
        if let Some(life) = self.life(process.entity_id) {
            if let Some(before) = &life.told {
                let (pid, line) = (process.pid, before.line);
                at.expect(false, format_args!("pid {pid} has a timeline already, in line {line}"));
                return;
            }
            // Where its exit is a step, all its failures are.
            if let Some(failures) = story.exec.failures.filter(|_| whole && life.exit.is_some()) {
                at.same(
                    "tracer.exec.failures",
                    failures,
                    "the failures that its steps tell of",
                    life.failures,
                );
            }
            life.close(at, told, story.cow.as_ref());
            self.order.push_back(process.entity_id);
            self.zombies += u64::from(is_zombie);
        }
        let Some(parent) = process.parent else { return };
        let Some(life) = self.life(parent.entity_id) else { return };
        let latest = boot.map_or(process.start, |boot| boot.latest(process.start));
        life.children.add_start(process.start, latest);
        if let Some(told) = &life.told {
            told.order(at, process.start, latest);
        }
        if let Some(fork) = story.fork.as_ref().filter(|_| !is_late) {
            life.is_parent = true;
            let kind = KINDS.iter().position(|kind| *kind == fork.kind);
            if let Some(count) = kind.and_then(|kind| life.children.by_kind.get_mut(kind)) {
                *count += 1;
            }
            if let Some(paid) = fork.by_parent {
                life.children.paid = sums::plus(life.children.paid, paid);
            }
        }
    }

    /// A whole life of which little is told: whether it was reaped and what its children did is not known.
    pub(super) fn compact(&mut self, at: &mut At<'_>, compact: &Compact) {
        let Compact { time, event, process, .. } = compact;
        self.told += 1;
        self.is_compact = true;
        let ran_ns = event.duration.and_then(|ns| i64::try_from(ns).ok());
        let told = Told {
            line: at.line,
            start: ran_ns.map_or(Time(i64::MIN), |ns| Time(time.0.saturating_sub(ns))),
            end: event.duration.map(|_| *time),
            is_zombie: false,
            reaped: false,
            children: None,
        };
        let Some(life) = self.life(process.entity_id) else { return };
        if let Some(before) = &life.told {
            let (pid, line) = (process.pid, before.line);
            at.expect(false, format_args!("pid {pid} has a timeline already, in line {line}"));
            return;
        }
        life.close(at, told, None);
        self.order.push_back(process.entity_id);
    }

    /// The end of a run whose lines are all there.
    pub(super) fn bye(&self, reasons: &mut Reasons, line: u64, bye: &AccountFields, is_named: bool) {
        let AccountFields { filtered, lives, live, zombies, .. } = *bye;
        let refused = bye.anomalies.table_full.saturating_add(bye.anomalies.evicted);
        if refused == 0 {
            for life in self.order.iter().filter_map(|id| self.lives.get(id)) {
                life.check_children(reasons);
            }
        }
        let at = &mut reasons.at(line);
        let ended = lives.saturating_sub(live);
        let told = self.told;
        at.expect(live <= lives, format_args!("tracer.live is {live}, but tracer.lives is {lives}"));
        at.expect(told <= ended, format_args!("there are {told} timelines of {ended} lives that ended"));
        // Zombies that were there before have no timeline until they are reaped.
        let knows_zombies = refused == 0 && self.forgotten == 0 && !self.is_compact;
        let told_zombies = if knows_zombies { self.zombies } else { 0 };
        if knows_zombies && filtered == 0 {
            at.expect(
                told.saturating_add(zombies) == ended.saturating_add(told_zombies),
                format_args!(
                    "of {ended} lives that ended, {told} have a timeline, and {told_zombies} of these are zombies; \
                     but there are {zombies} zombies"
                ),
            );
        }
        let untold = zombies.saturating_sub(told_zombies).saturating_add(filtered);
        let least = ended.saturating_sub(untold);
        at.expect(
            told >= least,
            format_args!("there are {told} timelines of at least {least} lives that ended"),
        );
        // A thread of another name than its process may fork a child that has the name.
        if self.forgotten == 0 && !is_named {
            let untold =
                self.lives.values().filter(|life| life.is_parent && life.told.is_none()).count() as u64;
            let others = live.saturating_add(filtered).saturating_add(refused);
            at.expect(
                untold <= others,
                format_args!("{untold} parents have no timeline, but only {others} can do without"),
            );
        }
    }
}

impl Life {
    /// Takes over its timeline.
    fn close(&mut self, at: &mut At<'_>, told: Told, cow: Option<&CowCounts>) {
        if let Some((first, last)) = self.steps {
            at.expect(told.start <= first, format_args!("a step of it is at {first}, before process.start"));
            let in_time = told.end.is_none_or(|end| last <= end);
            at.expect(in_time, format_args!("a step of it is at {last}, after process.end"));
        }
        if let Some(exit) = self.exit {
            at.expect(told.end == Some(exit), format_args!("process.end is not that of its exit, {exit}"));
        }
        if let (Some(before), Some(cow)) = (self.cow, cow) {
            let grew = sums::is_within(before, sums::total(cow));
            at.expect(grew, format_args!("tracer.cow is less than it was before"));
        }
        if let (Some(first), Some(last)) = (self.children.first, self.children.last) {
            told.order(at, last, first);
        }
        self.told = Some(told);
    }

    /// What it says of its children, and what they say.
    fn check_children(&self, reasons: &mut Reasons) {
        let Some(Told { line, children: Some(children), .. }) = self.told else { return };
        let at = &mut reasons.at(line);
        let counted = [children.forks, children.vforks, children.spawns, children.clones];
        for ((kind, told), counted) in KINDS.iter().zip(self.children.by_kind).zip(counted) {
            at.expect(
                told <= counted,
                format_args!("{told} children have a timeline, but it has {counted} by {kind}"),
            );
        }
        if let Some(paid) = children.paid.filter(|_| counted == self.children.by_kind) {
            let mut sum = self.children.paid;
            sum.reuses = sum.reuses.filter(|_| paid.reuses.is_some());
            sums::same(at, "tracer.children.paid", paid, "the sum of by_parent of its children", sum);
        }
    }
}

impl Told {
    /// A child begins within the life of its parent: `start` is when it says it did, `latest` when it may have.
    fn order(&self, at: &mut At<'_>, start: Time, latest: Time) {
        at.expect(
            latest >= self.start,
            format_args!("a child starts at {latest}, before its parent at {}", self.start),
        );
        if let Some(end) = self.end {
            at.expect(
                start <= end,
                format_args!("a child starts at {start}, after its parent's end at {end}"),
            );
        }
    }
}

impl Brood {
    fn add_start(&mut self, start: Time, latest: Time) {
        self.first = Some(self.first.map_or(latest, |first| first.min(latest)));
        self.last = Some(self.last.map_or(start, |last| last.max(start)));
    }
}
