//! How lives come into the table: by fork, or because they were there before.

use tracer_common::{
    counter::PAGE_BYTES,
    event::{FLAG_LATE, FLAG_NO_COUNTERS, FLAG_NO_PARENT, FLAG_PARENT_OUTSIDE, Fork},
};

use super::{
    LedgerMode, Lifecycle, Output, bill,
    copies::Copies,
    image::Parts,
    process::{Birth, Id, Made, Process, State},
    table::Key,
};
use crate::{
    decode::Snapshot,
    level::Level,
    record::{ForkFacts, ForkKind, ForkStep, Missing, OrUnknown, Origin, Record},
};

// CLONE_* flags, include/uapi/linux/sched.h.
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
/// What fork(3) of a C library may set: nothing of it changes what is shared.
const OF_FORK: u64 = CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID;

/// No system call made it ([`Fork::syscall`]).
const NO_SYSCALL: u32 = u32::MAX;

/// vfork(2) of x86_64, and of 32-bit programs.
const VFORK: [u32; 2] = [58, 190];

fn kind(clone_flags: u64, syscall: Option<u32>) -> ForkKind {
    match (clone_flags & CLONE_VM != 0, clone_flags & CLONE_VFORK != 0) {
        (true, true) if syscall.is_some_and(|number| VFORK.contains(&number)) => ForkKind::Vfork,
        (true, true) => ForkKind::PosixSpawn,
        (false, false) if clone_flags & !OF_FORK == 0 => ForkKind::Fork,
        _ => ForkKind::Clone,
    }
}

/// Bytes of a number of pages, unless it is unknown. A sum that the kernel keeps per CPU can be below zero for a
/// moment, which is no better.
fn bytes(pages: u64) -> Option<u64> {
    i64::try_from(pages).ok().map(|_| pages.saturating_mul(PAGE_BYTES))
}

impl Birth {
    fn of(fork: &Fork) -> Self {
        let syscall = (fork.syscall != NO_SYSCALL).then_some(fork.syscall);
        Self {
            ktime_ns: born_ns(fork),
            clone_flags: fork.clone_flags,
            pgtable_bytes: fork.pgtable_bytes,
            anon_pages: fork.anon_pages,
            file_pages: fork.file_pages,
            shmem_pages: fork.shmem_pages,
            duration_ns: fork.duration_ns,
            eager_copies: fork.eager_copies,
            syscall: fork.syscall,
            vmas: fork.mappings,
            kind: kind(fork.clone_flags, syscall),
            shares_mm: fork.shares_mm != 0,
        }
    }

    /// The system call that made it, if it was one.
    pub(super) fn syscall(&self) -> Option<u32> {
        (self.syscall != NO_SYSCALL).then_some(self.syscall)
    }

    /// A kernel thread's are never 0 (kernel_thread() adds CLONE_VM): then nobody told.
    pub(super) fn clone_flags(&self) -> Option<u64> {
        (self.syscall != NO_SYSCALL || self.clone_flags != 0).then_some(self.clone_flags)
    }

    /// Anonymous memory that parent and child share after the fork: not the pages that it copied.
    fn shared_anon_bytes(&self) -> Option<u64> {
        Some(bytes(self.anon_pages)?.saturating_sub(bytes(self.eager_copies)?))
    }

    /// What the fork took for each MiB of memory that it mapped for the child.
    fn ns_per_mib(&self) -> Option<u64> {
        let mapped = bytes(self.anon_pages)?.checked_add(bytes(self.file_pages)?)?;
        let mapped = mapped.checked_add(bytes(self.shmem_pages)?)?;
        if self.duration_ns == 0 || mapped == 0 {
            return None;
        }
        u64::try_from((u128::from(self.duration_ns) << 20) / u128::from(mapped)).ok()
    }

    /// As a record tells it, as far as `level` knows.
    pub(super) fn facts(&self, level: Level) -> ForkFacts {
        ForkFacts {
            kind: self.kind,
            clone_flags: self.clone_flags(),
            syscall: self.syscall(),
            shares_mm: self.shares_mm,
            pgtable_bytes: OrUnknown(self.pgtable_bytes),
            vmas: (self.vmas != u32::MAX).then_some(self.vmas),
            duration_ns: (self.duration_ns != 0).then_some(self.duration_ns),
            ns_per_mib: (!self.shares_mm).then(|| self.ns_per_mib()),
            shared_anon_bytes: self.shared_anon_bytes(),
            shared_file_bytes: bytes(self.file_pages),
            shared_shmem_bytes: bytes(self.shmem_pages),
            eager_copies: Some(self.eager_copies)
                .filter(|&copies| level.has_allocations() && copies != u64::MAX),
        }
    }
}

/// When the child was born: a late record tells it afterwards.
fn born_ns(fork: &Fork) -> u64 {
    if fork.header.flags & FLAG_LATE == 0 { fork.header.ktime_ns } else { fork.header.start_time_ns }
}

