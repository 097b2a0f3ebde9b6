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

/// Names the process with this id, unlike any that has the id before or after it: `id-start`, the start in clock ticks
/// since the machine's own. None if there is none, or it has ended and only waits to be asked how, or it cannot be seen.
#[must_use]
pub fn name_of(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // the command's name stands in brackets, and may have any in it (proc_pid_stat(5))
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let (state, threads, start) = (fields.next()?, fields.nth(16)?, fields.nth(1)?);
    // the first thread may have ended before others, which hold what is open
    let ended = matches!(state, "Z" | "X") && matches!(threads, "0" | "1");
    (!ended).then(|| format!("{id}-{start}"))
}

/// Whether the process that has such a name runs on this machine, as far as can be seen from here.
#[must_use]
pub fn runs(name: &str) -> bool {
    let id = name.split_once('-').and_then(|(id, _)| id.parse().ok());
    id.and_then(name_of).is_some_and(|runs| runs == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_runs_until_it_has_ended() {
        assert!(runs(&name_of(std::process::id()).unwrap()));
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let name = name_of(child.id()).unwrap();
        assert!(runs(&name) && name.starts_with(&format!("{}-", child.id())), "{name}");
        assert!(!runs(&format!("{name}0")), "an earlier one of the same id");
        child.kill().unwrap();
        // until it is waited for, its id is taken
        while runs(&name) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!runs(&name));
        for none in ["", "-", "1", "x-1", "4294967296-1", "../self-1"] {
            assert!(!runs(none), "{none:?}");
        }
    }
}
