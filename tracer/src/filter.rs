//! Which records are written: by process tree, name, user and cgroup.

use tracer_common::{
    event::COMM_BYTES,
    names::{self, Name, Names},
};

use crate::record::Record;

/// What was asked for. Values of one kind are alternatives; all kinds that are given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Processes and all their descendants. The lifecycle knows them as its
    /// [roots](crate::lifecycle::Config::roots); here it only counts that there are any.
    pub pids: Vec<u32>,
    /// Names of processes; `*` stands for any text and `?` for one byte.
    pub comms: Vec<String>,
    /// Effective user ids.
    pub uids: Vec<u32>,
    /// cgroup v2 ids.
    pub cgroup_ids: Vec<u64>,
}

impl Filter {
    /// Nothing was asked for: everything is written.
    pub fn is_empty(&self) -> bool {
        let Self { pids, comms, uids, cgroup_ids } = self;
        pids.is_empty() && comms.is_empty() && uids.is_empty() && cgroup_ids.is_empty()
    }

    /// Whether `record` is to be written. Records about no process always are.
    ///
    /// What is not known of a process (its user, when it was first seen at its end) does not match.
    pub fn admits(&self, record: &Record<'_>) -> bool {
        let Some(subject) = record.subject() else {
            return true;
        };
        (self.pids.is_empty() || subject.in_tree)
            && (self.uids.is_empty() || subject.uid.is_some_and(|uid| self.uids.contains(&uid)))
            && (self.cgroup_ids.is_empty()
                || subject.cgroup_id.is_some_and(|id| self.cgroup_ids.contains(&id)))
            && (self.comms.is_empty()
                || self.comms.iter().any(|pattern| glob(pattern.as_bytes(), subject.comm)))
    }
}

/// What the kernel side can tell processes apart by: each name that one of these patterns matches is among it, and others.
/// None when there are too many, or one of them may begin with anything: then lines alone are told apart.
pub fn names(patterns: &[String]) -> Names {
    if patterns.len() > names::MOST {
        return Names::NONE;
    }
    let mut names = Names::NONE;
    for (name, pattern) in names.all.iter_mut().zip(patterns) {
        match prefix(pattern.as_bytes()) {
            Some(prefix) => *name = prefix,
            None => return Names::NONE,
        }
    }
    names
}

/// What is in front of the first `*`; of a pattern without one, that the name ends there, too. `None` when there is
/// nothing to be compared.
fn prefix(pattern: &[u8]) -> Option<Name> {
    let (mut value, mut mask) = ([0; COMM_BYTES], [0; COMM_BYTES]);
    let literal = pattern.split(|&c| c == b'*').next()?;
    // The last byte of a name is its NUL.
    for (at, &c) in literal.iter().take(COMM_BYTES - 1).enumerate().filter(|(_, c)| **c != b'?') {
        value[at] = c;
        mask[at] = u8::MAX;
    }
    // What is behind the NUL may be anything (up to 5.x).
    if literal.len() == pattern.len()
        && let Some(end) = mask.get_mut(literal.len())
    {
        *end = u8::MAX;
    }
    (mask != [0; COMM_BYTES]).then(|| Name { value: names::words(value), mask: names::words(mask) })
}

