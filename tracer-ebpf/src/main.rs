//! The kernel side of `tracer`.
//!
//! One file per subject: births (`fork`), new programs (`exec`), deaths (`exit`, of threads `thread`), names (`rename`), directories
//! (`cwd`), failed
//! calls and waits (`syscall`), how programs begin (`start`), the names of cgroups (`cgroup`), what is inherited (`ledger`), and
//! copy-on-write (`fault`, `alloc`, `flush`, `signal`, all around `cow` and its `state`).
//! Each program does a bounded amount of work: no loop but over the handlers of signals in the ledger, and in the
//! calibration, which runs once.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod alloc;
mod calibrate;
mod cgroup;
mod cow;
mod cwd;
mod exec;
mod exit;
mod fault;
mod flush;
mod fork;
mod kernel;
mod ledger;
mod maps;
mod page;
mod rename;
mod ring;
mod signal;
mod start;
mod state;
mod syscall;
mod table;
mod thread;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Never reached: code that can panic does not pass the verifier.
    loop {}
}

/// What the kernel is told about the licence of these programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
