//! A metric family: its definition, and its samples.

use prometheus::{
    core::Desc,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType, Summary},
};

/// Longest label value. Names from databases and packets are nobody's promise.
const LABEL_CHARS: usize = 256;

/// What a family is called and what it means.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

impl Definition {
    pub(super) fn desc(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(ToString::to_string).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, Default::default())
    }

    pub(super) const fn family(&'static self) -> Family {
        Family { definition: self, metrics: Vec::new() }
    }
}

/// A family being filled.
#[derive(Debug)]
pub(super) struct Family {
    definition: &'static Definition,
    metrics: Vec<Metric>,
}

impl Family {
    /// Adds one sample of a counter or gauge; `labels` are the values in the definition's order.
    pub(super) fn sample<const N: usize>(&mut self, labels: [&str; N], value: f64) {
        let mut metric = self.metric(labels);
        if self.definition.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    /// Adds a whole number. Above 2^53 a Prometheus sample is no longer exact to the unit.
    #[expect(clippy::cast_precision_loss, reason = "a Prometheus sample is a 64-bit float")]
    pub(super) fn count<const N: usize>(&mut self, labels: [&str; N], value: u64) {
        self.sample(labels, value as f64);
    }

    /// Adds a point in time, from Unix nanoseconds, in Unix seconds.
    #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond, which is plenty")]
    pub(super) fn time<const N: usize>(&mut self, labels: [&str; N], unix_nanos: u64) {
        self.sample(labels, (unix_nanos / 1_000) as f64 / 1e6);
    }

    /// Adds the sum and count of a summary.
    pub(super) fn summary<const N: usize>(&mut self, labels: [&str; N], sum: f64, count: u64) {
        let mut summary = Summary::default();
        summary.set_sample_sum(sum);
        summary.set_sample_count(count);
        let mut metric = self.metric(labels);
        metric.set_summary(summary);
        self.metrics.push(metric);
    }

    /// The family as the encoder wants it.
    pub(super) fn finish(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.definition.name.to_owned());
        family.set_help(self.definition.help.to_owned());
        family.set_field_type(self.definition.kind);
        family.set_metric(self.metrics);
        family
    }

    fn metric<const N: usize>(&self, values: [&str; N]) -> Metric {
        debug_assert_eq!(N, self.definition.labels.len(), "{}", self.definition.name);
        let pairs = self.definition.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(label(value));
            pair
        });
        Metric::from_label(pairs.collect())
    }
}

/// A label value without control characters: the encoder escapes only what would break its syntax,
/// and the text ends up on terminals.
fn label(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars().take(LABEL_CHARS) {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{LABEL_CHARS, label};

    #[test]
    fn labels_are_bounded_and_printable() {
        assert_eq!(label("Xiaomi \"北京\" \\"), "Xiaomi \"北京\" \\");
        assert_eq!(label("a\u{1b}[2Jb\nc\0\u{85}"), "a\\u{1b}[2Jb\\nc\\u{0}\\u{85}");
        assert_eq!(label(&"é".repeat(1000)).chars().count(), LABEL_CHARS);
    }
}
