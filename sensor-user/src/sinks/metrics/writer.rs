//! Metric families as text, in either format. Written straight into the answer: a large bench has a
//! hundred thousand series, which are rendered in less time than it takes to build them as objects.

use std::fmt::{Display, Write as _};

use super::{definitions::Definition, format::Format};

/// Longest label value. Names from databases and packets are nobody's promise.
const LABEL_CHARS: usize = 256;

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Summary,
}

/// The text being written.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    format: Format,
}

impl Writer {
    /// Begins a text that will be about so long, in bytes.
    pub(super) fn new(format: Format, expected: usize) -> Self {
        Self { text: String::with_capacity(expected), format }
    }

    /// Begins a family. One without samples is left out.
    pub(super) const fn family(&mut self, definition: &'static Definition) -> Family<'_> {
        let Definition { name, kind, labels, help } = *definition;
        self.named(name, kind, labels, help)
    }

    /// Begins a family that has no definition of ours.
    pub(super) const fn named<'a>(
        &'a mut self,
        name: &'a str,
        kind: Kind,
        labels: &'static [&'static str],
        help: &'a str,
    ) -> Family<'a> {
        Family { writer: self, name, kind, labels, help, has_samples: false }
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn push_all(&mut self, parts: &[&str]) {
        for part in parts {
            self.text.push_str(part);
        }
    }
}

/// A family being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    writer: &'a mut Writer,
    name: &'a str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'a str,
    has_samples: bool,
}

impl Family<'_> {
    /// Adds one sample; `labels` are the values in the definition's order.
    pub(super) fn sample<const N: usize>(&mut self, labels: [&str; N], value: f64) {
        self.line("", labels, value);
    }

    /// Adds a whole number. Above 2^53 Prometheus keeps it no longer exact to the unit.
    pub(super) fn count<const N: usize>(&mut self, labels: [&str; N], value: u64) {
        self.line("", labels, value);
    }

    /// Adds a point in time, from Unix nanoseconds, in Unix seconds.
    #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond, which is plenty")]
    pub(super) fn time<const N: usize>(&mut self, labels: [&str; N], unix_nanos: u64) {
        self.sample(labels, (unix_nanos / 1_000) as f64 / 1e6);
    }

    /// Adds the sum and count of a summary.
    pub(super) fn summary<const N: usize>(&mut self, labels: [&str; N], sum: f64, count: u64) {
        self.line("_sum", labels, sum);
        self.line("_count", labels, count);
    }

    /// Adds a sample for each label set of a list.
    pub(super) fn counts<T>(&mut self, sets: &LabelSets<'_, T>, value: impl Fn(&T) -> u64) {
        let mut digits = itoa::Buffer::new();
        let mut start = 0;
        for (end, of) in &sets.ends {
            self.begin();
            let labels = &sets.text[start..*end];
            self.writer.push_all(&[self.name, labels, " ", digits.format(value(of)), "\n"]);
            start = *end;
        }
    }

    fn line<const N: usize>(&mut self, suffix: &str, values: [&str; N], value: impl Display) {
        self.begin();
        self.writer.push_all(&[self.name, suffix]);
        push_labels(&mut self.writer.text, self.labels, values);
        // Writing to a string does not fail.
        let _infallible = writeln!(self.writer.text, " {value}");
    }

    fn begin(&mut self) {
        if !self.has_samples {
            self.has_samples = true;
            self.head();
        }
    }

    /// OpenMetrics calls a counter's family by the name without `_total`, wants to know the unit, and
    /// has quotes escaped in the help text.
    fn head(&mut self) {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        };
        let help = self.help.replace('\\', "\\\\").replace('\n', "\\n");
        match self.writer.format {
            Format::Prometheus => {
                self.writer.push_all(&["# HELP ", self.name, " ", &help, "\n"]);
                self.writer.push_all(&["# TYPE ", self.name, " ", kind, "\n"]);
            }
            Format::OpenMetrics => {
                let name = self.name.strip_suffix("_total").unwrap_or(self.name);
                let help = help.replace('"', "\\\"");
                self.writer.push_all(&["# HELP ", name, " ", &help, "\n"]);
                self.writer.push_all(&["# TYPE ", name, " ", kind, "\n"]);
                for unit in ["bytes", "seconds"] {
                    if name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
                        self.writer.push_all(&["# UNIT ", name, " ", unit, "\n"]);
                    }
                }
            }
        }
    }
}

