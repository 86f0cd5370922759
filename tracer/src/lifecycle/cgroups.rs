//! What the ids of cgroups are called. Bounded: a cgroup that finds no room has no path.

use std::collections::VecDeque;

use foldhash::HashMap;

/// Most cgroups that are known at a time.
const MOST: usize = 16_384;
/// Most of them that were removed: processes that were in them may still be told of.
const MOST_REMOVED: usize = 1_024;

/// The paths of cgroups.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    paths: HashMap<u64, Box<[u8]>>,
    /// Those that are no more, the longest gone first.
    removed: VecDeque<u64>,
}

impl Cgroups {
    /// Enters a cgroup; `false` when there is no room.
    pub(super) fn insert(&mut self, id: u64, path: &[u8]) -> bool {
        if self.paths.len() >= MOST && !self.paths.contains_key(&id) && !self.forget_removed() {
            return false;
        }
        self.paths.insert(id, path.into());
        true
    }

    /// A cgroup is no more; its path is kept for a while.
    pub(super) fn remove(&mut self, id: u64) {
        if !self.paths.contains_key(&id) {
            return;
        }
        if self.removed.len() >= MOST_REMOVED {
            self.forget_removed();
        }
        self.removed.push_back(id);
    }

    fn forget_removed(&mut self) -> bool {
        self.removed.pop_front().is_some_and(|id| self.paths.remove(&id).is_some())
    }

    /// The path from the root of the hierarchy.
    pub(super) fn get(&self, id: u64) -> Option<&[u8]> {
        self.paths.get(&id).map(|path| &**path)
    }
}

/// Hexadecimal digits of the id of a container, as container runtimes of today make them.
const CONTAINER_ID_LEN: usize = 64;

/// The id of the container that a cgroup belongs to: the last component of its path that is such an id, alone or
/// between a runtime's name and a suffix (`docker-ID.scope`, `cri-containerd-ID.scope`, `/kubepods/.../ID`).
pub(super) fn container_id(path: &[u8]) -> Option<&str> {
    path.rsplit(|&byte| byte == b'/').find_map(|component| {
        let name = component.strip_suffix(b".scope").unwrap_or(component);
        let id = name.rsplit(|&byte| byte == b'-').next()?;
        let is_id = id.len() == CONTAINER_ID_LEN && id.iter().all(u8::is_ascii_hexdigit);
        is_id.then(|| std::str::from_utf8(id).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn containers_are_found_in_paths() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/system.slice/docker-{ID}.scope/init"),
            format!("/kubepods.slice/kubepods-pod12_34.slice/cri-containerd-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(container_id(path.as_bytes()), Some(ID), "{path}");
        }
        for path in ["/", "/user.slice/user-0.slice/session-1.scope", &ID[1..], &format!("/x{ID}")] {
            assert_eq!(container_id(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn the_removed_are_forgotten_first_and_late() {
        let mut cgroups = Cgroups::default();
        for id in 1..=MOST as u64 {
            assert!(cgroups.insert(id, b"/a"));
        }
        assert!(!cgroups.insert(u64::MAX, b"/b"), "all are in use");
        assert!(cgroups.insert(1, b"/c"), "known already");
        cgroups.remove(5);
        assert_eq!(cgroups.get(5), Some(&b"/a"[..]));
        assert!(cgroups.insert(u64::MAX, b"/b"));
        assert_eq!((cgroups.get(5), cgroups.get(u64::MAX)), (None, Some(&b"/b"[..])));
    }

    #[test]
    fn some_of_the_removed_are_remembered() {
        let mut cgroups = Cgroups::default();
        for id in 1..=MOST_REMOVED as u64 + 1 {
            cgroups.insert(id, b"/a");
            cgroups.remove(id);
        }
        cgroups.remove(7_777_777);
        assert_eq!((cgroups.get(1), cgroups.get(2)), (None, Some(&b"/a"[..])));
    }
}
