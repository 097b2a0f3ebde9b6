//! A small disk that can be full: a tmpfs in a mount namespace of its own, which outlives the nodes that are started in it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Process, binary};

/// Where what fills the disk is.
const BALLAST: &str = "ballast";

/// A disk of its own for one folder; gone with its end, and all that is on it.
pub(crate) struct SmallDisk {
    /// Holds the mount namespace.
    holder: Process,
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one, so many MiB large, over a folder, for those only who are started by [`SmallDisk::command`]. What is in
    /// the folder already is copied onto it.
    pub(crate) fn over(log_dir: &Path, folder: PathBuf, mib: u32) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            "mkdir -p \"$0.before\" && cp -a \"$0/.\" \"$0.before/\" && mount -t tmpfs -o size={mib}m tmpfs \"$0\" && \
             cp -a \"$0.before/.\" \"$0/\" && echo mounted && exec sleep 86400"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(&folder);
        let mut holder = Process::start("small-disk", log_dir, &mut command);
        holder.until("the small disk is mounted", |holder| holder.output().lines().any(|line| line == "mounted"));
        Self { holder, folder }
    }

    /// Runs `meridian` where this disk is seen.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--").arg(binary());
        command
    }

    /// The folder, as those outside see it.
    pub(crate) fn path(&self) -> PathBuf {
        let inside = self.folder.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.path().join(BALLAST)).unwrap();
        for piece in [1 << 20, 4096, 1] {
            while ballast.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    /// Makes room again.
    pub(crate) fn free(&self) {
        let _: File = File::create(self.path().join(BALLAST)).unwrap();
    }
}
