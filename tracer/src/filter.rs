//! Which records are written: by process tree, name, user and cgroup.

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
