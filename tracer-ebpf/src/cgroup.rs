//! Cgroups of the v2 hierarchy: what their ids are called. A process is told with the id only, and the cgroup may be
//! gone before anybody asks for its path.
//!
//! `cgroup_mkdir(struct cgroup *cgrp, const char *path)` and `cgroup_rmdir`, with the same arguments
//! (include/trace/events/cgroup.h), run under cgroup_mutex, in the process that makes or removes the directory.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use tracer_common::event::{Cgroup, FLAG_PATH_CUT, Kind, PATH_BYTES};

use crate::{
    kernel::{Pointer, Task, argument, current_ids, offset, setting},
    maps, ring,
};

/// Number of the v2 hierarchy (`cgrp_dfl_root`, the first that is set up).
const V2: u32 = 0;

/// Reports a new cgroup.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    report(&ctx, false);
    0
}

/// Reports that one is no more.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    report(&ctx, true);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext, removed: bool) {
    let cgroup = argument(ctx, 0);
    // Hierarchies of v1 have other numbers, and ids of their own for their directories.
    if cgroup.follow(offset!(cgroup_root)).read::<u32>(offset!(root_hierarchy)) != V2 {
        return;
    }
    let path: u64 = ctx.arg(1);
    let Some(scratch) = maps::cgroup_scratch() else { return };
    let (tgid, tid) = current_ids();
    // SAFETY: a map value with room for PATH_BYTES; the helper checks the address it reads.
    unsafe {
        let tail = (&raw mut (*scratch).tail).cast::<u8>();
        let read = if removed || setting!(can_read) == 0 {
            0
        } else {
            bpf_probe_read_kernel_str(tail.cast(), PATH_BYTES as u32, path as *const _)
        };
        let flags = if read == PATH_BYTES as i64 { FLAG_PATH_CUT } else { 0 };
        let path_len = if read <= 1 { 0 } else { (read - 1) as u32 & (PATH_BYTES as u32 - 1) };
        let record = &raw mut (*scratch).body;
        let size = size_of::<Cgroup>() as u32 + path_len;
        let start = Task::current().leader().start_time();
        (*record).header = ring::header(Kind::Cgroup, flags, tgid, tid, start, size);
        (*record).id = cgroup.follow(offset!(cgroup_kn)).read(offset!(kernfs_node_id));
        (*record).removed = u32::from(removed);
        (*record).path_len = path_len;
        ring::emit_tailed(Kind::Cgroup, scratch, path_len);
    }
}
