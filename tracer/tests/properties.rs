//! Whatever happens: each life is told once, the sums agree, and nothing panics.

mod common;
#[path = "common/garbage.rs"]
mod garbage;

use std::collections::{HashMap, HashSet};

use common::{SYS_FORK, Story, config, full, schema::Schema};
use garbage::garbage;
use proptest::{prelude::*, sample::Index};
use serde_json::Value;
use tracer::{
    decode::{Event, Loss, LossStage},
    filter::Filter,
    level::Level,
    lifecycle::{Config, LedgerMode, Lifecycle},
    pipeline::KernelCounts,
    record::{Account, Bye, EntityId, MAX_LINE_BYTES, Reason, Record, Time, boot_hash},
    replay::{Head, Reader},
    verify,
};
use tracer_common::event::Kind;

/// Pids that children get, few enough to be used again and again.
const PIDS: std::ops::Range<u32> = 200..212;

/// What the simulated machine does next; which process does it is drawn from those that can.
#[derive(Clone, Debug)]
enum Deed {
    Fork { vfork: bool },
    Exec,
    ExecFailed { path: usize, errno: u32 },
    Exit,
    Reap,
    Copy(u8),
    Tick,
}

/// What they try to run in vain: one is the program that they run, and one cannot be read.
const PATHS: [&str; 4] = ["/usr/bin/true", "/opt/true", "/bin/false", ""];

fn deed() -> impl Strategy<Value = (Deed, Index)> {
    let failed = (0..PATHS.len(), prop::sample::select(&[2, 8, 13][..]));
    let deed = prop_oneof![
        4 => any::<bool>().prop_map(|vfork| Deed::Fork { vfork }),
        2 => Just(Deed::Exec),
        4 => failed.prop_map(|(path, errno)| Deed::ExecFailed { path, errno }),
        3 => Just(Deed::Exit),
        3 => Just(Deed::Reap),
        4 => any::<u8>().prop_map(Deed::Copy),
        2 => Just(Deed::Tick),
    ];
    (deed, any::<Index>())
}

/// What may go wrong between the kernel and us.
#[derive(Clone, Debug)]
enum Mishap {
    None,
    Lost,
    Twice,
    SwappedWithNext,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        12 => Just(Mishap::None),
        1 => Just(Mishap::Lost),
        1 => Just(Mishap::Twice),
        1 => Just(Mishap::SwappedWithNext),
    ]
}

/// A true story of the processes under 100, which was there before.
fn tell(deeds: &[(Deed, Index)], config: Config) -> Vec<u8> {
    let mut story = Story::new(config);
    story.at(1500).snapshot(100, 1, "/bin/sh", "sh ");
    let (mut live, mut zombies) = (vec![(100, 1)], Vec::new());
    for (ms, (deed, index)) in (2000..).step_by(20).zip(deeds) {
        story.at(ms);
        let actor = *index.get(&live);
        match deed {
            Deed::Fork { vfork } => {
                let used = |pid: &u32| live.iter().chain(&zombies).any(|(other, _)| other == pid);
                if let Some(pid) = PIDS.clone().find(|pid| !used(pid)) {
                    let (flags, call) = if *vfork { (0x4100, 58) } else { (0, SYS_FORK) };
                    story.fork_as(actor.0, pid, flags, call);
                    live.push((pid, actor.0));
                }
            }
            Deed::Exec => _ = story.exec(actor.0, "/bin/true", "true"),
            Deed::ExecFailed { path, errno } => _ = story.exec_failed(actor.0, PATHS[*path], *errno),
            Deed::Exit if actor.0 != 100 => {
                live.retain(|process| *process != actor);
                // Its children get a new parent.
                for (_, parent) in live.iter_mut().chain(&mut zombies) {
                    *parent = if *parent == actor.0 { 100 } else { *parent };
                }
                zombies.push(actor);
                story.exit_with(actor.0, |exit| exit.real_parent_tgid = actor.1);
                story.forget(actor.0);
            }
            Deed::Reap if !zombies.is_empty() => {
                let (pid, parent) = zombies.swap_remove(index.index(zombies.len()));
                story.wait(parent, pid).free(pid, parent);
            }
            Deed::Copy(pages) => _ = story.copies(actor.0, u64::from(*pages)),
            Deed::Tick => _ = story.tick(),
            Deed::Exit | Deed::Reap => {}
        }
    }
    story.tick();
    story.recording()
}

/// What came out, by entity id.
#[derive(Default)]
struct Told {
    lines: String,
    births: HashMap<String, u32>,
    timelines: HashMap<String, Vec<Value>>,
    live: HashSet<String>,
}

