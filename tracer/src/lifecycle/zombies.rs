//! Who leaves zombies: those that nobody has reaped in time, by their parent.

use super::{
    Lifecycle,
    closing::REAP_WITHIN_NS,
    process::{Process, State},
};
use crate::record::{OldestZombie, ProcessId, Zombies, ZombiesOf};

impl Lifecycle {
    /// The parents of zombies that nobody has reaped within a second, the one with the oldest first; as many as the
    /// record has room for.
    pub(crate) fn zombies(&self) -> Zombies {
        let mut zombies = Zombies::default();
        // They are in the order of their ends; those that were there before us come first.
        for &key in &self.unreaped {
            let Some(process) = self.table.get(key).filter(|process| process.state == State::Zombie) else {
                continue;
            };
            let zombie_ns = process.end().map(|end| self.now_ns.saturating_sub(end.ktime_ns));
            if zombie_ns.is_some_and(|ns| ns < REAP_WITHIN_NS) {
                continue;
            }
            let parent = self.parent_now(process);
            let known = zombies.0.iter_mut().flatten().find(|of| of.parent == parent);
            match known {
                Some(of) => of.count += 1,
                None => {
                    let Some(free) = zombies.0.iter_mut().find(|slot| slot.is_none()) else {
                        continue;
                    };
                    let oldest = OldestZombie { process: self.process_id(process.id), zombie_ns };
                    *free = Some(ZombiesOf { parent, count: 1, oldest });
                }
            }
        }
        zombies
    }

