//! How a process and its program begin, and the memory that goes with an exec and an end.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use super::{
    tree::{count, each, processes, test},
    trial,
};
use crate::{
    cases,
    check::{Check, Outcome},
    harness::{Plan, Run},
    stream::{at, number},
    temp::TempDir,
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("start::programs", programs),
        trial("start::in_a_row", in_a_row),
        trial("start::without_faults", without_faults),
        trial("start::dropped_memory", dropped_memory),
        trial("start::segments", segments),
        Trial::ignorable_test("start::libraries", libraries),
        trial("start::delayed", delayed),
    ]
}

const PAGE: i64 = 4096;
/// A dynamic program.
const DYNAMIC: &str = "/bin/true";

/// The reason why a field is null throughout, if it is.
fn unavailable<'a>(run: &'a Run, field: &str) -> Option<&'a str> {
    run.stream.lines.first()?.pointer("/tracer/unavailable")?.get(field)?.as_str()
}

/// A row of the number of processes that agree in something, if this kernel tells of `field`; else null in all of them.
fn row_of<'a>(
    check: &mut Check<'a>,
    run: &'a Run,
    row: &str,
    field: &str,
    agrees: impl FnMut(&mut Check<'a>, &'a Value, &'a Value),
) {
    let Some(why) = unavailable(run, field) else {
        let same = count(check, run, agrees);
        return check.row(row, same, processes(run).len());
    };
    let pointer = format!("/{}", field.replace('.', "/"));
    let nulls = count(check, run, |check, line, _| check.field(line, &pointer, Value::Null));
    check.same(row, nulls, processes(run).len());
    cases::no_row(row, why);
}

/// A sum that the kernel keeps per CPU is exact to a batch on each (`percpu_counter_batch`).
fn batch_bytes() -> i64 {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as i64);
    2 * cpus * PAGE * (2 * cpus).max(32)
}

