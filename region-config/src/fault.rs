//! What is wrong with the operator's files: every fault at once, each with its place, what was found there and what
//! was expected.

use std::{fmt, ops::Range, sync::Arc};

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// Most faults that are kept; the rest are only counted. A file full of nonsense must not fill the memory.
const FAULTS_MAX: usize = 200;

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name, as the operator knows it.
    pub(crate) name: String,
    /// What it says; empty if it could not be read.
    pub(crate) text: String,
}

/// A stretch of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which one of [`Gatherer::sources`].
    pub(crate) file: usize,
    /// First byte.
    pub(crate) start: usize,
    /// After the last byte.
    pub(crate) end: usize,
}

impl Place {
    pub(crate) fn new(file: usize, span: Range<usize>) -> Self {
        Self { file, start: span.start, end: span.end }
    }
}

/// Whether the configuration can be used in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but it is probably not what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    source: Arc<Source>,
    span: Option<Range<usize>>,
    severity: Severity,
    about: String,
    found: String,
    expected: String,
    help: Option<String>,
}

impl Fault {
    /// A fault of a whole file or folder.
    pub(crate) fn of_file(name: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let source = Arc::new(Source { name: name.to_owned(), text: String::new() });
        Self {
            source,
            span: None,
            severity: Severity::Error,
            about: String::new(),
            found: found.into(),
            expected: expected.into(),
            help: None,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The file, as the operator named it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// Line and column in the file, both counted from 1, columns in characters; none if the file as a whole is meant.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        Some(position(&self.source.text, self.span.as_ref()?.start))
    }

    /// Whether the configuration can be used in spite of it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The named thing it is about, such as ``site `shop` ``; empty if it is about none.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// What was found.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What was expected.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// What it is about and what was found.
    fn headline(&self) -> String {
        if self.about.is_empty() { self.found.clone() } else { format!("{}: {}", self.about, self.found) }
    }

    fn order(&self) -> (&str, usize) {
        (&self.source.name, self.span.as_ref().map_or(0, |span| span.start))
    }
}

/// One line: `file:line:column: site `shop`: what was found; expected ...; help`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file())?;
        if let Some((line, column)) = self.position() {
            write!(f, ":{line}:{column}")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(": warning")?;
        }
        write!(f, ": {}; expected {}", self.headline(), self.expected)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = self.position();
        let mut fields = serializer.serialize_struct("Fault", 9)?;
        fields.serialize_field("severity", self.severity.as_str())?;
        fields.serialize_field("file", self.file())?;
        fields.serialize_field("line", &position.map(|(line, _)| line))?;
        fields.serialize_field("column", &position.map(|(_, column)| column))?;
        fields.serialize_field("about", &self.about)?;
        fields.serialize_field("found", &self.found)?;
        fields.serialize_field("expected", &self.expected)?;
        fields.serialize_field("help", &self.help)?;
        fields.serialize_field("message", &self.to_string())?;
        fields.end()
    }
}

/// What a terminal shows: the headline, the piece of the file with a label that says what was expected, and the help.
#[derive(Debug)]
struct Drawn<'a> {
    fault: &'a Fault,
    source: miette::NamedSource<String>,
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.headline())?;
        if self.fault.span.is_none() {
            write!(f, " ({})", self.fault.file())?;
        }
        Ok(())
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.fault.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match (&self.fault.help, &self.fault.span) {
            (Some(help), Some(_)) => Some(Box::new(help)),
            (Some(help), None) => Some(Box::new(format!("expected {}\n{help}", self.fault.expected))),
            (None, None) => Some(Box::new(format!("expected {}", self.fault.expected))),
            (None, Some(_)) => None,
        }
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.fault.span.as_ref().map(|_| &self.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.fault.span.clone()?;
        let label = miette::LabeledSpan::at(span, format!("expected {}", self.fault.expected));
        Some(Box::new(std::iter::once(label)))
    }
}

/// How faults are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For a terminal: colours and line drawing.
    Colour,
    /// For a file or a pipe: line drawing only.
    Plain,
}

/// Draws faults with the lines of the files that they are in, at most `width` columns wide.
#[must_use]
pub fn draw<'a>(faults: impl IntoIterator<Item = &'a Fault>, style: Style, width: usize) -> String {
    let theme = match style {
        Style::Colour => miette::GraphicalTheme::unicode(),
        Style::Plain => miette::GraphicalTheme::unicode_nocolor(),
    };
    let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
    let mut drawn = String::new();
    for fault in faults {
        if !drawn.is_empty() {
            drawn.push('\n');
        }
        let source = miette::NamedSource::new(fault.file(), fault.source.text.clone());
        if handler.render_report(&mut drawn, &Drawn { fault, source }).is_err() {
            // drawing is a courtesy: the plain line says the same
            drawn.push_str(&format!("{fault}\n"));
        }
    }
    drawn
}

