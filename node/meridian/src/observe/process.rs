//! What the operating system says about this process.

/// Resident memory in bytes; none where the system does not tell.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// How many file descriptors are open; none where the system does not tell.
#[must_use]
pub fn open_files() -> Option<u64> {
    std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64)
}
