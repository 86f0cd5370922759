//! `tracer run`: starts everything in its order, then waits for whatever comes first: events, the
//! clock, a signal, the end of the command. The only module that knows the async runtime.

mod clock;
mod pace;
mod processes;
mod signals;
mod start;
mod untold;

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitStatus,
};

use tokio::io::{Interest, unix::AsyncFd};
use tracer_common::event::Kind;

use crate::{
    cli,
    command::{self, Command},
    config::{self, Target},
    decode::{Event, Loss},
    error::{Code, Error},
    log,
    pipeline::{Pipeline, output_failed},
    probe::{Lost, Probe},
    record::Reason,
    sink::file::{self, Pending},
};
use clock::{Alarm, Timer};
use pace::Pace;
use signals::{Signal, Signals};
use untold::Untold;

/// How long after the command's end its last records may take.
const LAST_RECORDS_NS: u64 = 1_200_000_000;
/// How long after the command's end a zombie may take to be reaped.
const LAST_ZOMBIES_NS: u64 = 250_000_000;

/// Why the loop was left.
enum Stop {
    /// We were told to end, by this signal.
    Signal(i32),
    /// The command has ended.
    Command,
    /// All processes that were followed have ended.
    AllEnded,
    /// Nobody reads the output any more.
    Pipe,
    /// Something failed.
    Failed(Error),
}

impl Stop {
    fn reason(&self) -> Reason {
        match self {
            Self::Signal(_) => Reason::Signal,
            Self::Command => Reason::Command,
            Self::AllEnded => Reason::End,
            Self::Pipe => Reason::Pipe,
            Self::Failed(_) => Reason::Error,
        }
    }
}

/// A running trace.
struct Daemon {
    probe: Probe,
    pipeline: Pipeline<file::File>,
    command: Option<Running>,
    follows_pids: bool,
    heartbeat: Timer,
    progress: Timer,
    pace: Pace,
    untold: Untold,
    /// Where the lines go, if that can end.
    reader: Option<OwnedFd>,
}

/// The command and how far it is.
struct Running {
    command: Command,
    wait_all: bool,
    /// Its status, and when we saw it end.
    ended: Option<(ExitStatus, u64)>,
}

