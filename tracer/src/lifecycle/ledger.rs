//! What processes inherit, keep and lose: states are compared, and what differs is told.
//!
//! The state at a birth or after an exec comes before the record of the birth or the exec itself. It is kept until that
//! comes: of a child by its identity, since it is not in the table yet, of others with the process.

use foldhash::HashMap;

use serde::{Deserialize, Serialize};
use tracer_common::{
    event::{Exec, Fork},
    ledger::{
        DEFAULT_PRIO, FDS, Facts, KNOWS_FDS, KNOWS_LIMITS, KNOWS_MEMORY, KNOWS_SIGNALS, LIMITS, Ledger, Phase,
    },
};

use super::{Lifecycle, process::Id, table::Key};
use crate::record::{
    self, Against, All, AllFds, AllSignals, Change, Changed, Fds, How, Ids, LedgerField, Limits, Memory,
    SignalChanges, SignalSet, Umask,
};

/// CLONE_FILES, include/uapi/linux/sched.h.
const CLONE_FILES: u64 = 0x400;

/// Most births that are kept for the record of the birth itself; it follows at once.
const MAX_BIRTHS: usize = 1024;
/// How long.
const WITHIN_NS: u64 = 1_000_000_000;

/// How much is told of what a process inherits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerMode {
    /// Nothing.
    #[default]
    Off,
    /// What differs from plain inheritance.
    Changes,
    /// Also all that is the same.
    Full,
}

/// The states at births whose own record has not come yet.
#[derive(Debug, Default)]
pub(super) struct Births(HashMap<Id, Pending>);

#[derive(Debug)]
struct Pending {
    ktime_ns: u64,
    parent: Box<Facts>,
    child: Option<Box<Facts>>,
}

/// What is known of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Inheritance {
    /// Its state at its birth or after its last exec.
    last: Option<Box<Facts>>,
    /// `last` is of an exec.
    has_run: bool,
    /// Its state when a thread called exec last, and which thread that was.
    before: Option<(u32, Box<Facts>)>,
    /// Its state in a program whose exec is told next.
    after: Option<Box<Facts>>,
    /// The ledger of its last exec.
    told: Option<Box<record::Ledger>>,
}

impl Lifecycle {
    pub(super) fn ledger(&mut self, ledger: &Ledger) {
        const PARENT: u32 = Phase::Parent as u32;
        const BIRTH: u32 = Phase::Birth as u32;
        const BEFORE: u32 = Phase::Before as u32;
        const AFTER: u32 = Phase::After as u32;
        let Ledger { header, phase, facts, .. } = ledger;
        self.advance(header.ktime_ns);
        if self.config.ledger == LedgerMode::Off {
            return;
        }
        let id = self.id_of(header);
        let process = |lifecycle: &Self| lifecycle.table.key(id);
        match *phase {
            PARENT if self.births.0.len() < MAX_BIRTHS => {
                let pending = Pending { ktime_ns: header.ktime_ns, parent: Box::new(*facts), child: None };
                self.births.0.insert(id, pending);
            }
            BIRTH => {
                if let Some(pending) = self.births.0.get_mut(&id) {
                    pending.child = Some(Box::new(*facts));
                }
            }
            BEFORE => {
                if let Some(inheritance) = process(self).and_then(|key| self.inheritance(key)) {
                    inheritance.before = Some((header.tid, Box::new(*facts)));
                    inheritance.after = None;
                }
            }
            AFTER => {
                if let Some(inheritance) = process(self).and_then(|key| self.inheritance(key)) {
                    inheritance.after = Some(Box::new(*facts));
                }
            }
            _ => {}
        }
    }

    fn inheritance(&mut self, key: Key) -> Option<&mut Inheritance> {
        let process = self.table.get_mut(key).filter(|process| !process.has_ended())?;
        Some(process.inheritance.get_or_insert_default())
    }

    /// Forgets births that were never told.
    pub(super) fn forget_old_births(&mut self) {
        let before = self.now_ns.saturating_sub(WITHIN_NS);
        self.births.0.retain(|_, pending| pending.ktime_ns > before);
    }

