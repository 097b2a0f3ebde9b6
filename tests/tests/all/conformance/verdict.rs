//! From what the suite's client saw to a verdict, as the suite's own site does it.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

/// What a test that does not do as it expects means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A requirement of the specification is broken.
    Required,
    /// A chance to reuse or revalidate was missed.
    Optimal,
    /// Nothing; it asks which of two allowed ways is gone.
    Check,
}

/// One test of the suite.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    pub(super) id: String,
    pub(super) suite: String,
    pub(super) kind: Kind,
    pub(super) depends_on: Vec<String>,
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    AsExpected,
    Error { name: String, message: String },
}

/// What came of a test in the light of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As a required or optimal test expects.
    Pass,
    /// A required test that is not met: a claim of non-conformance.
    Fail,
    /// An optimal test that is not met.
    Missed,
    /// The answer to a check.
    Yes,
    /// The answer to a check.
    No,
    /// A test that it depends on did not pass, so that it says nothing.
    Dependency,
    /// The test never came to its point.
    Setup,
    /// The origin saw one request twice.
    Retry,
    /// The client gave up waiting.
    Harness,
    /// It was not run.
    Untested,
}

impl Verdict {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Pass, "pass"),
        (Self::Fail, "fail"),
        (Self::Missed, "missed"),
        (Self::Yes, "yes"),
        (Self::No, "no"),
        (Self::Dependency, "dependency"),
        (Self::Setup, "setup"),
        (Self::Retry, "retry"),
        (Self::Harness, "harness"),
        (Self::Untested, "untested"),
    ];

    pub(super) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(verdict, _)| *verdict == self).map_or("", |(_, word)| word)
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(verdict, _)| *verdict)
    }
}

/// A run of the suite.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) tests: Vec<Test>,
    outcomes: BTreeMap<String, Outcome>,
}

impl Report {
    /// Reads what `run.mjs` prints.
    pub(super) fn parse(output: &str) -> Result<Self, String> {
        let json = output.lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(json).map_err(|error| format!("the suite gave no report: {error}"))?;
        let tests = json.get("tests").and_then(Value::as_array).ok_or("the report lists no tests")?;
        let tests = tests.iter().map(test).collect::<Option<_>>().ok_or("a test of the report is malformed")?;
        let results = json.get("results").and_then(Value::as_object).ok_or("the report has no results")?;
        let outcomes = results.iter().map(|(id, value)| (id.clone(), outcome(value))).collect();
        Ok(Self { tests, outcomes })
    }

    /// The verdict on each test.
    pub(super) fn verdicts(&self) -> BTreeMap<&Test, Verdict> {
        let mut known = BTreeMap::new();
        for test in &self.tests {
            self.verdict(test, &mut known);
        }
        self.tests.iter().map(|test| (test, known[test.id.as_str()])).collect()
    }

    /// Dependencies count first, then set-up, then the client's patience, and only then the kind.
    fn verdict<'a>(&'a self, test: &'a Test, known: &mut BTreeMap<&'a str, Verdict>) -> Verdict {
        if let Some(verdict) = known.get(test.id.as_str()) {
            return *verdict;
        }
        // a circle of dependencies can never pass
        known.insert(&test.id, Verdict::Dependency);
        let met = |id: &String, known: &mut BTreeMap<&'a str, Verdict>| {
            let test = self.tests.iter().find(|test| test.id == *id);
            test.is_some_and(|test| matches!(self.verdict(test, known), Verdict::Pass | Verdict::Yes))
        };
        let outcome = self.outcomes.get(&test.id);
        let verdict = match outcome {
            None => Verdict::Untested,
            Some(_) if !test.depends_on.iter().all(|id| met(id, known)) => Verdict::Dependency,
            Some(Outcome::Error { name, message }) if name == "Setup" && message == "retry" => Verdict::Retry,
            Some(Outcome::Error { name, .. }) if name == "Setup" => Verdict::Setup,
            Some(Outcome::Error { name, .. }) if name == "AbortError" => Verdict::Harness,
            Some(outcome) => match (test.kind, *outcome == Outcome::AsExpected) {
                (Kind::Required | Kind::Optimal, true) => Verdict::Pass,
                (Kind::Required, false) => Verdict::Fail,
                (Kind::Optimal, false) => Verdict::Missed,
                (Kind::Check, true) => Verdict::Yes,
                (Kind::Check, false) => Verdict::No,
            },
        };
        known.insert(&test.id, verdict);
        verdict
    }

    /// What the client said about a test.
    pub(super) fn message(&self, id: &str) -> &str {
        match self.outcomes.get(id) {
            Some(Outcome::Error { message, .. }) => message,
            Some(Outcome::AsExpected) | None => "",
        }
    }

    /// Totals by kind, for people.
    pub(super) fn summary(&self, verdicts: &BTreeMap<&Test, Verdict>) -> String {
        let mut text = String::new();
        for (kind, name) in [(Kind::Required, "required"), (Kind::Optimal, "optimal"), (Kind::Check, "check")] {
            let of_kind: Vec<_> = verdicts.iter().filter(|(test, _)| test.kind == kind).collect();
            let _ = write!(text, "{name:>9} {:>4}:", of_kind.len());
            for (verdict, word) in Verdict::ALL {
                let count = of_kind.iter().filter(|(_, found)| **found == verdict).count();
                if count > 0 {
                    let _ = write!(text, " {word} {count}");
                }
            }
            text.push('\n');
        }
        text
    }

    /// Required and optimal tests that did not pass, a line each, for people.
    pub(super) fn not_passed(&self, verdicts: &BTreeMap<&Test, Verdict>) -> String {
        let mut text = String::new();
        for (test, verdict) in verdicts {
            if test.kind != Kind::Check && *verdict != Verdict::Pass {
                let _ = writeln!(text, "{:>10} {}: {}", verdict.as_str(), test.id, self.message(&test.id));
            }
        }
        text
    }
}

