//! The way of an event to a line: decode -> lifecycle -> record -> sink. Live events and recorded
//! ones take the same way.

use std::{
    fs,
    io::{self, BufReader, BufWriter},
    path::Path,
};

use tracer_common::event::{Exec, KINDS, Kind};

use crate::{
    config,
    decode::{Event, Loss, LossStage},
    env::{self, EnvMode},
    error::{Code, Error},
    filter::Filter,
    lifecycle::Lifecycle,
    record::{Account, Bye, FilterInfo, KindCounts, Reason, Record, Skipped, Time},
    replay::{Head, Reader, Recorder},
    sink::{Sink, file, jsonl::JsonLines},
};

/// What only the kernel side can count.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelCounts {
    /// Records of each kind.
    pub records: [KindCounts; KINDS],
    /// Runs of programs that the kernel skipped.
    pub recursion_misses: u64,
    /// The same for each program, whether something is lost by it or not.
    pub skipped: Skipped,
}

impl KernelCounts {
    /// Counts a recorded event as the kernel side counted it.
    pub fn count(&mut self, event: &Event<'_>) {
        let (kind, lost) = match event {
            Event::Fork(_) => (Kind::Fork, 0),
            Event::Exec { .. } => (Kind::Exec, 0),
            Event::Exit(_) => (Kind::Exit, 0),
            Event::Free(_) => (Kind::Free, 0),
            Event::Wait(_) => (Kind::Wait, 0),
            Event::ExecFailed { .. } => (Kind::ExecFailed, 0),
            Event::ForkFailed(_) => (Kind::ForkFailed, 0),
            Event::Cgroup { .. } => (Kind::Cgroup, 0),
            Event::Ledger(_) => (Kind::Ledger, 0),
            Event::Thread(_) => (Kind::Thread, 0),
            Event::Cwd { .. } => (Kind::Cwd, 0),
            Event::Loss(Loss { stage: LossStage::Ring, record: Some(kind), count, .. }) => (*kind, *count),
            Event::Loss(Loss { stage: LossStage::Recursion, count, .. }) => {
                self.recursion_misses = self.recursion_misses.saturating_add(*count);
                return;
            }
            Event::Loss(_)
            | Event::CgroupFound { .. }
            | Event::Snapshot(_)
            | Event::Progress { .. }
            | Event::Gone { .. }
            | Event::Tick { .. } => return,
        };
        let counts = &mut self.records[kind as usize];
        let submitted = u64::from(lost == 0);
        counts.seen = counts.seen.saturating_add(submitted).saturating_add(lost);
        counts.submitted += submitted;
        counts.ring_full = counts.ring_full.saturating_add(lost);
    }

    /// Records that were put into the ring.
    pub fn submitted(&self) -> u64 {
        self.records.iter().map(|counts| counts.submitted).sum()
    }
}

/// One run, from events to lines.
pub struct Pipeline<S> {
    lifecycle: Lifecycle,
    lines: JsonLines<S>,
    recorder: Option<Recorder<BufWriter<fs::File>>>,
    record_error: Option<io::Error>,
    wall_offset_ns: i64,
    received: u64,
    awaited: Option<u32>,
    env: EnvMode,
    /// Room for the names in an environment.
    names: Vec<u8>,
}

impl<S: Sink> Pipeline<S> {
    /// Begins with the line `hello`; raw events go to `recording` as well.
    pub fn new(head: Head, sink: S, filter: Filter, recording: Option<fs::File>) -> Self {
        let mut lines = JsonLines::new(sink, head.hello.hostname.clone(), head.hello.compact, filter);
        lines.record(&Record::Hello(&head.hello));
        let (recorder, record_error) =
            match recording.map(|file| Recorder::new(BufWriter::new(file), &head)).transpose() {
                Ok(recorder) => (recorder, None),
                Err(error) => (None, Some(error)),
            };
        Self {
            wall_offset_ns: head.config.wall_offset_ns,
            env: head.config.env,
            names: Vec::new(),
            lifecycle: Lifecycle::new(head.config),
            lines,
            recorder,
            record_error,
            received: 0,
            awaited: None,
        }
    }

    /// Takes a record of the kernel side.
    pub fn kernel(&mut self, bytes: &[u8]) {
        self.received += 1;
        match Event::decode(bytes) {
            Ok(Event::Exec { exec, path, interp, args, env }) if self.env == EnvMode::Names => {
                self.exec_with_names(exec, path, interp, args, env);
            }
            Ok(event) => {
                self.keep(|recorder| recorder.kernel(bytes));
                self.feed(&event);
            }
            Err(error) => {
                log::warn!("{error}");
                self.event(&Event::Loss(Loss {
                    ktime_ns: self.lifecycle.now_ns(),
                    stage: LossStage::Decode,
                    record: None,
                    count: 1,
                }));
            }
        }
    }

