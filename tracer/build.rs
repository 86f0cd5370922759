//! Puts the eBPF object where `include_bytes_aligned!` finds it.
//!
//! `cargo xtask build` makes the object. Without it an empty one is included, so that `cargo build` and
//! `cargo test` work with nothing but stable Rust; that binary says how to get the programs.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=TRACER_EBPF_OBJECT");
    let Some(object) = env::var_os("TRACER_EBPF_OBJECT").map(PathBuf::from) else {
        return include(&[]);
    };
    println!("cargo:rerun-if-changed={}", object.display());
    include(&fs::read(object)?)
}

fn include(object: &[u8]) -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("tracer.bpf.o"), object)
}
