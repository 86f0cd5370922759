//! The summary of a run, as a whole text.

mod common;

use common::{CLONE_VM_VFORK, SYS_VFORK, Story, full};
use tracer::{
    decode::LossStage,
    level::Level,
    lifecycle::{Config, Lifecycle},
    record::Record,
    replay::{Head, Reader},
    report::Summary,
};
use tracer_common::event::Kind;

/// The summary of a story of forks and a vfork, with losses.
fn summary(config: Config) -> String {
    let mut s = Story::new(config);
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    // Seven forks; the first shares for long and costs its parent most.
    for (child, pages) in (200..207).zip([300, 5, 4, 3, 2, 1, 0]) {
        s.fork(100, child).copies(child, pages);
        if child % 2 == 0 {
            s.copies(100, pages * 10).exec(child, "/bin/true", "true").exec_failed(child, "x", 2);
        }
        s.exit(child, 0).wait(100, child);
    }
    s.fork_as(100, 300, CLONE_VM_VFORK, SYS_VFORK).exec(300, "/bin/true", "true");
    s.exit(300, 0).wait(100, 300).at(2600).tick();
    s.lost(LossStage::Ring, Some(Kind::Exit), 2).fork(100, 301).lost(LossStage::Late, None, 3);
    s.exit(301, 0).wait(100, 301).at(3200).tick();
    let recording = s.recording();
    let mut reader = Reader::new(&recording[..]).unwrap();
    let Head { config, hello } = reader.head().clone();
    let mut lifecycle = Lifecycle::new(config);
    let mut summary = Summary::default();
    summary.add(&Record::Hello(&hello));
    while let Some(event) = reader.next_event().unwrap() {
        lifecycle.apply(&event, &mut |record: &Record<'_>| summary.add(record));
    }
    summary.to_string()
}

#[test]
fn counted() {
    let expected = "\
tracer: 9 processes, 8 forks, 1 vfork, 0 spawns, 5 execs (4 failed)
  copy-on-write: 315 page copies (1.2 MiB), 0 reuses
  followed by exec: 4 of 8 forks (50 %), wasted on them: 3366 page copies (13.1 MiB)
  lost: 5 events
  most expensive forks:
      12.8 MiB  pid 200 true (exec): 300 page copies by the child, 3000 by its parent
     176.0 KiB  pid 202 true (exec): 4 page copies by the child, 40 by its parent
      88.0 KiB  pid 204 true (exec): 2 page copies by the child, 20 by its parent
      20.0 KiB  pid 201 true (no exec): 5 page copies by the child, 0 by its parent
      12.0 KiB  pid 203 true (no exec): 3 page copies by the child, 0 by its parent
";
    assert_eq!(summary(full()), expected);
}

#[test]
fn not_counted() {
    let expected = "\
tracer: 9 processes, 8 forks, 1 vfork, 0 spawns, 5 execs (4 failed)
  copy-on-write: not counted
  followed by exec: 4 of 8 forks (50 %)
  lost: 5 events
";
    assert_eq!(summary(Config { cow: Level::Off, ..full() }), expected);
}
