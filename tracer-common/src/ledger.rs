//! What fork hands on and exec keeps or resets, as a process has it at a moment.

use crate::{Wire, event::Header};

/// Resource limits of a process (RLIM_NLIMITS in include/uapi/asm-generic/resource.h).
pub const LIMITS: usize = 16;
/// Words of each bitmap of descriptors that are read.
pub const FD_WORDS: usize = 16;
/// Descriptors that are looked at: those below this number.
pub const FDS: u32 = FD_WORDS as u32 * 64;
/// Signals (_NSIG in include/uapi/asm-generic/signal.h).
pub const SIGNALS: usize = 64;
/// `task_struct.static_prio` of nice 0 (DEFAULT_PRIO in include/linux/sched/prio.h).
pub const DEFAULT_PRIO: u32 = 120;

/// Whose state a record has, and of which moment.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The parent's, when it forked the process that the header names. [`Phase::Birth`] of that process follows.
    Parent = 0,
    /// A child's at its birth, before its [`Kind::Fork`](crate::event::Kind::Fork).
    Birth = 1,
    /// That of a process which calls exec, which may fail.
    Before = 2,
    /// That of a process in its new program, before its [`Kind::Exec`](crate::event::Kind::Exec).
    After = 3,
}

/// [`Facts::known`]: `ignored` and `caught`.
pub const KNOWS_SIGNALS: u32 = 1 << 0;
/// [`Facts::known`]: `limits`.
pub const KNOWS_LIMITS: u32 = 1 << 1;
/// [`Facts::known`]: `max_fds`, `open` and `cloexec`.
pub const KNOWS_FDS: u32 = 1 << 2;
/// [`Facts::known`]: `text_bytes` and what follows it; a kernel thread has no memory of its own.
pub const KNOWS_MEMORY: u32 = 1 << 3;

/// A resource limit; `u64::MAX` is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// How far it can be raised.
    pub hard: u64,
}

/// The state of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Real user id, as all of them in the initial user namespace.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// [`DEFAULT_PRIO`] and the nice value.
    pub static_prio: u32,
    /// File mode creation mask.
    pub umask: u32,
    /// `KNOWS_*`: which of the rest could be read.
    pub known: u32,
    /// Descriptors that its table has room for; only the first [`FDS`] are told.
    pub max_fds: u32,
    /// Signals that the thread blocks; bit 0 is signal 1.
    pub blocked: u64,
    /// Signals that are ignored.
    pub ignored: u64,
    /// Signals that have a handler.
    pub caught: u64,
    /// Descriptors that are open; bit 0 of the first word is number 0.
    pub open: [u64; FD_WORDS],
    /// Descriptors that are closed by exec; the bit of one that is not open means nothing.
    pub cloexec: [u64; FD_WORDS],
    /// Resource limits, in the order of their numbers.
    pub limits: [Limit; LIMITS],
    /// The program's code.
    pub text_bytes: u64,
    /// Its initialised data.
    pub data_bytes: u64,
    /// Its arguments, with their NULs.
    pub args_bytes: u64,
    /// Its environment, with the NULs.
    pub environment_bytes: u64,
}

/// The state of a process at its birth or around an exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The process, for [`Phase::Parent`] the child; the tid is that of the thread that forks or calls exec.
    pub header: Header,
    /// A [`Phase`].
    pub phase: u32,
    /// Always 0.
    pub reserved: u32,
    /// The state.
    pub facts: Facts,
}

// SAFETY: `repr(C)`, integers and arrays only; the size asserts prove that there is no padding.
unsafe impl Wire for Limit {}
// SAFETY: as above.
unsafe impl Wire for Facts {}
// SAFETY: as above.
unsafe impl Wire for Ledger {}
const _: () = assert!(size_of::<Limit>() == 16);
const _: () = assert!(size_of::<Facts>() == 8 * 4 + 3 * 8 + 2 * 8 * FD_WORDS + 16 * LIMITS + 4 * 8);
const _: () = assert!(size_of::<Ledger>() == size_of::<Header>() + 8 + size_of::<Facts>());
