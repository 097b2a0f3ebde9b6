//! `meridian`: the node, and the tools around it.

use std::process::ExitCode;

fn main() -> ExitCode {
    // rustls picks its cryptography by the process, not by the crate; whoever set it before us set the same
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    meridian::cli::main(std::env::args_os())
}