/// Runs until the end. Returns the exit status.
pub fn run(config: &config::Run) -> Result<u8, Error> {
    log::init(config.verbose);
    let output = Pending::open(&config.output)?;
    let recording = config.record.as_deref().map(Pending::create).transpose()?;
    processes::check_pids(&config.target)?;
    let signals = catch_signals(&config.target)?;
    let probe = Probe::start(&start::options(config)).map_err(start::failed)?;
    start::tell(probe.capabilities());
    let head = start::head(config, probe.capabilities())?;
    let recording = recording.map(Pending::commit).transpose()?.map(file::File::into_inner);
    let output = output.commit()?;
    let reader = output.reader().map_err(internal)?;
    let pipeline = Pipeline::new(head, output, start::lines(config), recording);
    let level = probe.capabilities().cow;
    let now = clock::since_boot_ns();
    let daemon = Daemon {
        probe,
        pipeline,
        command: None,
        follows_pids: matches!(config.target, Target::Pids(_)),
        heartbeat: Timer::new(config.heartbeat, now),
        progress: Timer::new(config.cow_interval.filter(|_| level.has_copies()), now),
        pace: Pace::new(now),
        untold: Untold::default(),
        reader,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(internal)?
        .block_on(daemon.run(config, signals))
}

impl Daemon {
    async fn run(mut self, config: &config::Run, signals: Signals) -> Result<u8, Error> {
        let stop = match self.begin(config, &signals) {
            Ok(Some(stop)) => stop,
            Ok(None) => self.watch(&signals).await.unwrap_or_else(Stop::Failed),
            Err(error) => Stop::Failed(error),
        };
        self.finish(stop.reason());
        let interrupted = match (&stop, &config.target) {
            (Stop::Signal(number), Target::Command(_)) => command::signal_code(*number),
            _ => Code::Ok as u8,
        };
        let error = match stop {
            Stop::Failed(error) => Some(error),
            _ => self.write_error(),
        };
        if let Some(error) = &error {
            // Said at once: the command may go on for long.
            cli::complain(error);
        }
        let status = self.outlast(&signals).await?;
        match (error, status) {
            (Some(error), _) => Ok(error.code as u8),
            (None, Some(status)) => {
                // What nobody wanted to read to the end needs no summary; it would not be whole.
                if self.pipeline.output_error().is_none() {
                    let _ = write!(io::stderr(), "{}", self.pipeline.lines().summary());
                }
                Ok(command::exit_code(status))
            }
            (None, None) => Ok(interrupted),
        }
    }

    /// Looks at the processes that are there already, or starts the command.
    fn begin(&mut self, config: &config::Run, signals: &Signals) -> Result<Option<Stop>, Error> {
        processes::cgroups(&mut self.pipeline);
        match &config.target {
            Target::System => processes::snapshot(&mut self.probe, &mut self.pipeline)?,
            Target::Pids(pids) => processes::follow(&mut self.probe, &mut self.pipeline, pids)?,
            Target::Command(words) => {
                // From now on a terminal's signals reach the command; those before were for us.
                let mut caught = std::iter::from_fn(|| signals.next()).map(|signal| signal.number);
                if let Some(number) = caught.find(|number| signals::ENDING.contains(number)) {
                    return Ok(Some(Stop::Signal(number)));
                }
                self.probe.adopt_children(true).map_err(start::failed)?;
                let command = Command::spawn(words);
                self.probe.adopt_children(false).map_err(start::failed)?;
                let command = command?;
                self.pipeline.watch_for(command.pid());
                self.command = Some(Running { command, wait_all: config.wait_all, ended: None });
            }
        }
        // Who reads the first line can rely on it: whatever begins from now on is seen.
        self.pipeline.flush();
        Ok(None)
    }

    /// The loop.
    async fn watch(&mut self, signals: &Signals) -> Result<Stop, Error> {
        let ring = watched(self.probe.ring())?;
        let caught = watched(signals.as_fd())?;
        let end = self.command_end()?;
        let reader = self.reader.as_ref().and_then(|fd| registered(fd.as_fd(), Interest::ERROR).ok());
        let mut alarm = Alarm::new().map_err(internal)?;
        let due = watched(alarm.as_fd())?;
        loop {
            let timers = [self.heartbeat.due_ns(), self.progress.due_ns()];
            alarm.set(self.pace.next_ns(timers)).map_err(internal)?;
            tokio::select! {
                ready = readable(Some(&ring)) => {
                    ready?;
                    if self.pace.called(clock::since_boot_ns()) {
                        self.drain();
                        self.pace.drained();
                    }
                }
                ready = readable(Some(&due)) => {
                    ready?;
                    self.tick();
                }
                ready = readable(Some(&caught)) => {
                    ready?;
                    if let Some(stop) = self.take_signals(signals) {
                        return Ok(stop);
                    }
                }
                ready = readable(end.as_ref()), if self.is_command_running() => {
                    ready?;
                    self.reap();
                    self.tick();
                }
                ready = failed(reader.as_ref()) => {
                    ready?;
                    self.pipeline.flush();
                }
            }
            if let Some(stop) = self.stop() {
                return Ok(stop);
            }
        }
    }

    /// Waits for a command that is still running when the trace is over, and reaps it.
    async fn outlast(&mut self, signals: &Signals) -> Result<Option<ExitStatus>, Error> {
        let (caught, end) = (watched(signals.as_fd())?, self.command_end()?);
        while self.is_command_running() {
            tokio::select! {
                ready = readable(Some(&caught)) => {
                    ready?;
                    self.take_signals(signals);
                }
                ready = readable(end.as_ref()) => {
                    ready?;
                    self.reap();
                }
            }
        }
        Ok(self.command.as_ref().and_then(|running| running.ended).map(|(status, _)| status))
    }

    /// The number of records that were in the ring.
    fn drain(&mut self) -> usize {
        let Self { probe, pipeline, .. } = self;
        probe.drain(&mut |record| pipeline.kernel(record))
    }

    /// In this order, so that a life is written only when every loss before its end is known.
    fn tick(&mut self) {
        let now = clock::since_boot_ns();
        let received = self.drain();
        self.losses(now);
        if self.progress.is_due(now) {
            self.progress_of_all();
        } else if self.progress.is_on() {
            self.progress(self.pipeline.lifecycle().wanted().to_vec());
        }
        let ended = self.command.as_ref().and_then(|running| running.ended);
        if self.follows_pids || ended.is_some() || self.heartbeat.due_ns().is_some_and(|due| due <= now) {
            self.untold.look(&mut self.pipeline, now);
        }
        self.pipeline.event(&Event::Tick { ktime_ns: now });
        if self.heartbeat.is_due(now) {
            let counts = start::kernel_counts(&self.probe);
            self.pipeline.heartbeat(now, &counts);
        }
        self.pipeline.flush();
        // What depends on time: lines that are held back, and when to stop after the command.
        let is_waiting = self.pipeline.lifecycle().is_waiting() || ended.is_some();
        self.pace.ticked(now, received > 0 || is_waiting);
    }

    fn losses(&mut self, now: u64) {
        let mut ends_lost = false;
        let Self { probe, pipeline, .. } = self;
        probe.losses(&mut |Lost { stage, record, count }| {
            ends_lost |= record == Some(Kind::Exit);
            pipeline.event(&Event::Loss(Loss { ktime_ns: now, stage, record, count }));
        });
        if ends_lost {
            processes::find_gone(probe, pipeline);
        }
    }

    fn progress_of_all(&mut self) {
        self.progress(self.pipeline.lifecycle().lives().map(|(tgid, _)| tgid).collect());
    }

    fn progress(&mut self, mut tgids: Vec<u32>) {
        self.probe.order(&mut tgids);
        for tgid in tgids {
            if let Some(process) = self.probe.process(tgid) {
                self.pipeline.event(&Event::Progress { tgid, process });
            }
        }
    }

    /// Ends the trace: nothing that happened before is left out.
    fn finish(&mut self, reason: Reason) {
        if self.progress.is_on() {
            self.progress_of_all();
        }
        self.probe.detach();
        self.tick();
        let counts = start::kernel_counts(&self.probe);
        self.pipeline.finish(&counts, reason);
    }

    fn stop(&self) -> Option<Stop> {
        if let Some(error) = self.pipeline.output_error()
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return Some(Stop::Pipe);
        }
        if let Some(error) = self.write_error() {
            return Some(Stop::Failed(error));
        }
        let stats = self.pipeline.lifecycle().stats();
        let all_ended = stats.live == 0 && stats.zombies == 0;
        match &self.command {
            Some(Running { ended: Some((_, when)), wait_all, .. }) => {
                let since_end = clock::since_boot_ns().saturating_sub(*when);
                let told = !self.pipeline.is_waiting() || since_end > LAST_RECORDS_NS;
                let reaped = stats.zombies == 0 || since_end > LAST_ZOMBIES_NS && !self.untold.is_waiting();
                let over = if *wait_all { all_ended } else { told && reaped };
                over.then_some(Stop::Command)
            }
            Some(_) => None,
            None => (self.follows_pids && all_ended).then_some(Stop::AllEnded),
        }
    }

    /// Why writing ended, unless it is because nobody reads any more.
    fn write_error(&self) -> Option<Error> {
        let pipeline = &self.pipeline;
        match pipeline.output_error() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Some(output_failed(error)),
            _ => pipeline
                .record_error()
                .map(|error| Error::io("write the recording", error, "free some space, or record elsewhere")),
        }
    }

    /// With a command, signals are for it; without, they end the trace.
    fn take_signals(&mut self, signals: &Signals) -> Option<Stop> {
        while let Some(Signal { number, by_process }) = signals.next() {
            match &self.command {
                None => return Some(Stop::Signal(number)),
                Some(Running { command, ended: None, .. }) if by_process => command.signal(number),
                // The kernel sent it to the command as well, as a terminal does.
                Some(Running { ended: None, .. }) => {}
                // The command has ended: we only wait for its descendants.
                Some(Running { ended: Some(_), .. }) => return Some(Stop::Command),
            }
        }
        None
    }

    fn is_command_running(&self) -> bool {
        self.command.as_ref().is_some_and(|running| running.ended.is_none())
    }

    fn command_end(&self) -> Result<Option<AsyncFd<OwnedFd>>, Error> {
        let Some(running) = &self.command else { return Ok(None) };
        watched(running.command.end()).map(Some)
    }

    fn reap(&mut self) {
        if let Some(running) = &mut self.command
            && let Some(status) = running.command.try_wait()
        {
            running.ended = Some((status, clock::since_boot_ns()));
        }
    }
}

