//! Everything at once: threads, forks, huge pages, private files, programs, pins; and more memory than there is.
//!
//! The work is bounded and always the same; how it interleaves, and so how many pages are copied, is not.

use std::{ffi::OsString, ptr};

use super::{
    memory::{Buffer, HUGE, PAGE, filled},
    number,
    sys::{self, Args, must, text},
};

/// Pages of most buffers.
const PAGES: usize = 512;
/// Pages of a file, some fewer than the test makes.
const FILE_PAGES: usize = 64;
/// Threads that write at the same time.
const WIDTH: usize = 4;
/// Pages of the buffer that does not fit: several processes have their own copy in the end.
const LARGE: usize = 4096;

/// Runs `name` if it is one of these.
pub(crate) fn run(name: &str, args: &[OsString]) -> bool {
    match name {
        "stress" => {
            for _ in 0..number(args, 0) {
                in_child(|| round(&args[1], &args[2]));
            }
        }
        "stress-swap" => {
            std::fs::write(&args[1], sys::pid().to_string()).expect("join the cgroup");
            for _ in 0..number(args, 0) {
                in_child(pressure);
            }
        }
        _ => return false,
    }
    true
}

/// Does it in a child, whose memory is given back at the end.
fn in_child(work: impl FnOnce()) {
    let pid = sys::fork(|| {
        work();
        0
    });
    assert_eq!(sys::wait(pid), 0, "a child of the stress failed");
}

/// Each part once; `program` does nothing.
fn round(program: &OsString, file: &OsString) {
    threads();
    tree();
    huge();
    private_file(file);
    programs(program);
    zero_pages();
    kernel_writes();
    reuses();
}

/// Threads write the same pages at the same time.
fn race(buffer: Buffer) {
    let threads: Vec<_> = (0..WIDTH).map(|_| std::thread::spawn(move || buffer.write(0, PAGES))).collect();
    for thread in threads {
        thread.join().expect("a thread that writes");
    }
}

/// Threads of parent and child write the pages that both share.
fn threads() {
    let buffer = filled(PAGES);
    let child = sys::fork(|| {
        race(buffer);
        0
    });
    race(buffer);
    assert_eq!(sys::wait(child), 0);
}

/// Three generations share and write.
fn tree() {
    fn grow(buffer: Buffer, generations: usize) {
        if generations > 0 {
            let children = [0, 1].map(|_| {
                sys::fork(|| {
                    grow(buffer, generations - 1);
                    0
                })
            });
            buffer.write(generations * PAGES / 4, PAGES / 4);
            for child in children {
                assert_eq!(sys::wait(child), 0);
            }
        }
        buffer.write(0, PAGES / 4);
    }
    grow(filled(PAGES), 3);
}

/// Huge pages, which are split when parent and child write.
fn huge() {
    const BYTES: usize = 3 * HUGE * PAGE;
    // SAFETY: a new mapping.
    let start = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = libc::mmap(ptr::null_mut(), BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        must("mmap", start as isize);
        // A kernel without huge pages has small ones here.
        libc::madvise(start, BYTES, libc::MADV_HUGEPAGE);
        start.cast::<u8>()
    };
    let write = |step: usize| {
        for at in (0..BYTES).step_by(step * PAGE) {
            // SAFETY: inside the mapping.
            unsafe { start.add(at).write_volatile(0x5c) };
        }
    };
    write(1);
    let child = sys::fork(|| {
        write(3);
        0
    });
    write(5);
    assert_eq!(sys::wait(child), 0);
    // SAFETY: nobody uses it after this.
    must("munmap", unsafe { libc::munmap(start.cast(), BYTES) });
}

/// A private mapping of a file: written first, read first, and written again after a fork.
fn private_file(file: &OsString) {
    let buffer = Buffer::file(FILE_PAGES, &text(file));
    buffer.read_some(FILE_PAGES / 2);
    buffer.write(0, FILE_PAGES * 3 / 4);
    in_child(|| buffer.write(0, FILE_PAGES));
    buffer.write(0, FILE_PAGES);
}

/// `fork` and `vfork`, followed by exec.
fn programs(program: &OsString) {
    let (path, args) = (text(program), Args::new([program]));
    for _ in 0..8 {
        let child = sys::fork(|| sys::exec(&path, &args));
        assert_eq!(sys::wait(child), 0);
        assert_eq!(sys::wait(sys::vfork_exec(&path, &args)), 0);
    }
}

/// Pages that are read, then written.
fn zero_pages() {
    let buffer = Buffer::anonymous(PAGES);
    buffer.read();
    buffer.write(0, PAGES);
}

/// `read(2)` into some shared pages, `mlock(2)` of others.
fn kernel_writes() {
    let buffer = filled(PAGES);
    let (read, write) = sys::pipe();
    in_child(|| {
        for index in 0..PAGES / 4 {
            // SAFETY: one byte inside the buffer each.
            unsafe {
                must("write", libc::write(write, buffer.page(PAGES - 1).cast(), 1));
                must("read", libc::read(read, buffer.page(index).cast(), 1));
            }
        }
        let rest = buffer.page(PAGES / 2);
        // SAFETY: the second half of the buffer.
        must("mlock", unsafe { libc::mlock(rest.cast(), PAGES / 2 * PAGE) });
    });
}

/// The child is gone when the parent writes.
fn reuses() {
    let buffer = filled(PAGES);
    in_child(|| ());
    buffer.write(0, PAGES);
}

/// Four processes write the same pages, in different order, in less memory than they need.
fn pressure() {
    let buffer = filled(LARGE);
    let children = [0, 1, 2].map(|nth| {
        sys::fork(|| {
            // Read and written in turns, from different places on.
            for index in 0..LARGE {
                let page = (index + nth * LARGE / 3) % LARGE;
                buffer.write(page, 1);
                // SAFETY: inside the buffer.
                unsafe { buffer.page((page * 7 + nth) % LARGE).read_volatile() };
            }
            0
        })
    });
    buffer.write(0, LARGE);
    for child in children {
        assert_eq!(sys::wait(child), 0);
    }
}