fn kind(event: &Event<'_>) -> Option<Kind> {
    match event {
        Event::Fork(_) => Some(Kind::Fork),
        Event::Exec { .. } => Some(Kind::Exec),
        Event::Exit(_) => Some(Kind::Exit),
        Event::Free(_) => Some(Kind::Free),
        Event::Wait(_) => Some(Kind::Wait),
        Event::ExecFailed { .. } => Some(Kind::ExecFailed),
        Event::ForkFailed(_) => Some(Kind::ForkFailed),
        Event::Thread(_) => Some(Kind::Thread),
        Event::Cwd { .. } => Some(Kind::Cwd),
        _ => None,
    }
}

/// Follows `recording` through `mishaps`.
fn hear(recording: &[u8], mishaps: &[Mishap]) -> Told {
    let mut reader = Reader::new(recording).unwrap();
    let Head { config, hello } = reader.head().clone();
    let mut lifecycle = Lifecycle::new(config.clone());
    let mut kernel = KernelCounts::default();
    let mut json = Vec::new();
    let mut sequence = 0;
    let mut out = |record: &Record<'_>| {
        sequence += 1;
        record.write_json("box", sequence, &mut json);
    };
    out(&Record::Hello(&hello));
    let mut mishaps = mishaps.iter().chain(std::iter::repeat(&Mishap::None));
    // A wait or free that comes after the next event.
    let mut held: Option<Event<'static>> = None;
    let mut lost = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        let kind = kind(&event);
        if let (Event::Tick { ktime_ns }, Some(kind)) = (&event, lost.pop()) {
            let loss = Loss { ktime_ns: *ktime_ns, stage: LossStage::Ring, record: Some(kind), count: 1 };
            kernel.count(&Event::Loss(loss));
            lifecycle.apply(&Event::Loss(loss), &mut out);
        }
        let mishap = kind.map_or(&Mishap::None, |_| mishaps.next().unwrap());
        match (mishap, event) {
            (Mishap::Lost, _) => lost.extend(kind),
            (Mishap::SwappedWithNext, Event::Wait(wait)) if held.is_none() => {
                held = Some(Event::Wait(wait));
                continue;
            }
            (mishap, event) => {
                kernel.count(&event);
                lifecycle.apply(&event, &mut out);
                if matches!((mishap, kind), (Mishap::Twice, Some(Kind::Exit | Kind::Fork))) {
                    kernel.count(&event);
                    lifecycle.apply(&event, &mut out);
                }
            }
        }
        if let Some(event) = held.take() {
            kernel.count(&event);
            lifecycle.apply(&event, &mut out);
        }
    }
    let boot = boot_hash(&config.boot_id);
    let live: HashSet<String> =
        lifecycle.lives().map(|(tgid, ticks)| EntityId::new(boot, tgid, ticks).to_string()).collect();
    assert_eq!(lifecycle.stats().live as usize, live.len());
    lifecycle.finish(&mut out);
    let account = Account {
        time: Time::from_boot(lifecycle.now_ns(), config.wall_offset_ns),
        records: kernel.records,
        received: kernel.submitted(),
        written: sequence,
        lifecycle: lifecycle.stats(),
        ..Account::default()
    };
    let bye = Bye { account, reason: Reason::End };
    Record::Bye(&bye).write_json("box", sequence + 1, &mut json);
    let mut told = Told { lines: String::from_utf8(json).unwrap(), live, ..Told::default() };
    for line in told.lines.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let id = value["process"]["entity_id"].as_str().unwrap_or_default().to_owned();
        match value["event"]["action"].as_str() {
            Some("fork") => *told.births.entry(id).or_default() += 1,
            Some("timeline") => told.timelines.entry(id).or_default().push(value),
            _ => {}
        }
    }
    told
}

thread_local! {
    static SCHEMA: Schema = Schema::published();
}

fn check_lines(lines: &str) {
    SCHEMA.with(|schema| schema.check(lines));
    assert!(lines.lines().all(|line| line.len() < MAX_LINE_BYTES));
}

/// A whole stream must be proven.
fn check_stream(lines: &str) {
    let reasons = verify::read(lines.as_bytes()).unwrap().reasons;
    assert!(reasons.is_empty(), "{reasons:#?}\n{lines}");
}

