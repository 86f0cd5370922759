//! Where a process stands and which file it runs, as several records tell it.

/// Kinds of namespaces, in the order of [`Place::namespaces`]: the names of `/proc/PID/ns`.
pub const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Where a process stands at the moment: what it inherits and can change.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Id of its cgroup in the v2 hierarchy, the inode number of its directory.
    pub cgroup_id: u64,
    /// Inode number of each of its [`NAMESPACES`]; 0 when it is not known.
    pub namespaces: [u32; NAMESPACES.len()],
    /// Its session: the pid of the leader, in the initial pid namespace.
    pub session: u32,
    /// Its process group, likewise.
    pub group: u32,
    /// Its terminal as the kernel numbers devices, see [`device`]; 0 when it has none.
    pub tty: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Major and minor number of a device, as the kernel keeps them (include/linux/kdev_t.h).
pub const fn device(number: u32) -> (u32, u32) {
    (number >> MINOR_BITS, number & ((1 << MINOR_BITS) - 1))
}

/// The inverse of [`device`].
pub const fn device_number(major: u32, minor: u32) -> u32 {
    major << MINOR_BITS | minor
}

const MINOR_BITS: u32 = 20;

/// The file that a process runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Inode number.
    pub inode: u64,
    /// Device of its file system, see [`device`].
    pub device: u32,
    /// Names that it has; 0 when it was deleted, or never had one.
    pub links: u32,
    /// The beginning of its name.
    pub name: [u8; FILE_NAME_BYTES],
}

/// Bytes of [`File::name`]: what begins the name of a memfd, and 24 bytes of what follows.
pub const FILE_NAME_BYTES: usize = 32;

wire! {
    Place = 8 + 4 * NAMESPACES.len() + 4 * 4,
    File = 8 + 2 * 4 + FILE_NAME_BYTES,
}
