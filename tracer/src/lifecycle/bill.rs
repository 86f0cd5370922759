//! Who pays for a fork on the parent's side.
//!
//! While a child shares its parent's pages, the parent copies what it writes to. The counters of the
//! parent come with the events of its children; what it copied between two of them is charged to its
//! newest child that still shares, or to nobody when there is none. So the sums over its children and
//! what was charged to nobody are its total, always.

use super::{
    copies::Copies,
    process::{Made, Process},
    table::{Key, Table},
};

/// What a process pays for its children.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// Its totals when they were last charged.
    last: Copies,
    /// Charged to children.
    pub(super) paid: Copies,
    /// Its newest child that shares its pages.
    newest: Option<Key>,
}

/// What a process is paid for, and its place among its siblings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bill {
    /// What its parent paid for it; `None` when that cannot be known.
    pub(super) by_parent: Option<Copies>,
    /// Another child shared pages with the parent at the same time.
    pub(super) overlapped: bool,
    /// Bytes that it shared with its parent when it was born.
    shared_bytes: Option<u64>,
    /// What the parent had copied out of shared memory by then.
    parent_then: u64,
    /// Set while it shares its parent's pages.
    parent: Option<Key>,
    newer: Option<Key>,
    older: Option<Key>,
}

impl Bill {
    /// The parent whose pages it shares.
    pub(super) fn parent(&self) -> Option<Key> {
        self.parent
    }
}

impl Process {
    /// Its newest child that shares its pages.
    pub(super) fn newest_sharer(&self) -> Option<Key> {
        self.made.as_ref()?.account.newest
    }

    /// The bytes that it still shares with `parent`, whose pages it shares. At most: what either has unmapped is not
    /// known.
    ///
    /// A page that one of the two copies is the other's alone from then on: it leaves the sharing once.
    pub(super) fn still_shares(&self, parent: &Self) -> Option<u64> {
        let by_then = parent.made.as_ref()?.account.last.unshared_bytes;
        let copied = self.unshared_bytes.saturating_add(by_then.saturating_sub(self.bill.parent_then));
        self.bill.shared_bytes.map(|bytes| bytes.saturating_sub(copied))
    }
}

/// Charges what `parent`, which makes a child, has copied until now, when its totals are `totals`.
pub(super) fn begin(table: &mut Table, parent: Key, totals: Copies) {
    // Before its first child there was nobody to charge.
    table.made(parent);
    charge(table, parent, totals);
}

/// Charges what `parent` has copied until now, when its totals are `totals`, if it has ever made a child.
pub(super) fn charge(table: &mut Table, parent: Key, totals: Copies) {
    let Some(Made { account, .. }) = table.get_mut(parent).and_then(|payer| payer.made.as_deref_mut()) else {
        return;
    };
    let delta = totals.since(account.last);
    account.last = account.last.max(totals);
    let Some(newest) = account.newest else { return };
    account.paid = account.paid.plus(delta);
    if let Some(child) = table.get_mut(newest) {
        let before = child.bill.by_parent.unwrap_or_default();
        child.bill.by_parent = Some(before.plus(delta));
    }
}

/// Makes `child` the newest child that shares pages with `parent`: `bytes` of them at first, if that is known.
pub(super) fn link(table: &mut Table, parent: Key, child: Key, bytes: Option<u64>) {
    let Some(Made { account, .. }) = table.made(parent) else {
        return;
    };
    let older = account.newest.replace(child);
    let parent_then = account.last.unshared_bytes;
    if let Some(entry) = table.get_mut(child) {
        entry.bill.by_parent = Some(Copies::default());
        entry.bill.overlapped = older.is_some();
        entry.bill.shared_bytes = bytes;
        entry.bill.parent_then = parent_then;
        entry.bill.parent = Some(parent);
        entry.bill.older = older;
        entry.bill.newer = None;
    }
    if let Some(entry) = older.and_then(|key| table.get_mut(key)) {
        entry.bill.newer = Some(child);
        entry.bill.overlapped = true;
    }
}

/// Ends the sharing of `child`, which runs a program of its own or has ended. `totals` are those of
/// its parent, when known.
pub(super) fn unlink(table: &mut Table, child: Key, totals: Option<Copies>) {
    let Some(parent) = table.get(child).and_then(|entry| entry.bill.parent) else {
        return;
    };
    if let Some(totals) = totals {
        charge(table, parent, totals);
    }
    let Some(entry) = table.get_mut(child) else {
        return;
    };
    entry.bill.parent = None;
    let (newer, older) = (entry.bill.newer.take(), entry.bill.older.take());
    if let Some(entry) = older.and_then(|key| table.get_mut(key)) {
        entry.bill.newer = newer;
    }
    match newer.and_then(|key| table.get_mut(key)) {
        Some(entry) => entry.bill.older = older,
        None => {
            if let Some(payer) = table.get_mut(parent).and_then(|payer| payer.made.as_mut()) {
                payer.account.newest = older;
            }
        }
    }
}