fn test(value: &Value) -> Option<Test> {
    let text = |name| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = match value.get("kind")?.as_str()? {
        "required" => Kind::Required,
        "optimal" => Kind::Optimal,
        "check" => Kind::Check,
        _ => return None,
    };
    let depends_on = value.get("depends_on")?.as_array()?;
    let depends_on = depends_on.iter().map(|id| id.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    Some(Test { id: text("id")?, suite: text("suite")?, kind, depends_on })
}

fn outcome(value: &Value) -> Outcome {
    if *value == Value::Bool(true) {
        return Outcome::AsExpected;
    }
    let part = |index| value.get(index).and_then(Value::as_str).unwrap_or_default().to_owned();
    Outcome::Error { name: part(0), message: part(1) }
}

/// A made-up run: each test with its kind, what it depends on and what came of it.
pub(super) fn report(tests: &[(&str, &str, &[&str], Value)]) -> Report {
    let listed: Vec<_> = tests
        .iter()
        .map(|(id, kind, depends_on, _)| {
            serde_json::json!({ "id": id, "suite": "s", "kind": kind, "depends_on": depends_on })
        })
        .collect();
    let results: serde_json::Map<_, _> = tests
        .iter()
        .filter(|(.., outcome)| !outcome.is_null())
        .map(|(id, .., outcome)| ((*id).to_owned(), outcome.clone()))
        .collect();
    let json = serde_json::json!({ "tests": listed, "results": results });
    Report::parse(&format!("noise\n{json}\n")).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tests: &[(&str, &str, &[&str], Value)], id: &str, expected: Verdict) {
        let report = report(tests);
        let verdicts = report.verdicts();
        let found = verdicts.iter().find(|(test, _)| test.id == id).map(|(_, verdict)| *verdict);
        assert_eq!(found, Some(expected), "{id} of {tests:?}");
    }

    fn error(name: &str, message: &str) -> Value {
        serde_json::json!([name, message])
    }

    #[test]
    fn the_kind_decides_what_an_outcome_means() {
        for (kind, met, not) in [
            ("required", Verdict::Pass, Verdict::Fail),
            ("optimal", Verdict::Pass, Verdict::Missed),
            ("check", Verdict::Yes, Verdict::No),
        ] {
            check(&[("a", kind, &[], true.into())], "a", met);
            check(&[("a", kind, &[], error("Assertion", "x"))], "a", not);
            check(&[("a", kind, &[], error("FetchError", "reset"))], "a", not);
        }
    }

    #[test]
    fn setup_retry_and_patience_come_before_the_kind() {
        check(&[("a", "required", &[], error("Setup", "x"))], "a", Verdict::Setup);
        check(&[("a", "required", &[], error("Setup", "retry"))], "a", Verdict::Retry);
        check(&[("a", "required", &[], error("AbortError", "x"))], "a", Verdict::Harness);
        check(&[("a", "required", &[], Value::Null)], "a", Verdict::Untested);
    }

    #[test]
    fn dependencies_come_before_everything_and_through_each_other() {
        let chain = |first: Value| {
            [
                ("a", "check", &[][..], first),
                ("b", "optimal", &["a"][..], true.into()),
                ("c", "required", &["b"][..], error("Setup", "retry")),
            ]
        };
        check(&chain(true.into()), "c", Verdict::Retry);
        check(&chain(error("Assertion", "x")), "b", Verdict::Dependency);
        check(&chain(error("Assertion", "x")), "c", Verdict::Dependency);
        check(&[("a", "required", &["gone"], true.into())], "a", Verdict::Dependency);
        check(&[("a", "required", &["a"], true.into())], "a", Verdict::Dependency);
    }

    #[test]
    fn a_malformed_report_is_a_fault_and_no_panic() {
        for output in ["", "{}", "[]", "{\"tests\":[{}],\"results\":{}}", "{\"tests\":[]}"] {
            assert!(Report::parse(output).is_err(), "{output}");
        }
    }
}
