//! A good stream is proven; each thing that can be wrong with it is found, on its line.

mod common;

use common::{CLONE_VM_VFORK, SYS_VFORK, Story, follow, full, schema::Schema};
use serde_json::{Value, json};
use tracer::{
    decode::LossStage,
    filter::Filter,
    verify::{Verdict, read},
};
use tracer_common::event::Kind;

/// The lines of a run with all kinds of lives, of which one lives on: pid 100, the parent of the others.
fn good() -> Stream {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).copies(200, 3).copies(100, 2);
    s.exec_failed(200, "/usr/bin/true", 2).exec(200, "/bin/true", "true");
    s.copies(200, 7).at(2004).exit(200, 3).wait(100, 200).tick();
    s.fork(100, 201).copies(201, 1).exec(201, "/bin/a", "a").copies(201, 5).exec(201, "/bin/b", "b");
    s.copies(201, 2).at(2005).kill(201, 9).wait(100, 201).tick();
    s.fork_as(100, 202, CLONE_VM_VFORK, SYS_VFORK).copies(202, 1).fork_failed(202, 11);
    s.exec_failed(202, "/nowhere", 2).at(2006).exit_with(202, |exit| exit.real_parent_tgid = 1);
    s.wait(100, 202).tick();
    // Progress of two that share memory, and a loss.
    s.at(2010).fork(100, 203).copies(203, 4).copies(100, 5).at(3100).progress(203).progress(100).tick();
    s.copies(203, 2).at(3200).progress(203).tick();
    s.at(3300).lost(LossStage::Ring, Some(Kind::Exit), 1).lost(LossStage::Recursion, Some(Kind::Exec), 2);
    s.at(3310).exit(203, 0).wait(100, 203).tick();
    // A parent whose only child is told; both are reaped after their timelines.
    s.at(3400).fork(100, 204).fork(204, 205).copies(204, 6).at(3410).exit(205, 0).exit(204, 0);
    s.at(4600).tick().at(4700).wait(204, 205).wait(100, 204).tick();
    // Nobody has seen its birth.
    s.existing(50, 500).exit(50, 0).tick();
    Stream::parse(&follow(&s.recording(), &Filter::default())).with_heartbeat()
}

#[derive(Clone)]
struct Stream(Vec<Value>);