    /// The ledger of a birth, which is also kept as the child's first state.
    pub(super) fn ledger_of_birth(
        &mut self,
        child: Key,
        id: Id,
        fork: &Fork,
        clone_flags: Option<u64>,
    ) -> Option<record::Ledger> {
        let Pending { parent, child: facts, .. } = self.births.0.remove(&id)?;
        let facts = facts?;
        let fds = (parent.known & facts.known & KNOWS_FDS != 0).then(|| Fds::Fork {
            shared_offsets: count(&parent.open, |open, word| open & facts.open[word]),
            shared_table: clone_flags.map(|flags| flags & CLONE_FILES != 0),
            bounded: facts.max_fds > FDS,
        });
        let how = if fork.shares_mm != 0 { How::Shared } else { How::Copied };
        let ledger = record::Ledger {
            against: Some(Against::Parent),
            changed: changed(Some(&parent), &facts),
            by_exec: None,
            signals: signals(Some(&parent), Some(&parent), &facts, facts.blocked & !parent.blocked),
            fds,
            all: (self.config.ledger == LedgerMode::Full).then(|| all(&facts, how)),
        };
        let inheritance = self.inheritance(child)?;
        inheritance.last = Some(facts);
        Some(ledger)
    }

    /// Makes the ledger of an exec.
    pub(super) fn settle_exec(&mut self, key: Key, exec: &Exec) {
        let is_full = self.config.ledger == LedgerMode::Full;
        let Some(inheritance) = self.table.get_mut(key).and_then(|process| process.inheritance.as_mut())
        else {
            return;
        };
        let before =
            inheritance.before.take().filter(|(tid, _)| *tid == exec.old_tid).map(|(_, facts)| facts);
        let Some(after) = inheritance.after.take() else {
            // It is not known from now on.
            inheritance.last = None;
            inheritance.told = None;
            return;
        };
        let before = before.as_deref();
        let (against, reference) = match (&inheritance.last, before) {
            (Some(last), _) if inheritance.has_run => (Some(Against::Exec), Some(&**last)),
            (Some(last), _) => (Some(Against::Birth), Some(&**last)),
            (None, Some(before)) => (Some(Against::Call), Some(before)),
            (None, None) => (None, None),
        };
        let changed = changed(reference, &after);
        let ledger = record::Ledger {
            against,
            changed,
            by_exec: by_exec(before, &after, changed),
            signals: signals(reference, before, &after, after.blocked),
            fds: (after.known & KNOWS_FDS != 0).then(|| Fds::Exec {
                kept: count(&after.open, |open, _| open),
                closed: before
                    .filter(|before| before.known & KNOWS_FDS != 0)
                    .map(|before| count(&before.open, |open, word| open & !after.open[word])),
                passed_above_2: above_2(&after),
                bounded: after.max_fds > FDS,
            }),
            all: is_full.then(|| all(&after, How::Replaced)),
        };
        inheritance.told = Some(Box::new(ledger));
        inheritance.last = Some(after);
        inheritance.has_run = true;
    }

    /// What a line says of the last exec.
    pub(super) fn ledger_of_exec<'a>(&self, process: &'a super::Process) -> LedgerField<'a> {
        let told = || process.inheritance.as_ref().and_then(|inheritance| inheritance.told.as_deref());
        (self.config.ledger != LedgerMode::Off).then(told)
    }
}

/// A failed exec has changed nothing: its state before is of no use any more.
pub(super) fn forget_call(process: &mut super::Process) {
    if let Some(inheritance) = &mut process.inheritance {
        inheritance.before = None;
    }
}

/// The sum of bits in what `of` makes of each word.
fn count<const N: usize>(words: &[u64; N], of: impl Fn(u64, usize) -> u64) -> u32 {
    words.iter().enumerate().map(|(number, &word)| of(word, number).count_ones()).sum()
}

/// Open descriptors but standard input, output and error.
fn above_2(facts: &Facts) -> u32 {
    count(&facts.open, |open, word| if word == 0 { open & !7 } else { open })
}

