//! Events as the bytes of a frame.

use tracer_common::{
    Wire, bytes,
    event::{KINDS, Kind},
    state::Process,
};

use crate::decode::{self, Event, Loss, LossStage, Snapshot};

const SNAPSHOT: u32 = 64;
const PROGRESS: u32 = 65;
const LOSS: u32 = 66;
const GONE: u32 = 67;
const TICK: u32 = 68;
const CGROUP_FOUND: u32 = 69;

/// The bytes of an event, as a frame holds them.
pub(super) fn encode(event: &Event<'_>, out: &mut Vec<u8>) {
    let mut number = |value: u32| out.extend_from_slice(&value.to_le_bytes());
    match event {
        Event::Fork(fork) => out.extend_from_slice(bytes(fork)),
        Event::Exec { exec, path, interp, args, env } => {
            for part in [bytes(exec), path, interp, args, env] {
                out.extend_from_slice(part);
            }
        }
        Event::Exit(exit) => out.extend_from_slice(bytes(exit)),
        Event::Free(free) => out.extend_from_slice(bytes(free)),
        Event::Wait(wait) => out.extend_from_slice(bytes(wait)),
        Event::ExecFailed { failed, path } => {
            out.extend_from_slice(bytes(failed));
            out.extend_from_slice(path);
        }
        Event::ForkFailed(failed) => out.extend_from_slice(bytes(failed)),
        Event::Cgroup { cgroup, path } => {
            out.extend_from_slice(bytes(cgroup));
            out.extend_from_slice(path);
        }
        Event::Ledger(ledger) => out.extend_from_slice(bytes(ledger)),
        Event::Thread(thread) => out.extend_from_slice(bytes(thread)),
        Event::Cwd { cwd, names } => {
            out.extend_from_slice(bytes(cwd));
            out.extend_from_slice(names);
        }
        Event::CgroupFound { id, path } => {
            number(CGROUP_FOUND);
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(path);
        }
        Event::Snapshot(s) => {
            let flags = u32::from(s.zombie) | u32::from(s.kthread) << 1 | u32::from(s.file.is_some()) << 2;
            for value in [SNAPSHOT, s.tgid, s.ppid, s.vpid, s.uid, s.gid, s.threads, flags] {
                number(value);
            }
            for value in [s.start_ticks, s.parent_start_ticks] {
                out.extend_from_slice(&value.to_le_bytes());
            }
            out.extend_from_slice(bytes(&s.place));
            out.extend_from_slice(bytes(&s.file.unwrap_or_default()));
            for part in [s.comm, s.exe, s.args] {
                let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(part);
            }
        }
        Event::Progress { tgid, process } => {
            number(PROGRESS);
            number(*tgid);
            out.extend_from_slice(bytes(process));
        }
        Event::Loss(loss) => {
            number(LOSS);
            let stage = LossStage::ALL.iter().position(|stage| *stage == loss.stage);
            number(stage.map_or(u32::MAX, |stage| stage as u32));
            number(loss.record.map_or(u32::MAX, |kind| kind as u32));
            out.extend_from_slice(&loss.ktime_ns.to_le_bytes());
            out.extend_from_slice(&loss.count.to_le_bytes());
        }
        Event::Gone { tgid, start_ticks } => {
            number(GONE);
            number(*tgid);
            out.extend_from_slice(&start_ticks.to_le_bytes());
        }
        Event::Tick { ktime_ns } => {
            number(TICK);
            out.extend_from_slice(&ktime_ns.to_le_bytes());
        }
    }
}

/// The event that a frame holds.
pub(super) fn decode(frame: &[u8]) -> Result<Event<'_>, decode::Error> {
    let mut rest = Fields(frame);
    let kind = rest.u32()?;
    if (kind as usize) < KINDS {
        return Event::decode(frame);
    }
    Ok(match kind {
        SNAPSHOT => {
            let [tgid, ppid, vpid, uid, gid, threads, flags] = rest.u32s()?;
            Event::Snapshot(Snapshot {
                tgid,
                ppid,
                vpid,
                uid,
                gid,
                threads,
                zombie: flags & 1 != 0,
                kthread: flags & 2 != 0,
                start_ticks: rest.u64()?,
                parent_start_ticks: rest.u64()?,
                place: rest.wire()?,
                file: Some(rest.wire()?).filter(|_| flags & 4 != 0),
                comm: rest.bytes()?,
                exe: rest.bytes()?,
                args: rest.bytes()?,
            })
        }
        PROGRESS => Event::Progress { tgid: rest.u32()?, process: decode::body::<Process>(rest.0)? },
        LOSS => {
            let [stage, record] = rest.u32s()?;
            Event::Loss(Loss {
                stage: *LossStage::ALL.get(stage as usize).ok_or(decode::Error::Kind(stage))?,
                record: Kind::ALL.get(record as usize).copied(),
                ktime_ns: rest.u64()?,
                count: rest.u64()?,
            })
        }
        CGROUP_FOUND => Event::CgroupFound { id: rest.u64()?, path: rest.0 },
        GONE => Event::Gone { tgid: rest.u32()?, start_ticks: rest.u64()? },
        TICK => Event::Tick { ktime_ns: rest.u64()? },
        other => return Err(decode::Error::Kind(other)),
    })
}

/// What is left to be read of a frame.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, need: usize) -> Result<&'a [u8], decode::Error> {
        let (taken, rest) =
            self.0.split_at_checked(need).ok_or(decode::Error::Short { have: self.0.len(), need })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], decode::Error> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("N bytes were taken"))
    }

    fn u32(&mut self) -> Result<u32, decode::Error> {
        self.array().map(u32::from_le_bytes)
    }

    fn u32s<const N: usize>(&mut self) -> Result<[u32; N], decode::Error> {
        let mut all = [0; N];
        for one in &mut all {
            *one = self.u32()?;
        }
        Ok(all)
    }

    fn u64(&mut self) -> Result<u64, decode::Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn wire<T: Wire>(&mut self) -> Result<T, decode::Error> {
        decode::body(self.take(size_of::<T>())?)
    }

    fn bytes(&mut self) -> Result<&'a [u8], decode::Error> {
        let len = self.u32()?;
        self.take(len as usize)
    }
}
