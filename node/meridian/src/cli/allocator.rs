//! How the memory of the process is had from the system.

/// Allocations of at least so many bytes are mapped one by one, and go back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 2 * 1024 * 1024;
/// What else is free at the end of an arena is kept up to so many bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 16 * 1024 * 1024;

/// Tells glibc which allocations to map one by one. Otherwise it learns from the first large one that is freed to map none of
/// its size any more; maps of millions of ranges, made anew with each reload, then leave holes that nothing fits into, and the
/// process grows to a multiple of what it holds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "no safe library sets it")]
pub(super) fn settle() {
    for (name, bytes) in [(libc::M_MMAP_THRESHOLD, MAPPED_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES)] {
        // SAFETY: mallopt takes two numbers, and may be called at any time
        if unsafe { libc::mallopt(name, bytes) } == 0 {
            tracing::debug!(name, bytes, "what the allocator does not take");
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn settle() {}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, clippy::unwrap_used, reason = "the allocator alone knows")]
mod tests {
    use super::*;

    /// Allocations that are mapped one by one, in this process.
    fn mapped() -> usize {
        // SAFETY: it takes nothing and gives numbers
        unsafe { libc::mallinfo2() }.hblks
    }

    #[test]
    fn what_is_large_stays_mapped_after_larger_ones_were_freed() {
        let bytes = usize::try_from(MAPPED_BYTES).unwrap();
        settle();
        drop(vec![1u8; 8 * bytes]);
        let before = mapped();
        let maps: Vec<_> = (0..32).map(|_| vec![1u8; bytes]).collect();
        // other tests have some too
        assert!(mapped() >= before + 24, "{before} before, {} with {}", mapped(), maps.len());
    }
}
