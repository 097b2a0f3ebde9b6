//! From a folder, or from texts, to a checked [`Config`] or to everything that is wrong.

use std::{
    fs,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeTable, de::DeValue};

use crate::{
    build,
    config::Config,
    fault::{Fault, Faults, Gatherer, Place},
    shape::{At, Reader, Shape as _},
    written::{Listener, NodeSection, Root},
};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most files of a folder.
const FILES_MAX: usize = 1_000;

/// Most lines that are no TOML in a file that is read all the same.
const TORN_LINES_MAX: usize = 64;

/// Where sites may stand, below the folder.
const SITES: &str = "sites";

/// A configuration that can be used, and what in it was probably meant otherwise.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What was probably meant otherwise.
    pub warnings: Vec<Fault>,
}

/// Reads all `*.toml` files of a folder and of its `sites` folder, and likewise those of the folder that `shared` names.
///
/// # Errors
/// Everything that is wrong with them, also across files.
pub fn load(dir: &Path) -> Result<Config, Faults> {
    examine(dir).map(|checked| checked.config)
}

/// As [`load`], and with the warnings.
///
/// # Errors
/// As [`load`].
pub fn examine(dir: &Path) -> Result<Checked, Faults> {
    let mut gatherer = Gatherer::default();
    let mut files = folder(dir, &mut gatherer);
    if files.is_empty() && !gatherer.failed() {
        let found = "there is no *.toml file in this folder";
        gatherer.push(Fault::of_file(&dir.display().to_string(), found, "at least one, such as meridian.toml"));
    }
    if let Some(shared) = shared_folder(&files) {
        files.extend(folder(&shared, &mut gatherer));
    }
    checked(&files, gatherer)
}

/// How whoever operates a node reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminDoor {
    /// Where its admin API listens.
    pub listen: SocketAddr,
    /// Where it keeps its admin token.
    pub state_dir: PathBuf,
}

/// How the node of a folder is reached, whatever else stands in the folder: a fault in a site must not keep an operator from
/// a node that runs. None if there is no `[admin]`, or if what says so cannot be read.
#[must_use]
pub fn admin_door(dir: &Path) -> Option<AdminDoor> {
    let mut gatherer = Gatherer::default();
    let mut files = folder(dir, &mut gatherer);
    if let Some(shared) = shared_folder(&files) {
        files.extend(folder(&shared, &mut gatherer));
    }
    let (mut admin, mut node) = (Vec::new(), Vec::new());
    for (name, text) in &files {
        let file = gatherer.source(name, text);
        let text = mended(text)?;
        let Ok(table) = DeTable::parse(&text) else { continue };
        let (mut reader, place) = (Reader::new(file, &mut gatherer), Place::new(file, table.span()));
        admin.extend(reader.may::<Listener>(table.get_ref(), "admin", place));
        node.extend(reader.may::<NodeSection>(table.get_ref(), "node", place));
    }
    match (&admin[..], &node[..]) {
        ([admin], [node]) => {
            let listen = admin.value.listen.first()?.value;
            Some(AdminDoor { listen, state_dir: build::state_dir(node, &gatherer)? })
        }
        _ => None,
    }
}

/// A text without the lines that are no TOML, as long as they are few. Everything else stays in its place. None if such a line
/// says where the node keeps its token: without it, that would be another folder.
fn mended(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..TORN_LINES_MAX {
        let Some(torn) = DeTable::parse(&text).err().and_then(|error| error.span()) else { break };
        let (before, after) = text.split_at_checked(torn.start).unwrap_or((&text, ""));
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let end = before.len() + after.find('\n').unwrap_or(after.len());
        if text.get(start..end)?.contains("state_dir") {
            return None;
        }
        text.replace_range(start..end, &" ".repeat(end - start));
    }
    Some(text)
}

/// Checks texts that were read before, each with its name; a relative path in one counts from the folder in its name.
///
/// # Errors
/// Everything that is wrong with them, also across files.
pub fn check(files: &[(&str, &str)]) -> Result<Checked, Faults> {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    checked(&files, Gatherer::default())
}

fn checked(files: &[(String, String)], mut gatherer: Gatherer) -> Result<Checked, Faults> {
    let unread = gatherer.failed();
    let mut merged: Option<Root> = None;
    let mut torn = false;
    for (name, text) in files {
        let file = gatherer.source(name, text);
        let Some(table) = parsed(file, text, &mut gatherer) else {
            torn = true;
            continue;
        };
        let Some(root) = Root::read(&table, &mut Reader::new(file, &mut gatherer)) else { continue };
        merged = Some(match merged {
            None => root,
            Some(before) => merge(before, root, &mut gatherer),
        });
    }
    // what a file that could not be read may have said is not missed in the others
    let config = merged.filter(|_| !torn && !unread).and_then(|root| {
        crate::check::all(&root, &mut gatherer);
        if gatherer.failed() { None } else { build::config(&root, &gatherer) }
    });
    match config {
        Some(config) => Ok(Checked { config, warnings: gatherer.warnings() }),
        None => {
            if !gatherer.failed() {
                gatherer.push(Fault::of_file(
                    "configuration",
                    "nothing is written",
                    "at least [node], a listener and a site",
                ));
            }
            Err(gatherer.finish())
        }
    }
}

