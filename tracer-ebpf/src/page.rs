//! Page tables and pages, as x86_64 has them: what maps an address now, and what kind of page that is.

use tracer_common::settings::FIVE_LEVELS;

use crate::kernel::{Mm, Pointer, control, offset, read_word};

/// Bits of a page-table entry (arch/x86/include/asm/pgtable_types.h).
pub(crate) const PRESENT: u64 = 1 << 0;
pub(crate) const WRITABLE: u64 = 1 << 1;
/// In the upper levels: this entry maps a huge page.
const HUGE: u64 = 1 << 7;
/// PROT_NONE, in an entry that is not present.
pub(crate) const PROT_NONE: u64 = 1 << 8;
/// Not managed by a `struct page` (_PAGE_SPECIAL).
const SPECIAL: u64 = 1 << 9;
/// Write protected by userfaultfd.
pub(crate) const UFFD_WP: u64 = 1 << 10;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// The lowest frame bit of a huge entry holds its caching type (PAT).
const HUGE_PAT: u64 = 1 << 12;

/// An entry of a page table and its level: 1 for a page, 2 and 3 for huge ones, 0 when there is none.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) value: u64,
    pub(crate) level: u8,
}

impl Entry {
    pub(crate) const NONE: Self = Self { value: 0, level: 0 };

    pub(crate) const fn is_present(self) -> bool {
        self.value & PRESENT != 0
    }
    /// The physical frame.
    pub(crate) const fn pfn(self) -> u64 {
        let frame = self.value & FRAME;
        (if self.level >= 2 { frame & !HUGE_PAT } else { frame }) >> 12
    }
}

/// The address of the entry for `address` in the table at `table`, whose index begins at bit `shift`.
#[inline(always)]
const fn slot(table: u64, address: u64, shift: u32) -> u64 {
    table + ((address >> shift) & 511) * 8
}

/// What maps `address` in the memory whose top table is at `pgd`.
///
/// A function of its own in the object: the verifier forgets its paths when it returns.
#[inline(never)]
fn walk_tables(pgd: u64, page_offset: u64, five_levels: bool, address: u64) -> Option<Entry> {
    let mut table = pgd;
    if five_levels {
        let e = read_word(slot(table, address, 48))?;
        if e & PRESENT == 0 {
            return None;
        }
        table = page_offset + (e & FRAME);
    }
    let e = read_word(slot(table, address, 39))?;
    if e & PRESENT == 0 {
        return None;
    }
    table = page_offset + (e & FRAME);
    let e = read_word(slot(table, address, 30))?;
    if e & PRESENT == 0 {
        return None;
    }
    if e & HUGE != 0 {
        return Some(Entry { value: e, level: 3 });
    }
    table = page_offset + (e & FRAME);
    let e = read_word(slot(table, address, 21))?;
    if e & HUGE != 0 {
        return Some(Entry { value: e, level: 2 });
    }
    if e & PRESENT == 0 {
        return None;
    }
    let e = read_word(slot(page_offset + (e & FRAME), address, 12))?;
    Some(Entry { value: e, level: 1 })
}

/// What maps `address` in `mm` now; for `through` see [`Pointer::number`].
#[inline(always)]
pub(crate) fn walk<P: Pointer>(mm: Option<Mm<P>>, through: *mut u64, address: u64) -> Entry {
    let Some(mm) = mm else { return Entry::NONE };
    let five_levels = control!(flags) & FIVE_LEVELS != 0;
    walk_tables(mm.pgd(through), control!(page_offset), five_levels, address).unwrap_or(Entry::NONE)
}

/// For the calibration: what `levels` levels of tables give for `address`.
#[inline(always)]
pub(crate) fn found(pgd: u64, page_offset: u64, levels: u32, address: u64) -> Entry {
    walk_tables(pgd, page_offset, levels == 5, address).unwrap_or(Entry::NONE)
}

/// What a page is, by its `struct page`.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageKind {
    Unknown = 0,
    Anon = 1,
    Ksm = 2,
    File = 3,
    Zero = 4,
    /// Was written through this entry: in a private mapping that is an anonymous page, in a shared one any.
    Written = 5,
}

/// The kind of the page that `entry` maps, when a write to it faults.
///
/// Who shares a page by fork has written it, and fork leaves the entry's mark of that: then the page's own line, which
/// is not in the cache, need not be read. KSM makes its entries clean, but for those of the zero page.
#[inline(always)]
pub(crate) fn kind_of_protected(entry: Entry) -> PageKind {
    let is_marked = entry.value & control!(dirty) != 0 && entry.value & (PRESENT | WRITABLE) == PRESENT;
    if entry.level == 1 && is_marked && entry.pfn() != control!(zero_pfn) {
        return PageKind::Written;
    }
    kind(entry)
}

/// The kind of the page that `entry` maps.
///
/// `page->mapping` has PAGE_MAPPING_ANON (1) and PAGE_MAPPING_KSM (3) in its low bits
/// (include/linux/page-flags.h). The tail of a compound page names its head: a pointer plus 1 up to
/// 6.x, from 7.0 a mask with bit 0 set that is recognised by its upper ones.
#[inline(always)]
pub(crate) fn kind(entry: Entry) -> PageKind {
    if entry.level == 0 || !entry.is_present() {
        return PageKind::Unknown;
    }
    if entry.level == 1 && entry.pfn() == control!(zero_pfn) {
        return PageKind::Zero;
    }
    let mut page = address(entry.pfn());
    let Some(head) = read_word(page + u64::from(offset!(page_compound))) else {
        return PageKind::Unknown;
    };
    if head & 1 != 0 {
        page = if head >> 40 == 0xff_ffff { page & head & !1 } else { head - 1 };
    }
    let Some(mapping) = read_word(page + u64::from(offset!(page_mapping))) else {
        return PageKind::Unknown;
    };
    match mapping & 3 {
        1 => PageKind::Anon,
        3 => PageKind::Ksm,
        _ if mapping == 0 && (entry.level >= 2 || entry.value & SPECIAL != 0) => PageKind::Zero,
        _ => PageKind::File,
    }
}

/// The `struct page` of a frame.
#[inline(always)]
pub(crate) fn address(pfn: u64) -> u64 {
    control!(vmemmap) + pfn * u64::from(offset!(page_size))
}
