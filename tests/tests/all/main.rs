//! Whole nodes as real processes on loopback addresses. One binary, so that it is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and print what they found"
)]

mod chaos;
mod cluster;
mod conformance;
mod demo;
mod harness;
mod rfc;
mod single;
mod tidy;
mod ui;