/// Parses one file. What is torn in it may tear the rest, so only the first thing is noted.
fn parsed<'a>(file: usize, text: &'a str, gatherer: &mut Gatherer) -> Option<Spanned<DeValue<'a>>> {
    match DeTable::parse(text) {
        Ok(table) => Some(Spanned::new(table.span(), DeValue::Table(table.into_inner()))),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let found = format!("not TOML: {}", error.message());
            gatherer.error(Place::new(file, span), "", found, "TOML as on https://toml.io");
            None
        }
    }
}

/// Two files' tables as one: lists are joined, and a table that is not a list may stand in one of them only.
fn merge(before: Root, after: Root, gatherer: &mut Gatherer) -> Root {
    let mut once = Once { gatherer };
    Root {
        place: before.place,
        written: Vec::new(),
        shared: once.of("shared", before.shared, after.shared),
        node: once.of("[node]", before.node, after.node),
        http: once.of("[http]", before.http, after.http),
        https: once.of("[https]", before.https, after.https),
        dns: once.of("[dns]", before.dns, after.dns),
        admin: once.of("[admin]", before.admin, after.admin),
        purge: once.of("[purge]", before.purge, after.purge),
        peer: once.of("[peer]", before.peer, after.peer),
        cache: once.of("[cache]", before.cache, after.cache),
        geo: once.of("[geo]", before.geo, after.geo),
        limits: once.of("[limits]", before.limits, after.limits),
        jurisdictions: joined(before.jurisdictions, after.jurisdictions),
        regions: joined(before.regions, after.regions),
        zones: joined(before.zones, after.zones),
        sites: joined(before.sites, after.sites),
        tenants: joined(before.tenants, after.tenants),
        tokens: joined(before.tokens, after.tokens),
        witnesses: joined(before.witnesses, after.witnesses),
        streams: joined(before.streams, after.streams),
    }
}

struct Once<'a> {
    gatherer: &'a mut Gatherer,
}

impl Once<'_> {
    fn of<T>(&mut self, name: &str, before: Option<At<T>>, after: Option<At<T>>) -> Option<At<T>> {
        if let (Some(before), Some(after)) = (&before, &after) {
            let found = format!("`{name}` stands already at {}", self.gatherer.name_of(before.place));
            self.gatherer.error(after.place, "", found, "it in one file only");
        }
        before.or(after)
    }
}

fn joined<T>(mut before: Vec<At<T>>, after: Vec<At<T>>) -> Vec<At<T>> {
    before.extend(after);
    before
}

/// The folder that `shared` names, from the first file that has it.
fn shared_folder(files: &[(String, String)]) -> Option<PathBuf> {
    files.iter().find_map(|(name, text)| {
        let table = DeTable::parse(text).ok()?;
        let shared = table.get_ref().get("shared")?.get_ref().as_str()?;
        Some(Path::new(name).parent().unwrap_or(Path::new("")).join(shared))
    })
}

/// Reads a folder's files, in the order of their names. What cannot be read is noted.
fn folder(dir: &Path, gatherer: &mut Gatherer) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for (folder, needed) in [(dir.to_owned(), true), (dir.join(SITES), false)] {
        match toml_files(&folder) {
            Ok(found) => paths.extend(found),
            Err(error) if !needed && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let found = format!("cannot be read: {error}");
                gatherer.push(Fault::of_file(&folder.display().to_string(), found, "a folder with *.toml files"));
            }
        }
    }
    paths.sort();
    if paths.len() > FILES_MAX {
        let found = format!("{} files", paths.len());
        gatherer.push(Fault::of_file(&dir.display().to_string(), found, format!("at most {FILES_MAX}")));
        paths.truncate(FILES_MAX);
    }
    paths.iter().filter_map(|path| file(path, gatherer)).collect()
}

fn toml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
            found.push(path);
        }
    }
    Ok(found)
}

