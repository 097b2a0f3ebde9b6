//! Three regions with two nodes each on one machine.

use std::path::PathBuf;

use clap::Args;

/// What to start.
#[derive(Debug, Args)]
pub struct Order {
    /// Work folder; is emptied first.
    #[arg(long, value_name = "DIR", default_value = ".demo")]
    dir: PathBuf,
}

/// Why the demo could not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoFault {}

/// Starts the demo, and ends it when it is told to.
///
/// # Errors
/// Why it could not start.
pub fn run(_order: &Order) -> Result<(), DemoFault> {
    Ok(())
}
