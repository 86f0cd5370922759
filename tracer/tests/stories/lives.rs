//! What happens in a life, from birth to reap.

use tracer::{
    decode::{Event, LossStage, Snapshot},
    filter::Filter,
    lifecycle::Config,
};
use tracer_common::{
    counter,
    event::{
        AutoReap, EndedBy, FLAG_ARGS_UNREADABLE, FLAG_CORE, FLAG_LATE, FLAG_NO_PARENT, FLAG_PARENT_OUTSIDE,
        Fork,
    },
};

use super::{
    check,
    common::{CLONE_VM_VFORK, MS, SYS_CLONE3, SYS_EXIT, SYS_VFORK, Story, config, follow, full},
    compare,
};

/// ```text
/// sh    ---f-------------w--
/// true     +--e-----x
/// ```
#[test]
fn fork_exec_exit_wait() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh -i ").copies(100, 5);
    s.fork(100, 200).copies(100, 2).copies(200, 3);
    s.at(2001).exec(200, "/bin/true", "true --quietly").copies(200, 7);
    s.at(2004).exit(200, 3);
    s.at(2005).wait(100, 200).tick();
    s.at(2030).free(200, 100);
    s.at(2050).tick();
    check("fork_exec_exit_wait", s);
}

#[test]
fn base_hooks_know_no_failures_and_the_reap_by_its_bound() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2001).exec(200, "/bin/true", "true");
    s.at(2004).exit(200, 0);
    s.at(2020).free(200, 100).tick();
    check("base_hooks", s);
}

#[test]
fn wait_record_after_free_is_awaited() {
    let mut s = Story::new(Config { steps: false, ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2004).exit(200, 0);
    s.at(2020).free(200, 100).at(2021).tick();
    s.at(2022).wait(100, 200);
    s.at(2100).tick();
    check("wait_after_free", s);
}

/// The parent waits from `f` to `e` or `x`; the memory is its own all the time.
#[test]
fn vfork_and_posix_spawn() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").copies(100, 9);
    s.fork_as(100, 200, CLONE_VM_VFORK, SYS_VFORK).copies(200, 1);
    s.at(2003).exec(200, "/bin/true", "true");
    s.fork_as(100, 201, CLONE_VM_VFORK, SYS_CLONE3);
    s.at(2004).exit(200, 0).free(200, 100);
    s.at(2010).exit(201, 127).free(201, 100);
    s.at(2050).exit(100, 0).free(100, 1).tick();
    check("vfork_and_posix_spawn", s);
}

#[test]
fn orphan() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(1, 0, "/sbin/init", "init ").snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2001).fork(200, 201);
    s.at(2002).exit(200, 0).wait(100, 200);
    s.at(2010).exit_with(201, |exit| exit.real_parent_tgid = 1);
    s.at(2011).wait(1, 201).tick();
    check("orphan", s);
}

#[test]
fn zombie_is_written_after_a_second_and_its_reap_later() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2004).exit(200, 0);
    s.at(3003).tick().at(3004).tick();
    s.at(5000).free(200, 100).at(5001).tick();
    check("zombie_reaped_late", s);
}

#[test]
fn zombie_that_nobody_reaps() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2004).exit(200, 0).at(2005).tick();
    check("zombie_never_reaped", s);
}

#[test]
fn death_by_signals() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    for (child, status, flags) in
        [(200, 9, 0), (201, 11 | 0x80, 0), (202, 6, FLAG_CORE), (203, 34, 0), (204, 32, 0)]
    {
        s.fork(100, child).exit_with(child, |exit| {
            exit.status = status;
            exit.header.flags |= flags;
            exit.syscall = u32::MAX;
        });
        s.free(child, 100);
    }
    s.fork(100, 205).exit_with(205, |exit| exit.syscall = SYS_EXIT);
    s.free(205, 100).at(2010).tick();
    check("signals", s);
}