/// Ends the sharing of all children of `parent`, which left the memory that they share. `totals` are
/// its own, when known. Each child is linked once, so all calls together cost no more than the links.
pub(super) fn leave(table: &mut Table, parent: Key, totals: Option<Copies>) {
    if let Some(totals) = totals {
        charge(table, parent, totals);
    }
    while let Some(child) = table.get(parent).and_then(Process::newest_sharer) {
        unlink(table, child, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::process::Id;

    fn copies(copies: u64) -> Copies {
        Copies { copies, reuses: copies / 2, bytes: copies * 4096, unshared_bytes: copies * 4096 }
    }

    fn table(processes: u32) -> (Table, Vec<Key>) {
        let mut table = Table::new(processes as usize);
        let keys = (1..=processes)
            .map(|tgid| table.insert(Process::new(Id { tgid, ticks: 1 }, 0)).unwrap())
            .collect();
        (table, keys)
    }

    fn charged(table: &Table, key: Key) -> Option<u64> {
        table.get(key).unwrap().bill.by_parent.map(|c| c.copies)
    }

    /// ```text
    /// parent  --f--------f-----------------x
    /// a         +========|=======x            pays 1..3 and 8..9: the newest while b is gone
    /// b                  +==e                 pays 3..8
    /// totals    1        3  8    9        12
    /// ```
    #[test]
    fn the_newest_sharer_is_charged_and_the_sum_is_the_total() {
        let (mut table, keys) = table(3);
        let [parent, a, b] = keys[..] else { panic!() };
        begin(&mut table, parent, copies(1));
        link(&mut table, parent, a, None);
        charge(&mut table, parent, copies(3));
        link(&mut table, parent, b, None);
        unlink(&mut table, b, Some(copies(8)));
        unlink(&mut table, a, Some(copies(9)));
        leave(&mut table, parent, Some(copies(12)));
        assert_eq!(charged(&table, a), Some(3));
        assert_eq!(charged(&table, b), Some(5));
        let overlapped = [a, b].map(|key| table.get(key).unwrap().bill.overlapped);
        assert_eq!(overlapped, [true, true]);
        let account = table.get(parent).unwrap().made.as_ref().unwrap().account;
        assert_eq!((account.paid.copies, account.last.copies), (8, 12), "4 are charged to nobody");
        assert!(account.newest.is_none());
    }

    #[test]
    fn a_child_in_the_middle_leaves_the_others_linked() {
        let (mut table, keys) = table(4);
        let [parent, a, b, c] = keys[..] else { panic!() };
        for child in [a, b, c] {
            link(&mut table, parent, child, None);
        }
        unlink(&mut table, b, Some(copies(1)));
        unlink(&mut table, c, Some(copies(2)));
        unlink(&mut table, b, Some(copies(50)));
        leave(&mut table, parent, Some(copies(3)));
        assert_eq!([a, b, c].map(|key| charged(&table, key)), [Some(1), Some(0), Some(2)]);
    }

    #[test]
    fn totals_that_go_back_charge_nothing() {
        let (mut table, keys) = table(2);
        let [parent, a] = keys[..] else { panic!() };
        link(&mut table, parent, a, None);
        charge(&mut table, parent, copies(10));
        charge(&mut table, parent, copies(4));
        charge(&mut table, parent, copies(11));
        assert_eq!(charged(&table, a), Some(11));
    }

    #[test]
    fn a_removed_sharer_or_parent_is_no_danger() {
        let (mut table, keys) = table(3);
        let [parent, a, b] = keys[..] else { panic!() };
        link(&mut table, parent, a, None);
        unlink(&mut table, a, None);
        table.remove(a);
        link(&mut table, parent, b, None);
        leave(&mut table, parent, None);
        table.remove(parent);
        unlink(&mut table, b, Some(copies(1)));
        assert_eq!(charged(&table, b), Some(0));
    }

    #[test]
    fn what_is_copied_is_shared_no_more() {
        let (mut table, keys) = table(2);
        let [parent, a] = keys[..] else { panic!() };
        begin(&mut table, parent, copies(5));
        link(&mut table, parent, a, Some(100 * 4096));
        let shared = |table: &mut Table, own: u64| {
            table.get_mut(a).unwrap().unshared_bytes = own * 4096;
            let get = |key| table.get(key).unwrap();
            get(a).still_shares(get(parent)).unwrap() / 4096
        };
        assert_eq!(shared(&mut table, 0), 100);
        charge(&mut table, parent, copies(15));
        assert_eq!(shared(&mut table, 20), 70);
        assert_eq!(shared(&mut table, 1000), 0);
        assert!(!table.get(a).unwrap().bill.overlapped);
    }
}
