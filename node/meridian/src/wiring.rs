//! Puts the parts of a node together and runs it.

use std::path::PathBuf;

use region_config::Config;

/// Why a node could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to run yet.
    #[error("this build has no node in it")]
    Nothing,
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// Why it could not start, or ended.
pub fn run(_config_dir: PathBuf, _config: Config) -> Result<(), RunError> {
    Err(RunError::Nothing)
}