impl Lifecycle {
    pub(super) fn fork(&mut self, fork: &Fork, out: &mut dyn Output) {
        let header = &fork.header;
        self.advance(header.ktime_ns);
        let id = self.id_of(header);
        let known = match self.vacate(id) {
            None => {
                self.anomalies.births_again += 1;
                return;
            }
            Some(known) => known,
        };
        if known.and_then(|key| self.table.get(key)).is_some_and(|process| process.birth.is_some()) {
            self.anomalies.births_again += 1;
            return;
        }
        let is_command = fork.parent_tgid == self.config.self_tgid;
        let parent_id = self.id(fork.parent_tgid, fork.parent_start_time_ns);
        // Of a parent that was left out by its name nothing else is told; nor what it did for a child that was.
        let knows_parent = header.flags & (FLAG_LATE | FLAG_PARENT_OUTSIDE) == 0;
        if knows_parent && !is_command && parent_id != id {
            self.life(parent_id, fork.parent_start_time_ns, out);
        }
        // A child that was found in /proc before its birth was read is the same life.
        let Some(child) = known.or_else(|| self.enter(Process::new(id, header.start_time_ns), out)) else {
            return;
        };
        // Entering the child may have made room by removing the parent.
        let parent = self.table.key(parent_id).filter(|&key| knows_parent && key != child);
        if header.flags & FLAG_LATE != 0
            && let Some(process) = self.table.get_mut(child)
        {
            process.missing = process.missing.with(Missing::BEFORE_MATCH);
            if fork.parent_tgid == 0 {
                process.found(fork);
                return;
            }
        }
        let birth = Birth::of(fork);
        self.describe_birth(child, parent, fork, birth, is_command);
        self.mark_root(child);
        if let Some(parent) = parent {
            self.bill_birth(child, parent, fork, &birth);
        }
        let ledger = self.ledger_of_birth(child, id, fork, birth.clone_flags());
        if let Some(process) = self.stepping(child) {
            out.record(&Record::Fork(ForkStep {
                time: self.wall(born_ns(fork)),
                subject: process.subject(),
                entity: self.process_id(process.id),
                vpid: process.other_vpid(),
                parent: self.process_id(parent_id),
                fork: birth.facts(self.config.cow),
                ledger: (self.config.ledger != LedgerMode::Off).then_some(ledger.as_ref()),
            }));
        }
    }

    /// Fills in what a fork record tells of the child.
    fn describe_birth(
        &mut self,
        child: Key,
        parent: Option<Key>,
        fork: &Fork,
        birth: Birth,
        is_command: bool,
    ) {
        let header = &fork.header;
        let inherited =
            parent.and_then(|key| self.table.get(key)).map(|parent| (parent.image, parent.in_tree));
        let parent_id = self.id(fork.parent_tgid, fork.parent_start_time_ns);
        let Some(process) = self.table.get_mut(child) else {
            return;
        };
        process.origin = if is_command { Origin::Command } else { Origin::Fork };
        process.missing = process.missing.without(Missing::BIRTH);
        if header.flags & FLAG_NO_COUNTERS != 0 {
            process.missing = process.missing.with(Missing::COUNTERS);
        }
        if !process.has_ended() && process.execs == 0 {
            process.state = State::Forked;
        }
        process.described_by(fork);
        process.parent = Some(parent_id);
        process.birth = Some(birth);
        if let Some((image, in_tree)) = inherited {
            process.in_tree |= in_tree;
            if process.image.is_none() {
                process.image = image.map(|image| self.images.retain(image));
            }
        }
    }

    /// Counts the child on its parent, and lets it share the parent's bill.
    fn bill_birth(&mut self, child: Key, parent: Key, fork: &Fork, birth: &Birth) {
        if fork.header.flags & FLAG_NO_PARENT == 0 {
            // What fork copied at once was copied for this child: it is charged with what follows.
            let eager = Copies {
                copies: fork.eager_copies,
                bytes: fork.eager_copies.saturating_mul(PAGE_BYTES),
                ..Copies::default()
            };
            bill::begin(&mut self.table, parent, Copies::from(fork.parent).since(eager));
            let shares = self
                .table
                .get(child)
                .is_some_and(|process| fork.shares_mm == 0 && process.execs == 0 && !process.has_ended());
            let parent_lives = self.table.get(parent).is_some_and(|p| !p.has_ended());
            if shares && parent_lives {
                bill::link(&mut self.table, parent, child, birth.shared_anon_bytes());
                self.expect_progress(child, fork.header.ktime_ns);
            }
        }
        if let Some(Made { children, .. }) = self.table.made(parent) {
            let count = match birth.kind {
                ForkKind::Fork => &mut children.forks,
                ForkKind::Vfork => &mut children.vforks,
                ForkKind::PosixSpawn => &mut children.spawns,
                ForkKind::Clone => &mut children.clones,
            };
            *count += 1;
        }
    }

