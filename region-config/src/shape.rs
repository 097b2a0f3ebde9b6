//! How a value in a file is read, and how the same description becomes JSON schema.
//!
//! The macro [`section!`] takes the keys of a table once, and makes of them the struct, its reader and its schema: so
//! neither can know a key that the other does not.

use serde_json::{Map, Value, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::fault::{Gatherer, Place};

/// Most elements of one list.
const LIST_MAX: usize = 10_000;

/// Something read, with its place.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// What a value may look like.
pub(crate) trait Shape: Sized {
    /// Whether it is a table: then a list of it is written `[[..]]`.
    const TABLE: bool = false;

    /// Reads a value; none if it is not as expected, which has then been noted.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self>;

    /// The same as JSON schema (draft 2020-12).
    fn schema() -> Value;
}

/// A shape that is written as text.
pub(crate) trait Text: Sized {
    /// What the operator is told was expected.
    fn expected() -> String;

    /// Reads it; the error is a hint, or empty.
    fn parse(text: &str) -> Result<Self, String>;

    /// What a schema can say about it beyond that it is text.
    fn schema() -> Value {
        json!({})
    }
}

impl<T: Text> Shape for T {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            reader.unexpected(value, &T::expected(), None);
            return None;
        };
        T::parse(text)
            .map_err(|hint| reader.unexpected(value, &T::expected(), Some(hint).filter(|hint| !hint.is_empty())))
            .ok()
    }

    fn schema() -> Value {
        let mut schema = <T as Text>::schema();
        schema["type"] = "string".into();
        if schema.get("description").is_none() {
            schema["description"] = T::expected().into();
        }
        schema
    }
}

