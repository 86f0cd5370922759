//! Finds out where this kernel keeps its page tables and pages, from a page whose frame is known.
//!
//! The address of a user's page in the direct map, the depth of the page tables and the address of the
//! array of `struct page` are random at each boot. /proc/self/pagemap names the frame of a page of ours;
//! the programs look for the page's content below the page directory, and note which `struct page` was
//! allocated for it. Each answer is checked; none is believed because it looks right.

use std::{fs::File, io, os::unix::fs::FileExt as _, ptr::NonNull};

use tracer_common::settings::{Calibration, Control, DIRTY, FIVE_LEVELS, GIB_PER_RUN, SAVED_DIRTY};

use super::{loader::Loaded, maps::Questions};

const PAGE: usize = 4096;
/// Direct maps up to 8 TiB are searched, with a fault for each run.
const RUNS: usize = (8 << 10) / GIB_PER_RUN as usize;
const GIB: u64 = 1 << 30;
/// Bytes of `struct page` on x86_64.
const STRUCT_PAGE: u64 = 64;

/// The programs that answer, and their tracepoints.
pub(super) const PROGRAMS: [(&str, &str); 2] =
    [("calibrate_alloc", "mm_page_alloc"), ("calibrate_walk", "page_fault_user")];

/// Fresh anonymous pages, none of them present and none to become huge.
pub(super) struct Pages {
    at: NonNull<u8>,
    count: usize,
}

impl Pages {
    pub(super) fn new(count: usize) -> io::Result<Self> {
        // SAFETY: a new mapping.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let Some(at) = NonNull::new(at.cast::<u8>()).filter(|at| at.as_ptr().cast() != libc::MAP_FAILED)
        else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: the mapping just made. A kernel without huge pages refuses, and that is as good.
        unsafe { libc::madvise(at.as_ptr().cast(), count * PAGE, libc::MADV_NOHUGEPAGE) };
        Ok(Self { at, count })
    }

    pub(super) fn word(&self, page: usize) -> *mut u64 {
        assert!(page < self.count, "page {page} of {}", self.count);
        // SAFETY: inside the mapping.
        unsafe { self.at.add(page * PAGE) }.as_ptr().cast()
    }

    pub(super) fn read(&self, page: usize) -> u64 {
        // SAFETY: inside the mapping, aligned.
        unsafe { self.word(page).read_volatile() }
    }

    /// Lets nobody write to the first page any more.
    fn forbid_writes(&self) -> io::Result<()> {
        // SAFETY: a page of the mapping; who writes to it later gets SIGSEGV, and nobody does.
        match unsafe { libc::mprotect(self.at.as_ptr().cast(), PAGE, libc::PROT_READ) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn write(&self, page: usize, value: u64) {
        // SAFETY: inside the mapping, aligned.
        unsafe { self.word(page).write_volatile(value) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, not used any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.count * PAGE) };
    }
}

/// The frame behind an address of ours (Documentation/admin-guide/mm/pagemap.rst).
pub(super) fn frame(pagemap: &File, address: u64) -> Result<u64, String> {
    const PRESENT: u64 = 1 << 63;
    const PFN: u64 = (1 << 55) - 1;
    let mut entry = [0; 8];
    pagemap
        .read_exact_at(&mut entry, address / PAGE as u64 * 8)
        .map_err(|e| format!("/proc/self/pagemap: {e}"))?;
    let entry = u64::from_ne_bytes(entry);
    match entry & PFN {
        0 => Err("/proc/self/pagemap hides the frames (CAP_SYS_ADMIN is missing)".to_owned()),
        _ if entry & PRESENT == 0 => Err("a page that was just touched is not present".to_owned()),
        pfn => Ok(pfn),
    }
}

/// Calibrates; the error says why copies cannot be told from reuses here.
pub(super) fn run(loaded: &mut Loaded) -> Result<Control, String> {
    let map = loaded.take_map("CALIBRATION").map_err(|e| e.to_string())?;
    let mut questions = Questions::new(map).map_err(|e| e.to_string())?;
    for (program, tracepoint) in PROGRAMS {
        loaded.attach(program, tracepoint)?;
    }
    let found = ask(&mut questions);
    for (program, _) in PROGRAMS.into_iter().rev() {
        loaded.detach(program);
    }
    found
}

fn ask(questions: &mut Questions) -> Result<Control, String> {
    let pagemap = File::open("/proc/self/pagemap").map_err(|e| format!("/proc/self/pagemap: {e}"))?;
    let pages = Pages::new(2).map_err(|e| format!("mmap: {e}"))?;
    let fresh = Pages::new(RUNS).map_err(|e| format!("mmap: {e}"))?;
    let magic = magic()?;
    // Read once before, so that the answer needs no new page of ours.
    let mut question = questions.answer()?;
    question.alloc_tgid = std::process::id();
    questions.ask(&question)?;
    pages.write(0, magic);
    let page = questions.answer()?.page;
    let zero_pfn = match pages.read(1) {
        0 => frame(&pagemap, pages.word(1) as u64)?,
        _ => return Err("a fresh page is not zero".to_owned()),
    };
    let address = pages.word(0) as u64;
    let pfn = frame(&pagemap, address)?;
    pages.forbid_writes().map_err(|e| format!("mprotect: {e}"))?;

    question = Calibration {
        tgid: std::process::id(),
        address,
        physical: pfn * PAGE as u64,
        magic,
        ..Calibration::default()
    };
    for run in 0..RUNS {
        question.first_gib = run as u32 * GIB_PER_RUN;
        questions.ask(&question)?;
        let _ = fresh.read(run);
        if questions.answer()?.page_offset != 0 {
            break;
        }
    }
    let answer = questions.answer()?;
    questions.ask(&Calibration::default())?;
    if answer.page_offset == 0 {
        return Err("the direct map was not found within 8 TiB below the page directory".to_owned());
    }
    let vmemmap = page.wrapping_sub(pfn * STRUCT_PAGE);
    if page == 0 || vmemmap % GIB != 0 {
        return Err("the page that was allocated for a fault was not seen".to_owned());
    }
    Ok(Control {
        page_offset: answer.page_offset,
        vmemmap,
        zero_pfn,
        flags: if answer.levels == 5 { FIVE_LEVELS } else { 0 },
        adopt: 0,
        regs_offset: answer.regs_offset,
        // It was written, and must not be any more.
        dirty: match answer.entry & (DIRTY | SAVED_DIRTY) {
            mark @ (DIRTY | SAVED_DIRTY) => mark,
            _ => 0,
        },
    })
}

/// A random word that is not zero, which any page could hold.
fn magic() -> Result<u64, String> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer and its length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != 8 {
        return Err(format!("getrandom: {}", io::Error::last_os_error()));
    }
    Ok(u64::from_ne_bytes(bytes) | 1)
}
