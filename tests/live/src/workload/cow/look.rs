//! A program that looks at its own memory: which pages of files are its own copies.

use std::ffi::OsString;

use super::Case;
use crate::workload::{
    board::Board,
    memory::PAGE,
    number,
    sys::{self, Args, must, text},
};

/// What the program is called among the workloads.
pub(super) const NAME: &str = "cow-look";
/// Half of the scratch area: for the list of mappings, and for entries of pagemap.
const HALF: usize = 16 * 1024;

/// A child of vfork executes the program, which tells on a pipe what it found.
pub(super) fn vfork_exec(case: &Case) {
    let (read, write) = sys::pipe();
    let this = std::env::current_exe().expect("the path of this program");
    let words = [this.as_os_str(), "workload".as_ref(), NAME.as_ref(), write.to_string().as_ref()]
        .map(OsString::from);
    let child = sys::vfork_exec(&text(&this), &Args::new(words));
    case.name(0, child);
    let mut found = 0i32;
    // SAFETY: room for the number.
    let done = unsafe { libc::read(read, (&raw mut found).cast(), size_of_val(&found)) };
    assert_eq!(done, size_of_val(&found) as isize, "what the program found");
    case.count(found);
    sys::wait(child);
}

/// The program: writes the number of pages to the pipe that the first word names.
pub(super) fn run(args: &[OsString]) -> ! {
    let pipe = number(args, 0);
    let board = Board::new();
    // The first time, the looking itself touches memory.
    own_pages(board);
    let found = own_pages(board);
    board.set(0, found);
    // SAFETY: the number is the first of the board, which is not private memory.
    must("write", unsafe { libc::write(pipe, board.first().cast(), size_of_val(&found)) });
    sys::exit_group(0)
}

/// How many pages of private file mappings are not the file's. Nothing is written but shared memory and the stack.
fn own_pages(board: Board) -> i32 {
    const OWN: u64 = 1 << 63;
    /// Present; of a file or shared (Documentation/admin-guide/mm/pagemap.rst).
    const STATE: u64 = 1 << 63 | 1 << 61;
    // SAFETY: NUL-terminated paths.
    let [maps, pagemap] = [c"/proc/self/maps", c"/proc/self/pagemap"]
        .map(|path| must("open", unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) }));
    let mut length = 0;
    loop {
        // SAFETY: inside the first half of the scratch area.
        let done =
            must("read", unsafe { libc::read(maps, board.scratch().add(length).cast(), HALF - length) });
        length += done as usize;
        assert!(length < HALF, "too many mappings");
        if done == 0 {
            break;
        }
    }
    // SAFETY: read just now, and not written below.
    let text = unsafe { std::slice::from_raw_parts(board.scratch(), length) };
    let text = std::str::from_utf8(text).expect("paths of this program are text");
    // SAFETY: the second half of the scratch area.
    let entries = unsafe { board.scratch().add(HALF) }.cast::<u64>();
    let mut found = 0;
    for (start, end) in text.lines().filter_map(private_file) {
        let mut page = start / PAGE;
        while page < end / PAGE {
            let count = (end / PAGE - page).min(HALF / size_of::<u64>());
            let bytes = count * size_of::<u64>();
            // SAFETY: as many entries as there is room for.
            let done =
                unsafe { libc::pread(pagemap, entries.cast(), bytes, (page * size_of::<u64>()) as i64) };
            assert_eq!(done, bytes as isize, "pagemap");
            for index in 0..count {
                // SAFETY: filled just now.
                found += i32::from(unsafe { entries.add(index).read() } & STATE == OWN);
            }
            page += count;
        }
    }
    // SAFETY: files of ours.
    unsafe {
        libc::close(maps);
        libc::close(pagemap);
    }
    found
}

/// The addresses of a line of `/proc/PID/maps` if it is a private mapping of a file.
fn private_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, mode) = (words.next()?, words.next()?);
    let inode = words.nth(2)?;
    if !mode.ends_with('p') || inode == "0" {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}