/// Label sets that several families have, spelt once.
#[derive(Debug)]
pub(super) struct LabelSets<'a, T> {
    names: &'static [&'static str],
    text: String,
    /// Where each ends in the text, and what has it.
    ends: Vec<(usize, &'a T)>,
}

impl<'a, T> LabelSets<'a, T> {
    /// None yet, of the labels that a definition has.
    pub(super) const fn new(definition: &Definition) -> Self {
        Self { names: definition.labels, text: String::new(), ends: Vec::new() }
    }

    /// Adds one.
    pub(super) fn add<const N: usize>(&mut self, values: [&str; N], of: &'a T) {
        push_labels(&mut self.text, self.names, values);
        self.ends.push((self.text.len(), of));
    }
}

fn push_labels<const N: usize>(text: &mut String, names: &[&str], values: [&str; N]) {
    debug_assert_eq!(N, names.len(), "{names:?}");
    for (number, (name, value)) in names.iter().zip(values).enumerate() {
        text.push(if number == 0 { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        push_label(text, value);
        text.push('"');
    }
    if N > 0 {
        text.push('}');
    }
}

/// A label value, escaped as both formats want it, and without control characters: the text ends up
/// on terminals.
fn push_label(text: &mut String, value: &str) {
    let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    if value.len() <= LABEL_CHARS && value.bytes().all(plain) {
        text.push_str(value);
        return;
    }
    for c in value.chars().take(LABEL_CHARS) {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            // What escaping makes of it has a backslash, which is escaped in turn.
            c if c.is_control() => {
                text.push('\\');
                text.extend(c.escape_default());
            }
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: &str) -> String {
        let mut text = String::new();
        push_label(&mut text, value);
        text
    }

    #[test]
    fn labels_are_bounded_escaped_and_printable() {
        assert_eq!(label("AS4808 (China)"), "AS4808 (China)");
        assert_eq!(label("Xiaomi \"北京\" \\"), "Xiaomi \\\"北京\\\" \\\\");
        assert_eq!(label("a\u{1b}[2Jb\nc\0\u{85}"), "a\\\\u{1b}[2Jb\\\\nc\\\\u{0}\\\\u{85}");
        assert_eq!(label(&"é".repeat(1000)).chars().count(), LABEL_CHARS);
        assert_eq!(label(&"e".repeat(1000)).len(), LABEL_CHARS);
    }

    #[test]
    fn one_family_in_both_formats() {
        let write = |format| {
            let mut writer = Writer::new(format, 0);
            let mut family = writer.named("a_bytes_total", Kind::Counter, &["x"], "Say \"\\\n\".");
            family.count(["y\""], u64::MAX);
            writer.named("b_seconds", Kind::Summary, &[], "B.").summary([], 0.5, 2);
            writer.named("unused", Kind::Gauge, &[], "No sample, no family.");
            writer.finish()
        };
        assert_eq!(
            write(Format::Prometheus),
            "# HELP a_bytes_total Say \"\\\\\\n\".\n\
             # TYPE a_bytes_total counter\n\
             a_bytes_total{x=\"y\\\"\"} 18446744073709551615\n\
             # HELP b_seconds B.\n\
             # TYPE b_seconds summary\n\
             b_seconds_sum 0.5\n\
             b_seconds_count 2\n"
        );
        assert_eq!(
            write(Format::OpenMetrics),
            "# HELP a_bytes Say \\\"\\\\\\n\\\".\n\
             # TYPE a_bytes counter\n\
             # UNIT a_bytes bytes\n\
             a_bytes_total{x=\"y\\\"\"} 18446744073709551615\n\
             # HELP b_seconds B.\n\
             # TYPE b_seconds summary\n\
             # UNIT b_seconds seconds\n\
             b_seconds_sum 0.5\n\
             b_seconds_count 2\n\
             # EOF\n"
        );
    }
}
