//! A wall clock that is wrong, for one node: libfaketime between it and the system. Clocks that nobody sets stay true.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian and others have it; the form for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const FOLDERS: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];

/// A clock that can be set while the node runs.
#[derive(Debug)]
pub(crate) struct WrongClock {
    library: PathBuf,
    file: PathBuf,
}

impl WrongClock {
    /// One that is right, with its file in a folder.
    ///
    /// # Panics
    /// If libfaketime is not installed.
    pub(crate) fn new(dir: &Path) -> Self {
        let mut places = FOLDERS.iter().map(|folder| Path::new(folder).join(LIBRARY));
        let library = places.find(|place| place.is_file());
        let library = library.unwrap_or_else(|| panic!("there is no {LIBRARY}: install the package `faketime`"));
        let clock = Self { library, file: dir.join("clock") };
        clock.set(0);
        clock
    }

    /// Sets it so many seconds ahead of the true one; within a second the node sees it.
    pub(crate) fn set(&self, ahead_s: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead_s:+}s\n")).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    /// Gives it to a program.
    pub(crate) fn give(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            // else it shares its state with its children by a segment that it leaves behind
            .env("FAKETIME_DISABLE_SHM", "1");
    }
}
