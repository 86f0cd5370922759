//! Where a process stands: its cgroup, namespaces, session, process group and terminal; and the file that it runs.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use tracer_common::{
    offsets::MISSING,
    place::{self, FILE_NAME_BYTES, File, Place},
};

use super::{Mm, Pointer, Reached, Task, offset, read_kernel, setting};

impl<P: Pointer> Task<P> {
    /// Writes all of `to`.
    ///
    /// # Safety
    /// `to` is memory of ours that nothing else uses at the moment.
    #[inline(always)]
    pub(crate) unsafe fn place(self, to: *mut Place) {
        let signal = self.follow(offset!(task_signal));
        let cred = self.follow(offset!(task_cred));
        let proxy = self.follow(offset!(task_nsproxy));
        let inode = |namespace: u32, at: u32| proxy.follow(namespace).read::<u32>(at);
        let time = match offset!(nsproxy_time) != MISSING && offset!(time_ns_inode) != MISSING {
            true => inode(offset!(nsproxy_time), offset!(time_ns_inode)),
            false => 0,
        };
        // SAFETY: the caller's.
        unsafe {
            let pid = self.pid_namespace(&raw mut (*to).cgroup_id);
            (*to).namespaces = [
                inode(offset!(nsproxy_cgroup), offset!(cgroup_ns_inode)),
                inode(offset!(nsproxy_ipc), offset!(ipc_ns_inode)),
                inode(offset!(nsproxy_mnt), offset!(mnt_ns_inode)),
                inode(offset!(nsproxy_net), offset!(net_ns_inode)),
                pid,
                time,
                cred.follow(offset!(cred_user_ns)).read(offset!(user_ns_inode)),
                inode(offset!(nsproxy_uts), offset!(uts_ns_inode)),
            ];
            (*to).cgroup_id = self
                .0
                .follow(offset!(task_cgroups))
                .follow(offset!(css_set_cgroup))
                .follow(offset!(cgroup_kn))
                .read(offset!(kernfs_node_id));
            (*to).session = number(signal.follow(offset!(signal_session)));
            (*to).group = number(signal.follow(offset!(signal_group)));
            (*to).tty = terminal(signal);
            (*to).reserved = 0;
        }
    }

    /// Inode number of its pid namespace; 0 when it cannot be read. For `through` see [`Pointer::number`].
    #[inline(always)]
    fn pid_namespace(self, through: *mut u64) -> u32 {
        let pid = self.follow(offset!(task_thread_pid));
        let level: u32 = pid.read(offset!(pid_level));
        if level == 0 {
            return pid.follow(offset!(pid_numbers) + offset!(upid_ns)).read(offset!(pid_ns_inode));
        }
        // As in `vpid`.
        let at = offset!(pid_numbers) + level * offset!(upid_size) + offset!(upid_ns);
        let namespace: u64 = read_kernel(pid.number(through).wrapping_add(u64::from(at))).unwrap_or_default();
        read_kernel(namespace.wrapping_add(u64::from(offset!(pid_ns_inode)))).unwrap_or_default()
    }
}

impl Task<Reached> {
    /// Processes of its user; 0 when they cannot be read. For `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn user_processes(self, through: *mut u64) -> u64 {
        let cred = self.follow(offset!(task_cred));
        if offset!(ucounts_processes) != MISSING {
            // An array of a typedef, which the verifier does not look through up to 6.1.
            let counts = cred.follow(offset!(cred_ucounts)).number(through);
            return read_kernel(counts.wrapping_add(u64::from(offset!(ucounts_processes))))
                .unwrap_or_default();
        }
        if offset!(user_processes) != MISSING {
            return u64::from(cred.follow(offset!(cred_user)).read::<u32>(offset!(user_processes)));
        }
        0
    }

    /// The limit of the nearest of its cgroups that has as many processes and threads; 0 when none has, or none of
    /// the [`CGROUPS`] nearest. For `through` see [`Pointer::number`].
    #[inline(always)]
    pub(crate) fn full_cgroup(self, through: *mut u64) -> u64 {
        /// How far up the limits are looked at.
        const CGROUPS: u32 = 8;
        let controller = setting!(pids_controller);
        if controller == MISSING {
            return 0;
        }
        let states = self.follow(offset!(task_cgroups));
        let mut state = states.follow(offset!(css_set_states) + controller * 8).number(through);
        for _ in 0..CGROUPS {
            let read = |at: u32| read_kernel::<u64>(state.wrapping_add(u64::from(at)));
            // `struct pids_cgroup` begins with its state. Neither fits the other where the limit is not that small.
            if let (Some(count), Some(limit)) = (read(offset!(pids_counter)), read(offset!(pids_limit)))
                && count >= limit
                && limit != 0
            {
                return limit;
            }
            match read(offset!(css_parent)) {
                Some(parent) if parent != 0 => state = parent,
                _ => return 0,
            }
        }
        0
    }
}

/// The number of a `struct pid` in the initial pid namespace.
#[inline(always)]
fn number<P: Pointer>(pid: P) -> u32 {
    pid.read(offset!(pid_numbers) + offset!(upid_nr))
}

/// The terminal of a process, by its `signal_struct` (tty_devnum() in drivers/tty/tty_io.c).
#[inline(always)]
fn terminal<P: Pointer>(signal: P) -> u32 {
    if offset!(signal_tty) == MISSING {
        return 0;
    }
    let tty = signal.follow(offset!(signal_tty));
    if tty.address() == 0 {
        return 0;
    }
    let driver = tty.follow(offset!(tty_driver));
    let minor = driver.read::<u32>(offset!(driver_minor_start)) + tty.read::<u32>(offset!(tty_index));
    place::device_number(driver.read(offset!(driver_major)), minor)
}

impl<P: Pointer> Mm<P> {
    /// The file that it runs; writes all of `to`.
    ///
    /// # Safety
    /// `to` is memory of ours that nothing else uses at the moment.
    #[inline(always)]
    pub(crate) unsafe fn file(self, to: *mut File) {
        let file = self.0.follow(offset!(mm_exe_file));
        let inode = file.follow(offset!(file_inode));
        let name = file.follow(offset!(file_dentry)).follow(offset!(dentry_name)).address();
        // SAFETY: the caller's; the helper checks the address it reads.
        unsafe {
            (*to).inode = inode.read(offset!(inode_number));
            (*to).device = inode.follow(offset!(inode_super)).read(offset!(super_device));
            (*to).links = inode.read(offset!(inode_links));
            (*to).name = [0; FILE_NAME_BYTES];
            if setting!(can_read) != 0 {
                bpf_probe_read_kernel_str(
                    (&raw mut (*to).name).cast(),
                    FILE_NAME_BYTES as u32,
                    name as *const _,
                );
            }
        }
    }
}
