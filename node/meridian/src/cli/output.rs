//! Where text goes: answers to standard output, complaints to standard error. A closed pipe is no failure.

use std::{
    error::Error,
    io::{self, IsTerminal as _, Write as _},
};

use region_config::{Fault, Style, draw};
use serde_json::{Value, json};

use super::exit::Exit;

/// Width of drawn faults where the terminal does not say.
const WIDTH: usize = 110;

/// Text for people, or JSON for programs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Gives an answer: one of the two forms.
    pub(super) fn answer(self, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) {
        let text = if self.json { format!("{:#}", value()) } else { text() };
        let _ = writeln!(io::stdout(), "{}", text.trim_end());
    }

    /// Says that it failed and why, causes included.
    pub(super) fn failed(self, exit: Exit, error: &dyn Error) -> Exit {
        self.complain(exit, &with_causes(error), &Value::Null)
    }

    /// Says that it failed and why; `details` is what programs are told besides.
    pub(super) fn complain(self, exit: Exit, message: &str, details: &Value) -> Exit {
        if self.json {
            let error = json!({ "kind": exit.word(), "message": message, "details": details });
            let _ = writeln!(io::stdout(), "{:#}", json!({ "error": error }));
        } else {
            let _ = writeln!(io::stderr(), "meridian: {message}");
        }
        exit
    }

    /// Draws faults for people, on standard error.
    pub(super) fn draw<'a>(self, faults: impl IntoIterator<Item = &'a Fault>) {
        if self.json {
            return;
        }
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = if colour { Style::Colour } else { Style::Plain };
        let _ = write!(io::stderr(), "{}", draw(faults, style, width()));
    }

    /// A line for people, on standard error.
    pub(super) fn note(self, line: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    columns.unwrap_or(WIDTH).clamp(60, 200)
}

/// The first of many names, and how many more there are.
pub(super) fn shortened(names: &[String], most: usize) -> String {
    let told = names.get(..most).unwrap_or(names).join(", ");
    match names.len().saturating_sub(most) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// An error and its causes, each once.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
