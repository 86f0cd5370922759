//! The tests that need a real kernel and root, in one static binary.
//!
//! `tracer-live test [FILTER]` runs them. The same file is also everything else they need, so that it
//! can stand alone in a virtual machine: the first process, the tracer, and the traced programs.

mod absent;
mod cases;
mod check;
mod harness;
mod init;
mod kprobe;
mod machine;
mod stream;
mod temp;
mod tests;
mod workload;

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::ExitCode,
};

const USAGE: &str = "usage: tracer-live test [FILTER] [--list] | tracer ARGS.. | workload NAME FACTS ARGS..";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name);
    // Programs that do nothing: they are started under these names, through a link.
    if called.is_some_and(|name| name == "true" || name == workload::STORM) {
        return ExitCode::SUCCESS;
    }
    let role = args.get(1).map(OsString::as_os_str).and_then(OsStr::to_str);
    let rest = || args.iter().skip(2).cloned();
    match role {
        Some("test") => tests::main(rest()),
        Some("tracer") => tracer::cli::main(args.into_iter().skip(1)),
        Some("workload") => workload::main(&rest().collect::<Vec<_>>()),
        _ if std::process::id() == 1 => init::main(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