/// Reads one file; knows where in it one is.
pub(crate) struct Reader<'a> {
    file: usize,
    gatherer: &'a mut Gatherer,
    /// The named things one is inside of: ``site `shop` ``.
    about: Vec<String>,
    /// The keys since the last named thing.
    path: Vec<String>,
    /// The keys since the file's root, without places in lists: how the table that one is in is headed.
    header: Vec<String>,
    /// Keys of the present table that are written, though with a slip: they are not missing as well.
    misspelt: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: usize, gatherer: &'a mut Gatherer) -> Self {
        Self { file, gatherer, about: Vec::new(), path: Vec::new(), header: Vec::new(), misspelt: Vec::new() }
    }

    fn place(&self, span: std::ops::Range<usize>) -> Place {
        Place::new(self.file, span)
    }

    fn key(&self) -> String {
        self.path.join(".")
    }

    /// Notes that the value one is at is not what was expected.
    pub(crate) fn unexpected(&mut self, value: &Spanned<DeValue<'_>>, expected: &str, help: Option<String>) {
        let found = format!("`{}` is {}", self.key(), described(value.get_ref()));
        self.fault(value.span(), found, expected, help);
    }

    fn fault(&mut self, span: std::ops::Range<usize>, found: String, expected: &str, help: Option<String>) {
        let (place, about) = (self.place(span), self.about.join(": "));
        self.gatherer.error_with_help(place, &about, found, expected, help);
    }

    /// Reads a table: notes the keys it should not have, then lets `read` take those it should.
    /// `named` is what such a table is called, and the key that tells it from others.
    pub(crate) fn section<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        named: Option<(&str, &str)>,
        keys: &[&str],
        read: impl FnOnce(&mut Self, &DeTable<'_>, Place) -> T,
    ) -> Option<T> {
        let Some(table) = value.get_ref().as_table() else {
            self.unexpected(value, &format!("a table with {}", listed(keys)), None);
            return None;
        };
        let place = self.place(value.span());
        let name = named.and_then(|(noun, key)| Some((noun, table.get(key)?.get_ref().as_str()?)));
        let outside = (self.about.len(), self.path.clone(), std::mem::take(&mut self.misspelt));
        if let Some((noun, name)) = name {
            self.about.push(format!("{noun} `{}`", shortened(name)));
            self.path.clear();
        }
        self.unknown_keys(table, keys);
        let section = read(self, table, place);
        self.about.truncate(outside.0);
        (self.path, self.misspelt) = (outside.1, outside.2);
        Some(section)
    }

    fn unknown_keys(&mut self, table: &DeTable<'_>, keys: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                continue;
            }
            if self.gatherer.is_full() {
                self.fault(key.span(), String::new(), "", None);
                continue;
            }
            self.path.push(shortened(name));
            let found = format!("unknown key `{}`", self.key());
            self.path.pop();
            let meant = nearest(name, keys.iter().copied().filter(|key| !table.contains_key(*key)));
            self.misspelt.extend(meant.map(str::to_owned));
            let help = meant.map(|meant| format!("did you mean `{meant}`?"));
            self.fault(key.span(), found, &listed(keys), help);
        }
    }

    /// Which of the keys are there, in whatever state.
    pub(crate) fn written(&self, table: &DeTable<'_>, keys: &[&'static str]) -> Vec<&'static str> {
        let there = |key: &str| table.contains_key(key) || self.misspelt.iter().any(|it| it == key);
        keys.iter().copied().filter(|key| there(key)).collect()
    }

    fn at<T: Shape>(&mut self, value: &Spanned<DeValue<'_>>) -> Option<At<T>> {
        Some(At { value: T::read(value, self)?, place: self.place(value.span()) })
    }

    fn enter(&mut self, key: &str) {
        self.path.push(key.to_owned());
        self.header.push(key.to_owned());
    }

    fn leave(&mut self) {
        self.path.pop();
        self.header.pop();
    }

    /// A key that may be there.
    pub(crate) fn may<T: Shape>(&mut self, table: &DeTable<'_>, key: &str, _: Place) -> Option<At<T>> {
        let value = table.get(key)?;
        self.enter(key);
        let read = self.at(value);
        self.leave();
        read
    }

    /// A key that must be there.
    pub(crate) fn need<T: Shape>(&mut self, table: &DeTable<'_>, key: &str, here: Place) -> Option<At<T>> {
        self.missing::<T>(table, key, here);
        self.may(table, key, here)
    }

    /// A list that may be there.
    pub(crate) fn many<T: Shape>(&mut self, table: &DeTable<'_>, key: &str, _: Place) -> Vec<At<T>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        self.enter(key);
        let list = self.list(value, key);
        self.leave();
        list
    }

    /// A list that must be there, with at least one element.
    pub(crate) fn some<T: Shape>(&mut self, table: &DeTable<'_>, key: &str, here: Place) -> Vec<At<T>> {
        self.missing::<T>(table, key, here);
        if let Some(value) = table.get(key)
            && value.get_ref().as_array().is_some_and(|list| list.is_empty())
        {
            self.path.push(key.to_owned());
            self.unexpected(value, "at least one", None);
            self.path.pop();
        }
        self.many(table, key, here)
    }

    fn missing<T: Shape>(&mut self, table: &DeTable<'_>, key: &str, here: Place) {
        if table.contains_key(key) || self.misspelt.iter().any(|it| it == key) {
            return;
        }
        self.path.push(key.to_owned());
        let found = format!("no `{}`", self.key());
        self.path.pop();
        let schema = T::schema();
        let expected = match schema["properties"].as_object() {
            Some(keys) => format!("a table with {}", listed(&keys.keys().map(String::as_str).collect::<Vec<_>>())),
            None => schema["description"].as_str().unwrap_or("it").to_owned(),
        };
        self.fault(here.start..here.end, found, &expected, None);
    }

    /// A list; of what is not a table, one alone may stand without brackets.
    fn list<T: Shape>(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Vec<At<T>> {
        let Some(list) = value.get_ref().as_array() else {
            if T::TABLE {
                let expected = format!("a list of tables, each headed `[[{}]]`", self.header.join("."));
                self.unexpected(value, &expected, None);
                return Vec::new();
            }
            return self.at(value).into_iter().collect();
        };
        if list.len() > LIST_MAX {
            let found = format!("`{}` has {} elements", self.key(), list.len());
            self.fault(value.span(), found, &format!("at most {LIST_MAX}"), None);
            return Vec::new();
        }
        let bare = self.path.pop();
        let mut read = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            self.path.push(format!("{key}[{index}]"));
            read.extend(self.at(value));
            self.path.pop();
        }
        self.path.extend(bare);
        read
    }
}

/// What a value is, in the operator's words, cut to a line.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("`\"{}\"`", shortened(text).escape_debug()),
        DeValue::Integer(number) => format!("the integer `{}`", shortened(number.as_str())),
        DeValue::Float(number) => format!("the number `{}`", shortened(number.as_str())),
        DeValue::Boolean(yes) => format!("`{yes}`"),
        DeValue::Datetime(time) => format!("the date `{time}`"),
        DeValue::Array(list) if list.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Text cut to 80 characters.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or("")),
        None => text.to_owned(),
    }
}

/// ``one of `a`, `b` ``.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [one] => format!("`{one}`"),
        words => format!("one of {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The word that was probably meant: the one with the fewest edits, if they are few for its length.
pub(crate) fn nearest<'a>(found: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if found.len() > 80 {
        return None;
    }
    let few = 1 + found.chars().count() / 4;
    words
        .into_iter()
        .map(|word| (edits(found, word), word))
        .filter(|(edits, _)| *edits <= few)
        .min()
        .map(|(_, word)| word)
}

/// Edit distance with transpositions of neighbours (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let left = row.last().copied().unwrap_or(0);
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(0);
            let mut best = (at(&above, j + 1) + 1).min(left + 1).min(at(&above, j) + usize::from(x != y));
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

