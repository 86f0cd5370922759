//! The directory that a program begins in, with `--cwd`: a program of its own, in front of that of `exec`.
//!
//! `task_struct.fs->pwd` is a mount and an entry of its tree. What they are called is found on the way up, as d_path()
//! (fs/d_path.c) does, but without its locks: when a directory is moved at that moment, the path may be one of both.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use tracer_common::event::{CWD_BYTES, Cwd, FLAG_PATH_CUT, Kind, NAME_BYTES};

use crate::{
    kernel::{Pointer, offset, read_word, setting, task_argument},
    maps, ring,
};

/// Steps up, mounts included; a path with more is cut.
const STEPS: u32 = 48;

/// Tells where a process is that runs a new program.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn cwd_exec(ctx: BtfTracePointContext) -> i32 {
    let task = task_argument(&ctx, 0);
    let tgid = task.tgid();
    if setting!(can_read) == 0 || !maps::is_traced(tgid) {
        return 0;
    }
    let (Some(way), Some(scratch)) = (maps::cwd_way(), maps::cwd_scratch()) else { return 0 };
    // SAFETY: map values; every field of the record is written.
    unsafe {
        let directory = task.follow(offset!(task_fs));
        (*way).mount = directory.follow(offset!(fs_pwd_mount)).number(&raw mut (*way).mount);
        (*way).entry = directory.follow(offset!(fs_pwd_entry)).number(&raw mut (*way).entry);
        (*way).len = 0;
        let deleted = (*way).is_deleted();
        let mut end = Step::On as u32;
        for _ in 0..STEPS {
            end = go_up();
            if end != Step::On as u32 {
                break;
            }
        }
        let len = (*way).len;
        let flags = if end == Step::Root as u32 { 0 } else { FLAG_PATH_CUT };
        let size = size_of::<Cwd>() as u32 + len;
        let record = &raw mut (*scratch).body;
        (*record).header = ring::header(Kind::Cwd, flags, tgid, task.tid(), task.leader().start_time(), size);
        (*record).names_len = u64::from(len);
        (*record).deleted = u64::from(deleted);
        ring::emit_tailed(Kind::Cwd, scratch, len);
    }
    0
}

/// What a step found.
#[repr(u32)]
enum Step {
    /// A directory that is in another one.
    On = 0,
    /// The root of the mount namespace.
    Root = 1,
    /// What has no way up, or no room.
    Cut = 2,
}

/// How far the way up has come: addresses of a `struct vfsmount` and a `struct dentry`, and bytes of the names so far.
pub(crate) struct Way {
    mount: u64,
    entry: u64,
    len: u32,
}

#[inline(always)]
fn word(of: u64, at: u32) -> u64 {
    read_word(of.wrapping_add(u64::from(at))).unwrap_or_default()
}

impl Way {
    /// True when the directory was removed: it is in no hash, and is not the root of a tree.
    #[inline(always)]
    fn is_deleted(&self) -> bool {
        word(self.entry, offset!(dentry_hash)) == 0
            && word(self.entry, offset!(dentry_parent)) != self.entry
            && word(self.mount, offset!(vfsmount_root)) != self.entry
    }

    /// Writes the name at which the way is behind the others in `to`, and goes on to what that is in.
    ///
    /// # Safety
    /// `to` has room for [`CWD_BYTES`] and a name more.
    #[inline(always)]
    unsafe fn step(&mut self, to: *mut u8) -> Step {
        if self.entry == word(self.mount, offset!(vfsmount_root)) {
            // `struct mount` holds the `vfsmount`.
            let inside = self.mount.wrapping_sub(u64::from(offset!(mount_vfsmount)));
            let parent = word(inside, offset!(mount_parent));
            if parent == inside || parent == 0 {
                return Step::Root;
            }
            self.entry = word(inside, offset!(mount_point));
            self.mount = parent.wrapping_add(u64::from(offset!(mount_vfsmount)));
            return Step::On;
        }
        let parent = word(self.entry, offset!(dentry_parent));
        let name = word(self.entry, offset!(dentry_name));
        if parent == self.entry || self.len >= CWD_BYTES as u32 {
            return Step::Cut;
        }
        // SAFETY: the caller's; the helper checks the address it reads.
        let read = unsafe {
            let at = to.add((self.len & (CWD_BYTES as u32 - 1)) as usize);
            bpf_probe_read_kernel_str(at.cast(), NAME_BYTES as u32, name as *const _)
        };
        if read <= 1 {
            return Step::Cut;
        }
        self.len += read as u32;
        self.entry = parent;
        Step::On
    }
}

/// One step up; a [`Step`]. It is exported so that the verifier looks at it once, and not for each step and each way to
/// get there (global functions, Linux 5.6). Such a function is given numbers only, so it looks its memory up.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn go_up() -> u32 {
    let (Some(way), Some(scratch)) = (maps::cwd_way(), maps::cwd_scratch()) else { return Step::Cut as u32 };
    // SAFETY: map values of this program only.
    unsafe { (*way).step((&raw mut (*scratch).tail).cast()) as u32 }
}
