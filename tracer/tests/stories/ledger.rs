//! What processes inherit, keep and lose.

use tracer::{lifecycle::Config, lifecycle::LedgerMode, record::MAX_LINE_BYTES};
use tracer_common::ledger::{
    DEFAULT_PRIO, Facts, KNOWS_FDS, KNOWS_LIMITS, KNOWS_MEMORY, KNOWS_SIGNALS, LIMITS, Limit, Phase,
};

use super::{
    check,
    common::{CLONE_VM_VFORK, SYS_VFORK, Story, follow, full},
};

const ENOENT: u32 = 2;
const CLONE_FILES: u64 = 0x400;

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

fn with(ledger: LedgerMode) -> Story {
    let mut s = Story::new(Config { ledger, ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s
}

/// A shell with standard input, output and error, that ignores SIGPIPE and catches SIGCHLD.
fn facts() -> Facts {
    let mut facts = Facts {
        uid: 1000,
        gid: 100,
        euid: 1000,
        egid: 100,
        static_prio: DEFAULT_PRIO,
        umask: 0o22,
        known: KNOWS_SIGNALS | KNOWS_LIMITS | KNOWS_FDS | KNOWS_MEMORY,
        max_fds: 256,
        ignored: bit(13),
        caught: bit(17),
        limits: [Limit { soft: u64::MAX, hard: u64::MAX }; LIMITS],
        text_bytes: 81_920,
        data_bytes: 4_096,
        args_bytes: 3,
        environment_bytes: 40,
        ..Facts::default()
    };
    facts.open[0] = 0b111;
    facts.limits[7] = Limit { soft: 1024, hard: 4096 };
    facts
}

fn changed(from: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = from;
    change(&mut facts);
    facts
}

/// What exec does to all.
fn executed(before: Facts) -> Facts {
    changed(before, |facts| {
        facts.caught = 0;
        for (open, cloexec) in facts.open.iter_mut().zip(&facts.cloexec) {
            *open &= !cloexec;
        }
        facts.args_bytes = 5;
    })
}

fn born(s: &mut Story, pid: u32) -> &mut Story {
    s.ledger(pid, Phase::Parent, facts()).ledger(pid, Phase::Birth, facts()).fork(100, pid)
}

/// A child that only executes, and one that changes all before; the second program of that one changes nothing. A
/// set-user-ID program comes last.
fn family(s: &mut Story) {
    born(s, 200);
    s.at(2001).ledger(200, Phase::Before, facts()).ledger(200, Phase::After, executed(facts()));
    s.exec(200, "/bin/true", "true").at(2002).exit(200, 0).wait(100, 200);
    let own = changed(facts(), |facts| {
        facts.uid = 0;
        facts.static_prio = DEFAULT_PRIO - 5;
        facts.umask = 0o137;
        facts.limits[7] = Limit { soft: 200, hard: 300 };
        facts.limits[4].soft = 0;
        facts.ignored = bit(10);
        facts.caught |= bit(12) | bit(15);
        facts.blocked = bit(1) | bit(64);
        facts.max_fds = 4096;
        facts.open[0] = 0xff;
        facts.open[15] = 1 << 63;
        facts.cloexec[0] = 0xf0;
    });
    born(s.at(2003), 201).at(2004).ledger(201, Phase::Before, own);
    s.ledger(201, Phase::After, executed(own)).exec(201, "/bin/a", "a");
    let own = executed(own);
    let owned = changed(own, |facts| facts.euid = 0);
    s.at(2005).ledger(201, Phase::Before, own).ledger(201, Phase::After, own).exec(201, "/bin/b", "b");
    s.at(2006).ledger(201, Phase::Before, own).ledger(201, Phase::After, owned);
    s.exec(201, "/bin/c", "c").at(2007).exit(201, 0).wait(100, 201).tick();
}

#[test]
fn changes() {
    let mut s = with(LedgerMode::Changes);
    family(&mut s);
    check("ledger_changes", s);
}

#[test]
fn all_of_it() {
    let mut s = with(LedgerMode::Full);
    family(&mut s);
    check("ledger_full", s);
}

/// What is not plain inheritance at a birth: a table that is shared, handlers that are reset, a nice value that is.
#[test]
fn births() {
    let mut s = with(LedgerMode::Full);
    let parent = changed(facts(), |facts| facts.static_prio = DEFAULT_PRIO - 1);
    let child = changed(facts(), |facts| (facts.caught, facts.known) = (0, facts.known & !KNOWS_MEMORY));
    s.ledger(200, Phase::Parent, parent).ledger(200, Phase::Birth, child);
    s.fork_as(100, 200, CLONE_VM_VFORK | CLONE_FILES, SYS_VFORK).at(2001).exit(200, 0).wait(100, 200);
    // Neither of the states, and the second one only.
    s.at(2002).fork(100, 201).exit(201, 0).wait(100, 201);
    s.at(2003).ledger(202, Phase::Birth, facts()).fork(100, 202).exit(202, 0).wait(100, 202).tick();
    // One whose birth is never told is forgotten.
    s.at(2004).ledger(203, Phase::Parent, facts()).ledger(203, Phase::Birth, facts());
    s.at(4000).tick().fork_with(100, 203, |fork| fork.header.start_time_ns = 2004 * 1_000_000).tick();
    check("ledger_births", s);
}

/// A process from before, whose first state is that before its exec, or nothing; states that belong to another exec.
#[test]
fn what_is_not_known() {
    let mut s = with(LedgerMode::Changes);
    let after = changed(executed(facts()), |facts| facts.euid = 0);
    s.at(2001).ledger(100, Phase::After, after).exec(100, "/bin/a", "a");
    s.at(2002).exec(100, "/bin/b", "b");
    s.at(2003).ledger(100, Phase::Before, facts()).ledger(100, Phase::After, after).exec(100, "/bin/c", "c");
    // That before is of an exec that failed, and of another thread.
    s.at(2004).ledger(100, Phase::Before, facts()).exec_failed(100, "/bin/d", ENOENT);
    s.ledger(100, Phase::After, changed(after, |facts| facts.uid = 7)).exec(100, "/bin/e", "e");
    s.at(2005).ledger(100, Phase::Before, facts()).ledger(100, Phase::After, after);
    s.exec_with(100, "/bin/f", "", b"f\0", |exec| exec.old_tid = 101);
    // Nothing but ids can be read.
    let hidden = Facts { uid: 1000, euid: 5, static_prio: DEFAULT_PRIO, ..Facts::default() };
    s.at(2006).ledger(100, Phase::Before, hidden).ledger(100, Phase::After, hidden).exec(100, "/bin/g", "g");
    s.at(2007).exit(100, 0).free(100, 1).tick();
    check("ledger_unknown", s);
}

/// Everything differs, and paths leave no room: the line is short enough, and says what is not on it.
#[test]
fn the_longest_lines() {
    let mut s = with(LedgerMode::Full);
    let all = changed(facts(), |facts| {
        (facts.ignored, facts.blocked, facts.caught) = (u64::MAX >> 32, u64::MAX, u64::MAX << 32);
        facts.limits = [Limit { soft: u64::MAX - 1, hard: u64::MAX - 2 }; LIMITS];
        (facts.uid, facts.gid, facts.euid, facts.egid) = (u32::MAX, u32::MAX, u32::MAX, u32::MAX);
        (facts.static_prio, facts.umask, facts.max_fds) = (0, 0o777, u32::MAX);
        facts.open = [u64::MAX; 16];
    });
    let none = changed(facts(), |facts| facts.ignored = 0);
    let path = "\u{1}".repeat(512);
    s.ledger(200, Phase::Parent, none).ledger(200, Phase::Birth, all).fork(100, 200);
    born(&mut s, 201);
    for number in 0..6 {
        let all = changed(all, |facts| {
            for limit in &mut facts.limits {
                limit.soft -= number;
            }
            facts.uid -= number as u32;
        });
        s.ledger(201, Phase::Before, all).ledger(201, Phase::After, changed(all, |facts| facts.caught = 0));
        s.exec_with(201, &path, &path, &[1; 4000], |_| {});
    }
    s.at(2007).exit(201, 0).wait(100, 201).exit(200, 0).wait(100, 200).tick();
    let lines = follow(&s.recording(), &Default::default());
    let longest = lines.lines().map(str::len).max();
    assert!(longest < Some(MAX_LINE_BYTES), "{longest:?}");
    let with = |text: &str| lines.lines().filter(|line| line.contains(text)).count();
    assert_eq!(with("\"changed\":{\"uid\""), 8, "the birth, all execs, the timeline");
    assert_eq!(with("\"nofile\""), 2, "where there is room: in the births");
    assert_eq!(with("\"limits\":null"), 7, "elsewhere it is not as if nothing had changed");
}
