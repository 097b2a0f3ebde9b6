//! Random numbers: the system's, or those of the world that a simulation has put in its place.

/// Fills all of `bytes`. False if the system gives no random numbers; what is in them then is not to be used for anything
/// that has to be unique or secret.
#[must_use]
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    #[cfg(feature = "simulation")]
    if let Some(world) = crate::simulation::world() {
        world.chance(bytes);
        return true;
    }
    getrandom::fill(bytes).is_ok()
}
