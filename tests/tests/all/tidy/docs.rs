//! Rules about what is written for people: that it is there, that it is true, and that it speaks of nobody's machine.
//!
//! Tables that follow from the code are made from it. `MERIDIAN_DOCS=write cargo test -p tests tidy` writes them anew.

use std::{collections::BTreeSet, env, fs, path::Path};

use rules::{caching, steering};
use serde_json::Value;

use super::{FILES, Faults, none, source::File, text, top};

/// Folders of one machine, and registries: what a committed file names, nobody else can reach.
fn places() -> Vec<String> {
    // put together here, so that this file keeps the rule too
    let folders = ["tmp", "work"].map(|folder| format!("/{folder}/"));
    let registries = [["registry", ".npmjs"], ["index", ".crates.io"], ["registry", "="], ["replace", "-with"]];
    folders.into_iter().chain(registries.iter().map(|words| words.concat())).collect()
}

fn names_a_place(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(place) = places().iter().find(|place| stands_alone(line, place)) {
                faults.push(format!(
                    "{}:{}: `{place}`: what is committed works anywhere, for anyone: no path or registry of one machine",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    faults
}

/// Whether `word` is in `line` and, if it is a path, begins there: a folder of that name further down is none.
fn stands_alone(line: &str, word: &str) -> bool {
    let begins = |at: usize| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/')
            || before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | ')' | '*'))
    };
    line.match_indices(word).any(|(at, _)| begins(at))
}

fn resolved_addresses(files: &[File]) -> Faults {
    let locks = files.iter().filter(|file| file.path.ends_with("package-lock.json"));
    locks
        .filter(|file| file.text.lines().any(|line| line.contains("\"resolved\": \"http")))
        .map(|file| {
            format!(
                "{}: has `resolved` addresses, which bind it to one registry: `npm install` with the .npmrc beside it",
                file.path
            )
        })
        .collect()
}

/// Links of the form `](target)` in a page that lead nowhere within the repository.
fn dead_links(page: &File, exists: impl Fn(&str) -> Option<String>) -> Faults {
    let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut faults = Faults::new();
    for link in page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { Some(page.path.clone()) } else { resolve(folder, path) };
        let found = target.and_then(|target| exists(&target));
        let whole = found.is_some_and(|text| anchor.is_empty() || headings(&text).contains(anchor));
        if !whole {
            faults.push(format!("{}: the link `{link}` leads nowhere", page.path));
        }
    }
    faults
}

fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a page, as GitHub makes them of its headings.
fn headings(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            words
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

/// The words in bold in the first column of the glossary that nothing else uses.
fn dead_words(glossary: &str, files: &[File]) -> Faults {
    let rows = glossary.lines().filter_map(|line| line.strip_prefix("| **")?.split(" | ").next());
    let words = rows.flat_map(|row| row.split("**").step_by(2).map(|word| word.trim_end_matches(" |")));
    let sources: Vec<String> =
        files.iter().filter(|file| file.path.ends_with(".rs")).map(|file| plain(&file.text)).collect();
    words
        .filter(|word| !sources.iter().any(|source| source.contains(&plain(word))))
        .map(|word| format!("docs/glossary.md: no code uses the word `{word}`: a glossary is of words that are used"))
        .collect()
}

/// Letters only, in lower case: `hit-for-miss` is `HitForMiss`.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// Metrics that a page speaks of and no code writes.
fn dead_metrics(page: &File, files: &[File]) -> Faults {
    let named =
        page.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("meridian_"));
    let names: BTreeSet<&str> = named.collect();
    names
        .into_iter()
        // a histogram's series are made of its name
        .filter(|name| {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let quoted: Vec<_> =
                [Some(*name), family].into_iter().flatten().map(|name| format!("\"{name}\"")).collect();
            !files.iter().any(|file| file.path.ends_with(".rs") && quoted.iter().any(|name| file.text.contains(name)))
        })
        .map(|name| format!("{}: no code writes the metric `{name}`", page.path))
        .collect()
}

/// Crates, their modules, and the folders beside them that ARCHITECTURE.md does not name.
fn unmapped(map: &str, files: &[File]) -> Faults {
    let mut places = BTreeSet::new();
    for file in files {
        let parts: Vec<&str> = file.path.split('/').collect();
        match parts.as_slice() {
            [top, _, ..] if !top.starts_with('.') => drop(places.insert(format!("{top}/"))),
            _ => {}
        }
        if let Some((before, inside)) = file.path.split_once("/src/")
            && file.path.ends_with(".rs")
            && !before.contains("tests")
        {
            places.insert(format!("{before}/"));
            let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
            if !matches!(module, "lib" | "main" | "tests") {
                places.insert(format!("`{module}`"));
            }
        }
    }
    let missing = places.iter().filter(|place| !map.contains(place.as_str()));
    missing
        .map(|place| format!("ARCHITECTURE.md: the code map does not name {place}: it is there to find one's way by"))
        .collect()
}