    /// The process that could reap it: the parent that was named at its end, as long as that lives. A new one is not
    /// known before the reap.
    fn parent_now(&self, process: &Process) -> Option<ProcessId> {
        let key = self.table.by_tgid(process.real_parent?)?;
        let parent = self.table.get(key)?;
        let is_older = parent.id.ticks <= process.id.ticks;
        (is_older && !parent.has_ended()).then(|| self.process_id(parent.id))
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::event::{Exit, Fork, Header};

    use super::*;
    use crate::{
        decode::{Event, Snapshot},
        lifecycle::Config,
        record::{MAX_ZOMBIE_PARENTS, Record},
    };

    const SECOND_NS: u64 = 1_000_000_000;

    fn silent(_: &Record<'_>) {}

    /// Parents 1 to `parents`; parent `n` has `n` zombies that ended at second `n`.
    fn machine(parents: u32) -> Lifecycle {
        let mut lifecycle = Lifecycle::new(Config::default());
        for tgid in 1..=parents {
            lifecycle.apply(&Event::Snapshot(Snapshot { tgid, ..Snapshot::default() }), &mut silent);
        }
        for parent in 1..=parents {
            let ktime_ns = u64::from(parent) * SECOND_NS;
            for child in 0..parent {
                end(&mut lifecycle, 1000 * parent + child, parent, ktime_ns);
            }
            lifecycle.apply(&Event::Tick { ktime_ns }, &mut silent);
        }
        lifecycle
    }

    fn end(lifecycle: &mut Lifecycle, tgid: u32, parent: u32, ktime_ns: u64) {
        let exit = Exit {
            header: Header { tgid, tid: tgid, ktime_ns, start_time_ns: SECOND_NS, ..Header::default() },
            real_parent_tgid: parent,
            ..tracer_common::read(&vec![0; size_of::<Exit>()]).unwrap()
        };
        lifecycle.apply(&Event::Exit(exit), &mut silent);
    }

    fn told(lifecycle: &Lifecycle) -> Vec<(Option<u32>, u64, u32, Option<u64>)> {
        let of = |of: &ZombiesOf| {
            (of.parent.map(|parent| parent.pid), of.count, of.oldest.process.pid, of.oldest.zombie_ns)
        };
        lifecycle.zombies().0.iter().flatten().map(of).collect()
    }

    #[test]
    fn the_oldest_come_first_and_those_of_less_than_a_second_not_at_all() {
        let lifecycle = machine(3);
        let expected = [(Some(1), 1, 1000, Some(2 * SECOND_NS)), (Some(2), 2, 2000, Some(SECOND_NS))];
        assert_eq!(told(&lifecycle), expected);
        assert_eq!(lifecycle.stats().zombies, 6);
    }

    #[test]
    fn there_are_no_more_parents_than_the_line_has_room_for() {
        let mut lifecycle = machine(20);
        let told = told(&lifecycle);
        let parents: Vec<_> = told.iter().map(|(parent, ..)| parent.unwrap()).collect();
        assert_eq!(parents, Vec::from_iter(1..=MAX_ZOMBIE_PARENTS as u32));
        // Those that have room are counted whole, also when others are in between.
        end(&mut lifecycle, 999, 1, 21 * SECOND_NS);
        lifecycle.apply(&Event::Tick { ktime_ns: 23 * SECOND_NS }, &mut silent);
        let first = lifecycle.zombies().0[0].unwrap();
        assert_eq!((first.count, first.oldest.zombie_ns), (2, Some(22 * SECOND_NS)));
    }

    #[test]
    fn a_parent_that_has_ended_is_not_named() {
        let mut lifecycle = machine(3);
        end(&mut lifecycle, 1, 0, 3 * SECOND_NS);
        assert!(told(&lifecycle).iter().all(|(parent, ..)| *parent != Some(1)));
        lifecycle.apply(&Event::Gone { tgid: 1000, start_ticks: 100 }, &mut silent);
        assert_eq!(told(&lifecycle), [(Some(2), 2, 2000, Some(SECOND_NS))]);
    }

    #[test]
    fn a_process_with_the_pid_of_an_ended_parent_is_not_named() {
        let mut lifecycle = machine(2);
        lifecycle.apply(&Event::Gone { tgid: 1, start_ticks: 0 }, &mut silent);
        let heir = Snapshot { tgid: 1, start_ticks: 300, ..Snapshot::default() };
        lifecycle.apply(&Event::Snapshot(heir), &mut silent);
        lifecycle.apply(&Event::Tick { ktime_ns: 4 * SECOND_NS }, &mut silent);
        let expected = [(None, 1, 1000, Some(3 * SECOND_NS)), (Some(2), 2, 2000, Some(2 * SECOND_NS))];
        assert_eq!(told(&lifecycle), expected);
    }

    #[test]
    fn those_that_are_reaped_late_are_not_kept() {
        let mut lifecycle = machine(1);
        for tgid in 2000..2200 {
            end(&mut lifecycle, tgid, 1, 2 * SECOND_NS);
        }
        lifecycle.apply(&Event::Tick { ktime_ns: 3 * SECOND_NS }, &mut silent);
        assert_eq!(lifecycle.unreaped.len(), 201);
        for tgid in 2000..2200 {
            lifecycle.apply(&Event::Gone { tgid, start_ticks: 100 }, &mut silent);
        }
        lifecycle.apply(&Event::Tick { ktime_ns: 4 * SECOND_NS }, &mut silent);
        assert_eq!(lifecycle.stats().zombies, 1);
        assert_eq!(lifecycle.unreaped.len(), 1);
    }

    #[test]
    fn one_from_before_makes_room_and_is_told() {
        let mut lifecycle = Lifecycle::new(Config { max_processes: 2, ..Config::default() });
        let header = |tgid| Header { tgid, tid: tgid, start_time_ns: SECOND_NS, ..Header::default() };
        let fork = |tgid| {
            let parent = Fork { parent_tgid: 1, parent_start_time_ns: SECOND_NS, ..Fork::default() };
            Event::Fork(Fork { header: header(tgid), ..parent })
        };
        lifecycle.apply(&fork(2), &mut silent);
        let found = Snapshot { tgid: 2, ppid: 1, start_ticks: 100, zombie: true, ..Snapshot::default() };
        lifecycle.apply(&Event::Snapshot(found), &mut silent);
        let mut told = Vec::new();
        lifecycle.apply(&fork(3), &mut |record: &Record<'_>| {
            if let Record::Timeline(timeline) = record {
                told.push(timeline.process.pid);
            }
        });
        assert_eq!(told, [2]);
        assert_eq!(lifecycle.stats().anomalies.evicted, 1);
        // Its parent shares with it no more.
        end(&mut lifecycle, 1, 0, 2 * SECOND_NS);
        assert_eq!((lifecycle.stats().live, lifecycle.stats().zombies), (1, 1));
    }

    #[test]
    fn one_from_before_has_no_age() {
        let mut lifecycle = machine(2);
        let found = Snapshot { tgid: 50, ppid: 2, start_ticks: 1, zombie: true, ..Snapshot::default() };
        lifecycle.apply(&Event::Snapshot(found), &mut silent);
        assert_eq!(told(&lifecycle), [(Some(1), 1, 1000, Some(SECOND_NS)), (Some(2), 1, 50, None)]);
    }
}