    pub(super) fn snapshot(&mut self, snapshot: &Snapshot<'_>, out: &mut dyn Output) {
        let id = Id { tgid: snapshot.tgid, ticks: snapshot.start_ticks };
        let key = match self.vacate(id) {
            None => return,
            Some(Some(key)) => key,
            Some(None) => {
                let start_ns = snapshot.start_ticks.saturating_mul(self.ns_per_tick);
                let Some(key) = self.enter(Process::new(id, start_ns), out) else {
                    return;
                };
                key
            }
        };
        let parent_id = self.parent_of(snapshot).filter(|&parent| parent != id);
        let parent = parent_id.and_then(|id| self.table.key(id)).and_then(|key| self.table.get(key));
        let parent_in_tree = parent.is_some_and(|parent| parent.in_tree);
        let Some(process) = self.table.get_mut(key).filter(|p| !p.has_ended()) else {
            return;
        };
        if process.origin == Origin::Unknown {
            process.origin = Origin::Snapshot;
            process.in_tree |= parent_in_tree;
            process.parent = process.parent.or(parent_id);
            if process.state == State::Unknown {
                process.state = State::Seen;
            }
        }
        process.vpid = process.vpid.or(Some(snapshot.vpid));
        process.uid = process.uid.or(Some(snapshot.uid));
        process.gid = process.gid.or(Some(snapshot.gid));
        process.real_parent = process.real_parent.or(Some(snapshot.ppid));
        process.place = process.place.or(Some(snapshot.place));
        if process.comm == [0; 16] {
            let len = snapshot.comm.len().min(process.comm.len());
            process.comm[..len].copy_from_slice(&snapshot.comm[..len]);
        }
        if process.image.is_none() && !snapshot.exe.is_empty() {
            let args = snapshot.args;
            let count = args.split_inclusive(|&byte| byte == 0).count();
            process.image = Some(self.images.insert(Parts {
                path: snapshot.exe,
                interp: b"",
                args,
                argc: u32::try_from(count).unwrap_or(u32::MAX),
                args_bytes: u32::try_from(args.len()).unwrap_or(u32::MAX),
                file: snapshot.file,
                flags: 0,
                env: None,
            }));
        }
        if snapshot.zombie {
            process.state = State::Zombie;
            self.live_count -= 1;
            self.zombie_count += 1;
            self.unreaped.push_back(key);
        }
        self.mark_root(key);
        self.spread_tree(key);
    }

    /// The parent, which `/proc` may list after its child. When its start is not known, or it started in
    /// the first tick, it is the life that has the pid now.
    fn parent_of(&self, snapshot: &Snapshot<'_>) -> Option<Id> {
        match (snapshot.ppid, snapshot.parent_start_ticks) {
            (0, _) => None,
            (tgid, 0) => self.table.by_tgid(tgid).and_then(|key| self.table.get(key)).map(|p| p.id),
            (tgid, ticks) => Some(Id { tgid, ticks }),
        }
    }

    /// Takes the children of a new member of the tree in, which may have been found in `/proc` before it.
    /// Only the daemon's start costs this.
    fn spread_tree(&mut self, root: Key) {
        if self.config.roots.is_empty() {
            return;
        }
        let mut members = vec![root];
        while let Some(key) = members.pop() {
            let Some(member) = self.table.get(key).filter(|process| process.in_tree) else {
                continue;
            };
            let tgid = member.id.tgid;
            let children: Vec<Key> = self
                .table
                .iter()
                .filter(|(_, p)| !p.in_tree && p.real_parent == Some(tgid))
                .map(|(key, _)| key)
                .collect();
            for child in children {
                if let Some(process) = self.table.get_mut(child) {
                    process.in_tree = true;
                }
                members.push(child);
            }
        }
    }
}

impl Process {
    /// Takes over what a fork record tells of the process itself, unless something later has told it.
    fn described_by(&mut self, fork: &Fork) {
        self.vpid = (fork.vpid != 0).then_some(fork.vpid);
        self.uid = self.uid.or(Some(fork.uid));
        self.gid = self.gid.or(Some(fork.gid));
        self.place = self.place.or(Some(fork.place));
        if self.comm == [0; 16] {
            self.comm = fork.comm;
        }
        self.real_parent = self.real_parent.or(Some(fork.real_parent_tgid));
    }

    /// It was there before us, and is traced from now on.
    fn found(&mut self, fork: &Fork) {
        if self.origin == Origin::Unknown {
            self.origin = Origin::Snapshot;
        }
        if self.state == State::Unknown {
            self.state = State::Seen;
        }
        self.described_by(fork);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (flags, syscall, expected) in [
            (0, Some(57), ForkKind::Fork),
            (CLONE_VFORK | CLONE_VM, Some(58), ForkKind::Vfork),
            (CLONE_VFORK | CLONE_VM, Some(435), ForkKind::PosixSpawn),
            (CLONE_VFORK | CLONE_VM, Some(56), ForkKind::PosixSpawn),
            (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, Some(56), ForkKind::Fork),
            (CLONE_VM, Some(56), ForkKind::Clone),
            (CLONE_VFORK, Some(56), ForkKind::Clone),
            (0x2000_0000, Some(56), ForkKind::Clone),
            (CLONE_VM | 0x80_0000, None, ForkKind::Clone),
        ] {
            assert_eq!(kind(flags, syscall), expected, "{flags:#x} {syscall:?}");
        }
    }
}