#[test]
fn shebang() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200);
    s.at(2001).exec_failed(200, "/usr/local/bin/run.sh", 2);
    s.exec_with(200, "./run.sh", "/usr/bin/python3", b"/usr/bin/python3\0-u\0./run.sh\0a\0", |_| {});
    s.at(2002).exec(200, "/bin/true", "true");
    s.at(2004).exit(200, 0).wait(100, 200).tick();
    check("shebang", s);
}

#[test]
fn arguments_that_are_not_utf8() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200);
    s.exec_with(200, "/bin/echo", "", b"echo\0caf\xe9\0\xf0\x9f\xa6\x80\0\"\\\n\x01\0\0", |_| {});
    s.at(2004).exit(200, 0).wait(100, 200).tick();
    check("args_not_utf8", s);
}

#[test]
fn arguments_are_cut_to_the_line() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    // Each byte takes six in JSON; the kernel side cut the rest.
    let args = [b"echo\0".as_slice(), &[1; 4091]].concat();
    s.fork(100, 200);
    s.exec_with(200, "/bin/echo", "", &args, |exec| {
        exec.argc = 200;
        exec.args_bytes = 100_000;
    });
    s.at(2004).exit(200, 0).free(200, 100).tick();
    // These fit, but were cut by the kernel side.
    s.fork(100, 201);
    s.exec_with(201, "/bin/echo", "", b"echo\0aaaa\0bb", |exec| {
        exec.argc = 4;
        exec.args_bytes = 20;
    });
    s.at(2005).exit(201, 0).free(201, 100).tick();
    // The paths are too long even without arguments.
    let long = format!("/{}", "\u{1}".repeat(511));
    s.fork(100, 202);
    s.exec_with(202, &long, &long, b"echo\0", |_| {});
    s.exec_with(202, &long, &long, b"echo\0", |_| {});
    s.at(2006).exit(202, 0).free(202, 100).tick();
    let lines = follow(&s.recording(), &Filter::default());
    let longest = lines.lines().map(|line| line.len() + 1).max().unwrap();
    assert!((7_890..=7_900).contains(&longest), "as much as fits: {longest}");
    compare("args_cut", &lines);
}

#[test]
fn process_from_before_forks_and_ends() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(1, 0, "/sbin/init", "init ");
    s.existing(100, 1000);
    // Its fork is read before /proc is.
    s.fork(100, 200);
    s.event(Event::Snapshot(Snapshot {
        tgid: 100,
        ppid: 1,
        start_ticks: 100,
        parent_start_ticks: 1,
        vpid: 100,
        uid: 1000,
        gid: 100,
        threads: 3,
        comm: b"server",
        exe: b"/usr/sbin/server",
        args: b"server\0-d\0",
        ..Default::default()
    }));
    s.at(2004).exit(200, 0).free(200, 100).copies(100, 4);
    s.at(2005).exit(100, 0).free(100, 1).tick();
    check("snapshot_process", s);
}

/// Pids wrap: the child of a parent with a higher one is found first. The second parent is not found; of
/// the last one the start cannot be read, but it is known.
#[test]
fn child_found_before_its_parent() {
    let mut s = Story::new(config());
    s.at(9000).existing(100, 5000);
    s.event(Event::Snapshot(Snapshot {
        tgid: 100,
        ppid: 300,
        start_ticks: 500,
        parent_start_ticks: 300,
        ..Snapshot::default()
    }));
    s.snapshot(101, 400, "/bin/cat", "cat ");
    s.snapshot(300, 0, "/bin/sh", "sh ").existing(301, 3010);
    s.event(Event::Snapshot(Snapshot { tgid: 301, ppid: 300, start_ticks: 301, ..Snapshot::default() }));
    for (pid, parent) in [(100, 300), (101, 400), (301, 300), (300, 0)] {
        s.at(9001).exit(pid, 0).free(pid, parent);
    }
    s.at(9002).tick();
    check("child_before_parent", s);
}

/// The leader's end is no end of the process, and the thread takes over its id.
#[test]
fn exec_from_a_thread() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).count(200, counter::THREADS, 1);
    s.at(2002).exec_with(200, "/bin/true", "", b"true\0", |exec| exec.old_tid = 201);
    s.at(2004).exit(200, 0).wait(100, 200).tick();
    check("exec_from_thread", s);
}

