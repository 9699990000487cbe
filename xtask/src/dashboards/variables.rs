//! Grafana's variables in queries (its documentation, "Variable syntax" and "Global variables").

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::grafana::Variable;

/// Values by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(BTreeMap<String, String>);

impl Values {
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Those that Grafana sets by itself: the time range, the time between two points, and between two
    /// scrapes (the data source's `timeInterval`).
    pub(super) fn times(&mut self, range: Duration, points: u32, scrape: Duration) {
        let step = step(range, points, scrape);
        // Four scrapes at least: Grafana's documentation of the data source Prometheus.
        let rate = (step + scrape).max(4 * scrape);
        self.set("__range", format!("{}s", range.as_secs()));
        self.set("__range_s", range.as_secs().to_string());
        self.set("__interval", format!("{}ms", step.as_millis()));
        self.set("__interval_ms", step.as_millis().to_string());
        self.set("__rate_interval", format!("{}ms", rate.as_millis()));
    }

    /// A text with every variable replaced.
    pub(super) fn resolve(&self, text: &str) -> Result<String> {
        let mut resolved = String::new();
        let mut rest = text;
        while let Some((before, variable, after)) = next(rest) {
            let value = self.0.get(variable).with_context(|| format!("no variable {variable}"))?;
            resolved.push_str(before);
            resolved.push_str(value);
            rest = after;
        }
        ensure!(!rest.contains('$'), "{rest}: a dollar sign, but no variable");
        Ok(resolved + rest)
    }
}

/// The time between two points.
pub(super) fn step(range: Duration, points: u32, scrape: Duration) -> Duration {
    (range / points.max(1)).max(scrape)
}

/// The names of the variables in a text.
pub(super) fn names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, variable, after)) = next(rest) {
        names.push(variable.to_owned());
        rest = after;
    }
    names
}

/// The next variable, `$name` or `${name:format}`, with what is before and after it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('$')?;
    if let Some(rest) = rest.strip_prefix('{') {
        let (inside, after) = rest.split_once('}')?;
        let name = inside.split([':', '.']).next().unwrap_or_default();
        return Some((before, name, after));
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then(|| (before, &rest[..end], &rest[end..]))
}

/// Selector and label of a variable whose query is `label_values(selector, label)`.
pub(super) fn label_values(variable: &Variable) -> Option<(&str, &str)> {
    let query = variable.query["query"].as_str()?;
    let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    inside.rsplit_once(", ")
}

impl Variable {
    /// Its label, and what is chosen, as the dashboard's head shows them.
    pub(super) fn shown(&self, values: &Values) -> (&str, String) {
        let value = match values.0.get(&self.name) {
            Some(_) if self.include_all => "All".to_owned(),
            Some(value) => value.clone(),
            None => "default".to_owned(),
        };
        (&self.label, value)
    }

    /// What the user can have, of these values: all, or one after the other.
    pub(super) fn choices(&self, names: &[String]) -> Vec<String> {
        match (&self.all_value, self.include_all) {
            (Some(all), true) => vec![all.clone()],
            (None, true) => {
                let names: Vec<_> = names.iter().map(|name| escape(name)).collect();
                vec![format!("({})", names.join("|"))]
            }
            (_, false) => names.to_vec(),
        }
    }
}

/// As Grafana writes a name into a regular expression in quotes.
fn escape(name: &str) -> String {
    let special = |c| r"\^$*+?.()|[]{}".contains(c);
    name.chars().fold(String::new(), |text, c| {
        text + if special(c) { r"\\" } else { "" } + c.encode_utf8(&mut [0; 4])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_both_forms_and_knows_what_it_does_not_know() {
        let mut values = Values::default();
        values.set("device", "a|b".to_owned());
        values.times(Duration::from_secs(3600), 100, Duration::from_secs(15));
        let resolved = values.resolve(r#"x{d=~"$device|"}[$__range] @ ${__range_s}"#).unwrap();
        assert_eq!(resolved, r#"x{d=~"a|b|"}[3600s] @ 3600"#);
        assert_eq!(values.resolve("[$__rate_interval]").unwrap(), "[60000ms]");
        assert!(values.resolve("$devise").is_err());
        assert!(values.resolve("5 $").is_err());
    }

    #[test]
    fn escapes_for_an_expression_in_quotes() {
        assert_eq!(escape("(pool) a"), r"\\(pool\\) a");
    }

    #[test]
    fn finds_names() {
        assert_eq!(names("${device:queryparam}&$a-${__data.fields.x}"), ["device", "a", "__data"]);
    }
}