/// The part of a page that is made from the code, and says so.
fn made(page: &str, name: &str) -> Option<(usize, usize)> {
    let start = page.find(&format!("<!-- made from the code: {name}"))?;
    let start = start + page[start..].find("-->\n")? + 4;
    Some((start, start + page[start..].find("<!-- end -->")?))
}

/// Compares a made part with what the code says now; writes it where that is asked for.
#[track_caller]
fn agrees(path: &str, name: &str, now: &str) {
    // as it is now: another part of it may have been written a moment ago
    let page = fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (start, end) = made(&page, name).unwrap_or_else(|| panic!("{path} has no part `made from the code: {name}`"));
    if page[start..end] == *now {
        return;
    }
    if env::var_os("MERIDIAN_DOCS").is_some_and(|value| value == "write") {
        fs::write(top().join(path), format!("{}{now}{}", &page[..start], &page[end..])).unwrap();
        return;
    }
    let line = page[start..end].lines().zip(now.lines()).find(|(old, new)| old != new);
    panic!(
        "{path} says otherwise than the code ({name}); `MERIDIAN_DOCS=write cargo test -p tests tidy` writes it anew. \
         First difference: {line:?}"
    );
}

/// A section for every table of the schema, with a row for every key.
fn keys(schema: &Value) -> String {
    let mut out = String::new();
    section(schema, "", &mut out);
    out.trim_start().to_owned() + "\n"
}

fn section(table: &Value, path: &str, out: &mut String) {
    let properties = table["properties"].as_object().unwrap();
    let required: Vec<_> = table["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    if !path.is_empty() {
        out.push_str(&format!("\n### `{path}`\n\n{}\n", table["description"].as_str().unwrap()));
    }
    let (tables, leaves): (Vec<_>, Vec<_>) = properties.iter().partition(|(_, value)| inner(value).is_some());
    if !leaves.is_empty() {
        out.push_str("\n| key | needed | meaning |\n|---|---|---|\n");
    }
    for (key, value) in leaves {
        let needed = if required.contains(&key.as_str()) { "yes" } else { "" };
        let each = value["anyOf"][0]["description"].as_str();
        let each = each.map_or_else(String::new, |each| format!(" Each written as {each}."));
        let meaning = (value["description"].as_str().unwrap().to_owned() + &each).replace('|', "\\|");
        out.push_str(&format!("| `{key}` | {needed} | {meaning} |\n"));
    }
    for (key, value) in tables {
        let Some((table, list)) = inner(value) else { continue };
        let bare = format!("{path}.{key}").replace(['[', ']'], "");
        let bare = bare.trim_start_matches('.');
        let path = if list { format!("[[{bare}]]") } else { format!("[{bare}]") };
        section(table, &path, out);
    }
}

/// The table that a key holds, and whether it holds a list of them.
fn inner(value: &Value) -> Option<(&Value, bool)> {
    let is_table = |value: &Value| value["properties"].is_object();
    match value {
        table if is_table(table) => Some((table, false)),
        list if is_table(&list["items"]) => Some((&list["items"], true)),
        _ => None,
    }
}

#[test]
fn the_pages_that_people_look_for_are_there() {
    let version =
        text("Cargo.toml").lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap();
    let changes = text("CHANGELOG.md");
    assert!(changes.contains(&format!("## {version}")), "CHANGELOG.md has no section for version {version}");
    for page in [
        "README.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "docs/operating.md",
        "docs/life-of-a-request.md",
        "docs/life-of-a-purge.md",
    ] {
        assert!(text(page).len() > 500, "{page} says nothing");
    }
}

#[test]
fn the_code_map_names_every_crate_and_module() {
    none(&unmapped(text("ARCHITECTURE.md"), &FILES));
    let files =
        [File::new("node/attic/src/lib.rs", ""), File::new("node/attic/src/trunk/a.rs", ""), File::new("x/y.md", "")];
    assert_eq!(unmapped("`trunk` node/", &files).len(), 2, "node/attic/ and x/");
}

#[test]
fn readme_shows_the_smallest_config_as_it_is() {
    let config = text("region-config/examples/smallest/meridian.toml");
    assert!(config.lines().count() < 20, "the smallest config is no small one any more");
    assert!(
        text("README.md").contains(config.trim()),
        "README.md shows another config than region-config/examples/smallest"
    );
}

