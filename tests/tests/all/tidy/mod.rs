//! The house rules, checked by a machine, each with its reason in what it says when it is broken. A rule is a function
//! from files to faults, so that it can be shown to find what it is there for.

mod docs;
mod house;
mod licences;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use self::source::File;

/// Broken rules: where, what, and why it matters.
type Faults = Vec<String>;

/// The top of the repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files that are committed, or would be.
static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(top());
    let output = command.output().unwrap_or_else(|error| panic!("cannot run git: {error}"));
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).unwrap();
    let paths = paths.split('\0').filter(|path| !path.is_empty());
    // a file that was deleted and not yet committed as such is none
    paths
        .filter_map(|path| Some((path, fs::read(top().join(path)).ok()?)))
        .map(|(path, bytes)| File::new(path, &String::from_utf8(bytes).unwrap_or_default()))
        .collect()
});

/// What a file says; it has to be there.
#[track_caller]
fn text(path: &str) -> &'static str {
    let file = FILES.iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("there is no {path}")).text
}

/// Fails with all faults at once.
#[track_caller]
fn none(faults: &Faults) {
    assert!(faults.is_empty(), "{} rules are broken:\n\n{}\n", faults.len(), faults.join("\n"));
}
