//! Rules about code: who may know whom, who may do what, and how large things are.

use std::process::Command;

use serde_json::Value;

use super::{
    FILES, Faults, none,
    source::{File, lines_with, products},
    text, top,
};

/// The staircase, lowest first: a crate may use those below it.
const STAIRS: [&[&str]; 6] = [
    &["region-config"],
    &["rules"],
    &["wire"],
    &["store"],
    &["meridian"],
    &["benches", "tests", "purge-model", "simulation"],
];

/// The folders of the crates that decide and do nothing.
const PURE: [&str; 3] = ["region-config/src/", "node/rules/src/", "node/wire/src/"];

/// Lines of a file that are not tests.
const LINES_MAX: usize = 600;

/// What only one place may do: the words of it, where they may stand, and why nowhere else.
struct Reserved {
    words: &'static [&'static str],
    places: &'static [Place],
    reason: &'static str,
}

/// A file, with what it may do there.
struct Place {
    path: &'static str,
    #[allow(dead_code, reason = "for whoever reads the list")]
    because: &'static str,
}

const CLOCKS: Reserved = Reserved {
    words: &["Instant::now", "SystemTime::now", ".elapsed()", "UNIX_EPOCH", "clock_gettime"],
    places: &[
        Place { path: "node/meridian/src/clock.rs", because: "the one file that reads clocks" },
        Place {
            path: "node/meridian/src/edge/stall.rs",
            because: "a runtime's timer is set by the runtime's own clock",
        },
    ],
    reason: "only clock.rs reads clocks: what takes its time as an argument can be tested and replayed",
};

const TASKS: Reserved = Reserved {
    words: &["tokio::spawn", "task::spawn", "spawn_local"],
    places: &[Place { path: "node/meridian/src/tasks.rs", because: "the one file that spawns" }],
    reason: "only tasks.rs spawns: every task has a name and an owner who can stop it and wait for it",
};

const THREADS: Reserved = Reserved {
    words: &["thread::spawn", "thread::Builder"],
    places: &[
        Place {
            path: "node/meridian/src/edge/listener.rs",
            because: "one runtime per core; joined when the edge closes",
        },
        Place { path: "node/meridian/src/dns/udp.rs", because: "an answer costs less than a task's wake-up" },
        Place { path: "node/meridian/src/observe/access_log.rs", because: "writes to a file, which may hang" },
        Place { path: "node/meridian/src/demo/children.rs", because: "listens for signals; ends with the process" },
        Place { path: "node/store/src/ledger/writer.rs", because: "waits for fsync; joined when the ledger closes" },
    ],
    reason: "threads are few and known: add the file to the list in this test, and say who ends the thread",
};

const PANICS: Reserved = Reserved {
    words: &[".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!"],
    places: &[],
    reason: "input never panics: return an error that says what was being done, or make the state impossible",
};

/// What pure code never names.
const WORLD: Reserved = Reserved {
    words: &[
        "tokio",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "Instant",
        "SystemTime",
        "rand",
        "getrandom",
        "thread_rng",
        "std::thread",
        "std::process",
        "std::env",
    ],
    places: &[],
    reason: "a pure crate takes time, chance and the world as arguments, so that explain and simulation run the same code",
};

const DISK: Reserved = Reserved {
    words: &["fs", "std::io"],
    places: &[Place { path: "region-config/src/files.rs", because: "reads the operator's files" }],
    reason: "a pure crate does not touch the disk: bytes come in as arguments",
};

fn breaches<'a>(rule: &Reserved, files: impl Iterator<Item = &'a File>) -> Faults {
    let mut faults = Faults::new();
    for file in files.filter(|file| !rule.places.iter().any(|place| place.path == file.path)) {
        let code = file.code();
        for word in rule.words {
            let found = lines_with(code, word);
            faults.extend(found.into_iter().map(|line| format!("{}:{line}: `{word}`: {}", file.path, rule.reason)));
        }
    }
    faults
}

fn pure(files: &[File]) -> impl Iterator<Item = &File> {
    products(files).filter(|file| PURE.iter().any(|folder| file.path.starts_with(folder)))
}

fn too_long(files: &[File]) -> Faults {
    let long = products(files).filter(|file| file.lines() > LINES_MAX);
    long.map(|file| {
        format!(
            "{}: {} lines: a file fits a sitting; split it where its subjects part ({LINES_MAX} at most)",
            file.path,
            file.lines()
        )
    })
    .collect()
}

fn exceptions_that_are_gone(files: &[File]) -> Faults {
    let rules = [CLOCKS, TASKS, THREADS, PANICS, WORLD, DISK];
    let places = rules.iter().flat_map(|rule| rule.places.iter().map(move |place| (rule, place.path)));
    places
        .filter(|(rule, path)| {
            let file = files.iter().find(|file| file.path == *path);
            !file.is_some_and(|file| rule.words.iter().any(|word| !lines_with(file.code(), word).is_empty()))
        })
        .map(|(_, path)| format!("{path} is excepted from a rule that it keeps: take it off the list in this test"))
        .collect()
}