/// Everything that is wrong, in the order of files and lines.
#[derive(Debug)]
pub struct Faults {
    list: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// The faults, warnings included: at least one of them is an error.
    #[must_use]
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// How many more there were than are kept.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects faults while files are read and checked.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    pub(crate) sources: Vec<Arc<Source>>,
    faults: Vec<Fault>,
    more: usize,
}

impl Gatherer {
    /// Takes up a file; the number is what [`Place::file`] means.
    pub(crate) fn source(&mut self, name: &str, text: &str) -> usize {
        self.sources.push(Arc::new(Source { name: name.to_owned(), text: text.to_owned() }));
        self.sources.len() - 1
    }

    /// Notes that something is wrong at a place.
    pub(crate) fn error(&mut self, place: Place, about: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.note(place, Severity::Error, about, found.into(), expected.into(), None);
    }

    /// Notes that something is wrong at a place, and what to do about it.
    pub(crate) fn error_with_help(
        &mut self,
        place: Place,
        about: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
        help: Option<String>,
    ) {
        self.note(place, Severity::Error, about, found.into(), expected.into(), help);
    }

    /// Notes that something is odd at a place.
    pub(crate) fn warning(&mut self, place: Place, about: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.note(place, Severity::Warning, about, found.into(), expected.into(), None);
    }

    fn note(
        &mut self,
        place: Place,
        severity: Severity,
        about: &str,
        found: String,
        expected: String,
        help: Option<String>,
    ) {
        if self.is_full() {
            self.more += usize::from(severity == Severity::Error);
            return;
        }
        let Some(source) = self.sources.get(place.file) else { return };
        let source = Arc::clone(source);
        let span = Some(one_line(&source.text, place.start..place.end));
        self.push(Fault { source, span, severity, about: about.to_owned(), found, expected, help });
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        if self.is_full() {
            self.more += usize::from(fault.severity == Severity::Error);
        } else {
            self.faults.push(fault);
        }
    }

    /// Whether further faults are only counted: then there is no point in working out what to say.
    pub(crate) fn is_full(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    /// Where a place is, for naming it in a fault elsewhere: `file:line`.
    pub(crate) fn name_of(&self, place: Place) -> String {
        if self.is_full() {
            return String::new();
        }
        self.sources
            .get(place.file)
            .map_or_else(String::new, |source| format!("{}:{}", source.name, position(&source.text, place.start).0))
    }

    /// Whether something was wrong.
    pub(crate) fn failed(&self) -> bool {
        self.more > 0 || self.faults.iter().any(|fault| fault.severity == Severity::Error)
    }

    /// All faults in order, and how many more there were.
    pub(crate) fn finish(mut self) -> Faults {
        self.faults.sort_by(|a, b| a.order().cmp(&b.order()));
        Faults { list: self.faults, more: self.more }
    }

    /// The warnings, when nothing was wrong.
    pub(crate) fn warnings(self) -> Vec<Fault> {
        self.finish().list
    }
}

/// Line and column of a byte, both from 1, columns in characters.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before.get(line_start..).unwrap_or("").chars().count() + 1)
}

/// A span cut to its first line and to the borders of characters: labels over many lines are hard to read.
fn one_line(text: &str, span: Range<usize>) -> Range<usize> {
    let start = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = (span.end.clamp(start, text.len())..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(start);
    let inside = text.get(start..end).unwrap_or("");
    let first = inside.split('\n').next().unwrap_or("").trim_end();
    start..start + first.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        assert_eq!(position("a\nü = 1", 0), (1, 1));
        assert_eq!(position("a\nü = 1", 5), (2, 3));
        assert_eq!(position("a", 99), (1, 2));
    }

    #[test]
    fn a_span_is_cut_to_one_line_and_to_whole_characters() {
        assert_eq!(one_line("ab\ncd", 0..5), 0..2);
        assert_eq!(one_line("ü", 1..1), 0..2);
        assert_eq!(one_line("ab", 7..9), 2..2);
    }

    #[test]
    fn faults_beyond_the_limit_are_counted() {
        let mut gatherer = Gatherer::default();
        let file = gatherer.source("a.toml", "x");
        for _ in 0..FAULTS_MAX + 3 {
            gatherer.error(Place::new(file, 0..1), "", "x", "y");
        }
        let faults = gatherer.finish();
        assert_eq!((faults.list().len(), faults.more()), (FAULTS_MAX, 3));
        assert!(faults.to_string().ends_with("and 3 more"));
    }
}
