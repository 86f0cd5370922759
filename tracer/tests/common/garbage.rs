//! Events that need not make sense.

use proptest::prelude::*;
use tracer::decode::{Event, Loss, LossStage, Snapshot};
use tracer_common::{
    counter::{COUNTERS, Totals},
    event::{
        Cgroup, Cwd, Exec, ExecFailed, Exit, Fork, ForkFailed, Free, Header, KINDS, Kind, Thread, Usage, Wait,
    },
    ledger::{FD_WORDS, Facts, LIMITS, Ledger, Limit},
    place::{FILE_NAME_BYTES, File, Place},
    start::{Memory, Reached, Start},
    state::Process,
};

/// An event that need not make sense.
#[derive(Clone, Debug)]
pub(crate) struct Garbage {
    what: u8,
    pids: [u32; 4],
    numbers: [u64; 4],
    text: Vec<u8>,
}

pub(crate) fn garbage() -> impl Strategy<Value = Garbage> {
    let pid = prop_oneof![0..6_u32, any::<u32>()];
    let number = prop_oneof![(0..8_u64).prop_map(|ticks| ticks * 10_000_000), any::<u64>(), Just(u64::MAX),];
    (
        0..16_u8,
        [pid.clone(), pid.clone(), pid.clone(), pid],
        [number.clone(), number.clone(), number.clone(), number],
        prop::collection::vec(any::<u8>(), 0..20),
    )
        .prop_map(|(what, pids, numbers, text)| Garbage { what, pids, numbers, text })
}

impl Garbage {
    pub(crate) fn event(&self) -> Event<'_> {
        let Self { what, pids: [a, b, c, d], numbers: [n, m, k, l], text } = self;
        let header =
            Header { flags: *c, tgid: *b % 8, tid: *b, ktime_ns: *n, start_time_ns: *m, ..Header::default() };
        let totals = Totals { copies: *k, reuses: *l, bytes: *k, unshared_bytes: *n };
        let counters = [*k; COUNTERS];
        let usage = Usage {
            user_ns: *n,
            system_ns: *m,
            cpu_ns: *k,
            told_user_ns: *l,
            told_system_ns: *m,
            max_rss_bytes: *l,
        };
        let place = Place {
            cgroup_id: *m % 8,
            namespaces: [*c; 8],
            session: *a,
            group: *d,
            tty: *c,
            ..Place::default()
        };
        let memory = Memory { anon: *a, file: *b, shmem: *c, swap: *d, pgtables: *a, is_known: d & 1 };
        let reached = Reached { first_ns: *n, entry_ns: *m, minor: *a, major: *d };
        let (path, args) = text.split_at(text.len() / 2);
        match what {
            0..=3 => Event::Fork(Fork {
                header,
                parent_start_time_ns: *k,
                clone_flags: *l,
                eager_copies: *n,
                parent: totals,
                parent_tgid: *a,
                real_parent_tgid: *d,
                vpid: *d,
                shares_mm: d & 1,
                place,
                duration_ns: *m,
                anon_pages: *k,
                ..Fork::default()
            }),
            4 | 5 => Event::Exec {
                exec: Exec {
                    header,
                    own: totals,
                    parent: totals,
                    argc: *a,
                    args_bytes: *d,
                    prepared_ns: *m,
                    dropped: memory,
                    reached,
                    old_tid: *d,
                    comm_before: [*c as u8; 16],
                    place,
                    file: File { inode: *n, device: *c, links: d & 1, name: [*a as u8; FILE_NAME_BYTES] },
                    ..Exec::default()
                },
                path,
                interp: path,
                args,
                env: text,
            },
            6 | 7 => Event::Exit(Exit {
                header,
                counters,
                parent: totals,
                minor_faults: *n,
                major_faults: *m,
                status: *a,
                syscall: *d,
                uid: *a,
                usage,
                place,
                reached,
                memory,
                run_delay: *k,
                real_parent_tgid: *d,
                auto_reap: d & 3,
                reserved: 0,
                comm: [b'x'; 16],
            }),
            8 => Event::Free(Free { header, usage, real_parent_tgid: *a, auto_reap: d & 3 }),
            9 => Event::Wait(Wait { header, pid: *a, initial_pid_ns: d & 1 }),
            10 => Event::Snapshot(Snapshot {
                tgid: *b % 8,
                ppid: *a,
                start_ticks: m / 10_000_000,
                parent_start_ticks: n / 10_000_000,
                vpid: *d,
                zombie: n & 1 == 0,
                comm: text,
                exe: path,
                args,
                ..Snapshot::default()
            }),
            11 => Event::Progress {
                tgid: *b % 8,
                process: Process {
                    start_time_ns: *m,
                    clone_flags: 0,
                    parent_start_time_ns: 0,
                    exec_mm: 0,
                    mm: 0,
                    mm_totals: Totals::default(),
                    parent_tgid: 0,
                    outside: 0,
                    comm_before: [0; 16],
                    counters,
                    start: Start::default(),
                    run_delay: 0,
                },
            },
            12 => match a % 8 {
                7 => {
                    Event::Cwd { cwd: Cwd { header, names_len: *k, deleted: u64::from(d & 1) }, names: text }
                }
                6 => Event::Thread(Thread {
                    header,
                    start_time_ns: *m,
                    cpu_ns: *n,
                    minor_faults: *k,
                    major_faults: *l,
                    ended_by: d % 8,
                    reserved: 0,
                    comm: [b'y'; 16],
                }),
                4 => Event::Cgroup {
                    cgroup: Cgroup { header, id: *k % 8, removed: d & 1, path_len: 0 },
                    path: text,
                },
                5 => Event::CgroupFound { id: *k % 8, path: text },
                0 => Event::ExecFailed { failed: ExecFailed { header, errno: *d, path_len: 0 }, path: text },
                1 => Event::ForkFailed(ForkFailed {
                    header,
                    errno: *d % 12,
                    syscall: *a,
                    uid: *a,
                    reserved: 0,
                    user_processes: *k,
                    max_user_processes: *l,
                    cgroup_limit: *m,
                }),
                2 => Event::Gone { tgid: *b % 8, start_ticks: m / 10_000_000 },
                _ => Event::Loss(Loss {
                    ktime_ns: *n,
                    stage: LossStage::ALL[*d as usize % LossStage::ALL.len()],
                    record: Kind::ALL.get(*a as usize % (KINDS + 1)).copied(),
                    count: *k,
                }),
            },
            13 | 14 => Event::Ledger(Ledger {
                header,
                phase: d % 5,
                reserved: 0,
                facts: Facts {
                    uid: *a,
                    gid: *c,
                    euid: *d,
                    egid: *a,
                    static_prio: *c,
                    umask: *d,
                    known: *c,
                    max_fds: *d,
                    blocked: *n,
                    ignored: *m,
                    caught: *k,
                    open: [*l; FD_WORDS],
                    cloexec: [*m; FD_WORDS],
                    limits: [Limit { soft: *k, hard: *l }; LIMITS],
                    text_bytes: *n,
                    data_bytes: *m,
                    args_bytes: *k,
                    environment_bytes: *l,
                },
            }),
            _ => Event::Tick { ktime_ns: *n },
        }
    }
}