/// A line each, whatever ended them; of two that end at once, one may tell it after the end of the process.
#[test]
fn threads() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).count(200, counter::THREADS, EndedBy::ALL.len() as u64);
    for (tid, ended_by) in (201..).zip(EndedBy::ALL) {
        s.at(2000 + u64::from(tid)).thread(200, tid, ended_by);
    }
    s.at(2300).exit(200, 0).thread(200, 220, EndedBy::Group).wait(100, 200).tick();
    check("threads", s);
}

#[test]
fn command_and_unknown_processes() {
    let mut s = Story::new(Config { tree: true, ..full() });
    s.at(1900).existing(1000, 1500);
    s.at(2000).fork_as(1000, 1001, CLONE_VM_VFORK, SYS_CLONE3);
    s.at(2001).exec(1001, "/usr/bin/make", "make all");
    s.fork_failed(1001, 11);
    s.existing(50, 500).at(2002).exec_failed(50, "/nowhere", 13);
    s.exec_with(50, "/bin/a", "", b"", |exec| exec.header.flags |= FLAG_ARGS_UNREADABLE);
    s.at(2003).exit(50, 0);
    s.at(2010).exit(1001, 2).wait(1000, 1001).tick();
    check("command", s);
}

#[test]
fn nested_pid_namespace() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork_with(100, 200, |fork| fork.vpid = 1);
    s.fork_with(200, 201, |fork| fork.vpid = 2);
    s.at(2001).exit(201, 0);
    // Nobody's child, and somebody else's.
    s.wait_with(200, |wait| (wait.pid, wait.initial_pid_ns) = (3, 0));
    s.wait_with(100, |wait| (wait.pid, wait.initial_pid_ns) = (2, 0));
    s.at(2002).wait_with(200, |wait| (wait.pid, wait.initial_pid_ns) = (2, 0));
    // A debugger's wait leaves the zombie to its parent.
    s.snapshot(90, 1, "/usr/bin/gdb", "gdb ");
    s.at(2003).exit(200, 0).at(2004).wait(90, 200).at(2005).wait(100, 200).tick();
    check("pid_namespace", s);
}

#[test]
fn programs_before() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200);
    for program in ["a", "b", "c", "d", "e", "f"] {
        s.at(2001).exec(200, program, "x y z");
    }
    s.at(2004).exit(200, 0).free(200, 100).tick();
    check("programs_before", s);
}

#[test]
fn times_are_those_of_the_events() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).exit_with(200, |exit| exit.header.ktime_ns = 2_345 * MS + 678).free(200, 100);
    s.at(2400).tick();
    let lines = follow(&s.recording(), &Filter::default());
    let timeline: serde_json::Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    assert_eq!(timeline["@timestamp"], "2026-01-01T00:00:02.345000678Z");
    assert_eq!(timeline["process"]["start"], "2026-01-01T00:00:02.000000000Z");
    assert_eq!(timeline["event"]["duration"], 345_000_678_u64);
}

/// What each parent says of SIGCHLD at the end of its child and at its reap.
#[test]
fn reaped_by_the_kernel_or_not() {
    use AutoReap::{No, Unknown, Yes};
    let mut s = Story::new(Config { steps: false, ..full() });
    s.at(2000).snapshot(1, 0, "/sbin/init", "init ").snapshot(100, 1, "/bin/sh", "sh ");
    let of_both = [(Yes, Yes), (Yes, Unknown), (No, No), (No, Unknown), (No, Yes), (Yes, No), (Unknown, Yes)];
    for (child, (at_end, at_reap)) in (200..).zip(of_both) {
        s.fork(100, child).exit_with(child, |exit| exit.auto_reap = at_end as u32);
        s.free_with(child, |free| (free.real_parent_tgid, free.auto_reap) = (100, at_reap as u32));
    }
    // The parent stopped ignoring them in time: a wait call is a proof.
    s.fork(100, 300).exit_with(300, |exit| exit.auto_reap = Yes as u32).wait(100, 300);
    // Born to be reaped by the kernel.
    s.fork_as(100, 301, 1 << 34, SYS_CLONE3).exit(301, 0).free(301, 100);
    // Only the next owner of the pid tells of the reap.
    s.fork(100, 302).exit_with(302, |exit| exit.auto_reap = Yes as u32);
    s.at(2020).fork(100, 302).at(2100).tick();
    check("auto_reap", s);
}