    /// Takes an exec whose variables' values nobody is to know: the recording has none either.
    fn exec_with_names(&mut self, mut exec: Exec, path: &[u8], interp: &[u8], args: &[u8], env: &[u8]) {
        let mut names = std::mem::take(&mut self.names);
        env::names(env, &mut names);
        // There is a `=` for each NUL that is added to a name, so they are no longer than before.
        exec.env_len = names.len() as u32;
        exec.header.size = exec.header.size - env.len() as u32 + exec.env_len;
        self.event(&Event::Exec { exec, path, interp, args, env: &names });
        self.names = names;
    }

    /// Takes an event that the daemon found out by itself.
    pub fn event(&mut self, event: &Event<'_>) {
        self.keep(|recorder| recorder.event(event));
        self.feed(event);
    }

    /// Takes note when the timeline of process `pid` has been written.
    pub fn watch_for(&mut self, pid: u32) {
        self.awaited = Some(pid);
    }

    /// Whether a timeline that was watched for has not been written yet.
    pub fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Writes a heartbeat.
    pub fn heartbeat(&mut self, ktime_ns: u64, kernel: &KernelCounts) {
        let account = self.account(ktime_ns, kernel);
        self.lines.record(&Record::Heartbeat(&account));
    }

    /// Hands on what is buffered, and looks whether somebody still reads it.
    pub fn flush(&mut self) {
        self.lines.flush();
        self.lines.check_reader();
        self.keep(Recorder::flush);
    }

    /// Writes what is still pending, and `bye` as the last line.
    pub fn finish(&mut self, kernel: &KernelCounts, reason: Reason) {
        let lines = &mut self.lines;
        self.lifecycle.finish(&mut |record: &Record<'_>| lines.record(record));
        // The time of the last event: so a replay says the same.
        let account = self.account(self.lifecycle.now_ns(), kernel);
        self.lines.record(&Record::Bye(&Bye { account, reason }));
        self.lines.flush();
        self.keep(Recorder::flush);
    }

    /// The first error of the output.
    pub fn output_error(&self) -> Option<&io::Error> {
        self.lines.error()
    }

    /// The error that ended the recording.
    pub fn record_error(&self) -> Option<&io::Error> {
        self.record_error.as_ref()
    }

    /// The state of all lives.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The lines and what they say in sum.
    pub fn lines(&self) -> &JsonLines<S> {
        &self.lines
    }

    fn feed(&mut self, event: &Event<'_>) {
        let Self { lifecycle, lines, awaited, .. } = self;
        lifecycle.apply(event, &mut |record: &Record<'_>| {
            if let Record::Timeline(timeline) = record
                && *awaited == Some(timeline.process.pid)
            {
                *awaited = None;
            }
            lines.record(record);
        });
    }

    /// Records; the first failure ends the recording.
    fn keep(&mut self, write: impl FnOnce(&mut Recorder<BufWriter<fs::File>>) -> io::Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = write(recorder)
        {
            self.recorder = None;
            self.record_error = Some(error);
        }
    }

    fn account(&self, ktime_ns: u64, kernel: &KernelCounts) -> Account {
        Account {
            time: Time::from_boot(ktime_ns, self.wall_offset_ns),
            records: kernel.records,
            received: self.received,
            written: self.lines.written(),
            filtered: self.lines.filtered(),
            recursion_misses: kernel.recursion_misses,
            skipped: kernel.skipped,
            lifecycle: self.lifecycle.stats(),
            zombies: self.lifecycle.zombies(),
        }
    }
}

/// The error to end with when lines could not be written.
pub fn output_failed(error: &io::Error) -> Error {
    Error::io("write the output", error, "free some space, or write elsewhere with --output FILE")
}

