//! CPU time as the kernel tells it.

use tracer_common::event as wire;

use crate::record;

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) counted: wire::Usage,
    /// From after the reap.
    pub(super) is_final: bool,
}

impl Usage {
    /// Takes over what a second record of the same end counted more.
    pub(super) fn merge(&mut self, other: &wire::Usage) {
        let wire::Usage { user_ns, system_ns, cpu_ns, told_user_ns, told_system_ns, max_rss_bytes } =
            &mut self.counted;
        *user_ns = other.user_ns.max(*user_ns);
        *system_ns = other.system_ns.max(*system_ns);
        *cpu_ns = other.cpu_ns.max(*cpu_ns);
        *told_user_ns = other.told_user_ns.max(*told_user_ns);
        *told_system_ns = other.told_system_ns.max(*told_system_ns);
        *max_rss_bytes = other.max_rss_bytes.max(*max_rss_bytes);
    }

    pub(super) fn fields(&self) -> record::Usage {
        let (user_ns, system_ns) = split(&self.counted);
        record::Usage {
            user_ns,
            system_ns,
            cpu_ns: self.counted.cpu_ns,
            max_rss_bytes: self.counted.max_rss_bytes,
            is_final: self.is_final,
        }
    }
}

/// The measured time, in user mode and in the kernel: divided as it was sampled, neither less than was told before.
/// So does cputime_adjust() (kernel/sched/cputime.c), for wait4 and all others.
fn split(usage: &wire::Usage) -> (u64, u64) {
    let wire::Usage { user_ns, system_ns, cpu_ns, told_user_ns, told_system_ns, .. } = *usage;
    if told_user_ns.saturating_add(told_system_ns) >= cpu_ns {
        return (told_user_ns, told_system_ns);
    }
    let sampled = u128::from(user_ns) + u128::from(system_ns);
    let scaled = u128::from(system_ns) * u128::from(cpu_ns);
    // A part of `cpu_ns`. When no tick has hit it, the kernel calls all of it user time.
    let system = scaled.checked_div(sampled).and_then(|part| u64::try_from(part).ok()).unwrap_or(0);
    let most = cpu_ns.saturating_sub(told_user_ns);
    let system = system.max(told_system_ns).min(most);
    (cpu_ns - system, system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_divided_as_the_kernel_does() {
        // user, system and measured; what was told; what is to be told.
        for (user_ns, system_ns, cpu_ns, told, expected) in [
            (0, 0, 700, (0, 0), (700, 0)),
            (4_000, 0, 700, (0, 0), (700, 0)),
            (0, 4_000, 700, (0, 0), (0, 700)),
            (3_000, 1_000, 8_000, (0, 0), (6_000, 2_000)),
            // A share of a third: the kernel rounds down, too.
            (2, 1, 100, (0, 0), (67, 33)),
            // What was told stays true, and no time is told twice.
            (3_000, 1_000, 8_000, (1_000, 5_000), (3_000, 5_000)),
            (1_000, 3_000, 8_000, (5_000, 1_000), (5_000, 3_000)),
            (1_000, 3_000, 8_000, (5_000, 3_000), (5_000, 3_000)),
            (0, 0, 0, (0, 0), (0, 0)),
            (u64::MAX, u64::MAX, u64::MAX, (0, 0), (u64::MAX / 2 + 1, u64::MAX / 2)),
        ] {
            let (told_user_ns, told_system_ns) = told;
            let usage =
                wire::Usage { user_ns, system_ns, cpu_ns, told_user_ns, told_system_ns, max_rss_bytes: 0 };
            assert_eq!(split(&usage), expected, "{usage:?}");
        }
    }
}
