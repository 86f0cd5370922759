//! The command line: the words that can be typed. What they mean is decided in [`crate::config`].

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::{
    config, daemon,
    error::{Code, Error},
    level::Level,
    lifecycle::{EnvMode, LedgerMode},
    pipeline, verify,
};

const EXIT_CODES: &str = "\
Exit status:
  0    all went well (also when the reader of the output closed it)
  N    of CMD, when CMD was run; 128+N when signal N ended it
  1    an error while running: output, file, internal; for `verify`: the stream is refuted
  2    the command line is not right; for `verify`: also, FILE cannot be read
  69   this kernel cannot be traced, or tracer was built without its eBPF programs
  77   not enough privilege
  126  CMD cannot be executed
  127  CMD was not found";

const VERIFY_EXIT_CODES: &str = "\
Exit status:
  0    the stream is proven; stdout has its numbers
  1    it is refuted; stdout has the first 20 reasons with their lines, stderr how many there are
  2    the command line is not right, or FILE cannot be read";

/// Follow the life of every process: who forked it, which pages were copied because of it, what it
/// ran, how it ended and who reaped it. One JSON line per life.
#[derive(Debug, Parser)]
#[command(name = "tracer", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Trace the whole machine, some processes, or a command with all its descendants
    Run(Box<Run>),
    /// Turn a recording made with `run --record` into JSON lines: all that the kernel told, also what
    /// --uid or --cgroup kept back then
    Replay(Replay),
    /// Prove from its lines alone that a stream is whole and agrees with itself, or say what does not hold
    Verify(Verify),
    /// Print the JSON Schema of the lines
    Schema,
}

/// `tracer run`.
#[derive(Debug, Default, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Run {
    /// Where the lines go, `-` is stdout [default: stdout; tracer.jsonl with CMD].
    /// An existing file is kept as FILE.old
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Only process PID and its descendants (may be repeated); ends when all of them have ended
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: Vec<u32>,

    /// Only processes of this name; `*` stands for any characters (may be repeated). Others are left out in the
    /// kernel, unless a name begins with `*`; so what a process did before it had the name is not known
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,

    /// Only processes of this user, by number or name (may be repeated)
    #[arg(long, value_name = "USER")]
    pub uid: Vec<String>,

    /// Only processes in this cgroup (v2) or below it: a path, from the cgroup root or absolute
    /// (may be repeated). Groups below that are made later are not matched
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,

    /// Also write each step: fork, exec, exit, reap and the calls that failed
    #[arg(long)]
    pub events: bool,

    /// Of each process only who it was, how long it ran, how it ended and what was copied, in some 350 bytes
    #[arg(long)]
    pub compact: bool,

    /// Which kernel hooks to use: `full` adds failed calls and exact reaps, at a cost for every
    /// system call of the machine [default: base; full with CMD]
    #[arg(long, value_name = "SET")]
    pub hooks: Option<Hooks>,

    /// How closely to count copy-on-write faults; a kernel on which the level does not work gets the
    /// next one, and `hello` says so [default: full]
    #[arg(long, value_name = "LEVEL")]
    pub cow: Option<Cow>,

    /// What each process inherits, keeps and loses, at its fork and at each exec: `changes` tells what differs from
    /// plain inheritance, `full` also all that is the same [default: off]
    #[arg(long, value_name = "HOW")]
    pub ledger: Option<Ledger>,

    /// Write a record for each thread that ends, but the first of each process; without, threads are counted on their
    /// process only
    #[arg(long)]
    pub threads: bool,

    /// The directory that each new program begins in, from the root of its mount namespace
    #[arg(long)]
    pub cwd: bool,

    /// The environment of each new program, the first 4,096 bytes: only the names of the variables, or also their
    /// values, which may be secrets [default: off]
    #[arg(long, value_name = "WHAT")]
    pub env: Option<Env>,

    /// Size of the ring buffer: a power of two from 64K to 1G, as in 16M [default: 16M]
    #[arg(long, value_name = "BYTES")]
    pub ring_bytes: Option<String>,

    /// Most processes followed at a time [default: 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=4_194_304))]
    pub max_processes: Option<u32>,

    /// Write a heartbeat every SECONDS, 0 for none [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub heartbeat: Option<String>,

    /// Write the progress of live processes every SECONDS, 0 for none [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub cow_interval: Option<String>,

    /// Also keep the raw events in FILE, for `tracer replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// After CMD has ended, wait until all its descendants have ended, too
    #[arg(long)]
    pub wait_all: bool,

    /// Say more on stderr; twice: even more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Command to run and trace, with its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `tracer replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// A recording made with `run --record`
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,

    /// Where the lines go, `-` is stdout [default: stdout].
    /// An existing file is kept as FILE.old
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Of each process only who it was, how long it ran, how it ended and what was copied, in some 350 bytes
    #[arg(long)]
    pub compact: bool,
}