/// Watches a descriptor of our own for the same thing as `fd`.
fn watched(fd: BorrowedFd<'_>) -> Result<AsyncFd<OwnedFd>, Error> {
    registered(fd, Interest::READABLE)
}

fn registered(fd: BorrowedFd<'_>, interest: Interest) -> Result<AsyncFd<OwnedFd>, Error> {
    let fd = fd.try_clone_to_owned().map_err(internal)?;
    // SAFETY: an `OwnedFd` stays open, and the same, for as long as it exists.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(|error| internal(error.into()))
}

/// Waits until `fd` is readable; for ever when there is none.
async fn readable(fd: Option<&AsyncFd<OwnedFd>>) -> Result<(), Error> {
    match fd {
        Some(fd) => fd.readable().await.map(|mut ready| ready.clear_ready()).map_err(internal),
        None => std::future::pending().await,
    }
}

/// Waits until `fd` has failed; for ever when there is none.
async fn failed(fd: Option<&AsyncFd<OwnedFd>>) -> Result<(), Error> {
    match fd {
        Some(fd) => fd.ready(Interest::ERROR).await.map(|mut ready| ready.clear_ready()).map_err(internal),
        None => std::future::pending().await,
    }
}

fn catch_signals(target: &Target) -> Result<Signals, Error> {
    match target {
        Target::Command(_) => Signals::catch(&[], &signals::FORWARDED),
        _ => Signals::catch(&[libc::SIGINT, libc::SIGTERM], &[libc::SIGHUP]),
    }
    .map_err(internal)
}

fn internal(error: io::Error) -> Error {
    Error::io("set up the event loop", &error, "allow more open files (ulimit -n)")
}
