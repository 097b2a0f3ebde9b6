//! The one place where clocks are read. Everything else takes a time as an argument.
#![allow(clippy::disallowed_methods, reason = "this is the one file that reads clocks")]

use std::time::{Duration, Instant, SystemTime};

/// Wall clock: milliseconds since the Unix epoch. 0 if the clock stands before it.
#[must_use]
pub fn unix_ms() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(world) = crate::simulation::world() {
        return world.unix_ms();
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Wall clock of a simulated node, for a library that wants it in this form.
#[cfg(feature = "simulation")]
pub(crate) fn system_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms())
}

/// Wall clock as the `Date` field says it (RFC 9110 section 6.6.1).
#[must_use]
pub fn http_date() -> String {
    http_date_of(unix_ms())
}

/// A moment, in milliseconds since the Unix epoch, as the `Date` field says it.
#[must_use]
pub fn http_date_of(unix_ms: u64) -> String {
    // beyond the year 9999 there is no such date
    let since = Duration::from_millis(unix_ms.min(253_402_300_799_000));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
}

/// Monotonic clock, for deadlines and durations.
#[must_use]
pub fn instant() -> Instant {
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        return tokio::time::Instant::now().into_std();
    }
    Instant::now()
}

/// Milliseconds since the machine was started, by a clock that nobody sets and that also runs while the machine sleeps: a
/// plain number for pure code, and what promises about time are measured by.
#[must_use]
pub fn monotonic_ms() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(world) = crate::simulation::world() {
        return world.monotonic_ms();
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// Wall clock in microseconds since the Unix epoch. 0 if the clock stands before it.
#[must_use]
pub fn unix_us() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(world) = crate::simulation::world() {
        return world.unix_ms() * 1_000;
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