/// A static program that ends with 0, in three instructions.
fn write_static(path: &Path) -> io::Result<()> {
    const HEADERS: u64 = 64 + 56;
    const BASE: u64 = 0x40_0000;
    // xor edi, edi; mov eax, 231 (exit_group); syscall
    const CODE: [u8; 9] = [0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut add = |bytes: &[u8]| elf.extend_from_slice(bytes);
    // ET_EXEC, EM_X86_64, version; the entry point; program headers follow, no sections.
    add(&[2, 0, 62, 0, 1, 0, 0, 0]);
    [BASE + HEADERS, 64, 0].iter().for_each(|word| add(&word.to_le_bytes()));
    add(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // PT_LOAD of the whole file, to be read and executed.
    add(&[1, 0, 0, 0, 5, 0, 0, 0]);
    let bytes = HEADERS + CODE.len() as u64;
    [0, BASE, BASE, bytes, bytes, 4096].iter().for_each(|word| add(&word.to_le_bytes()));
    add(&CODE);
    fs::write(path, elf)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn programs() -> Outcome {
    let plan = Plan::workload("start-programs")?;
    let program = plan.dir.file("true");
    write_static(&program)?;
    let plan = plan.arg(program);
    let has_dynamic = Path::new(DYNAMIC).exists();
    let plan = if has_dynamic { plan.arg(DYNAMIC) } else { plan };
    const ROW: &str = "start: static, held, killed at once, vfork";
    test(ROW, plan, |check, run| {
        each(check, run, &format!("{ROW}: first instruction"), first_truth, first_seen);
        let same = count(check, run, |check, line, fact| {
            let start = at(line, "/tracer/exec/start");
            let what = at(fact, "/what");
            if matches!(what.as_str(), Some("static" | "held" | "vfork")) {
                check.field(line, "/tracer/exec/start/entry_ns", at(start, "/first_ns").clone());
                check.field(line, "/tracer/exec/start/minor", 0);
                check.field(line, "/tracer/exec/start/major", 0);
            } else if what == "dynamic" {
                let (first, entry) = (number(start, "/first_ns"), number(start, "/entry_ns"));
                check.that(entry > first, format!("entry after {entry} ns, first instruction after {first}"));
                let on_the_way = number(start, "/minor") + number(start, "/major");
                let all = number(line, "/tracer/faults/minor") + number(line, "/tracer/faults/major");
                check.that((1..=all).contains(&on_the_way), format!("{on_the_way} of {all} faults"));
            }
            if what != "killed" {
                let (least, most) = (number(fact, "/held_ns").max(1), number(fact, "/took_ns"));
                let first = number(start, "/first_ns");
                check.that((least..most).contains(&first), format!("{what}: {first} ns, {least} to {most}"));
            }
        });
        check.row(&format!("{ROW}: times and faults until their own"), same, processes(run).len());
        row_of(check, run, &format!("{ROW}: time to load"), "tracer.exec.load_ns", |check, line, fact| {
            let load = number(line, "/tracer/exec/load_ns");
            check.that((1..number(fact, "/took_ns")).contains(&load), format!("{load} ns to load"));
        });
        if !has_dynamic {
            return cases::no_row(&format!("{ROW}: dynamic: entry seen"), "no dynamic program here");
        }
        let dynamic = |fact: &&Value| at(fact, "/what") == "dynamic";
        let pids: Vec<_> = processes(run).iter().filter(dynamic).map(|fact| number(fact, "/pid")).collect();
        for pid in pids {
            let Some(line) = check.timeline(pid) else { return };
            let seen = at(line, "/tracer/exec/start/entry_ns").is_u64();
            check.row(&format!("{ROW}: dynamic: entry seen"), seen, true);
        }
    })
}

fn first_truth(fact: &Value) -> Value {
    if at(fact, "/what") == "killed" { Value::Null } else { "seen".into() }
}

fn first_seen(line: &Value) -> Value {
    let start = at(line, "/tracer/exec/start");
    if start.is_null() { Value::Null } else { "seen".into() }
}

/// Those that a process ran before its last one are told of, too; not the one that it inherited.
fn in_a_row() -> Outcome {
    let mut plan = Plan::workload("chain")?;
    for name in ["one", "two", "three"] {
        let program = plan.dir.link_self(name)?;
        plan = plan.arg(program);
    }
    const ROW: &str = "start: three in a row after an inherited one";
    test(ROW, plan, |check, run| {
        each(
            check,
            run,
            &format!("{ROW}: first instruction"),
            |_| vec!["not seen", "seen", "seen", "seen"].into(),
            |line| {
                let before = (0..3).map(|index| format!("/process/previous/{index}/start"));
                let all = before.chain(["/tracer/exec/start".into()]);
                let seen =
                    |at: String| if number(line, &(at + "/first_ns")) > 0 { "seen" } else { "not seen" };
                all.map(seen).collect::<Vec<_>>().into()
            },
        );
    })
}

/// The levels without the hooks of faults do not tell of it, and say so.
fn without_faults() -> Outcome {
    for level in ["lite", "off"] {
        let plan = Plan::workload("start-drops")?.option("--cow").option(level);
        let program = plan.dir.link_self("true")?;
        let run = plan.arg(program).arg("8").run()?;
        let mut check = Check::new(&run);
        check.that(unavailable(&run, "tracer.exec.start").is_some(), "no reason is given");
        for fact in processes(&run) {
            if let Some(line) = check.timeline(number(fact, "/pid")) {
                check.field(line, "/tracer/exec/start", Value::Null);
                check.that(at(line, "/tracer/exec/wasted").is_null() == (level == "off"), "wasted");
            }
        }
        check.done()?;
    }
    Ok(())
}

fn dropped_memory() -> Outcome {
    const PAGES: i64 = 8192;
    const ROW: &str = "start: exec with 32 MiB of its parent's, a half written";
    let plan = Plan::workload("start-drops")?;
    let program = plan.dir.link_self("true")?;
    test(ROW, plan.arg(program).arg(PAGES.to_string()), |check, run| {
        let row = format!("{ROW}: dropped within a batch and 1 MiB");
        row_of(check, run, &row, "tracer.exec.dropped", |check, line, _| {
            let (anon, least) =
                (number(line, "/tracer/exec/dropped/anon_bytes"), PAGES * PAGE - batch_bytes());
            let most = PAGES * PAGE + batch_bytes() + (1 << 20);
            check.that((least..most).contains(&anon), format!("{anon} bytes, {least} to {most}"));
            let tables = number(line, "/tracer/exec/dropped/pgtable_bytes");
            check.that(tables >= PAGES / 512 * PAGE, format!("{tables} bytes of page tables"));
        });
        let same = count(check, run, |check, line, _| {
            check.field(line, "/tracer/exec/wasted", at(line, "/tracer/fork/before_exec").clone());
            let copies = number(line, "/tracer/exec/wasted/copies");
            check.that((PAGES / 2..PAGES / 2 + 64).contains(&copies), format!("{copies} copies"));
        });
        check.row(&format!("{ROW}: copies for nothing"), same, processes(run).len());
    })
}

/// Parent and child write to all pages of a segment that they share: no copy.
fn segments() -> Outcome {
    const PAGES: i64 = 4096;
    let run = Plan::workload("start-segments")?.arg(PAGES.to_string()).run()?;
    let mut check = Check::new(&run);
    check.same("exit code", run.code, Some(0));
    const ROW: &str = "memory: POSIX, System V and memfd segments";
    // Each of those that the workload made, and its child.
    let timelines = run.stream.timelines();
    let made = processes(&run).iter().map(|fact| at(fact, "/pid"));
    let lines: Vec<&Value> = made
        .flat_map(|pid| ["/process/pid", "/process/parent/pid"].map(|of| (of, pid)))
        .filter_map(|(of, pid)| timelines.iter().copied().find(|line| at(line, of) == pid))
        .collect();
    check.same("timelines", lines.len(), 6);
    let each = |agrees: &dyn Fn(&Value) -> bool| lines.iter().map(|line| agrees(line)).collect::<Vec<_>>();
    // Of what they wrote, a few pages of their own data and stacks are copied.
    let is_small = |copies: i64| (0..PAGES / 16).contains(&copies);
    let uncopied = each(&|line| is_small(number(line, "/tracer/cow/copies")));
    check.row(&format!("{ROW}: not copied"), uncopied, vec![true; 6]);
    let filled = each(&|line| is_small(number(line, "/tracer/faults/file") - PAGES));
    check.row(&format!("{ROW}: first writes are faults.file"), filled, vec![true; 6]);
    let notified = each(&|line| is_small(number(line, "/tracer/faults/write_notify")));
    check.row(&format!("{ROW}: and not write_notify"), notified, vec![true; 6]);
    let near = |bytes: i64, pages: i64| (bytes - pages * PAGE).abs() < batch_bytes() + (1 << 20);
    let at_fork = each(&|line| near(number(line, "/tracer/fork/shared_shmem_bytes"), 0));
    check.row(&format!("{ROW}: not mapped by fork"), at_fork, vec![true; 6]);
    let row = format!("{ROW}: all pages mapped at the end");
    if let Some(why) = unavailable(&run, "tracer.exit.memory") {
        check.same(&row, each(&|line| at(line, "/tracer/exit/memory").is_null()), vec![true; 6]);
        cases::no_row(&row, why);
    } else {
        let at_end = each(&|line| near(number(line, "/tracer/exit/memory/shmem_bytes"), PAGES));
        check.row(&row, at_end, vec![true; 6]);
    }
    check.done()
}

/// Pages of libraries: those that are mapped, and those that were copied.
fn libraries() -> Result<Completion, Failed> {
    const ROW: &str = "memory: a dynamic program's files";
    const SHELL: &str = "/bin/sh";
    if !Path::new(SHELL).exists() {
        let why = "no dynamic program here";
        for what in ["pages copied as smaps tells", "bytes mapped at the end as smaps tells"] {
            cases::no_row(&format!("{ROW}: {what}"), why);
        }
        return Ok(Completion::ignored_with(why));
    }
    let dir = TempDir::new()?;
    let smaps = dir.file("smaps");
    let script = format!("cat /proc/$$/smaps > {}; exit 0", smaps.display());
    let run = Plan::new()?.arg(SHELL).arg("-c").arg(script).run()?;
    let mut check = Check::new(&run);
    let (mut rss, mut copied, mut of_file) = (0, 0, false);
    for line in fs::read_to_string(&smaps)?.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Rss:", kib, _] if of_file => rss += kib.parse::<i64>()? * 1024,
            ["Anonymous:", kib, _] if of_file => copied += kib.parse::<i64>()? / 4,
            [range, _, _, _, inode, ..] if range.contains('-') => of_file = *inode != "0",
            _ => {}
        }
    }
    let shell = run.stream.timelines().into_iter().find(|line| at(line, "/tracer/origin") == "command");
    let Some(line) = shell else { return Err("no timeline of the shell".into()) };
    let by_page = at(line, "/tracer/cow/by_page");
    let seen = number(by_page, "/file") + number(by_page, "/file_first");
    let kernel = number(at(line, "/tracer/cow/by"), "/kernel");
    check.that(copied > 0, "no page of a file was copied");
    let near = (copied..=copied + 8).contains(&seen);
    check.that(near, format!("{seen} pages copied, {kernel} by the kernel; smaps: {copied}"));
    check.row(&format!("{ROW}: pages copied as smaps tells"), near, true);
    let row = format!("{ROW}: bytes mapped at the end as smaps tells");
    match unavailable(&run, "tracer.exit.memory") {
        Some(why) => cases::no_row(&row, why),
        None => {
            let (want, have) = (rss - copied * PAGE, number(line, "/tracer/exit/memory/file_bytes"));
            let (least, most) = (want - batch_bytes(), want + batch_bytes() + (256 << 10));
            let near = (least..most).contains(&have);
            check.that(near, format!("{have} bytes of files, {least} to {most}"));
            check.row(&row, near, true);
        }
    }
    check.done()?;
    Ok(Completion::Completed)
}

/// A child that is kept from its first CPU, and one that is not.
fn delayed() -> Outcome {
    const ROW: &str = "start: kept from the CPU by SCHED_FIFO, and not";
    /// The scheduler's clock and that of the workload are not the same.
    const SLACK_NS: i64 = 1_000_000;
    test(ROW, Plan::workload("start-delayed")?, |check, run| {
        let row = format!("{ROW}: waited as long as it was kept");
        row_of(check, run, &row, "tracer.fork.run_delay_ns", |check, line, fact| {
            let delay = number(line, "/tracer/fork/run_delay_ns");
            let (least, most) = (number(fact, "/held_ns") - SLACK_NS, number(fact, "/ran_ns") + SLACK_NS);
            check.that((least.max(0)..most).contains(&delay), format!("{delay} ns, {least} to {most}"));
        });
    })
}