/// JSON pointers to what is not known at a level.
fn unknown(level: Level) -> Vec<String> {
    // As `Level::unknown` says of the whole.
    const FAULTS: [&str; 10] = [
        "demand_zero",
        "file",
        "write_notify",
        "segv",
        "spurious",
        "uffd",
        "failed",
        "lost_races",
        "splits",
        "unsure",
    ];
    let of = |field: &&str| match *field {
        "tracer.faults" => FAULTS.iter().map(|name| format!("/tracer/faults/{name}")).collect(),
        field => vec![format!("/{}", field.replace('.', "/"))],
    };
    level.unknown().iter().flat_map(of).collect()
}

/// Whether a line says something of what is not known: absent is 0 in a timeline, unless the field does not apply.
fn is_claimed(line: &Value, path: &str) -> bool {
    const MAY_NOT_APPLY: [&str; 6] = [
        "/tracer/fork/by_parent",
        "/tracer/fork/wasted",
        "/tracer/exec/wasted",
        "/tracer/exec/start",
        "/tracer/delta",
        "/tracer/shared",
    ];
    let may_lack = MAY_NOT_APPLY.contains(&path) || line["event"]["action"] != "timeline";
    let (object, name) = path.rsplit_once('/').expect("a field is in an object");
    match line.pointer(object).and_then(Value::as_object) {
        Some(object) => object.get(name).map_or(!may_lack, |value| !value.is_null()),
        None => false,
    }
}

/// Takes a field out, and its object if a line would not have that without the field.
fn take(line: &mut Value, path: &str) {
    const ALWAYS_THERE: &str = "/tracer/cow";
    let (object, name) = path.rsplit_once('/').expect("a field is in an object");
    let Some(fields) = line.pointer_mut(object).and_then(Value::as_object_mut) else { return };
    fields.remove(name);
    let is_nothing = fields.values().all(|value| value == 0);
    if is_nothing && object != ALWAYS_THERE {
        let (outer, name) = object.rsplit_once('/').expect("a line has no counts outside of objects");
        let fields = line.pointer_mut(outer).and_then(Value::as_object_mut).expect("it has the object");
        fields.remove(name);
        if fields.is_empty() {
            take(line, outer);
        }
    }
}

fn copies(value: &Value) -> u64 {
    value["copies"].as_u64().unwrap_or(0)
}

fn ledger() -> impl Strategy<Value = LedgerMode> {
    prop::sample::select(&[LedgerMode::Off, LedgerMode::Changes, LedgerMode::Full][..])
}