const fn nice(facts: &Facts) -> i32 {
    facts.static_prio.wrapping_sub(DEFAULT_PRIO).cast_signed()
}

/// `None` when nothing differs, `Some(None)` when there is nothing to compare with.
fn changed(from: Option<&Facts>, to: &Facts) -> Option<Option<Changed>> {
    let Some(from) = from else {
        return Some(None);
    };
    let limits = if from.known & to.known & KNOWS_LIMITS == 0 {
        Some(None)
    } else {
        let pairs = from.limits.iter().zip(&to.limits).enumerate();
        let told = pairs.fold(0, |told, (number, (from, to))| told | u16::from(from != to) << number);
        (told != 0).then_some(Some(Limits { now: to.limits, told }))
    };
    let changed = Changed {
        uid: Change::new(from.uid, to.uid),
        gid: Change::new(from.gid, to.gid),
        euid: Change::new(from.euid, to.euid),
        egid: Change::new(from.egid, to.egid),
        nice: Change::new(nice(from), nice(to)),
        umask: Change::new(Umask(from.umask), Umask(to.umask)),
        limits,
    };
    (changed != Changed::default()).then_some(Some(changed))
}

/// Which ids the exec itself changed; `Some(None)` when some have changed and it is not known when.
fn by_exec(before: Option<&Facts>, after: &Facts, changed: Option<Option<Changed>>) -> Option<Option<Ids>> {
    let Some(before) = before else {
        let changed = changed.flatten()?;
        let is_id = [changed.uid, changed.gid, changed.euid, changed.egid].iter().any(Option::is_some);
        return is_id.then_some(None);
    };
    let ids = Ids {
        uid: before.uid != after.uid,
        gid: before.gid != after.gid,
        euid: before.euid != after.euid,
        egid: before.egid != after.egid,
    };
    (ids != Ids::default()).then_some(Some(ids))
}

/// `before` had handlers that may be gone now. Blocked signals are not compared with those at the birth: C libraries
/// block all of them around a fork, in parent and child. `None` when there is nothing to tell, `Some(None)` when it is not known.
fn signals(
    from: Option<&Facts>,
    before: Option<&Facts>,
    to: &Facts,
    blocked: u64,
) -> Option<Option<SignalChanges>> {
    let knows = |facts: &&Facts| facts.known & KNOWS_SIGNALS != 0;
    let (Some(from), true) = (from.filter(knows), knows(&to)) else {
        return Some(None);
    };
    let reset = match before.filter(knows) {
        Some(before) => {
            let reset = before.caught & !to.caught & !to.ignored;
            (reset != 0).then_some(Some(SignalSet(reset)))
        }
        None => Some(None),
    };
    let changes = SignalChanges {
        reset,
        ignored: SignalSet(to.ignored & !from.ignored),
        unignored: SignalSet(from.ignored & !to.ignored),
        blocked: SignalSet(blocked),
    };
    (changes != SignalChanges::default()).then_some(Some(changes))
}

fn all(facts: &Facts, how: How) -> All {
    let knows = |what| facts.known & what != 0;
    All {
        uid: facts.uid,
        gid: facts.gid,
        euid: facts.euid,
        egid: facts.egid,
        nice: nice(facts),
        umask: Umask(facts.umask),
        limits: knows(KNOWS_LIMITS)
            .then_some(Limits { now: facts.limits, told: ((1_u32 << LIMITS) - 1) as u16 }),
        signals: knows(KNOWS_SIGNALS).then_some(AllSignals {
            ignored: SignalSet(facts.ignored),
            caught: SignalSet(facts.caught),
            blocked: SignalSet(facts.blocked),
        }),
        fds: knows(KNOWS_FDS).then(|| AllFds {
            open: count(&facts.open, |open, _| open),
            cloexec: count(&facts.open, |open, word| open & facts.cloexec[word]),
            above_2: above_2(facts),
        }),
        memory: knows(KNOWS_MEMORY).then_some(Memory {
            how,
            text_bytes: facts.text_bytes,
            data_bytes: facts.data_bytes,
            args_bytes: facts.args_bytes,
            environment_bytes: facts.environment_bytes,
        }),
    }
}
