//! The metrics that dashboards, rules and documentation name are those that the sensor exports.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use promql_parser::{
    label::Matchers,
    parser::{self, Expr},
    util::{ExprVisitor, walk_expr},
};

use super::{
    files_named,
    grafana::Dashboard,
    name, read,
    rules::Rule,
    variables::{self, Values},
};
use crate::build::workspace;

/// What Prometheus makes by itself, and what tells of any process.
pub(super) const OTHERS: [&str; 4] =
    ["up", "ALERTS", "ALERTS_FOR_STATE", "process_resident_memory_bytes"];
/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["job", "instance"];

/// A metric and the labels that a query asks for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Selected {
    metric: String,
    labels: BTreeSet<String>,
}

/// Checks every name.
pub(super) fn check(dashboards: &[Dashboard], rules: &[Rule]) -> Result<()> {
    let definitions = definitions()?;
    let records: BTreeSet<_> = rules.iter().filter_map(|rule| rule.record.as_deref()).collect();
    let mut used = BTreeSet::new();
    let mut look = |expr: &str| -> Result<()> {
        for Selected { metric, labels } in selected(expr)? {
            if records.contains(metric.as_str()) {
                used.insert(metric);
                continue;
            }
            if OTHERS.contains(&metric.as_str()) {
                continue;
            }
            let definition = family(&definitions, &metric)
                .with_context(|| format!("the sensor has no metric {metric}"))?;
            for label in labels.iter().filter(|label| !ADDED.contains(&label.as_str())) {
                let known = definitions[definition].contains(label);
                ensure!(known, "the metric {metric} has no label {label}");
            }
            used.insert(definition.to_owned());
        }
        Ok(())
    };
    for rule in rules {
        look(&rule.expr).with_context(|| format!("rule {}", rule.name()))?;
    }
    for dashboard in dashboards {
        let values = anything(dashboard);
        for panel in &dashboard.panels {
            for target in &panel.targets {
                let expr = values.resolve(&target.expr);
                expr.and_then(|expr| look(&expr)).with_context(|| dashboard.place(panel))?;
            }
        }
        for variable in dashboard.variables() {
            let Some((query, label)) = variables::label_values(variable) else { continue };
            let place = || format!("{}: variable {}", dashboard.file, variable.name);
            let query = values.resolve(query).with_context(place)?;
            look(&query).with_context(place)?;
            let metric = query.split('{').next().unwrap_or_default();
            let labels = definitions.get(metric).with_context(place)?;
            let known = labels.contains(label) || ADDED.contains(&label);
            ensure!(known, "{}: the metric {metric} has no label {label}", place());
        }
    }
    let idle: Vec<_> = records.iter().filter(|record| !used.contains(**record)).collect();
    ensure!(idle.is_empty(), "recorded, and used by nothing: {idle:?}");
    all_used(&definitions, &used)?;
    documentation(&definitions)
}

/// Each is used, or listed with the reason why not.
fn all_used(definitions: &Definitions, used: &BTreeSet<String>) -> Result<()> {
    let path = workspace().join("dashboards/not-used.yml");
    let listed: BTreeMap<String, String> = serde_saphyr::from_str(&read(&path)?)
        .with_context(|| format!("{}: no metrics with reasons", path.display()))?;
    for (metric, reason) in &listed {
        ensure!(!reason.is_empty(), "not-used.yml says not why {metric} is not used");
        ensure!(definitions.contains_key(metric), "not-used.yml: there is no metric {metric}");
        ensure!(!used.contains(metric), "not-used.yml lists {metric}, which is used");
    }
    let silent = definitions
        .keys()
        .filter(|metric| !used.contains(metric.as_str()) && !listed.contains_key(metric.as_str()));
    let silent: Vec<_> = silent.map(String::as_str).collect();
    ensure!(
        silent.is_empty(),
        "no panel or rule uses these metrics; show them, or say in dashboards/not-used.yml why \
         not: {}",
        silent.join(", ")
    );
    Ok(())
}

/// What runbooks and other pages name.
fn documentation(definitions: &Definitions) -> Result<()> {
    for directory in ["docs/runbooks", "dashboards"] {
        for path in files_named(&workspace().join(directory), ".md")? {
            let text = read(&path)?;
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("labgate_")) {
                let known = family(definitions, word).is_some();
                ensure!(known, "{}: there is no metric {word}", name(&path));
            }
        }
    }
    Ok(())
}

