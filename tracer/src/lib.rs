//! `tracer` follows the life of every process: who forked it, which pages were really copied because
//! of it, what it ran, how it ended and who reaped it.
//!
//! Data flows one way: kernel -> [`probe`] -> [`decode`] -> [`lifecycle`] -> [`record`] -> [`sink`].
//! [`pipeline`] joins the stages, for live events and for recorded ones ([`replay`]) alike.
//! Only [`probe`] names aya and only [`daemon`] names tokio. What stands between them is pure: values
//! in, values out, no clock, no files, no root.

pub mod cli;
pub mod command;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod env;
pub mod error;
pub mod filter;
pub mod level;
pub mod lifecycle;
mod log;
pub mod pipeline;
pub mod probe;
pub mod record;
pub mod replay;
pub mod report;
pub mod sink;
pub mod verify;
