//! More than one child, children that share all memory, and children that execute a program.

use std::{arch::asm, ffi::OsStr, os::unix::ffi::OsStrExt as _};

use super::{Case, PAGES, filled};
use crate::workload::{
    frames::Frames,
    memory::{Buffer, PAGE},
    sys::{self, Args, must},
};

/// The parent writes while two children live: one copy of each page, for the parent.
pub(super) fn parent_of_two_writes(case: &Case) {
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let children = [0, 1].map(|index| {
        let child = case.fork(index, || {
            lives.open();
            end.pass();
        });
        lives.pass();
        child
    });
    case.write(buffer, 0);
    for child in children {
        case.end(end, child);
    }
}

/// Before the child executes a program, it writes as many pages as the other number says, and the
/// parent k others.
pub(super) fn wasted(case: &Case) {
    let list = Args::new([OsStr::from_bytes(case.file.as_bytes())]);
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let child = case.fork(0, || {
        let frames = Frames::before(case.board, buffer);
        buffer.write(0, case.other);
        buffer.settle();
        case.count(frames.changed());
        lives.open();
        end.pass();
        panic!("exec: error {}", sys::exec(&case.file, &list));
    });
    lives.pass();
    case.write(buffer, PAGES / 2);
    case.end(end, child);
}

/// Children of the case of four.
const FOUR: usize = 4;

/// Four children overlap. Each writes k pages; and the parent, k pages of its own after each fork, then k/4 pages
/// before each end: for the fourth, the third, again the third (the second has ended meanwhile), the first. A reuse is
/// counted at the next fault: so there is one before each fork and each end.
pub(super) fn four_children(case: &Case) {
    let part = case.k / FOUR;
    let (theirs, own, parts) = (filled(PAGES), filled(PAGES), filled(PAGES));
    let ends = [(); FOUR].map(|()| case.gate());
    let lives = case.gate();
    let mut changed = 0;
    let children: [_; FOUR] = std::array::from_fn(|index| {
        let child = case.fork(index, || {
            let frames = Frames::before(case.board, theirs);
            theirs.write(0, case.k);
            theirs.settle();
            case.count(frames.changed());
            lives.open();
            ends[index].pass();
        });
        lives.pass();
        let frames = Frames::before(case.board, own);
        own.write(0, case.k);
        own.settle_again();
        changed += frames.changed();
        child
    });
    let frames = Frames::before(case.board, parts);
    for (step, index) in [3, 1, 2, 0].into_iter().enumerate() {
        parts.write(step * part, part);
        parts.settle_again();
        ends[index].open();
        sys::wait(children[index]);
    }
    case.count(changed + frames.changed());
}

/// The system call `vfork`: the child writes k pages of the memory that it shares with its parent, while another child
/// keeps them.
pub(super) fn vfork_child_writes(case: &Case) {
    let buffer = filled(PAGES);
    let (lives, end) = (case.gate(), case.gate());
    let keeper = case.fork(1, || {
        lives.open();
        end.pass();
    });
    lives.pass();
    let frames = Frames::before(case.board, buffer);
    let pid = vfork_write(buffer, case.k);
    case.name(0, pid);
    case.count(frames.changed());
    case.end(end, keeper);
    sys::wait(pid);
}

fn vfork_write(buffer: Buffer, count: usize) -> i32 {
    assert!(count <= buffer.pages());
    let pid: i64;
    // SAFETY: the child uses registers only, writes inside the buffer, and never leaves this block.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            "2:",
            "test r9, r9",
            "jz 4f",
            "mov byte ptr [r8], 0x5a",
            "add r8, {page}",
            "dec r9",
            "jmp 2b",
            "4:",
            "mov eax, 231", // exit_group
            "xor edi, edi",
            "syscall",
            "3:",
            page = const PAGE,
            inlateout("rax") libc::SYS_vfork => pid,
            inlateout("r8") buffer.page(0) => _,
            inlateout("r9") count => _,
            out("rdi") _, out("rcx") _, out("r11") _,
        );
    }
    must("vfork", pid as i32)
}
