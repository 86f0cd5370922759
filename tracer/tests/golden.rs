//! Recorded events, and every line that must come out of them: whole files are compared.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tracer --test golden` writes the files anew; read the difference.

mod common;
#[path = "stories/counts.rs"]
mod counts;
#[path = "stories/execs.rs"]
mod execs;
#[path = "stories/ledger.rs"]
mod ledger;
#[path = "stories/lives.rs"]
mod lives;
#[path = "stories/starts.rs"]
mod starts;
#[path = "stories/walks.rs"]
mod walks;

use std::{fs, path::PathBuf};

use common::{Story, comm, config, follow, follow_as, full, schema::Schema};
use tracer::{
    decode::LossStage,
    filter::Filter,
    level::Level,
    lifecycle::Config,
    record::{Account, Bye, Calibration, Hello, KindCounts, Lost, Reason, Record, Time},
    verify,
};
use tracer_common::event::{KINDS, Kind};

/// Compares what follows from `story` with the file of this name.
fn check(name: &str, story: Story) {
    check_filtered(name, story, &Filter::default());
}

fn check_filtered(name: &str, story: Story, filter: &Filter) {
    let recording = story.recording();
    compare(name, &follow(&recording, filter));
    // In few bytes it is the same story.
    let compact = follow_as(true, &recording, filter);
    Schema::published().check(&compact);
    let reasons = verify::read(compact.as_bytes()).unwrap().reasons;
    assert!(reasons.is_empty(), "{name}, compact: {reasons:#?}");
}

fn compare(name: &str, lines: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/golden"].iter().collect();
    let path = path.join(name).with_extension("jsonl");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, lines).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (number, (line, wanted)) in (1..).zip(lines.lines().zip(expected.lines())) {
        assert_eq!(line, wanted, "{name}: line {number}");
    }
    assert!(lines == expected, "{name}: another number of lines");
}

/// Lines about the tracing that no event makes.
#[test]
fn control_lines() {
    let hello = Hello {
        boot_id: "6120626f-6f74-206f-6620-612074657374".into(),
        command: Some(vec!["make".into(), "x".repeat(9_000)]),
        calibration: Some(Calibration { levels: 4, walk: true, flush: true, alloc: false }),
        cow_level: Level::Fault,
        ..Hello::default()
    };
    let counts = KindCounts { seen: 10, submitted: 9, ring_full: 1 };
    let account = |written| Account {
        records: [counts; KINDS],
        received: 63,
        written,
        skipped: [("page_fault_user", 0), ("tlb_flush", 3)].into_iter().collect(),
        ..Account::default()
    };
    let mut lines = Vec::new();
    // A run for each reason, one after the other.
    for reason in [Reason::Signal, Reason::Command, Reason::Pipe, Reason::Error, Reason::End] {
        let mut written = 0;
        let mut write = |record: Record<'_>| {
            written += 1;
            record.write_json("box", written, &mut lines);
            written
        };
        write(Record::Hello(&hello));
        for kind in Kind::ALL {
            let (time, stage, record) = (Time(0), LossStage::Ring, Some(kind));
            write(Record::Lost(Lost { time, count: 1, stage, record }));
        }
        let written = write(Record::Heartbeat(&account(1 + KINDS as u64)));
        write(Record::Bye(&Bye { account: account(written), reason }));
    }
    compare("control", &String::from_utf8(lines).unwrap());
}

#[test]
fn compact() {
    let mut s = Story::new(full());
    s.at(1000).snapshot(100, 1, "/bin/sh", "sh ");
    s.at(2000).fork(100, 200).copies(200, 3).copies(100, 2).exec(200, "/bin/true", "true").copies(200, 7);
    s.at(2004).exit(200, 3).wait(100, 200).tick();
    s.at(3000).fork(100, 201).kill(201, 9).wait(100, 201).tick();
    s.at(3002).fork(100, 202).lost(LossStage::Ring, Some(Kind::Exec), 1).at(3003).exit(202, 0);
    s.at(5000).tick().at(6000).wait(100, 202).tick();
    compare("compact", &follow_as(true, &s.recording(), &Filter::default()));
}

#[test]
fn filter_by_tree() {
    let mut s = Story::new(Config { roots: vec![100], ..config() });
    // The child is found in /proc before the root is.
    s.at(3000).snapshot(150, 100, "/bin/make", "make ");
    s.snapshot(1, 0, "/sbin/init", "init ").snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(150, 200).exit(200, 0).free(200, 150);
    s.fork(1, 201).exit(201, 0).free(201, 1);
    s.exit_with(150, |exit| exit.comm = comm("make")).free(150, 100);
    s.at(3010).tick();
    let filter = Filter { pids: vec![100], ..Filter::default() };
    check_filtered("filter_by_tree", s, &filter);
}
