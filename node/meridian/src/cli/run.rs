//! `meridian run`.

use std::{io::IsTerminal, path::Path};

use tracing_subscriber::EnvFilter;

use super::{allocator, check, exit::Exit, output::Output};
use crate::wiring;

/// Runs a node until it is told to stop.
pub(super) fn run(dir: &Path, output: Output) -> Exit {
    let checked = match region_config::examine(dir) {
        Ok(checked) => checked,
        Err(faults) => return check::invalid(&faults, output),
    };
    log();
    allocator::settle();
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    match wiring::run(dir, checked.config) {
        Ok(()) => Exit::Done,
        Err(error) => output.failed(Exit::Failure, &error),
    }
}

/// Sends events to standard error; `MERIDIAN_LOG` chooses which, in the manner of `info,meridian::peers=debug`.
fn log() {
    let filter = EnvFilter::try_from_env("MERIDIAN_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,foyer=warn,foyer_storage=warn,chitchat=warn,async_nats=warn"));
    // a second one in the same process (tests) keeps the first
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