/// Reads one file, but not more of it than the limit.
fn file(path: &Path, gatherer: &mut Gatherer) -> Option<(String, String)> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    if let Err(error) = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        gatherer.push(Fault::of_file(&name, format!("cannot be read: {error}"), "a readable file"));
        return None;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let fault = Fault::of_file(&name, "larger than 1 MiB", "at most 1 MiB");
        gatherer.push(fault.with_help("spread the sites over several files in `sites/`"));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some((name, text)),
        Err(error) => {
            let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = good.filter(|byte| **byte == b'\n').count() + 1;
            gatherer.push(Fault::of_file(&name, format!("not UTF-8 in line {line}"), "text in UTF-8"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const NODE: &str = "[node]\nname = \"a\"\n[http]\nlisten = \"127.0.0.1:8080\"\n";
    const SITE: &str = "[[sites]]\nname = \"s\"\nhosts = \"a.test\"\norigin = \"http://127.0.0.1:3000\"\n";

    fn faults(dir: &Path) -> String {
        load(dir).unwrap_err().to_string().replace(&dir.display().to_string(), "DIR")
    }

    #[test]
    fn all_files_of_a_folder_and_of_its_sites_folder_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sites")).unwrap();
        fs::write(dir.path().join("meridian.toml"), NODE).unwrap();
        fs::write(dir.path().join("sites/s.toml"), SITE).unwrap();
        fs::write(dir.path().join("sites/t.toml"), SITE.replace("\"s\"", "\"t\"").replace("a.test", "b.test")).unwrap();
        fs::write(dir.path().join("notes.txt"), "not config").unwrap();
        fs::write(dir.path().join(".hidden.toml"), "not config").unwrap();
        let config = load(dir.path()).unwrap();
        assert_eq!(config.sites.len(), 2);
        assert_eq!(config.node.state_dir, dir.path().join("state"));
    }

    #[test]
    fn nodes_on_one_machine_may_share_the_fleets_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a")).unwrap();
        fs::create_dir_all(dir.path().join("fleet/sites")).unwrap();
        fs::write(dir.path().join("a/meridian.toml"), format!("shared = \"../fleet\"\n{NODE}")).unwrap();
        fs::write(dir.path().join("fleet/sites/s.toml"), SITE).unwrap();
        assert_eq!(load(&dir.path().join("a")).unwrap().sites.len(), 1);

        fs::write(dir.path().join("fleet/more.toml"), "shared = \"../more\"\n").unwrap();
        assert_eq!(
            faults(&dir.path().join("a")),
            "DIR/../fleet/more.toml:1:10: `shared` stands already at DIR/meridian.toml:1; expected it in one file only"
        );
    }

    /// While an operator edited a node's files, commands for it failed, `force down` among them.
    #[test]
    fn the_way_to_a_node_is_found_whatever_else_is_wrong_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let door = |text: &str| {
            fs::write(dir.path().join("meridian.toml"), text).unwrap();
            admin_door(dir.path())
        };
        let admin = "[admin]\nlisten = \"127.0.0.1:9180\"\n";
        let state_dir = dir.path().join("state");
        let found = Some(AdminDoor { listen: "127.0.0.1:9180".parse().unwrap(), state_dir });
        for good in [
            format!("{NODE}{admin}{SITE}"),
            format!("{NODE}{admin}{SITE}junk"),
            format!("{NODE}{admin}junk\n{SITE}"),
            format!("{NODE}{admin}{SITE}hosts = \"b.test\"\n[[sites]\nx = \"\n"),
            format!("junk\n{NODE}{admin}{SITE}"),
            format!("[node]\nname = 7\nworkers = \"x\"\n{admin}"),
            format!("{NODE}{admin}[purge\nlisten = \"127.0.0.1:9999\"\n"),
        ] {
            assert_eq!(door(&good), found, "{good}");
        }
        let elsewhere = door(&format!("{NODE}{admin}junk").replace("\"a\"", "\"a\"\nstate_dir = \"../b\"")).unwrap();
        assert_eq!(elsewhere.state_dir, dir.path().join("../b"));
        for bad in [
            format!("{NODE}{SITE}"),
            admin.to_owned(),
            format!("{NODE}[admin]\nlisten = \"127.0.0.1:91\n{SITE}"),
            format!("{NODE}[admin]\nlisten = 127.0.0.1:9180\n{SITE}"),
            format!("{NODE}[admin]\nlisten = \"127.0.0.1\"\n{SITE}"),
            format!("{NODE}[admin\nlisten = \"127.0.0.1:9180\"\n{SITE}"),
            format!("{NODE}{admin}{}", "junk\n".repeat(100)),
            format!("[node]\nname = \"a\"\nstate_dir = 7\n{admin}"),
            format!("[node]\nname = \"a\"\nstate_dir = \"b\n{admin}"),
        ] {
            assert_eq!(door(&bad), None, "{bad}");
        }
        let _whole = door(&format!("{NODE}{admin}"));
        fs::write(dir.path().join("other.toml"), "junk").unwrap();
        assert_eq!(admin_door(dir.path()), found);
        fs::write(dir.path().join("other.toml"), "[admin]\nlisten = \"127.0.0.1:9181\"\n").unwrap();
        assert_eq!(admin_door(dir.path()), None, "which of them?");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            faults(dir.path()),
            "DIR: there is no *.toml file in this folder; expected at least one, such as meridian.toml"
        );
        fs::write(dir.path().join("a.toml"), b"# \n\xff").unwrap();
        fs::write(dir.path().join("b.toml"), vec![b'#'; 1 + (1 << 20)]).unwrap();
        fs::write(dir.path().join("c.toml"), "[nodes]\nname = 1").unwrap();
        let found = faults(dir.path());
        assert!(found.contains("DIR/a.toml: not UTF-8 in line 2; expected text in UTF-8"), "{found}");
        assert!(found.contains("DIR/b.toml: larger than 1 MiB"), "{found}");
        assert!(found.contains("DIR/c.toml:1:2: unknown key `nodes`"), "{found}");
        let gone = load(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(gone.starts_with("/nowhere/at/all: cannot be read: No such file"), "{gone}");
    }
}
