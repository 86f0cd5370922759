//! How programs begin, and the memory that goes with an exec and an end.

use tracer_common::start::{Memory, Reached};

use super::{
    check,
    common::{CLONE_VM_VFORK, MS, SYS_VFORK, Story, full},
};

fn memory(anon: u32) -> Memory {
    Memory { anon, file: 20, shmem: 3, swap: 4, pgtables: 5, is_known: 1 }
}

/// ```text
/// sh    ---f--f--f---------
/// true     +--+--+--e--e--x    the first exec drops what the child copied, the second what the first program did
/// vfork       +--+--e--x       its parent's memory stays
/// killed         +--e--x       before its own first instruction
/// ```
#[test]
fn each_exec_tells_what_it_replaced() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200).copies(200, 3);
    s.fork_as(100, 300, CLONE_VM_VFORK, SYS_VFORK).fork(100, 400);
    s.at(2002).exec_with(200, "/bin/env", "", b"env\0", |exec| {
        exec.prepared_ns = 2001 * MS;
        exec.dropped = memory(10);
    });
    for pid in [300, 400] {
        s.exec_with(pid, "/bin/true", "", b"true\0", |exec| {
            exec.prepared_ns = 2001 * MS;
            exec.dropped = Memory { anon: Memory::UNKNOWN, ..memory(0) };
        });
    }
    s.copies(200, 7).at(2005).exec_with(200, "/bin/true", "", b"true\0", |exec| {
        exec.reached = Reached { first_ns: 6_000, entry_ns: 400_000, minor: 50, major: 0 };
    });
    s.at(2009).exit_with(200, |exit| {
        exit.reached = Reached { first_ns: 4_000, entry_ns: 300_000, minor: 44, major: 1 };
        exit.memory = memory(8);
        exit.run_delay = 3_001;
    });
    s.exit_with(300, |exit| {
        exit.reached = Reached { first_ns: 5_000, entry_ns: 0, minor: 7, major: 0 };
        exit.run_delay = 1;
    });
    s.kill(400, 9);
    for pid in [200, 300, 400] {
        s.wait(100, pid).free(pid, 100);
    }
    s.at(2100).tick();
    check("starts", s);
}

/// A child that shares its parent's memory gives nothing up at its end.
#[test]
fn the_memory_of_the_parent_is_not_told() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ");
    s.fork(100, 200);
    s.fork_as(100, 300, CLONE_VM_VFORK, SYS_VFORK);
    for pid in [200, 300] {
        s.at(2001).exit_with(pid, |exit| exit.memory = memory(8)).wait(100, pid).free(pid, 100);
    }
    s.at(2100).tick();
    check("memory_at_end", s);
}
