//! The list of required tests that may go wrong for now.

use std::collections::BTreeMap;

use super::verdict::{Kind, Report, Test, Verdict};

/// What `allowed.txt` says: by test, the verdict that it may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Allowed(BTreeMap<String, Verdict>);

impl Allowed {
    /// Reads lines of `id verdict reason`; `#` begins a comment line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut allowed = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut words = text.split_whitespace();
            let (Some(id), Some(verdict), Some(_reason)) = (words.next(), words.next(), words.next()) else {
                return Err(format!("line {line} is not `id verdict reason`"));
            };
            let verdict = Verdict::parse(verdict).ok_or_else(|| format!("line {line}: `{verdict}` is no verdict"))?;
            if allowed.insert(id.to_owned(), verdict).is_some() {
                return Err(format!("line {line}: `{id}` stands there twice"));
            }
        }
        Ok(Self(allowed))
    }

    /// Where the list and a run do not agree, each with what is to be done.
    pub(super) fn complaints(&self, report: &Report, verdicts: &BTreeMap<&Test, Verdict>) -> Vec<String> {
        let mut complaints = Vec::new();
        for (test, verdict) in verdicts {
            if test.kind != Kind::Required {
                continue;
            }
            let (id, word, message) = (&test.id, verdict.as_str(), report.message(&test.id));
            match self.0.get(id) {
                None if *verdict == Verdict::Pass => {}
                None => complaints.push(format!("{id} {word} {message} -- does not pass and is not on the list")),
                Some(_) if *verdict == Verdict::Pass => complaints.push(format!("{id} passes now: remove it")),
                Some(listed) if listed != verdict => {
                    complaints.push(format!("{id} {word} {message} -- is on the list as {}", listed.as_str()));
                }
                Some(_) => {}
            }
        }
        let required = |id: &String| verdicts.keys().any(|test| test.id == *id && test.kind == Kind::Required);
        let unknown = self.0.keys().filter(|id| !required(id));
        complaints.extend(unknown.map(|id| format!("{id} is no required test: remove it")));
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::{super::verdict::report, *};

    fn check(list: &str, expected: &[&str]) {
        let error = |name: &str| serde_json::json!([name, "why"]);
        let report = report(&[
            ("good", "required", &[], true.into()),
            ("bad", "required", &[], error("Assertion")),
            ("blue", "required", &[], error("Setup")),
            ("amber", "optimal", &[], error("Assertion")),
        ]);
        let complaints = Allowed::parse(list).unwrap().complaints(&report, &report.verdicts());
        assert_eq!(complaints, expected, "{list}");
    }

    #[test]
    fn a_list_that_names_just_what_does_not_pass_agrees() {
        check("# why\n\nbad fail it is hard\nblue setup by choice\n", &[]);
    }

    #[test]
    fn what_is_not_on_the_list_must_pass_and_what_is_on_it_must_not() {
        check("bad fail x", &["blue setup why -- does not pass and is not on the list"]);
        check("bad fail x\nblue setup x\ngood fail x", &["good passes now: remove it"]);
        check("bad setup x\nblue setup x", &["bad fail why -- is on the list as setup"]);
        check("bad fail x\nblue setup x\namber missed x", &["amber is no required test: remove it"]);
    }

    #[test]
    fn a_list_without_reasons_or_with_doubles_is_refused() {
        for list in ["bad fail", "bad broken x", "bad", "bad fail x\nbad fail y"] {
            assert!(Allowed::parse(list).is_err(), "{list}");
        }
    }
}