/// `tracer verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXIT_CODES)]
pub struct Verify {
    /// JSON lines of one run, or of several one after the other; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Sets of kernel hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hooks {
    /// Births, execs, ends and faults.
    Base,
    /// Also the results of fork, exec and wait calls.
    Full,
}

/// How closely copy-on-write faults are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cow {
    /// Everything.
    Full,
    /// Without a hook on page allocations: no copies of swapped pages, on first touch, by pinning or by fork itself.
    Fault,
    /// At next to no cost: pages replaced by faults in user mode, zero pages included, without kinds.
    Lite,
    /// Nothing.
    Off,
}

impl From<Cow> for Level {
    fn from(typed: Cow) -> Self {
        match typed {
            Cow::Full => Self::Full,
            Cow::Fault => Self::Fault,
            Cow::Lite => Self::Lite,
            Cow::Off => Self::Off,
        }
    }
}

/// How much is told of what a process inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ledger {
    /// Nothing, at no cost.
    Off,
    /// What differs from plain inheritance.
    Changes,
    /// Also all that is the same.
    Full,
}

impl From<Ledger> for LedgerMode {
    fn from(typed: Ledger) -> Self {
        match typed {
            Ledger::Off => Self::Off,
            Ledger::Changes => Self::Changes,
            Ledger::Full => Self::Full,
        }
    }
}

/// How much is told of the environment of new programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Env {
    /// Nothing, at no cost.
    Off,
    /// The names of the variables; recordings have no values either.
    Names,
    /// Names and values.
    Values,
}

impl From<Env> for EnvMode {
    fn from(typed: Env) -> Self {
        match typed {
            Env::Off => Self::Off,
            Env::Names => Self::Names,
            Env::Values => Self::Values,
        }
    }
}

/// The whole program: parses `args` (the first is the program's name), runs, returns the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = match Cli::try_parse_from(args) {
        Ok(typed) => execute(typed.verb),
        Err(error) => not_parsed(&error),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            complain(&error);
            ExitCode::from(error.code as u8)
        }
    }
}

/// Writes an error to stderr; when that is closed, the exit status has to do.
pub(crate) fn complain(error: &Error) {
    let _ = writeln!(io::stderr(), "tracer: {error}");
}

fn execute(verb: Verb) -> Result<u8, Error> {
    match verb {
        Verb::Run(typed) => daemon::run(&config::Run::new(*typed)?),
        Verb::Replay(typed) => pipeline::replay(&config::Replay::new(typed)?),
        Verb::Verify(typed) => verify::verify(&config::Verify::new(typed)),
        Verb::Schema => print(include_str!("../../docs/schema.json")),
    }
}

/// Help and version go to stdout as they are; a mistake becomes one line.
fn not_parsed(error: &clap::Error) -> Result<u8, Error> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(&error.to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Err(Error::usage("command line", "no command was given", "see 'tracer --help'"))
        }
        _ => {
            let text = error.to_string();
            let why: Vec<&str> = text
                .lines()
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(|line| line.strip_prefix("error: ").unwrap_or(line))
                .collect();
            Err(Error::usage("command line", why.join(", "), "see 'tracer run --help'"))
        }
    }
}

/// Prints to stdout; a reader that has gone is no error.
fn print(text: &str) -> Result<u8, Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write to stdout", &error, "free some space or write elsewhere"))
        }
        _ => Ok(Code::Ok as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_is_the_command() {
        let words = ["tracer", "run", "--events", "--", "ls", "--output", "x"];
        let Verb::Run(run) = Cli::try_parse_from(words).unwrap().verb else { panic!("not run") };
        assert_eq!(run.command, ["ls", "--output", "x"]);
        assert!(run.events && run.output.is_none());
    }

    #[test]
    fn a_mistake_is_one_line() {
        for words in [
            &["tracer", "run", "--bogus"][..],
            &["tracer", "run", "ls"],
            &["tracer", "run", "--pid", "0"],
            &["tracer", "run", "--hooks", "some"],
            &["tracer", "replay"],
            &["tracer"],
            &["tracer", "fly"],
        ] {
            let error = not_parsed(&Cli::try_parse_from(words).unwrap_err()).unwrap_err();
            assert_eq!(error.code, Code::Usage, "{error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}
