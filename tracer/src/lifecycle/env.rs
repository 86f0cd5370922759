//! The environment of a program.

use tracer_common::event::{Exec, FLAG_ENV_CUT, FLAG_ENV_UNREADABLE, FLAG_UNREADABLE};

use super::{
    EnvMode, Lifecycle,
    image::{EnvSize, Image},
    process::Process,
};
use crate::record::{self, Args};

impl Lifecycle {
    /// What an exec gave; `None` when that is not known.
    pub(super) fn env_of<'a>(&self, exec: &Exec, variables: &'a [u8]) -> Option<(&'a [u8], EnvSize)> {
        const UNREADABLE: u32 = FLAG_ENV_UNREADABLE | FLAG_UNREADABLE;
        let flags = exec.header.flags;
        let count = Some(exec.env_count).filter(|&count| count != u32::MAX);
        let size = EnvSize { count, bytes: exec.env_bytes, is_cut: flags & FLAG_ENV_CUT != 0 };
        (self.is_env_told() && flags & UNREADABLE == 0).then_some((variables, size))
    }

    /// The variables; absent when they were not asked for.
    pub(super) fn env(&self, process: &Process) -> Option<Option<Args<'_>>> {
        let known = self.image(process).and_then(Image::env);
        self.is_env_told().then_some(known.map(|(variables, _)| Args(variables)))
    }

    /// How large they are, likewise.
    pub(super) fn env_size(&self, process: &Process) -> Option<Option<record::EnvSize>> {
        let known = self.image(process).and_then(Image::env);
        self.is_env_told().then_some(known.map(|(_, EnvSize { count, bytes, is_cut })| record::EnvSize {
            count,
            bytes,
            truncated: is_cut,
        }))
    }

    fn is_env_told(&self) -> bool {
        self.config.env != EnvMode::Off
    }
}
