//! Walks along PATH: failed execs with the same name, and what follows them.

use tracer::{decode::Event, lifecycle::Config};

use super::{
    check,
    common::{Story, config, full},
};

const ENOENT: u32 = 2;
const ENOEXEC: u32 = 8;
const EACCES: u32 = 13;
const ENOTDIR: u32 = 20;

/// A shell with a child of its own.
fn child(config: Config) -> Story {
    let mut s = Story::new(config);
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200);
    s
}

/// No record but that of the exec tells of the failures before it; the second program is there at once.
#[test]
fn a_walk_that_finds_its_program() {
    let mut s = child(full());
    s.at(2001).exec_failed(200, "/usr/local/bin/cc", ENOENT).exec_failed(200, "/opt/cc", EACCES);
    s.exec_failed(200, "./cc", ENOTDIR).at(2002).exec(200, "/usr/bin/cc", "cc");
    s.at(2003).exec(200, "/usr/bin/as", "as");
    s.at(2004).exit(200, 0).wait(100, 200).tick();
    check("walk_finds", s);
}

/// What was closed to the caller is what execvp reports of all of them.
#[test]
fn walks_that_end_before_what_follows() {
    let mut s = child(full());
    // Another name, in a path that ends as the one before.
    s.at(2001).exec_failed(200, "/a/cc", ENOENT).at(2002).exec_failed(200, "/b/cc", ENOTDIR);
    s.exec_failed(200, "/b/xcc", ENOENT).exec_failed(200, "/c/xcc", EACCES);
    s.at(2003).exec_failed(200, "/d/xcc", ENOENT);
    // execvp does not go on after this one: it is told by itself.
    s.exec_failed(200, "/e/xcc", ENOEXEC).exec_failed(200, "/f/xcc", ENOENT);
    // A program of another name.
    s.at(2004).exec(200, "/bin/sh", "sh");
    s.at(2005).exec_failed(200, "cc", ENOENT).at(2006).exit(200, 127).wait(100, 200).tick();
    check("walk_ends", s);
}

/// Another process has a walk of its own; a tick ends both when they are a second old, and the end of the
/// tracing ends the last one.
#[test]
fn walks_that_time_ends() {
    let mut s = child(full());
    s.fork(100, 201).at(2001).exec_failed(200, "/a/cc", ENOENT).at(2002).exec_failed(201, "/a/cc", ENOENT);
    s.at(3000).tick().exec_failed(200, "/b/cc", ENOENT);
    s.at(3001).tick().at(3002).tick();
    s.at(3003).exec_failed(200, "/c/cc", ENOENT).exec_failed(200, "/d/cc", ENOENT);
    check("walk_times_out", s);
}

/// How many tries an exec took is not known when what failed before has no name, or what runs.
#[test]
fn names_that_are_not_known() {
    let mut s = child(full());
    let long = |directory: &str| format!("{directory}{}", "x".repeat(511 - directory.len()));
    s.at(2001).exec_failed(200, "", ENOENT).exec_failed(200, "", ENOENT).exec(200, "/bin/a", "a");
    s.exec_failed(200, &long("/a/"), ENOENT).exec_failed(200, &long("/b/"), ENOENT);
    s.exec_failed(200, "/a/", ENOENT).exec_failed(200, "/b/", ENOENT);
    s.exec_failed(200, "/a/cc", ENOENT).exec(200, "/b/cc", "cc").exec(200, &long("/b/"), "x");
    s.at(2004).exit(200, 0).wait(100, 200).tick();
    check("walk_without_name", s);
}

/// A walk of a life whose end is not seen comes before its timeline.
#[test]
fn walk_before_a_lost_end() {
    let mut s = child(full());
    s.at(2001).exec_failed(200, "/a/cc", ENOENT).exec_failed(200, "/b/cc", ENOENT);
    s.at(2002).event(Event::Gone { tgid: 200, start_ticks: 200 });
    s.tick();
    check("walk_lost_end", s);
}

/// The timeline alone tells it without steps, and nothing does without the hooks.
#[test]
fn walks_without_steps_or_hooks() {
    let mut s = child(Config { steps: false, ..full() });
    s.at(2001).exec_failed(200, "/a/cc", ENOENT).exec(200, "/b/cc", "cc");
    s.at(2004).exit(200, 0).wait(100, 200).tick();
    check("walk_without_steps", s);
    let mut s = child(config());
    s.at(2001).exec(200, "/b/cc", "cc").at(2004).exit(200, 0).free(200, 100).tick();
    check("walk_without_hooks", s);
}