impl Stream {
    fn parse(lines: &str) -> Self {
        Self(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// With a heartbeat before its end.
    fn with_heartbeat(mut self) -> Self {
        let mut heartbeat = self.0.last().unwrap().clone();
        heartbeat["event"]["action"] = json!("heartbeat");
        heartbeat["tracer"].as_object_mut().unwrap().remove("reason");
        self.0.insert(self.0.len() - 1, heartbeat);
        self.number();
        self
    }

    /// Gives each line its number.
    fn number(&mut self) {
        for (line, number) in self.0.iter_mut().zip(1_u64..) {
            line["event"]["sequence"] = json!(number);
            if let Some(written) = line.pointer_mut("/tracer/written") {
                *written = json!(number - 1);
            }
        }
    }

    /// The place of the first line of this kind about `pid`; 0 stands for none.
    fn find(&self, action: &str, pid: u32) -> usize {
        let is_it =
            |line: &&Value| line["event"]["action"] == action && (pid == 0 || line["process"]["pid"] == pid);
        let found = self.0.iter().position(|line| is_it(&line));
        found.unwrap_or_else(|| panic!("no {action} of {pid}"))
    }

    /// Sets a field, which may have been left out because it was 0; the schema knows whether there is such a field.
    fn set(&mut self, place: usize, pointer: &str, value: Value) -> usize {
        let field = pointer.split('/').skip(1).fold(&mut self.0[place], |object, name| &mut object[name]);
        *field = value;
        place
    }

    /// Sets a field of the timeline of `pid`.
    fn life(&mut self, pid: u32, pointer: &str, value: Value) -> usize {
        self.set(self.find("timeline", pid), pointer, value)
    }

    fn bye(&mut self, pointer: &str, value: Value) -> usize {
        self.set(self.0.len() - 1, pointer, value)
    }

    /// Puts a copy of a line elsewhere, and numbers the lines anew.
    fn copy(&mut self, from: usize, to: usize) -> usize {
        self.0.insert(to, self.0[from].clone());
        self.number();
        to
    }

    fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn verdict(lines: impl AsRef<[u8]>) -> Verdict {
    read(lines.as_ref()).unwrap()
}

fn assert_refuted(verdict: &Verdict, line: usize, says: &str, what: &str) {
    let found = verdict.reasons.iter().any(|reason| reason.line == line as u64 && reason.what.contains(says));
    assert!(found, "{what}: not refuted in line {line} by {says:?}: {:#?}", verdict.reasons);
}

#[test]
fn a_good_stream_is_proven() {
    let good = good();
    Schema::published().check(&good.text());
    let verdict = verdict(good.text());
    assert_eq!((verdict.reasons_count, verdict.reasons), (0, vec![]));
    let counts = verdict.counts;
    assert_eq!((counts.runs, counts.timelines, counts.lost), (1, 7, 3));
    assert_eq!(counts.lines as usize, good.0.len());
}

/// Each change of the good stream, the line that it shows in, and the reason.
#[test]
fn what_does_not_hold_is_found() {
    type Change = fn(&mut Stream) -> usize;
    let changes: &[(&str, Change)] = &[
        // The schema, and what no schema can say.
        ("/tracer/cow: additionalProperties 'surprise' not allowed", |s| {
            let place = s.find("timeline", 200);
            s.0[place]["tracer"]["cow"]["surprise"] = json!(1);
            place
        }),
        ("sigh is no kind of line", |s| s.set(2, "/event/action", json!("sigh"))),
        ("is no time", |s| s.life(200, "/process/start", json!("2026-02-30T00:00:00.000000000Z"))),
        ("tracer.boot_id is no UUID", |s| s.set(0, "/tracer/boot_id", json!("6120"))),
        // Numbers.
        ("event.sequence is 4, not 3", |s| {
            s.0.remove(2);
            2
        }),
        ("event.sequence is 2, not 3", |s| s.set(2, "/event/sequence", json!(2))),
        ("tracer.written is 1, but the number of lines before is", |s| s.bye("/tracer/written", json!(1))),
        // Identity.
        ("is not of this boot", |s| {
            s.set(0, "/tracer/boot_id", json!("00112233-4455-6677-8899-aabbccddeeff"));
            s.find("fork", 200)
        }),
        ("is of pid 200, not 7", |s| s.life(200, "/process/pid", json!(7))),
        ("process.parent.entity_id", |s| s.life(200, "/process/parent/pid", json!(7))),
        ("process.parent.entity_id", |s| s.set(s.find("fork", 200), "/process/parent/pid", json!(7))),
        ("tracer.shared.with_parent.entity_id", |s| {
            s.set(s.find("cow", 203), "/tracer/shared/with_parent/pid", json!(7))
        }),
        ("tracer.unreaped.oldest.entity_id", |s| {
            let id = s.0[s.find("timeline", 50)]["process"]["entity_id"].clone();
            let oldest = json!({ "pid": 51, "entity_id": id, "zombie_ns": 1_000_000_000 });
            s.bye("/tracer/unreaped", json!([{ "count": 1, "parent": null, "oldest": oldest }]))
        }),
        ("but process.start is in tick 201", |s| {
            s.life(200, "/process/start", json!("2026-01-01T00:00:02.010000000Z"))
        }),
        // Times of a life.
        ("process.end is before process.start", |s| {
            s.life(200, "/process/end", json!("2026-01-01T00:00:01.000000000Z"))
        }),
        ("but it ran for 4000000 ns", |s| s.life(200, "/event/duration", json!(4_000_001))),
        ("but process.end is 2026-01-01T00:00:02.004000000Z", |s| {
            s.life(200, "/@timestamp", json!("2026-01-01T00:00:02.005000000Z"))
        }),
        ("is not null, but process.end is", |s| s.life(200, "/process/end", json!(null))),
        ("before process.start", |s| {
            let place = s.find("exec", 200);
            s.set(place, "/@timestamp", json!("2026-01-01T00:00:01.999999999Z"));
            s.find("timeline", 200)
        }),
        ("after process.end", |s| {
            let place = s.find("exec", 200);
            s.set(place, "/@timestamp", json!("2026-01-01T00:00:02.004000001Z"));
            s.find("timeline", 200)
        }),
        ("process.end is not that of its exit", |s| {
            let place = s.find("exit", 200);
            s.set(place, "/@timestamp", json!("2026-01-01T00:00:02.003999999Z"));
            s.find("timeline", 200)
        }),
        // The state of a life.
        ("tracer.exit and tracer.faults", |s| s.life(200, "/tracer/exit", json!(null))),
        ("tracer.exit and tracer.faults", |s| s.life(200, "/tracer/faults", json!(null))),
        ("tracer.usage is null", |s| s.life(200, "/tracer/usage", json!(null))),
        ("tracer.exit.via, tracer.exit.signal", |s| s.life(200, "/tracer/exit/via", json!("signal"))),
        ("tracer.exit.via, tracer.exit.signal", |s| s.life(201, "/process/exit_code", json!(0))),
        ("tracer.complete is false", |s| s.life(200, "/tracer/complete", json!(false))),
        ("tracer.complete is true", |s| s.life(200, "/tracer/missing", json!(["args"]))),
        ("whether its end was seen", |s| s.life(200, "/tracer/missing", json!(["exit"]))),
        ("whether its birth was seen", |s| s.life(50, "/tracer/missing", json!([]))),
        ("whether it was forked", |s| s.life(200, "/tracer/fork", json!(null))),
        ("whether it was forked", |s| s.life(200, "/tracer/origin", json!("command"))),
        ("process.parent of a birth that was seen is null", |s| s.life(200, "/process/parent", json!(null))),
        // Sums of a life.
        ("but the sum of tracer.cow.by is 11", |s| s.life(200, "/tracer/cow/by/gup", json!(1))),
        ("the sum of tracer.cow.by_page is 11", |s| s.life(200, "/tracer/cow/by_page/ksm", json!(1))),
        ("the sum of tracer.cow.by_region is 11", |s| s.life(200, "/tracer/cow/by_region/heap", json!(1))),
        ("tracer.cow.bytes is 40961", |s| s.life(200, "/tracer/cow/bytes", json!(40_961))),
        ("tracer.cow.huge_reuses", |s| s.life(200, "/tracer/cow/huge_reuses", json!(1))),
        ("tracer.cow.huge_zero_upgrades", |s| s.life(200, "/tracer/cow/huge_zero_upgrades", json!(1))),
        ("tracer.cow.after_exec is more than the whole", |s| {
            s.life(200, "/tracer/cow/after_exec/copies", json!(11))
        }),
        ("tracer.fork.wasted.copies is 6", |s| s.life(200, "/tracer/fork/wasted/copies", json!(6))),
        ("tracer.fork.wasted.reuses is 1", |s| s.life(200, "/tracer/fork/wasted/reuses", json!(1))),
        ("tracer.fork.wasted.bytes is 6", |s| s.life(200, "/tracer/fork/wasted/bytes", json!(6))),
        ("tracer.fork.wasted.reuses is null", |s| s.life(200, "/tracer/fork/wasted/reuses", json!(null))),
        ("tracer.exec.wasted.copies is 6", |s| s.life(200, "/tracer/exec/wasted/copies", json!(6))),
        ("tracer.exec.wasted is not null", |s| s.life(200, "/tracer/fork/shares_mm", json!(true))),
        ("tracer.exec.start.entry_ns is 4", |s| {
            let start = json!({"first_ns": 5, "entry_ns": 4, "minor": 0, "major": 0});
            s.life(200, "/tracer/exec/start", start)
        }),
        ("tracer.fork.wasted is null", |s| s.life(200, "/tracer/fork/wasted", json!(null))),
        ("tracer.fork.wasted is not null", |s| s.life(200, "/tracer/fork/by_parent", json!(null))),
        ("tracer.fork.wasted is not null", |s| s.life(200, "/tracer/exec/seq", json!(0))),
        ("share the memory", |s| s.life(200, "/tracer/fork/shares_mm", json!(true))),
        ("tracer.fork.before_exec.copies is 0", |s| s.life(202, "/tracer/fork/before_exec/copies", json!(0))),
        ("tracer.cow.copies is 10, but before and after", |s| {
            s.life(200, "/tracer/cow/after_exec/copies", json!(6))
        }),
        ("before_exec and after_exec are more", |s| s.life(201, "/tracer/cow/after_exec/copies", json!(8))),
        ("tracer.usage.cpu_ns is", |s| s.life(200, "/tracer/usage/cpu_ns", json!(9_000_000_000_u64))),
        ("tracer.usage.cpu_ns is", |s| {
            let place = s.life(204, "/tracer/usage/final", json!(true));
            s.set(place, "/tracer/usage/user_ns", json!(9_000_000_000_u64))
        }),
        ("tracer.usage.cpu_ns is", |s| {
            s.set(s.find("exit", 200), "/tracer/usage/cpu_ns", json!(9_000_000_000_u64))
        }),
        ("tracer.children.execs_followed is 1 of 0", |s| {
            s.life(200, "/tracer/children/execs_followed", json!(1))
        }),
        ("tracer.exec.failures is 2, but the failures that its steps tell of is 1", |s| {
            s.life(200, "/tracer/exec/failures", json!(2))
        }),
        ("tracer.exec.failures is 1, but the failures that its steps tell of is 3", |s| {
            let place = s.find("exec_failed", 202);
            s.set(place, "/tracer/exec_failed/tries", json!(3));
            s.find("timeline", 202)
        }),
        ("tracer.exec.failures is 1, but the failures that its steps tell of is 0", |s| {
            let place = s.find("exec", 200);
            s.set(place, "/tracer/exec/tries", json!(null));
            s.find("timeline", 200)
        }),
        ("tracer.exec.failures is 1, but 4 failed before", |s| s.life(200, "/tracer/exec/tries", json!(5))),
        ("tracer.exec.tries is not null", |s| s.life(202, "/tracer/exec/tries", json!(1))),
        // The accounts.
        ("@timestamp is before that of the last heartbeat", |s| {
            s.bye("/@timestamp", json!("2026-01-01T00:00:01.000000000Z"))
        }),
        ("tracer.duplicates is 0, but was 1 before", |s| {
            let place = s.find("heartbeat", 0);
            s.set(place, "/tracer/duplicates", json!(1));
            s.find("bye", 0)
        }),
        ("tracer.records.fork.seen is 7, but", |s| s.bye("/tracer/records/fork/seen", json!(7))),
        ("tracer.records.exit.ring_full is 2, but", |s| s.bye("/tracer/records/exit/ring_full", json!(2))),
        ("tracer.received is 1, but", |s| s.bye("/tracer/received", json!(1))),
        ("tracer.recursion_misses is 3, but", |s| s.bye("/tracer/recursion_misses", json!(3))),
        ("tracer.records.exit.ring_full is 1, but the sum of its lost lines is 0", |s| {
            let place = s.find("lost", 0);
            s.0.remove(place);
            s.number();
            s.find("bye", 0)
        }),
        ("tracer.missing lacks lost:exit", |s| s.life(203, "/tracer/missing", json!(["lost:exec"]))),
        // Steps.
        ("exec of pid 200 after its timeline", |s| s.copy(s.find("exec", 200), s.find("timeline", 200) + 1)),
        ("pid 200 ends a second time", |s| s.copy(s.find("exit", 200), s.find("timeline", 200))),
        ("progress of pid 203 after its timeline", |s| {
            s.copy(s.find("cow", 203), s.find("timeline", 203) + 1)
        }),
        ("tracer.delta is more than tracer.cow", |s| {
            let place = s.find("cow", 203);
            s.set(place, "/tracer/delta/copies", json!(5))
        }),
        ("but the last one and tracer.delta is 8", |s| s.copy(s.find("cow", 203), s.find("cow", 203) + 1)),
        ("tracer.cow of pid 203 is less than it was before", |s| {
            s.set(0, "/tracer/filter/comms", json!(["*"]));
            let last = s.0.iter().rposition(|line| line["event"]["action"] == "cow").unwrap();
            s.copy(s.find("cow", 203), last + 1)
        }),
        ("tracer.cow is less than it was before", |s| {
            s.life(203, "/tracer/cow/copies", json!(5));
            s.find("timeline", 203)
        }),
        ("reap of pid 204 before its timeline", |s| s.copy(s.find("reap", 204), s.find("timeline", 204))),
        ("pid 204 is reaped a second time", |s| s.copy(s.find("reap", 204), s.find("reap", 204) + 1)),
        ("but tracer.reap.zombie_ns is Some(7)", |s| {
            let place = s.find("reap", 204);
            s.set(place, "/tracer/reap/zombie_ns", json!(7))
        }),
        // The family.
        ("pid 200 has a timeline already", |s| s.copy(s.find("timeline", 200), s.find("timeline", 204))),
        ("1 children have a timeline, but it has 0 by fork", |s| {
            s.life(204, "/tracer/children/forks", json!(0))
        }),
        ("tracer.children.paid.copies is 5", |s| s.life(204, "/tracer/children/paid/copies", json!(5))),
        ("before its parent", |s| {
            // The parent's own line comes after that of its child.
            let (child, parent) = (s.find("timeline", 205), s.find("timeline", 204));
            s.set(child, "/process/start", json!("2026-01-01T00:00:03.390000000Z"));
            child.max(parent)
        }),
        ("after its parent's end", |s| {
            let (child, parent) = (s.find("timeline", 205), s.find("timeline", 204));
            s.set(child, "/process/start", json!("2026-01-01T00:00:03.410000001Z"));
            child.max(parent)
        }),
        ("but there are 2 zombies", |s| s.bye("/tracer/zombies", json!(2))),
        ("but there are 0 zombies", |s| s.bye("/tracer/zombies", json!(0))),
        ("tracer.live is 9, but tracer.lives is 8", |s| s.bye("/tracer/live", json!(9))),
        ("there are 7 timelines of 6 lives", |s| s.bye("/tracer/lives", json!(7))),
        ("there are 6 timelines of at least 7 lives", |s| {
            let place = s.find("timeline", 202);
            s.0.drain(place..=s.find("reap", 202));
            s.number();
            s.find("bye", 0)
        }),
        ("1 parents have no timeline, but only 0 can do without", |s| {
            s.bye("/tracer/lives", json!(7));
            s.bye("/tracer/live", json!(0))
        }),
    ];
    let good = good();
    for (says, change) in changes {
        let mut bad = good.clone();
        let place = change(&mut bad);
        assert_refuted(&verdict(bad.text()), place + 1, says, says);
    }
}

/// A life that is told of without its end is not held against the stream.
#[test]
fn what_says_that_it_is_not_known_is_no_reason() {
    let changes: &[fn(&mut Stream)] = &[
        |s| {
            s.life(203, "/tracer/missing", json!(["lost:exec", "lost:exit", "args"]));
        },
        |s| {
            s.life(200, "/tracer/cow", json!(null));
        },
        // Until the reap, more time may have been told than was measured.
        |s| {
            let place = s.life(204, "/tracer/usage/final", json!(false));
            s.set(place, "/tracer/usage/user_ns", json!(9_000_000_000_u64));
        },
        |s| {
            // Filters may keep back the steps.
            s.set(0, "/tracer/filter/comms", json!(["*"]));
            s.life(200, "/tracer/exec/failures", json!(2));
        },
        // A zombie from before has no timeline.
        |s| {
            s.bye("/tracer/zombies", json!(2));
            s.bye("/tracer/lives", json!(9));
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut stream = good();
        change(&mut stream);
        assert_eq!(verdict(stream.text()).reasons, vec![], "{number}");
    }
}

#[test]
fn what_is_no_line_is_found() {
    let good = good().text();
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let last = lines.len();
    let without = |from: usize, to: usize| [&lines[..from], &lines[to..]].concat().concat();
    let instead = |line: &str| [lines[0], line, "\n", &without(0, 2)].concat();
    let cases = [
        (String::new(), 1, "there is no line"),
        (good.trim_end().to_owned(), last, "it has no end"),
        (instead("{"), 2, "it is no JSON"),
        (instead("7"), 2, "it has no event.action"),
        (instead(r#"{"event":{"action":"fork"}}"#), 2, "it has no event.sequence"),
        (instead(&format!("\"{}\"", "x".repeat(20_000))), 2, "it is longer than 7900 bytes"),
        (without(0, 1), 1, "fork without hello"),
        (without(last - 1, last), last - 1, "the run that began in line 1 has no bye: the stream ends here"),
        (without(last - 1, last) + &good, last, "has no bye: another one begins here"),
        (good.clone() + lines[last - 1], last + 1, "bye without hello"),
    ];
    for (stream, line, says) in cases {
        assert_refuted(&verdict(&stream), line, says, says);
    }
    // One line that cannot be read is one reason: what needs all lines is not said to be wrong.
    assert_eq!(verdict(instead("{")).reasons_count, 1);
    assert_eq!(verdict(without(0, 1)).reasons_count, 1);
}

#[test]
fn runs_may_follow_each_other() {
    let good = good().text();
    let verdict = verdict(good.repeat(3));
    assert_eq!((verdict.reasons_count, verdict.counts.runs, verdict.counts.timelines), (0, 3, 21));
}

#[test]
fn the_first_reasons_are_kept_and_all_are_counted() {
    let verdict = verdict("{\n".repeat(100));
    assert_eq!((verdict.reasons.len(), verdict.reasons_count), (20, 100));
    let lines: Vec<u64> = verdict.reasons.iter().map(|reason| reason.line).collect();
    assert_eq!(lines, Vec::from_iter(1..=20));
}