/// Crates that use one that is not below them, by what cargo knows of the workspace.
fn upward(metadata: &Value) -> Faults {
    let mut faults = Faults::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(own) = stair(name) else {
            faults.push(format!("crate `{name}` stands nowhere on the staircase: give it a place in this test"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            // others' crates have no place on it
            let Some(below) = dependency["path"].as_str().and_then(|_| stair(used)) else { continue };
            if below >= own {
                faults.push(format!(
                    "crate `{name}` uses `{used}`: a crate looks down, never up, so that what is below can be understood alone"
                ));
            }
        }
    }
    faults
}

fn stair(name: &str) -> Option<usize> {
    STAIRS.iter().position(|stair| stair.contains(&name))
}

fn metadata() -> Value {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).current_dir(top());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn without_the_lints(manifests: &[&File]) -> Faults {
    manifests
        .iter()
        .filter(|file| !file.text.split("\n[").any(|section| section.trim() == "lints]\nworkspace = true"))
        .map(|file| format!("{}: has no `[lints] workspace = true`: the lints hold for every crate alike", file.path))
        .collect()
}

#[test]
fn crates_look_down_and_never_up() {
    none(&upward(&metadata()));
}

#[test]
fn a_crate_that_looks_up_is_found() {
    let metadata = serde_json::json!({"packages": [
        {"name": "rules", "dependencies": [{"name": "store", "path": "/x"}, {"name": "region-config", "path": "/x"}]},
        {"name": "store", "dependencies": [{"name": "rules", "path": "/x"}, {"name": "tests"}]},
        {"name": "attic", "dependencies": []},
    ]});
    let faults = upward(&metadata);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("`rules` uses `store`") && faults[1].contains("`attic`"));
}

#[test]
fn every_crate_keeps_the_lints() {
    let manifests: Vec<_> = FILES.iter().filter(|file| file.path.ends_with("/Cargo.toml")).collect();
    assert!(manifests.len() >= 7);
    none(&without_the_lints(&manifests));
    let forgotten = File::new("x/Cargo.toml", "[package]\nname = \"x\"\n\n[dependencies]\n");
    assert_eq!(without_the_lints(&[&forgotten]).len(), 1);
}

#[test]
fn pure_crates_do_not_name_the_world() {
    none(&breaches(&WORLD, pure(&FILES)));
    none(&breaches(&DISK, pure(&FILES)));
}

#[test]
fn only_one_file_reads_clocks_and_only_one_spawns() {
    none(&breaches(&CLOCKS, products(&FILES)));
    none(&breaches(&TASKS, products(&FILES)));
    none(&breaches(&THREADS, products(&FILES)));
}

#[test]
fn nothing_panics_outside_tests() {
    none(&breaches(&PANICS, products(&FILES)));
}

#[test]
fn files_fit_a_sitting() {
    none(&too_long(&FILES));
}

#[test]
fn every_exception_is_still_needed() {
    none(&exceptions_that_are_gone(&FILES));
}

/// The faults of one made-up file under one rule, by line.
fn check(rule: &Reserved, path: &str, text: &str, expected: &[usize]) {
    let files = [File::new(path, text)];
    let faults = breaches(rule, products(&files));
    let lines: Vec<usize> = faults.iter().map(|fault| fault.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(lines, expected, "{faults:?}");
    assert!(faults.iter().all(|fault| fault.ends_with(rule.reason)));
}

#[test]
fn a_broken_rule_is_found_where_it_is_broken() {
    let a = "node/meridian/src/a.rs";
    check(&CLOCKS, a, "// Instant::now\nfn f() { Instant::now(); }\nlet s = began.elapsed();", &[2, 3]);
    check(&CLOCKS, "node/meridian/src/clock.rs", "Instant::now()", &[]);
    check(&TASKS, a, "tokio::spawn(x);\ntasks.spawn(\"tokio::spawn\", x);\ntask::spawn_blocking(x);", &[1]);
    check(&THREADS, a, "std::thread::Builder::new();\nthread::spawn(f);", &[2, 1]);
    check(&PANICS, a, "x.unwrap_or(1);\nx.unwrap();\n#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }", &[2]);
    check(&PANICS, a, "x\n  .expect(\"y\");\nunreachable!()", &[2, 3]);
    check(&PANICS, "tests/tests/all/a.rs", "x.unwrap()", &[]);
    check(&WORLD, "node/rules/src/a.rs", "use std::{time::Instant, net::IpAddr};\nuse tokio::net;", &[2, 1]);
    check(&WORLD, "node/wire/src/a.rs", "let operand = random;", &[]);
    check(&DISK, "node/wire/src/a.rs", "use std::{fs, path};\nstd::fs::read(x)", &[1, 2]);
    check(&DISK, "region-config/src/files.rs", "std::fs::read(x)", &[]);
}

#[test]
fn a_file_that_is_too_long_is_found_but_its_tests_do_not_count() {
    let code = "fn f() {}\n".repeat(LINES_MAX);
    let fits = File::new("node/rules/src/a.rs", &format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n"));
    assert_eq!(too_long(std::slice::from_ref(&fits)), Faults::new());
    let long = File::new("node/rules/src/a.rs", &format!("{code}fn g() {{}}\n"));
    assert_eq!(too_long(std::slice::from_ref(&long)).len(), 1);
}

#[test]
fn the_lists_here_speak_of_crates_that_are_there() {
    let manifest = text("Cargo.toml");
    for folder in PURE {
        let crate_folder = folder.trim_end_matches("/src/");
        assert!(manifest.contains(&format!("\"{crate_folder}\"")), "{crate_folder} is no member of the workspace");
        // clippy reads only the nearest file, so a pure crate without its own would be held to the node's rules
        text(&format!("{crate_folder}/clippy.toml"));
    }
}