#[test]
fn links_lead_somewhere() {
    let exists = |path: &str| {
        let folder = format!("{}/", path.trim_end_matches('/'));
        let file = FILES.iter().find(|file| file.path == path || file.path.starts_with(&folder))?;
        Some(file.text.clone())
    };
    let pages = FILES.iter().filter(|file| file.path.ends_with(".md"));
    none(&pages.flat_map(|page| dead_links(page, exists)).collect());
    let page =
        File::new("docs/a.md", "[x](b.md) [x](../c.md#two-words) [x](https://x.y) [x](#own)\n# Own\n[x](../../d)");
    let there = |path: &str| match path {
        "docs/a.md" => Some(page.text.clone()),
        "c.md" => Some("## Two, words!\n".to_owned()),
        _ => None,
    };
    assert_eq!(
        dead_links(&page, there),
        ["docs/a.md: the link `b.md` leads nowhere", "docs/a.md: the link `../../d` leads nowhere"]
    );
}

#[test]
fn the_glossary_is_of_words_that_are_used() {
    none(&dead_words(text("docs/glossary.md"), &FILES));
    let code = [File::new("a.rs", "struct HitForMiss; // a node_name")];
    let faults = dead_words("| **hit-for-miss** | x |\n| **node**, **unicorn** | y |\n", &code);
    assert!(matches!(&faults[..], [one] if one.contains("unicorn")), "{faults:?}");
}

#[test]
fn metrics_in_the_docs_are_written_by_the_code() {
    none(&dead_metrics(FILES.iter().find(|file| file.path == "docs/operating.md").unwrap(), &FILES));
    let page = File::new("docs/a.md", "`meridian_a_total`, `meridian_b_seconds_bucket` and `meridian_c`");
    let code = [File::new("a.rs", "x(\"meridian_a_total\"); y(\"meridian_b_seconds\")")];
    assert_eq!(dead_metrics(&page, &code), ["docs/a.md: no code writes the metric `meridian_c`"]);
}

#[test]
fn nothing_committed_names_a_machine_or_a_registry() {
    none(&names_a_place(&FILES));
    none(&resolved_addresses(&FILES));
    let slash = |folder: &str| format!("cp {}{folder}{} .", "/", "/x");
    let here = [slash("tmp"), slash("work"), ["index.crates", ".io"].concat()];
    for line in &here {
        assert_eq!(names_a_place(&[File::new("a", line)]).len(), 1, "{line}");
    }
    let fine = ["node/tmp/x", "./work/x", "frame/work", "https://example.org/home/x".trim_start_matches("https://")];
    for line in fine {
        assert_eq!(names_a_place(&[File::new("a", line)]), Faults::new(), "{line}");
    }
    let lock = File::new("a/package-lock.json", "{\n\"resolved\": \"https://x.y/z.tgz\"\n}");
    assert_eq!(resolved_addresses(&[lock]).len(), 1);
}

#[test]
fn the_page_of_keys_is_the_schema() {
    agrees("docs/configuration.md", "keys", &keys(&region_config::schema()));
}

#[test]
fn a_new_key_would_be_missed_on_the_page() {
    let schema = serde_json::json!({"required": ["b"], "properties": {
        "b": {"description": "B."}, "c": {"description": "C.", "items": {"type": "string"}},
        "d": {"properties": {"e": {"description": "E."}}, "required": [], "description": "D."},
        "f": {"items": {"properties": {"g": {"description": "G."}}, "required": [], "description": "F."}},
    }});
    let page = keys(&schema);
    assert!(
        page.starts_with("| key | needed | meaning |\n|---|---|---|\n| `b` | yes | B. |\n| `c` |  | C. |\n"),
        "{page}"
    );
    assert!(
        page.contains("### `[d]`\n\nD.\n") && page.contains("### `[[f]]`\n\nF.\n") && page.contains("| `g` |  | G. |")
    );
}

#[test]
fn the_page_of_reasons_is_the_code() {
    let row = |word: &str, meaning: &str| format!("| `{word}` | {meaning} |\n");
    let head = "\n| reason | meaning |\n|---|---|\n";
    // a section each, so that each has an anchor to link to
    let section = |reason: &caching::Reason| {
        format!("\n### {}\n\n{}\n\n*What to do:* {}\n", reason.as_str(), reason.meaning(), reason.advice())
    };
    let all = caching::Reason::ALL.iter().map(section);
    agrees("docs/reasons.md", "requests", &(all.collect::<String>() + "\n"));
    let all = steering::Reason::ALL.iter().map(|reason| row(reason.as_str(), reason.meaning()));
    agrees("docs/reasons.md", "regions", &(head.to_owned() + &all.collect::<String>() + "\n"));
}

#[test]
fn a_made_part_is_found_between_its_marks() {
    let page = "a\n<!-- made from the code: keys; not by hand -->\nb\n<!-- end -->\nc";
    let (start, end) = made(page, "keys").unwrap();
    assert_eq!(&page[start..end], "b\n");
    assert!(made(page, "others").is_none() && Path::new(env!("CARGO_MANIFEST_DIR")).is_dir());
}