/// `tracer replay`: a recording becomes lines. Returns the exit status.
pub fn replay(options: &config::Replay) -> Result<u8, Error> {
    let path = &options.recording;
    let file = fs::File::open(path).map_err(|error| {
        Error::io(format!("open {}", path.display()), &error, "name a file of 'run --record'")
    })?;
    let mut reader = Reader::new(BufReader::new(file)).map_err(|error| not_read(path, &error))?;
    let sink = file::Pending::open(&options.output)?.commit()?;
    // All that was recorded is shown.
    let mut head = reader.head().clone();
    head.hello.filter = FilterInfo::default();
    head.hello.compact = options.compact;
    let mut pipeline = Pipeline::new(head, sink, Filter::default(), None);
    let mut kernel = KernelCounts::default();
    let result = loop {
        match reader.next_event() {
            Ok(Some(event)) => {
                kernel.count(&event);
                pipeline.feed(&event);
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(not_read(path, &error)),
        }
        if pipeline.output_error().is_some() {
            break Ok(());
        }
    };
    let reason = if result.is_ok() { Reason::End } else { Reason::Error };
    pipeline.received = kernel.submitted();
    pipeline.finish(&kernel, reason);
    match pipeline.output_error() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(output_failed(error)),
        _ => result.map(|()| Code::Ok as u8),
    }
}

fn not_read(path: &Path, error: &dyn std::fmt::Display) -> Error {
    let what = format!("read {}", path.display());
    Error::new(Code::Runtime, what, error, "name a whole recording of 'run --record'")
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, io::Read as _, rc::Rc};

    use super::*;
    use crate::{lifecycle::Config, record::Hello};
    use tracer_common::{bytes, event::Header};

    #[derive(Clone, Default)]
    struct Memory(Rc<RefCell<Vec<u8>>>);

    impl Sink for Memory {
        fn write(&mut self, lines: &[u8]) -> io::Result<()> {
            self.0.borrow_mut().extend_from_slice(lines);
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines and the recording of an exec with a secret.
    fn exec_with_secret(env: EnvMode) -> (String, Vec<u8>) {
        let tail = b"/bin/true-x\0PASSWORD=hunter2\0hunter2\0";
        let size = (size_of::<Exec>() + tail.len()) as u32;
        let header = Header { kind: Kind::Exec as u32, tgid: 7, size, ..Header::default() };
        let exec = Exec { header, path_len: 9, args_len: 3, env_len: 25, env_bytes: 25, ..Exec::default() };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let config = Config { steps: true, env, ..Config::default() };
        let sink = Memory::default();
        let head = Head { config, hello: Hello::default() };
        let recording = file.reopen().unwrap();
        let mut pipeline = Pipeline::new(head, sink.clone(), Filter::default(), Some(recording));
        pipeline.kernel(&[bytes(&exec), tail].concat());
        pipeline.finish(&KernelCounts::default(), Reason::End);
        assert!(pipeline.record_error().is_none() && pipeline.output_error().is_none());
        let mut recorded = Vec::new();
        file.read_to_end(&mut recorded).unwrap();
        let lines = String::from_utf8(sink.0.take()).unwrap();
        (lines, recorded)
    }

    #[test]
    fn values_that_were_not_asked_for_are_neither_written_nor_recorded() {
        let has = |bytes: &[u8]| bytes.windows(7).any(|window| window == b"hunter2");
        let (lines, recorded) = exec_with_secret(EnvMode::Names);
        assert!(lines.contains(r#""env_vars":["PASSWORD",""]"#), "{lines}");
        assert!(!lines.contains("hunter2") && !has(&recorded));
        let mut reader = Reader::new(&recorded[..]).unwrap();
        assert!(matches!(
            reader.next_event(),
            Ok(Some(Event::Exec { path: b"/bin/true", args: b"-x\0", env: b"PASSWORD\0\0", .. }))
        ));
        let (lines, recorded) = exec_with_secret(EnvMode::Values);
        assert!(lines.contains(r#""env_vars":["PASSWORD=hunter2","hunter2"]"#), "{lines}");
        assert!(has(&recorded));
    }

    #[test]
    fn a_replay_counts_like_the_kernel_side() {
        let mut kernel = KernelCounts::default();
        let loss = |stage, record| Event::Loss(Loss { ktime_ns: 1, stage, record, count: 3 });
        kernel.count(&Event::Free(Default::default()));
        kernel.count(&loss(LossStage::Ring, Some(Kind::Free)));
        kernel.count(&loss(LossStage::Recursion, Some(Kind::Free)));
        kernel.count(&loss(LossStage::Late, None));
        kernel.count(&Event::Tick { ktime_ns: 1 });
        let free = &kernel.records[Kind::Free as usize];
        assert_eq!((free.seen, free.submitted, free.ring_full), (4, 1, 3));
        assert_eq!((kernel.submitted(), kernel.recursion_misses), (1, 3));
        assert_eq!(kernel.records.iter().map(|counts| counts.seen).sum::<u64>(), 4);
    }
}
