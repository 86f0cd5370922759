//! Who is alive: the processes by pid, bounded, with keys that cannot go stale unnoticed.

use std::{collections::VecDeque, num::NonZeroU64};

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::process::{Earlier, Id, Made, Over, Process, Ran, Told};

/// A place in the table and the life that was there; of another life it finds nothing.
///
/// Its lower bits are the number of the slot, the others count the lives that were in that slot: enough for ten years
/// of 3000 lives a second, all in one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(NonZeroU64);

impl Key {
    const SLOT_BITS: u32 = 24;

    fn new(slot: usize, serial: u64) -> Option<Self> {
        NonZeroU64::new(serial << Self::SLOT_BITS | slot as u64).map(Self)
    }

    fn slot(self) -> usize {
        (self.0.get() & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    fn serial(self) -> u64 {
        self.0.get() >> Self::SLOT_BITS
    }
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

/// Parts of lives that are used again, so that a steady load allocates nothing.
#[derive(Debug)]
struct Spare<T>(Vec<Box<T>>);

impl<T: Default> Spare<T> {
    /// More than this many are given back.
    const MOST: usize = 4096;

    fn take(&mut self) -> Box<T> {
        self.0.pop().unwrap_or_default()
    }

    fn give(&mut self, part: Option<Box<T>>) {
        if let Some(mut part) = part.filter(|_| self.0.len() < Self::MOST) {
            *part = T::default();
            self.0.push(part);
        }
    }
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
    spare_ran: Spare<Ran>,
    spare_earlier: Spare<Earlier>,
    spare_made: Spare<Made>,
    spare_told: Spare<Told>,
    spare_over: Spare<Over>,
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
            spare_ran: Spare(Vec::new()),
            spare_earlier: Spare(Vec::new()),
            spare_made: Spare(Vec::new()),
            spare_told: Spare(Vec::new()),
            spare_over: Spare(Vec::new()),
            max: max.clamp(1, 1 << Key::SLOT_BITS),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.max
    }

    pub(super) fn get(&self, key: Key) -> Option<&Process> {
        let slot = self.slots.get(key.slot())?;
        slot.process.as_ref().filter(|_| slot.serial == key.serial())
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Process> {
        let slot = self.slots.get_mut(key.slot())?;
        slot.process.as_mut().filter(|_| slot.serial == key.serial())
    }

    /// What the execs of a life left.
    pub(super) fn ran(&mut self, key: Key) -> Option<&mut Ran> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.serial == key.serial())?;
        Some(slot.process.as_mut()?.ran.get_or_insert_with(|| self.spare_ran.take()))
    }

    /// What the execs of a life left, if there was more than one.
    pub(super) fn earlier(&mut self, key: Key) -> Option<&mut Earlier> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.serial == key.serial())?;
        let ran = slot.process.as_mut()?.ran.as_mut()?;
        Some(ran.earlier.get_or_insert_with(|| self.spare_earlier.take()))
    }

    /// What a life that made others has.
    pub(super) fn made(&mut self, key: Key) -> Option<&mut Made> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.serial == key.serial())?;
        Some(slot.process.as_mut()?.made.get_or_insert_with(|| self.spare_made.take()))
    }

    /// What a life has of which progress was told.
    pub(super) fn told(&mut self, key: Key) -> Option<&mut Told> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.serial == key.serial())?;
        Some(slot.process.as_mut()?.told.get_or_insert_with(|| self.spare_told.take()))
    }

    /// What a life that is over has.
    pub(super) fn over(&mut self, key: Key) -> Option<&mut Over> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.serial == key.serial())?;
        Some(slot.process.as_mut()?.over.get_or_insert_with(|| self.spare_over.take()))
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
            Some(slot) => slot as usize,
            None if self.is_full() => return None,
            None => {
                self.slots.push(Slot { serial: 0, process: None });
                self.slots.len() - 1
            }
        };
        let entry = self.slots.get_mut(slot)?;
        entry.serial += 1;
        let key = Key::new(slot, entry.serial)?;
        entry.process = Some(process);
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

    /// Takes a life out, and remembers that it was there; false when it was not.
    pub(super) fn remove(&mut self, key: Key) -> bool {
        self.displace(key);
        let Some(process) = self.get_mut(key) else { return false };
        let (mut ran, over, vpid) = (process.ran.take(), process.over.take(), process.vpid);
        let (made, told) = (process.made.take(), process.told.take());
        let parent = over.as_ref().and_then(|over| over.end.as_ref()).map(|end| end.real_parent);
        if let Some(by_vpid) = parent.zip(vpid)
            && self.by_vpid.get(&by_vpid) == Some(&key)
        {
            self.by_vpid.remove(&by_vpid);
        }
        self.spare_earlier.give(ran.as_mut().and_then(|ran| ran.earlier.take()));
        self.spare_ran.give(ran);
        self.spare_made.give(made);
        self.spare_told.give(told);
        self.spare_over.give(over);
        self.slots[key.slot()].process = None;
        self.free.push(key.slot() as u32);
        true
    }

    /// All lives.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Process)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            entry.process.as_ref().and_then(|process| Some((Key::new(slot, entry.serial)?, process)))
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
        assert!(table.remove(old), "it is still there by its key");
        assert!(!table.remove(old));
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