/// The schema of a table, key by key.
pub(crate) struct TableSchema {
    description: String,
    properties: Map<String, Value>,
    required: Vec<Value>,
}

impl TableSchema {
    pub(crate) fn new(doc: &[&str]) -> Self {
        Self { description: sentence(doc), properties: Map::new(), required: Vec::new() }
    }

    pub(crate) fn may<T: Shape>(&mut self, key: &str, doc: &[&str]) {
        self.property(key, doc, T::schema());
    }

    pub(crate) fn need<T: Shape>(&mut self, key: &str, doc: &[&str]) {
        self.required.push(key.into());
        self.may::<T>(key, doc);
    }

    pub(crate) fn many<T: Shape>(&mut self, key: &str, doc: &[&str]) {
        self.property(key, doc, list_schema::<T>(0));
    }

    pub(crate) fn some<T: Shape>(&mut self, key: &str, doc: &[&str]) {
        self.required.push(key.into());
        self.property(key, doc, list_schema::<T>(1));
    }

    fn property(&mut self, key: &str, doc: &[&str], mut schema: Value) {
        let expected = schema.get("description").and_then(Value::as_str).unwrap_or("");
        let doc = sentence(doc);
        let both = if expected.is_empty() || schema["type"] == "object" {
            doc
        } else {
            format!("{doc} Written as {expected}.")
        };
        schema["description"] = both.into();
        self.properties.insert(key.to_owned(), schema);
    }

    pub(crate) fn finish(self) -> Value {
        json!({
            "type": "object",
            "description": self.description,
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }
}

fn list_schema<T: Shape>(least: usize) -> Value {
    let list = json!({ "type": "array", "items": T::schema(), "minItems": least, "maxItems": LIST_MAX });
    if T::TABLE { list } else { json!({ "anyOf": [T::schema(), list] }) }
}

/// The lines of a doc comment as one line.
fn sentence(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Describes a table once: makes the struct, its [`Shape::read`] and its [`Shape::schema`].
///
/// A key is `need`ed, or `may` be there, or is a list of `many` or of `some` (at least one). The name after the struct's
/// says what such a table is called in messages, and which key names it.
macro_rules! section {
    ($(#[doc = $doc:literal])+ $section:ident $(($noun:literal by $name:literal))? {
        $( $(#[doc = $key_doc:literal])+ $kind:ident $key:ident: $shape:ty, )+
    }) => {
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub(crate) struct $section {
            /// Where it stands.
            #[allow(dead_code, reason = "not every table is pointed at")]
            pub(crate) place: $crate::fault::Place,
            /// The keys that are written in it, also those whose value could not be read.
            #[allow(dead_code, reason = "not every table is asked")]
            pub(crate) written: Vec<&'static str>,
            $( $(#[doc = $key_doc])+ pub(crate) $key: $crate::shape::section!(@slot $kind $shape), )+
        }

        impl $crate::shape::Shape for $section {
            const TABLE: bool = true;

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::shape::Reader<'_>,
            ) -> Option<Self> {
                let named: &[(&str, &str)] = &[$(($noun, $name))?];
                let keys = &[$(stringify!($key)),+];
                reader.section(value, named.first().copied(), keys, |reader, table, place| Self {
                    place,
                    written: reader.written(table, keys),
                    $( $key: reader.$kind(table, stringify!($key), place), )+
                })
            }

            fn schema() -> serde_json::Value {
                let mut table = $crate::shape::TableSchema::new(&[$($doc),+]);
                $( table.$kind::<$shape>(stringify!($key), &[$($key_doc),+]); )+
                table.finish()
            }
        }
    };
    (@slot need $shape:ty) => { Option<$crate::shape::At<$shape>> };
    (@slot may $shape:ty) => { Option<$crate::shape::At<$shape>> };
    (@slot many $shape:ty) => { Vec<$crate::shape::At<$shape>> };
    (@slot some $shape:ty) => { Vec<$crate::shape::At<$shape>> };
}
pub(crate) use section;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        for (found, meant) in
            [("hots", "hosts"), ("Hosts", "hosts"), ("orgin", "origin"), ("pinn", "pin"), ("tenat", "tenant")]
        {
            assert_eq!(nearest(found, ["hosts", "origin", "pin", "tenant"]), Some(meant), "{found}");
        }
        assert_eq!(nearest("completely", ["hosts", "origin"]), None);
        assert_eq!(nearest("", ["hosts"]), None);
    }

    #[test]
    fn edits_count_swapped_neighbours_once() {
        assert_eq!((edits("hsot", "host"), edits("", "ab"), edits("ab", ""), edits("kitten", "sitting")), (1, 2, 2, 3));
    }
}
