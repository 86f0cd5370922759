//! What faults did: the copies of a process by what caused them, and its faults by what became of them.

use serde::{Deserialize, Serialize};

use super::{Copies, is_known_nothing, is_nothing};

/// Pages copied because they were shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowCounts {
    pub copies: u64,
    pub bytes: u64,
    pub reuses: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub huge_reuses: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub zero_upgrades: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub huge_zero_upgrades: Option<u64>,
    #[serde(skip_serializing_if = "is_nothing")]
    pub by: CowBy,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub by_page: Option<CowByPage>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub by_region: Option<CowByRegion>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub after_exec: Option<Copies>,
}

/// Copies by what caused them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowBy {
    #[serde(skip_serializing_if = "is_nothing")]
    pub user: u64,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub kernel: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub gup: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub remote_candidates: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub eager: Option<u64>,
}

/// Copies by faults, by the page that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowByPage {
    #[serde(skip_serializing_if = "is_nothing")]
    pub anon: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub ksm: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub file: u64,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub file_first: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub swap: Option<u64>,
    #[serde(skip_serializing_if = "is_nothing")]
    pub huge: u64,
}

/// Copies by faults, by where in memory they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct CowByRegion {
    #[serde(skip_serializing_if = "is_nothing")]
    pub heap: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub stack: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub data: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub file: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub anon: u64,
}

/// Page faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/records.md explains each field, checked by a test")]
pub struct Faults {
    pub minor: u64,
    pub major: u64,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub demand_zero: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub file: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub write_notify: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub segv: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub spurious: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub uffd: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub failed: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub lost_races: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub splits: Option<u64>,
    #[serde(skip_serializing_if = "is_known_nothing")]
    pub unsure: Option<u64>,
}

impl Default for CowBy {
    /// Nothing, and that is known.
    fn default() -> Self {
        let none = Some(0);
        Self { user: 0, kernel: none, gup: none, remote_candidates: none, eager: none }
    }
}

impl Default for CowByPage {
    /// Nothing, and that is known.
    fn default() -> Self {
        Self { anon: 0, ksm: 0, file: 0, file_first: Some(0), swap: Some(0), huge: 0 }
    }
}

impl Default for CowCounts {
    /// Nothing, and that is known.
    fn default() -> Self {
        let none = Some(0);
        Self {
            copies: 0,
            bytes: 0,
            reuses: none,
            huge_reuses: none,
            zero_upgrades: none,
            huge_zero_upgrades: none,
            by: CowBy::default(),
            by_page: Some(CowByPage::default()),
            by_region: Some(CowByRegion::default()),
            after_exec: Some(Copies::default()),
        }
    }
}
