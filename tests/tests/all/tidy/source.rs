//! Rust source as the rules see it: code without comments, texts and tests.

use std::{ops::Range, sync::OnceLock};

/// A committed file.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Its path from the top, with `/`.
    pub(super) path: String,
    /// Its content; empty if it is not text.
    pub(super) text: String,
    code: OnceLock<String>,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: OnceLock::new() }
    }

    /// Its code: comments and texts are blanks, test modules too; lines are where they were.
    pub(super) fn code(&self) -> &str {
        self.code.get_or_init(|| without_tests(&without_texts(&self.text)))
    }

    /// Lines that are not in test modules.
    pub(super) fn lines(&self) -> usize {
        let bare = without_texts(&self.text);
        let tests: usize = test_items(&bare).iter().map(|range| 1 + bare[range.clone()].matches('\n').count()).sum();
        self.text.lines().count() - tests
    }
}

/// The Rust that becomes part of the product: neither tests nor measurements.
pub(super) fn products(files: &[File]) -> impl Iterator<Item = &File> {
    let tests: Vec<String> = files.iter().filter(|file| file.path.ends_with(".rs")).flat_map(test_modules_of).collect();
    files.iter().filter(move |file| {
        let own = file.path.starts_with("node/") || file.path.starts_with("region-config/");
        let test = tests.iter().any(|module| {
            file.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
        own && file.path.contains("/src/") && file.path.ends_with(".rs") && !test
    })
}

/// Where the modules are that a file declares with `#[cfg(test)] mod name;`, without ending.
fn test_modules_of(parent: &File) -> Vec<String> {
    if !parent.text.contains("#[cfg(test)]") {
        return Vec::new();
    }
    let (dir, name) = parent.path.rsplit_once('/').unwrap_or(("", &parent.path));
    let stem = name.trim_end_matches(".rs");
    let inside = if matches!(stem, "mod" | "lib" | "main") { dir.to_owned() } else { format!("{dir}/{stem}") };
    test_modules(&parent.text).iter().map(|module| format!("{inside}/{module}")).collect()
}

/// The names of the modules in files of their own that are compiled for tests only.
fn test_modules(text: &str) -> Vec<String> {
    let bare = without_texts(text);
    let items = test_items(&bare);
    items
        .into_iter()
        .filter_map(|item| {
            let item = bare[item].trim_end().strip_suffix(';')?;
            let (_, name) = item.rsplit_once("mod ")?;
            Some(name.trim().to_owned())
        })
        .collect()
}

/// Blanks out comments and what stands in texts and character literals; newlines stay.
pub(super) fn without_texts(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end > at {
            blank(&mut out, at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment, text or character literal that begins at `at` ends; `at` if none begins there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + comment_length(rest),
        [b'"', ..] => at + text_length(rest),
        [b'r', b'"' | b'#', ..] if !inside_word => at + raw_length(rest).unwrap_or(0),
        [b'b', b'r', ..] if !inside_word => raw_length(&rest[1..]).map_or(at, |length| at + 1 + length),
        // a character, and not a lifetime
        [b'\'', b'\\', ..] => at + 3 + rest[3..].iter().position(|byte| *byte == b'\'').map_or(0, |end| end + 1),
        [b'\'', ..] => {
            let character = rest[1..].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
            let length = character.map_or(0, char::len_utf8);
            if rest.get(1 + length) == Some(&b'\'') { at + length + 2 } else { at }
        }
        _ => at,
    }
}

fn comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn text_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_length(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = 2 + hashes;
    let end = rest[body..].windows(close.len()).position(|window| window == close)?;
    Some(body + end + close.len())
}

fn without_tests(bare: &str) -> String {
    let mut out = bare.as_bytes().to_vec();
    for item in test_items(bare) {
        blank(&mut out, item);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The items under `#[cfg(test)]`, attribute included, in code without texts.
fn test_items(bare: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = bare[from..].find(MARK) {
        let start = from + found;
        let end = start + MARK.len() + item_length(&bare[start + MARK.len()..]);
        items.push(start..end);
        from = end;
    }
    items
}

/// How far an item goes: to its closing brace, or to the semicolon of one without braces.
fn item_length(rest: &str) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.saturating_sub(1),
            b'{' => braces += 1,
            b'}' if braces <= 1 => {
                // `use a::{b};` and `const A: B = B {};` go on to their semicolon
                let blanks = rest[at + 1..].bytes().take_while(u8::is_ascii_whitespace).count();
                let semicolon = rest.as_bytes().get(at + 1 + blanks) == Some(&b';');
                return at + 1 + if semicolon { blanks + 1 } else { 0 };
            }
            b'}' => braces -= 1,
            b';' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn blank(out: &mut [u8], range: Range<usize>) {
    let end = range.end.min(out.len());
    for byte in &mut out[range.start..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The lines (from 1) on which `words` stand as whole words.
pub(super) fn lines_with(code: &str, words: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let whole = |at: usize| {
        let before = at == 0 || !is_word(bytes[at - 1]) || !is_word(words.as_bytes()[0]);
        let end = at + words.len();
        let after = end >= bytes.len() || !is_word(bytes[end]) || !is_word(bytes[end - 1]);
        before && after
    };
    code.match_indices(words).filter(|(at, _)| whole(*at)).map(|(at, _)| 1 + code[..at].matches('\n').count()).collect()
}

#[test]
fn comments_and_texts_are_no_code() {
    let bare = |text: &str| without_texts(text);
    assert_eq!(bare("a // b\nc"), "a     \nc");
    assert_eq!(bare("a /* b /* c */ d */ e"), format!("a {} e", " ".repeat(17)));
    assert_eq!(bare(r#"f("tokio \" ::", 'x', '\'', 'é') + 'a"#), r#"f(             ,    ,     ,     ) + 'a"#);
    assert_eq!(bare("r#\"a \" b\"# c"), format!("{} c", " ".repeat(10)));
    assert_eq!(bare("for_r\"a\""), "for_r   ");
    assert_eq!(bare("br\"a\\\" c"), format!("{} c", " ".repeat(6)));
}

#[test]
fn what_is_for_tests_only_is_no_code() {
    let file = File::new("node/x/src/a.rs", "use b;\n#[cfg(test)]\nmod tests {\n  fn f() { g(\"}\") }\n}\nfn h() {}\n");
    assert!(!file.code().contains('g') && file.code().contains("fn h"));
    assert_eq!(file.lines(), 2);
    let file = File::new("node/x/src/a.rs", "#[cfg(test)]\nuse a::{b, c};\nfn h() {}\n");
    assert_eq!(file.code().trim(), "fn h() {}");
}

#[test]
fn a_module_that_is_declared_for_tests_is_a_test() {
    let all = [
        File::new("node/x/src/a/mod.rs", "mod real;\n#[cfg(test)]\nmod script;\n#[cfg(test)]\nmod tests;\n"),
        File::new("node/x/src/a/real.rs", ""),
        File::new("node/x/src/a/script.rs", ""),
        File::new("node/x/src/a/tests/deep.rs", ""),
        File::new("node/x/src/b.rs", "#[cfg(test)]\nmod tests;\n"),
        File::new("node/x/src/b/tests.rs", ""),
        File::new("node/x/tests/c.rs", ""),
        File::new("tests/tests/all/d.rs", ""),
    ];
    let products: Vec<_> = products(&all).map(|file| file.path.as_str()).collect();
    assert_eq!(products, ["node/x/src/a/mod.rs", "node/x/src/a/real.rs", "node/x/src/b.rs"]);
}

#[test]
fn a_word_is_found_only_as_a_whole() {
    assert_eq!(lines_with("a\nrand::x(); operand; random", "rand"), [2]);
    assert_eq!(lines_with("x.unwrap();\nx.unwrap_or(1)", ".unwrap()"), [1]);
    assert_eq!(lines_with("no_panic!(); panic!()", "panic!"), [1]);
}
