//! What is counted in a life, and what of it was lost.

use tracer::{
    decode::{Event, LossStage},
    level::Level,
    lifecycle::Config,
};
use tracer_common::{
    counter,
    event::{FLAG_NO_COUNTERS, Kind},
};

use super::{
    check,
    common::{SYS_FORK, Story, config, full},
};

/// ```text
/// sh    ---f--f-----------
/// a        +=====x            what sh copies here
/// b           +=====e--x      and here is charged to b, the newest; before and after to a
/// ```
#[test]
fn two_overlapping_children() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").copies(100, 100);
    s.fork(100, 200).copies(100, 1);
    s.at(2001).fork(100, 201).copies(100, 10);
    s.at(2002).exit(200, 0).free(200, 100).copies(100, 20).copies(201, 5);
    s.at(2003).exec(201, "/bin/true", "true").copies(100, 40).copies(201, 2);
    s.at(2004).exit(201, 0).free(201, 100);
    s.at(2005).exit(100, 0).free(100, 1).tick();
    check("overlapping_children", s);
}

#[test]
fn pages_copied_by_fork_itself_are_charged_to_that_fork() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).copies(100, 1);
    s.count(100, counter::EAGER, 64);
    s.at(2001).fork_with(100, 201, |fork| {
        fork.eager_copies = 64;
        fork.syscall = SYS_FORK;
    });
    s.at(2003).exec(201, "/bin/true", "true");
    s.at(2004).exit(201, 0).free(201, 100).exit(200, 0).free(200, 100).tick();
    check("eager_copies", s);
}

#[test]
fn progress() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/usr/sbin/redis-server", "redis-server ");
    s.copies(100, 7).progress(100).progress(100).tick();
    s.at(12_000).copies(100, 3).count(100, counter::GUP, 2).progress(100).tick();
    check("progress", s);
}

/// ```text
/// redis ---f-------|--------|--x    copies 30 of 100 shared pages
/// child    +=======|========|==x    copies 20 others and then 5 of a file, which were not shared
///              1 s later  at 12 s
/// ```
#[test]
fn progress_of_sharers() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/usr/sbin/redis-server", "redis-server ").copies(100, 7);
    s.fork_with(100, 200, |fork| fork.anon_pages = 100);
    s.at(2500).copies(100, 10).tick();
    s.at(3000).tick().progress(100).progress(200).tick();
    s.at(4000).copies(100, 20).copies(200, 20).count(
        200,
        counter::index(counter::Class::File, counter::Mode::User),
        5,
    );
    s.at(12_000).progress(200).progress(100).tick();
    // What the parent copies alone the child does not share any more, either.
    s.at(12_500).copies(100, 3).progress(200).progress(100).tick();
    s.at(13_000).exit(200, 0).copies(100, 1).progress(100).tick();
    check("progress_of_sharers", s);
}

/// Whatever the counters hold.
#[test]
fn without_fault_hooks_no_count_is_a_zero() {
    let mut s = Story::new(Config { cow: Level::Off, ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200).count(200, counter::THREADS, 2);
    s.copies(100, 3).progress(100).at(2001).exec(200, "/bin/true", "true");
    s.at(2004).exit(200, 0).wait(100, 200);
    s.at(2005).exit(100, 0).free(100, 1).tick();
    s.at(2100).tick();
    check("cow_off", s);
}

#[test]
fn lost_exit_is_found_at_free_and_at_the_next_use_of_the_pid() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).fork(100, 201);
    s.at(2010).free(200, 100).lost(LossStage::Ring, Some(Kind::Exit), 2).tick();
    s.at(2020).fork(100, 201).at(2030).exit(201, 0).free(201, 100);
    s.at(2040).tick();
    s.fork(100, 202).at(2050).event(Event::Gone { tgid: 202, start_ticks: 204 });
    s.tick();
    check("lost_exit", s);
}

#[test]
fn losses_are_on_the_lives_that_they_may_concern() {
    let mut s = Story::new(config());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2004).exit(200, 0).free(200, 100).tick();
    s.fork(100, 201).at(2010).exit(201, 0).free(201, 100);
    s.lost(LossStage::Ring, Some(Kind::Exec), 3);
    s.lost(LossStage::ThreadTable, None, 1);
    s.lost(LossStage::Decode, None, 1);
    s.lost(LossStage::ProcessTable, None, 1);
    s.lost(LossStage::Late, None, 1);
    s.lost(LossStage::Recursion, Some(Kind::Fork), 1).tick();
    s.at(2011).fork(100, 202).at(2012).exit(202, 0).free(202, 100).tick();
    s.fork(100, 203).at(2013).exit_with(203, |exit| exit.header.flags |= FLAG_NO_COUNTERS);
    s.free(203, 100).tick();
    check("losses", s);
}

#[test]
fn duplicate_exit() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2004).exit(200, 0).copies(200, 2).exit(200, 0);
    s.at(2005).wait(100, 200).tick().exit(200, 0);
    s.at(2006).tick();
    check("duplicate_exit", s);
}

#[test]
fn a_full_table_writes_early_and_then_refuses() {
    let mut s = Story::new(Config { max_processes: 3, ..config() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).at(2001).exit(200, 0);
    s.fork(100, 201).at(2002).fork(100, 202).fork(100, 203);
    s.at(2003).exit(201, 0).free(201, 100).fork(100, 204).tick();
    check("full_table", s);
}