/// Labels by metric.
type Definitions = BTreeMap<String, BTreeSet<String>>;

/// Every metric of the sensor, from where it is defined.
fn definitions() -> Result<Definitions> {
    let path = workspace().join("sensor-user/src/sinks/metrics/definitions.rs");
    let text = read(&path)?;
    let mut lines = text.lines().map(str::trim);
    let mut definitions = Definitions::new();
    while let Some(line) = lines.next() {
        let Some((_, right)) = line.split_once(" = ") else { continue };
        let Some((kind, quoted)) = right.split_once(' ') else { continue };
        if !["Counter", "Gauge", "Summary"].contains(&kind) || !quoted.starts_with('"') {
            continue;
        }
        let metric = quoted.trim_matches('"').to_owned();
        let labels = lines.next().unwrap_or_default();
        let labels = serde_json::from_str(labels)
            .with_context(|| format!("{}: the labels of {metric}", path.display()))?;
        definitions.insert(metric, labels);
    }
    ensure!(definitions.len() > 20, "{}: no definitions found", path.display());
    Ok(definitions)
}

/// The metric that a series belongs to: that of a summary has two.
fn family<'a>(definitions: &'a Definitions, series: &str) -> Option<&'a str> {
    let (family, _) = definitions.get_key_value(series).or_else(|| {
        let family = ["_sum", "_count"].iter().find_map(|end| series.strip_suffix(end))?;
        definitions.get_key_value(family)
    })?;
    Some(family)
}

/// Some value for each variable: enough to read a query.
fn anything(dashboard: &Dashboard) -> Values {
    let mut values = Values::default();
    let minute = std::time::Duration::from_secs(60);
    values.times(60 * minute, 100, minute / 4);
    for variable in dashboard.variables() {
        values.set(&variable.name, "x".to_owned());
    }
    values
}

/// What a query selects.
fn selected(expr: &str) -> Result<Vec<Selected>> {
    struct Visitor(Vec<Selected>);
    impl Visitor {
        fn take(&mut self, name: Option<&str>, matchers: &Matchers) {
            let labels = matchers.matchers.iter().map(|matcher| matcher.name.clone()).collect();
            let metric = name.unwrap_or("(a selector without a name)").to_owned();
            self.0.push(Selected { metric, labels });
        }
    }
    impl ExprVisitor for Visitor {
        type Error = anyhow::Error;

        fn pre_visit(&mut self, expr: &Expr) -> Result<bool> {
            match expr {
                Expr::VectorSelector(vector) => {
                    self.take(vector.name.as_deref(), &vector.matchers);
                }
                Expr::MatrixSelector(matrix) => {
                    self.take(matrix.vs.name.as_deref(), &matrix.vs.matchers);
                }
                _ => {}
            }
            Ok(true)
        }
    }
    let tree = match parser::parse(expr) {
        Ok(tree) => tree,
        Err(error) => bail!("{expr}: {error}"),
    };
    let mut visitor = Visitor(Vec::new());
    walk_expr(&mut visitor, &tree)?;
    Ok(visitor.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_query_selects() {
        let expr = r#"sum by (a) (rate(x_total{job="j"}[5m])) / on (b) up offset 1m or topk(2, y[1h:1m] @ end())"#;
        let expr = expr.replace("y[1h:1m] @ end()", "max_over_time(y[1h:1m] @ end())");
        let found = selected(&expr).unwrap();
        let names: Vec<_> = found.iter().map(|found| found.metric.as_str()).collect();
        assert_eq!(names, ["x_total", "up", "y"]);
        assert_eq!(found[0].labels, BTreeSet::from(["job".to_owned()]));
        assert!(selected("sum(").is_err());
    }

    #[test]
    fn reads_the_definitions() {
        let definitions = definitions().unwrap();
        let labels = &definitions["labgate_device_bytes_total"];
        let expected = ["asn", "country", "device", "direction"].map(str::to_owned);
        assert_eq!(labels, &BTreeSet::from(expected));
        assert!(definitions["labgate_series"].is_empty());
        let sum = "labgate_scrape_duration_seconds_sum";
        assert_eq!(family(&definitions, sum), Some("labgate_scrape_duration_seconds"));
        assert_eq!(family(&definitions, "labgate_serie"), None);
    }
}