/// Matches `text` against `pattern`, going back to the last `*` only: linear for practical patterns.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star_p, star_t)) = star else {
                    return false;
                };
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Lost, NewParent, ProcessId, Reparent, Subject, Time};

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("sh", "sh", true),
            ("sh", "bash", false),
            ("*sh", "bash", true),
            ("*sh", "bashful", false),
            ("b?sh", "bash", true),
            ("b?sh", "bsh", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("kworker/*", "kworker/0:1", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    /// A name as the kernel has it, with something behind its NUL.
    fn kernel_name(name: &[u8]) -> names::Words {
        let mut bytes = *b"\0leftbehind\0\0\0\0\0";
        bytes[..name.len()].copy_from_slice(name);
        bytes[name.len()] = 0;
        names::words(bytes)
    }

    #[test]
    fn what_the_kernel_compares() {
        for (pattern, mine, not_mine) in [
            ("sh", &["sh"][..], &["", "s", "shell", "bash"][..]),
            ("red*", &["red", "redis-server"], &["re", "read", "a-red"]),
            ("b?sh", &["bash", "bush"], &["bshh", "bashful"]),
            ("?a*b", &["bab", "bac"], &["bb"]),
            ("", &[""], &["a"]),
            // Fifteen bytes are all that a name can have.
            ("fifteen-bytes-o", &["fifteen-bytes-o"], &["fifteen-bytes-"]),
            ("fifteen-bytes-or-more", &["fifteen-bytes-o"], &["fifteen-bytes-"]),
        ] {
            let names = names(&[pattern.to_owned()]);
            assert_eq!(names.count(), 1, "{pattern}");
            for name in mine {
                assert!(names.may_be(kernel_name(name.as_bytes())), "{pattern} on {name}");
            }
            for name in not_mine {
                assert!(!names.may_be(kernel_name(name.as_bytes())), "{pattern} on {name}");
            }
        }
    }

    #[test]
    fn what_the_kernel_cannot_compare() {
        let some =
            |patterns: &[&str]| names(&patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>()).count();
        assert_eq!(some(&[]), 0);
        assert_eq!(some(&["*x"]), 0);
        assert_eq!(some(&["?*"]), 0);
        assert_eq!(some(&["sh", "*x"]), 0, "one of them may be anybody");
        assert_eq!(some(&["sh"; names::MOST]), names::MOST as u32);
        assert_eq!(some(&["sh"; names::MOST + 1]), 0);
    }

    proptest! {
        /// The kernel side leaves nobody out whose lines are to be written.
        #[test]
        fn the_kernel_admits_whom_the_filter_admits(
            patterns in prop::collection::vec("[ab?*]{0,18}", 1..4),
            name in "[ab]{0,15}",
        ) {
            let names = names(&patterns);
            if names.count() > 0 && patterns.iter().any(|pattern| glob(pattern.as_bytes(), name.as_bytes())) {
                prop_assert!(names.may_be(kernel_name(name.as_bytes())), "{patterns:?} on {name}");
            }
        }

        /// The same of a name that is made from the pattern, as few others match.
        #[test]
        fn the_kernel_admits_what_a_pattern_is_made_for(
            parts in prop::collection::vec(("[ab]", "[ab?*]", "[ab]{0,3}"), 1..10),
        ) {
            let pattern: String = parts.iter().map(|(_, of_pattern, _)| of_pattern.as_str()).collect();
            let fill = |(letter, of_pattern, any): &(String, String, String)| match of_pattern.as_str() {
                "?" => letter.clone(),
                "*" => any.clone(),
                literal => literal.to_owned(),
            };
            let mut name: String = parts.iter().map(fill).collect();
            name.truncate(COMM_BYTES - 1);
            let names = names(std::slice::from_ref(&pattern));
            if names.count() > 0 && glob(pattern.as_bytes(), name.as_bytes()) {
                prop_assert!(names.may_be(kernel_name(name.as_bytes())), "{pattern} on {name}");
            }
        }
    }

    fn record<'a>() -> Record<'a> {
        Record::Reparent(Reparent {
            time: Time(0),
            subject: Subject { pid: 5, comm: b"make", uid: Some(1000), cgroup_id: None, in_tree: true },
            entity: ProcessId::default(),
            from_pid: 1,
            to_pid: 2,
            to: NewParent { name: None, entity_id: None, role: None },
        })
    }

    #[test]
    fn kinds_are_anded_and_values_ored() {
        let all = Filter::default();
        assert!(all.is_empty() && all.admits(&record()));
        let filter = Filter {
            pids: vec![1],
            comms: vec!["cc*".into(), "make".into()],
            uids: vec![0, 1000],
            ..Filter::default()
        };
        assert!(filter.admits(&record()));
        let other_user = Filter { uids: vec![0], ..filter.clone() };
        assert!(!other_user.admits(&record()));
        let other_name = Filter { comms: vec!["mak".into()], ..filter };
        assert!(!other_name.admits(&record()));
    }

    #[test]
    fn what_is_not_known_does_not_match() {
        let filter = Filter { cgroup_ids: vec![7], ..Filter::default() };
        assert!(!filter.admits(&record()));
    }

    #[test]
    fn control_records_always_pass() {
        let filter = Filter { comms: vec!["none".into()], ..Filter::default() };
        assert!(filter.admits(&Record::Lost(Lost {
            time: Time(0),
            count: 1,
            stage: crate::decode::LossStage::Ring,
            record: None,
        })));
    }
}
