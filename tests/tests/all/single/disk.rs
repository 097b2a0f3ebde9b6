//! A cache disk that fails under a node: the node lives, serves nothing wrong, says so, and uses the disk again when it
//! works again.

use std::{
    fs::{self, OpenOptions},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::HOST;
use crate::harness::{
    Node,
    client::{Reply, fetch},
    origin::Origin,
    stamped, until_some,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Little memory, so that the disk is needed.
const CACHE: &str = "[cache]\nmemory = \"1MiB\"\ndisk = \"40MiB\"\n";

fn config(origin: &Origin) -> String {
    CACHE.to_owned() + &super::config(origin, "")
}

/// Asks for objects of many sizes, small ones and such as are kept in pieces; every answer must be whole and right.
async fn ask(node: &Node, numbers: Range<usize>) -> usize {
    let mut hits = 0;
    for number in numbers {
        let length = [900, 20_000, 60_000, 300_000][number % 4];
        let target = format!("/o/{length}/n{number}");
        hits += usize::from(whole(node, &target).await.is_hit());
    }
    hits
}

/// The answer to a request. One of several pieces may be broken off where a piece is lost; what came of it must be right,
/// and it is whole when it is asked for again.
async fn whole(node: &Node, target: &str) -> Reply {
    let mut pieces = Vec::new();
    loop {
        let reply = fetch(node.http, HOST, target).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.seen());
        if reply.broken.is_some() {
            pieces.push(reply.body);
            assert!(pieces.len() < 4, "{target} is broken off again and again");
            continue;
        }
        let stamp = stamped::check(&reply.body).unwrap_or_else(|fault| panic!("{target}: {fault}"));
        assert_eq!(stamp.target, target);
        assert!(pieces.iter().all(|piece| reply.body.starts_with(piece)), "{target}: wrong bytes before it broke off");
        return reply;
    }
}

/// What `/readyz` says of the disk. The node is ready all the same.
async fn told(node: &Node) -> String {
    let reply = fetch(node.admin, &node.admin.to_string(), "/readyz").await;
    assert_eq!(reply.status, 200, "{}", reply.seen());
    let parts: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let parts = parts["parts"].as_array().unwrap();
    let disk = parts.iter().find(|part| part["part"] == "disk").unwrap();
    disk["detail"].as_str().unwrap_or_default().to_owned()
}

/// Goes on asking until the node says that its disk is out of use, or is in use.
async fn until_told(node: &Node, out_of_use: bool, mut first: usize) {
    let what = if out_of_use { "the disk is out of use" } else { "the disk is in use" };
    until_some(what, PATIENCE, async || {
        ask(node, first..first + 20).await;
        first += 20;
        let told = told(node).await;
        if told.contains("out of use") == out_of_use { Ok(()) } else { Err(told) }
    })
    .await;
}

fn blocks(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("state/objects")).unwrap().map(|file| file.unwrap().path());
    let blocks: Vec<_> = files.filter(|path| path.to_str().unwrap().contains("foyer-storage")).collect();
    assert!(!blocks.is_empty());
    blocks
}

fn flip_bits(dir: &Path) {
    for block in blocks(dir) {
        let file = OpenOptions::new().read(true).write(true).open(block).unwrap();
        let length = file.metadata().unwrap().len();
        for at in (5_000..length).step_by(90_007) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        }
    }
}

#[tokio::test]
async fn flipped_bits_are_never_served() {
    let origin = Origin::start();
    let mut node = Node::alone(&config(&origin));
    ask(&node, 0..120).await;
    assert!(ask(&node, 0..120).await > 90, "the disk has them");
    flip_bits(node.dir());
    ask(&node, 0..120).await;
    node.kill_and_restart(flip_bits);
    ask(&node, 0..120).await;
}

#[tokio::test]
async fn files_that_are_cut_are_never_served_and_the_disk_is_used_again() {
    let origin = Origin::start();
    let mut node = Node::alone(&config(&origin));
    ask(&node, 0..120).await;
    let cut = |dir: &Path| {
        for (count, block) in blocks(dir).into_iter().enumerate() {
            OpenOptions::new().write(true).open(block).unwrap().set_len(count as u64 * 123_457).unwrap();
        }
    };
    cut(node.dir());
    ask(&node, 0..120).await;
    until_told(&node, false, 1000).await;
    node.kill_and_restart(cut);
    ask(&node, 0..120).await;
    assert!(ask(&node, 0..120).await > 90, "and takes what is fetched again");
}

#[tokio::test]
async fn a_folder_that_is_removed_is_made_anew() {
    let origin = Origin::start();
    let node = Node::alone(&config(&origin));
    ask(&node, 0..120).await;
    fs::remove_dir_all(node.dir().join("state/objects")).unwrap();
    until_some("it is told", PATIENCE, async || {
        ask(&node, 0..20).await;
        if node.log().contains("the disk cache is out of use") { Ok(()) } else { Err(node.log()) }
    })
    .await;
    until_told(&node, false, 1000).await;
    ask(&node, 0..120).await;
    assert!(ask(&node, 0..120).await > 90);
    assert!(!blocks(node.dir()).is_empty());
}

#[tokio::test]
async fn a_killed_node_serves_what_was_on_its_disk() {
    let origin = Origin::start();
    let mut node = Node::alone(&config(&origin));
    ask(&node, 0..120).await;
    assert!(ask(&node, 0..120).await > 90);
    node.kill_and_restart(|_| {});
    assert!(ask(&node, 0..120).await > 90);
}

/// Whether a tmpfs can be mounted here. Where it cannot, the tests that need it say so and are not run.
fn mounts() -> bool {
    let script = "mount -t tmpfs tmpfs /mnt";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).stderr(Stdio::null());
    let can = command.status().is_ok_and(|status| status.success());
    if !can {
        #[allow(clippy::print_stderr, reason = "what is not tested must be seen")]
        {
            eprintln!("NOT TESTED: a full disk; this needs to mount a tmpfs (root, or a user namespace)");
        }
    }
    can
}

#[tokio::test]
async fn a_disk_that_is_full_costs_no_answer_and_is_used_again() {
    if !mounts() {
        return;
    }
    let origin = Origin::start();
    let node = Node::on_small_disk(&config(&origin), 48);
    ask(&node, 0..60).await;
    // its own view of the folder, where the tmpfs is
    let seen_by_it = PathBuf::from(format!("/proc/{}/root", node.id()));
    let folder = seen_by_it.join(node.dir().strip_prefix("/").unwrap()).join("state/objects");
    let filler = folder.join("somebody-elses");
    let file = fs::File::create(&filler).unwrap();
    let mut at = 0;
    while file.write_at(&[1; 4096], at).is_ok_and(|written| written > 0) {
        at += 4096;
    }
    assert!(at > 1 << 20, "there was room");
    until_told(&node, true, 1000).await;
    let page = node.log();
    assert!(page.contains("the disk cache is out of use"), "{page}");
    drop(file);
    fs::remove_file(&filler).unwrap();
    until_told(&node, false, 2000).await;
    ask(&node, 0..120).await;
    assert!(ask(&node, 0..120).await > 90, "{}", node.log());
}
