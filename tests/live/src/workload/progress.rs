//! Two processes that share much memory and copy some of it, and what the kernel says they share in the end.

use std::{ffi::OsString, fs, time::Duration};

use super::{
    board::Board,
    facts::{Facts, Process},
    memory::Buffer,
    sys,
};

/// Pages that are shared at first, and what each of the two writes of them: first page and number.
/// They are few enough to be written within the second after the fork at which the first progress is due, also on an
/// emulated machine that others slow down.
const PAGES: usize = 8192;
const BY_CHILD: (usize, usize) = (1000, 100);
const BY_PARENT: (usize, usize) = (4000, 300);
/// How long both live on when both have written.
const REST: Duration = Duration::from_millis(2500);

/// Slots of the board.
const CHILD: usize = 0;
const SHARED_KB: usize = 1;
const PARENT_HAS_WRITTEN: usize = 2;

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, _: &[OsString], facts: &mut Facts) -> bool {
    if name != "progress" {
        return false;
    }
    let board = Board::new();
    let parent = sys::fork(|| {
        let buffer = Buffer::anonymous(PAGES);
        buffer.write(0, PAGES);
        let child = sys::fork(|| {
            buffer.write(BY_CHILD.0, BY_CHILD.1);
            while board.get(PARENT_HAS_WRITTEN) == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(REST);
            board.set(SHARED_KB, shared_kb());
            0
        });
        board.set(CHILD, child);
        buffer.write(BY_PARENT.0, BY_PARENT.1);
        board.set(PARENT_HAS_WRITTEN, 1);
        sys::wait(child);
        0
    });
    facts.push(Process::new("fork", parent, sys::wait(parent)));
    let child = board.get(CHILD);
    facts.push(Process::new("fork", child, 0).with("parent", parent).with("reaper", parent));
    facts.set("parent", parent);
    facts.set("child", child);
    facts.set("shared_bytes", i64::from(board.get(SHARED_KB)) * 1024);
    true
}

/// KiB of the caller's anonymous memory that another process maps, too. In a private mapping of a file, as of the
/// program's own data, the pages that were written are anonymous.
fn shared_kb() -> i32 {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("read smaps");
    // Of the mapping that is read: what is shared of it, and how much of it can be anonymous.
    let (mut shared, mut anonymous, mut sum) = (0, 0, 0);
    for line in smaps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            // START-END PERMISSIONS OFFSET DEVICE INODE [PATH]
            [range, _, _, _, inode, ..] if range.contains('-') => {
                sum += shared.min(anonymous);
                (shared, anonymous) = (0, if inode == "0" { i32::MAX } else { 0 });
            }
            ["Shared_Clean:" | "Shared_Dirty:", kb, "kB"] => shared += number(kb),
            ["Anonymous:", kb, "kB"] => anonymous = anonymous.max(number(kb)),
            _ => {}
        }
    }
    sum + shared.min(anonymous)
}

fn number(kb: &str) -> i32 {
    kb.parse().expect("a number of KiB")
}
