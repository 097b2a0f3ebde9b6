//! The public HTTP caching suite (a copy is in `tests/conformance/suite`), run against a real node.
//!
//! Every required test that does not pass stands in `tests/conformance/allowed.txt` with its verdict and the reason;
//! one that is not there fails the run, and so does one that is there and passes: the list can only shrink.

mod allowed;
mod verdict;

use std::{env, fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use self::{
    allowed::Allowed,
    verdict::{Kind, Report, Verdict},
};
use crate::harness::{Node, Process, until};

/// Of the required tests, so many must pass whatever the list says.
const REQUIRED_MIN: usize = 158;

/// Of the optimal tests, so many must pass.
const OPTIMAL_MIN: usize = 95;

/// How long the whole suite may take; it needs about half a minute.
const RUN: Duration = Duration::from_secs(240);

#[test]
fn the_public_caching_suite_passes_but_for_what_is_allowed() {
    let report = run();
    let verdicts = report.verdicts();
    eprint!("{}{}", report.summary(&verdicts), report.not_passed(&verdicts));
    for (kind, min) in [(Kind::Required, REQUIRED_MIN), (Kind::Optimal, OPTIMAL_MIN)] {
        let passed = verdicts.iter().filter(|(test, verdict)| test.kind == kind && **verdict == Verdict::Pass).count();
        assert!(passed >= min, "only {passed} {kind:?} tests pass; {min} are needed");
    }

    // the list is for the copy; another checkout may have other tests
    if env::var_os("CACHE_TESTS_DIR").is_none() {
        let text = fs::read_to_string(Path::new(FOLDER).join("allowed.txt")).unwrap();
        let complaints = Allowed::parse(&text).unwrap().complaints(&report, &verdicts);
        assert!(complaints.is_empty(), "tests/conformance/allowed.txt does not agree:\n{}", complaints.join("\n"));
    }
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance");

/// Starts the suite's origin and a node before it, and runs the suite's client against the node.
fn run() -> Report {
    let dir = TempDir::new().unwrap();
    let mut origin = script("origin", "origin.mjs", dir.path(), &[]);
    origin.until("it prints its address", |origin| origin.output().contains('\n'));
    let address = origin.output();
    let address = address.trim().strip_prefix("Listening on ").map(|url| url.trim_end_matches('/'));
    let address = address.unwrap_or_else(|| panic!("the suite's origin did not start: {}", origin.output()));

    // no default lifetime, no limits that one busy client could meet; guesses, which are off unless asked for
    let node = Node::alone(&format!(
        "[cache]\nmemory = \"64MiB\"\n[[sites]]\nname = \"suite\"\nhosts = \"*\"\norigin = \"{address}\"\n\
         [[sites.routes]]\npath = \"/*\"\nheuristic = true\n"
    ));
    let base = format!("http://{}", node.http);
    let mut client = script("client", "run.mjs", dir.path(), &[&base]);
    until("the suite's client is done", RUN, || client.ended());
    Report::parse(&client.output()).unwrap_or_else(|fault| panic!("{fault}; the client wrote:\n{}", client.output()))
}

/// Starts one of the scripts in `tests/conformance`.
fn script(name: &str, file: &str, dir: &Path, arguments: &[&str]) -> Process {
    let installed = Path::new(FOLDER).join("node_modules").is_dir();
    assert!(installed, "what the caching suite needs is not installed: run `npm ci` in tests/conformance");
    let mut command = Command::new("node");
    command.arg("--no-warnings").arg(Path::new(FOLDER).join(file)).args(arguments).env("CONFORMANCE_DIR", dir);
    Process::start(name, dir, &mut command)
}