/// Two threads that end at once both find themselves the last one: what they say is put together.
#[test]
fn usage_of_two_last_threads() {
    let mut s = Story::new(Config { full_hooks: false, ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200);
    s.exit_with(200, |exit| {
        exit.syscall = SYS_EXIT;
        exit.usage.cpu_ns = 1_000_000;
        exit.usage.max_rss_bytes = 4096;
    });
    s.count(200, counter::ENDED_GROUP, 1).exit_with(200, |exit| {
        exit.usage.told_user_ns = 900_000;
        exit.usage.max_rss_bytes = 8192;
    });
    // Its timeline comes before it is reaped.
    s.at(3002).tick().at(3010).free(200, 100).tick();
    check("usage", s);
}

/// The freeing of what was reaped comes after the wait call, and is awaited for what it tells.
#[test]
fn free_record_after_wait_is_awaited_for_a_while() {
    let mut s = Story::new(Config { steps: false, ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200).fork(100, 201);
    s.exit(200, 0).wait(100, 200).exit(201, 0).wait(100, 201).at(2001).tick();
    s.at(2150).free(200, 100).at(2151).tick();
    // The line of this one comes between those of the two.
    s.at(2300).lost(LossStage::Late, None, 1).tick();
    s.at(2550).tick();
    check("free_after_wait", s);
}

/// What the kernel side tells of a birth after `ms`, when the process is given a name that is asked for.
fn late(fork: &mut Fork, ms: u64) {
    fork.header.flags |= FLAG_LATE | FLAG_NO_PARENT;
    fork.header.ktime_ns += ms * MS;
    (fork.pgtable_bytes, fork.mappings) = (u64::MAX, u32::MAX);
    (fork.anon_pages, fork.file_pages, fork.shmem_pages) = (u64::MAX, u64::MAX, u64::MAX);
    (fork.eager_copies, fork.parent_tid) = (u64::MAX, 0);
}

/// Left out by their names until the dots end; nothing is told of 100 and 300. 203 was there before, and 204 was forked by a
/// thread of 300 that has the name.
/// ```text
/// 200   +..e---x     joins at an exec
/// 201      +-x       its child: whole
/// 202   +v.e---x     joins after vfork, at an exec
/// 203   ...n---x
/// 204   +------x
/// ```
#[test]
fn who_is_let_in_late() {
    let mut s = Story::new(Config { steps: true, ..config() });
    s.existing(100, 1000).existing(300, 1000).existing(0, 0);
    s.at(2000).fork_with(100, 200, |fork| late(fork, 5));
    s.at(2005).exec(200, "/usr/bin/redis-server", "redis-server").copies(200, 4);
    s.at(2006).fork(200, 201).copies(201, 3);
    s.at(2008).exit(201, 0).free(201, 200);
    s.at(2010).fork_with(100, 202, |fork| {
        (fork.clone_flags, fork.syscall, fork.shares_mm) = (CLONE_VM_VFORK, SYS_VFORK, 1);
        late(fork, 1);
    });
    s.at(2011).exec(202, "/usr/bin/redis-cli", "redis-cli ping");
    s.at(2012).fork_with(0, 203, |fork| {
        late(fork, 0);
        (fork.parent_start_time_ns, fork.real_parent_tgid, fork.syscall) = (0, 1, u32::MAX);
    });
    s.fork_with(300, 204, |fork| fork.header.flags |= FLAG_PARENT_OUTSIDE | FLAG_NO_PARENT);
    for pid in [200, 202, 203, 204] {
        s.at(2020).exit(pid, 0).free(pid, 100);
    }
    s.tick();
    check("let_in_late", s);
}
