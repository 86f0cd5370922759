//! Who is alive: the processes by pid, bounded, with keys that cannot go stale unnoticed.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::process::{Id, Process};

/// A place in the table and the life that was there; of another life it finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    slot: u32,
    serial: u64,
}

/// What a pid and a start time refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A life in the table.
    Life(Key),
    /// A life that is over and written, or that an entry of the table has outlived.
    Past,
    /// No life with this pid.
    Nothing,
    /// An older life that must be over, because its pid belongs to a younger one.
    Predecessor(Key),
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    process: Option<Process>,
}

/// Lives that are over and written are remembered for this many more, because an event of them may
/// still come.
const REMEMBERED: usize = 8192;

/// The processes.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_tgid: HashMap<u32, Key>,
    /// Zombies of nested pid namespaces, by their parent's pid and their own pid there.
    by_vpid: HashMap<(u32, u32), Key>,
    past: HashSet<Id>,
    past_order: VecDeque<Id>,
    max: usize,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_tgid: HashMap::new(),
            by_vpid: HashMap::new(),
            past: HashSet::new(),
            past_order: VecDeque::new(),
            max: max.clamp(1, u32::MAX as usize),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.max
    }

    pub(super) fn get(&self, key: Key) -> Option<&Process> {
        let slot = self.slots.get(key.slot as usize)?;
        slot.process.as_ref().filter(|_| slot.serial == key.serial)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Process> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        slot.process.as_mut().filter(|_| slot.serial == key.serial)
    }

    pub(super) fn find(&self, id: Id) -> Found {
        let Some(&key) = self.by_tgid.get(&id.tgid) else {
            return if self.past.contains(&id) { Found::Past } else { Found::Nothing };
        };
        match self.get(key).map(|process| process.id.ticks.cmp(&id.ticks)) {
            Some(std::cmp::Ordering::Equal) => Found::Life(key),
            Some(std::cmp::Ordering::Greater) => Found::Past,
            Some(std::cmp::Ordering::Less) if self.past.contains(&id) => Found::Past,
            Some(std::cmp::Ordering::Less) => Found::Predecessor(key),
            None => Found::Nothing,
        }
    }

    /// The life in the table with exactly this identity.
    pub(super) fn key(&self, id: Id) -> Option<Key> {
        match self.find(id) {
            Found::Life(key) => Some(key),
            Found::Past | Found::Nothing | Found::Predecessor(_) => None,
        }
    }

    /// The life that has the pid now.
    pub(super) fn by_tgid(&self, tgid: u32) -> Option<Key> {
        self.by_tgid.get(&tgid).copied()
    }

    /// The zombie that its parent knows as `vpid`.
    pub(super) fn by_vpid(&self, parent: u32, vpid: u32) -> Option<Key> {
        self.by_vpid.get(&(parent, vpid)).copied()
    }

    pub(super) fn index_vpid(&mut self, parent: u32, vpid: u32, key: Key) {
        self.by_vpid.insert((parent, vpid), key);
    }

    /// Enters a life; `None` when there is no room.
    pub(super) fn insert(&mut self, process: Process) -> Option<Key> {
        let id = process.id;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.is_full() => return None,
            None => {
                self.slots.push(Slot { serial: 0, process: None });
                u32::try_from(self.slots.len() - 1).ok()?
            }
        };
        let entry = self.slots.get_mut(slot as usize)?;
        entry.serial += 1;
        entry.process = Some(process);
        let key = Key { slot, serial: entry.serial };
        self.by_tgid.insert(id.tgid, key);
        Some(key)
    }

    /// Gives the pid of a life away; from now on the life is past, and found by its key only.
    pub(super) fn displace(&mut self, key: Key) {
        let Some(id) = self.get(key).map(|process| process.id) else {
            return;
        };
        if self.by_tgid.get(&id.tgid) == Some(&key) {
            self.by_tgid.remove(&id.tgid);
        }
        if self.past.insert(id) {
            if self.past_order.len() == REMEMBERED
                && let Some(oldest) = self.past_order.pop_front()
            {
                self.past.remove(&oldest);
            }
            self.past_order.push_back(id);
        }
    }

    /// Takes a life out, and remembers that it was there.
    pub(super) fn remove(&mut self, key: Key) -> Option<Process> {
        self.displace(key);
        self.get(key)?;
        let process = self.slots.get_mut(key.slot as usize)?.process.take()?;
        self.free.push(key.slot);
        if let (Some(end), Some(vpid)) = (process.end, process.vpid)
            && self.by_vpid.get(&(end.real_parent, vpid)) == Some(&key)
        {
            self.by_vpid.remove(&(end.real_parent, vpid));
        }
        Some(process)
    }

    /// All lives.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Process)> {
        self.slots.iter().zip(0..).filter_map(|(entry, slot)| {
            let key = Key { slot, serial: entry.serial };
            entry.process.as_ref().map(|process| (key, process))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(tgid: u32, ticks: u64) -> Process {
        Process::new(Id { tgid, ticks }, ticks * 10_000_000)
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_life() {
        let mut table = Table::new(8);
        let old = table.insert(life(7, 100)).unwrap();
        assert_eq!(table.find(Id { tgid: 7, ticks: 100 }), Found::Life(old));
        assert_eq!(table.find(Id { tgid: 7, ticks: 99 }), Found::Past);
        let next = Id { tgid: 7, ticks: 101 };
        assert_eq!(table.find(next), Found::Predecessor(old));
        table.displace(old);
        let new = table.insert(life(7, 101)).unwrap();
        assert_eq!(table.find(next), Found::Life(new));
        assert!(table.remove(old).is_some(), "it is still there by its key");
        assert!(table.remove(old).is_none());
        assert_eq!(table.find(next), Found::Life(new), "and took nothing along");
        assert_eq!(table.find(Id { tgid: 7, ticks: 100 }), Found::Past);
    }

    #[test]
    fn keys_go_stale_with_their_life() {
        let mut table = Table::new(1);
        let first = table.insert(life(1, 1)).unwrap();
        assert!(table.is_full() && table.insert(life(2, 1)).is_none());
        table.remove(first);
        let second = table.insert(life(2, 1)).unwrap();
        assert!(table.get(first).is_none());
        assert!(table.get(second).is_some());
    }

    #[test]
    fn past_lives_are_forgotten_in_the_end() {
        let mut table = Table::new(8);
        for tgid in 0..=REMEMBERED as u32 {
            let key = table.insert(life(tgid, 5)).unwrap();
            table.remove(key);
        }
        assert_eq!(table.find(Id { tgid: 0, ticks: 5 }), Found::Nothing);
        assert_eq!(table.find(Id { tgid: 1, ticks: 5 }), Found::Past);
        assert_eq!(table.past.len(), REMEMBERED);
    }
}
