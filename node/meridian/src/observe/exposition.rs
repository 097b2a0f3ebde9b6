//! The Prometheus text exposition format, version 0.0.4: families of samples, written one family after another.

use std::fmt::Write as _;

use super::Durations;

/// What a family's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, with `_sum` and `_count`.
    Histogram,
}

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family. All its samples are written before the next one begins.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // writing to a String cannot fail
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: &mut self.text, name }
    }

    /// A family with a single sample and no labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The page as text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// A family that takes samples.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// Writes a sample with these labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.suffixed("", labels, value);
    }

    /// Writes a whole number, exactly.
    pub fn count(&mut self, labels: &[(&str, &str)], value: u64) {
        self.name_and_labels("", labels);
        let _ = writeln!(self.text, " {value}");
    }

    /// Writes a sample of `<name><suffix>`, such as `_bucket`.
    pub fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.name_and_labels(suffix, labels);
        let _ = writeln!(self.text, " {value}");
    }

    /// Writes a histogram: how many durations lie below each power of two, their sum (in us) and their count.
    pub fn histogram(&mut self, labels: &[(&str, &str)], durations: &Durations, sum_us: u64) {
        let bucket = |family: &mut Self, bound: &str, below: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            family.suffixed("_bucket", &labels, below as f64);
        };
        let count = durations.count();
        for (bound_us, below) in durations.by_octave() {
            bucket(self, &(bound_us as f64 / 1e6).to_string(), below);
        }
        bucket(self, "+Inf", count);
        self.suffixed("_sum", labels, sum_us as f64 / 1e6);
        self.suffixed("_count", labels, count as f64);
    }

    fn name_and_labels(&mut self, suffix: &str, labels: &[(&str, &str)]) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_families_of_samples_with_escaped_labels() {
        let mut page = Exposition::default();
        page.single("up", Kind::Gauge, "Whether\nit is.", 1.0);
        page.family("requests_total", Kind::Counter, "Requests.")
            .count(&[("site", "a\"b\\c\nd"), ("x", "y")], u64::MAX);
        assert_eq!(
            page.into_text(),
            "# HELP up Whether\\nit is.\n# TYPE up gauge\nup 1\n# HELP requests_total Requests.\n# TYPE requests_total \
             counter\nrequests_total{site=\"a\\\"b\\\\c\\nd\",x=\"y\"} 18446744073709551615\n"
        );
    }
}