fn level() -> impl Strategy<Value = Level> {
    prop::sample::select(&Level::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_true_story_is_told_whole(deeds in prop::collection::vec(deed(), 0..120)) {
        let told = hear(&tell(&deeds, full()), &[]);
        check_lines(&told.lines);
        check_stream(&told.lines);
        prop_assert!(told.births.values().all(|births| *births == 1));
        prop_assert!(told.timelines.values().all(|timelines| timelines.len() == 1));
        // The process from before still lives; every other one was born, and lives or was told.
        prop_assert_eq!(told.births.len() + 1, told.timelines.len() + told.live.len());
        let mut paid_for: HashMap<&Value, u64> = HashMap::new();
        for timeline in told.timelines.values().flatten() {
            prop_assert_eq!(&timeline["tracer"]["complete"], true, "{}", timeline);
            prop_assert_eq!(&timeline["tracer"]["exit"]["via"], "exit_group");
            let (reap, usage) = (&timeline["tracer"]["reap"], &timeline["tracer"]["usage"]);
            prop_assert_eq!(&usage["final"], !reap.is_null());
            let parent = &timeline["process"]["parent"]["entity_id"];
            *paid_for.entry(parent).or_default() += copies(&timeline["tracer"]["fork"]["by_parent"]);
        }
        for timeline in told.timelines.values().flatten() {
            let tracer = &timeline["tracer"];
            let paid = copies(&tracer["children"]["paid"]);
            prop_assert!(paid <= copies(&tracer["cow"]), "{}", timeline);
            // Children that live on are not told yet, so their share is not among the sums.
            let id = &timeline["process"]["entity_id"];
            let sum = paid_for.get(id).copied().unwrap_or(0);
            prop_assert!(sum <= paid, "{} of {}", sum, timeline);
            let has_wasted = !tracer["fork"]["wasted"].is_null();
            let forked_then_exec = tracer["exec"]["seq"] != 0 && tracer["fork"]["shares_mm"] != true;
            prop_assert!(!has_wasted || forked_then_exec);
        }
        if told.live.len() == 1 {
            for timeline in told.timelines.values().flatten() {
                let paid = copies(&timeline["tracer"]["children"]["paid"]);
                let id = &timeline["process"]["entity_id"];
                prop_assert_eq!(paid_for.get(id).copied().unwrap_or(0), paid);
            }
        }
    }

    #[test]
    fn at_each_level_all_else_is_told_the_same(deeds in prop::collection::vec(deed(), 0..120), level in level()) {
        let counted = hear(&tell(&deeds, full()), &[]).lines;
        let told = hear(&tell(&deeds, Config { cow: level, ..full() }), &[]).lines;
        check_lines(&told);
        check_stream(&told);
        check_stream(&hear(&tell(&deeds, Config { cow: level, ..config() }), &[]).lines);
        prop_assert_eq!(told.lines().count(), counted.lines().count());
        // `hello` names the level.
        for (told, counted) in told.lines().zip(counted.lines()).skip(1) {
            let mut told: Value = serde_json::from_str(told).unwrap();
            let mut counted: Value = serde_json::from_str(counted).unwrap();
            for path in unknown(level) {
                prop_assert!(!is_claimed(&told, &path), "{} {}", path, told);
                take(&mut told, &path);
                take(&mut counted, &path);
            }
            prop_assert_eq!(told, counted);
        }
    }

    #[test]
    fn mishaps_are_survived_and_told(
        deeds in prop::collection::vec(deed(), 0..120),
        mishaps in prop::collection::vec(mishap(), 0..120),
    ) {
        let recording = tell(&deeds, full());
        let told = hear(&recording, &mishaps);
        check_lines(&told.lines);
        check_stream(&told.lines);
        prop_assert!(told.births.values().all(|births| *births == 1));
        for timelines in told.timelines.values() {
            prop_assert_eq!(timelines.len(), 1);
            let tracer = &timelines[0]["tracer"];
            let nothing_missing = tracer["missing"].is_null();
            prop_assert_eq!(&tracer["complete"], nothing_missing);
        }
        // A life whose birth was told has a timeline or lives on; never both.
        for id in told.births.keys().chain(told.timelines.keys()) {
            prop_assert!(told.timelines.contains_key(id) != told.live.contains(id), "{}", id);
        }
    }

    #[test]
    fn garbage_is_survived(events in prop::collection::vec(garbage(), 0..200), max in 1_usize..8, full_hooks: bool, cow in level(), ledger in ledger()) {
        let config = Config { max_processes: max, steps: true, full_hooks, cow, ledger, roots: vec![3], ..full() };
        let mut lifecycle = Lifecycle::new(config);
        let mut lines = Vec::new();
        let mut out = |record: &Record<'_>| record.write_json("box", 1, &mut lines);
        for event in &events {
            lifecycle.apply(&event.event(), &mut out);
            let stats = lifecycle.stats();
            prop_assert!((stats.live + stats.zombies) as usize <= max);
            prop_assert_eq!(stats.live as usize, lifecycle.lives().count());
        }
        lifecycle.finish(&mut out);
        let lines = String::from_utf8(lines).unwrap();
        check_lines(&lines);
        let mut timelines = HashMap::new();
        for line in lines.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            for path in unknown(cow) {
                prop_assert!(!is_claimed(&value, &path), "{} {}", path, line);
            }
            if value["event"]["action"] == "timeline" {
                let id = value["process"]["entity_id"].to_string();
                prop_assert_eq!(timelines.insert(id, ()), None, "{}", line);
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..900), kind in 0..10_u32, size in 0..1000_u32) {
        if bytes.len() >= 24 {
            bytes[..4].copy_from_slice(&kind.to_le_bytes());
            bytes[20..24].copy_from_slice(&size.to_le_bytes());
        }
        let mut lifecycle = Lifecycle::new(Config { ledger: LedgerMode::Full, ..full() });
        let mut lines = Vec::new();
        if let Ok(event) = Event::decode(&bytes) {
            lifecycle.apply(&event, &mut |record: &Record<'_>| record.write_json("box", 1, &mut lines));
        }
        check_lines(std::str::from_utf8(&lines).unwrap());
    }

    #[test]
    fn filters_keep_back_whole_records(deeds in prop::collection::vec(deed(), 0..60)) {
        let recording = tell(&deeds, full());
        let all = common::follow(&recording, &Filter::default());
        let some = common::follow(&recording, &Filter { comms: vec!["tr*".into()], ..Filter::default() });
        let kept = |lines: &str, name: &str| {
            let named = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["process"]["name"] == name;
            lines.lines().filter(named).count()
        };
        prop_assert_eq!(kept(&all, "true"), kept(&some, "true"));
        check_stream(&all);
        prop_assert_eq!(kept(&some, "sh"), 0);
    }
}
