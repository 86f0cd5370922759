//! `cargo xtask`: what plain cargo cannot do alone.
//!
//! The eBPF programs need another compiler target and linker than the rest, the shipped program is
//! linked statically, and the tests run on several kernels. Each step has one file:
//!
//! | file | step |
//! |---|---|
//! | `setup.rs`, `toolchain.rs`, `linker.rs`, `apt.rs` | find the tools, install the missing ones |
//! | `ebpf.rs` | build and lint the eBPF programs |
//! | `host.rs` | build, run, lint and format the rest |
//! | `test.rs` | all tests, in stages |
//! | `cases.rs` | the tables in `docs` that the tests make |
//! | `bench.rs` | what tracing costs |
//! | `vm.rs`, `kernels.rs`, `sources.rs`, `initramfs.rs`, `qemu.rs` | the tests in virtual machines |

mod apt;
mod args;
mod bench;
mod cases;
mod ebpf;
mod host;
mod initramfs;
mod kernels;
mod layout;
mod linker;
mod mirror;
mod process;
mod project;
mod qemu;
mod setup;
mod sources;
mod test;
mod toolchain;
mod vm;

use std::{env, process::ExitCode};

use anyhow::Result;

use crate::{args::Task, layout::Layout};

fn main() -> ExitCode {
    let task = match args::parse(env::args_os().skip(1)) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("xtask: {error:#}; see `cargo xtask help`");
            return ExitCode::from(2);
        }
    };
    match perform(task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    let layout = Layout::find()?;
    match task {
        Task::Help => print!("{}", args::USAGE),
        Task::Setup => setup::report(&setup::tools(&layout)?),
        Task::Ebpf => {
            let object = ebpf::build(&layout, &setup::tools(&layout)?)?;
            println!("{}", object.display());
        }
        Task::Build => println!("{}", host::build_tracer(&layout)?.display()),
        Task::Run(arguments) => match host::run(&layout, &arguments)? {},
        Task::Clippy => {
            // Both are looked at before the first failure is told.
            let host = host::clippy(&layout);
            ebpf::clippy(&layout, &setup::tools(&layout)?)?;
            host?;
        }
        Task::Fmt { check } => host::fmt(&layout, check)?,
        Task::Test(vms) => return test::all(&layout, &vms),
        Task::Witness => return test::witnesses_only(&layout),
        Task::Bench(options) => bench::run(&layout, &options)?,
        Task::Verifier(vms) => return test::verifier(&layout, vms),
        Task::TestVm(vms) => return test::vms_only(&layout, &vms),
    }
    Ok(ExitCode::SUCCESS)
}
