//! Every query against a real Prometheus that scraped a real demo.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use sensor_common::report::Report;
use serde::Deserialize;

use super::{
    frames::{self, Answer, Series},
    grafana::{Dashboard, Panel, Target},
    metrics,
    rules::Rule,
    variables::{self, Values},
};
use crate::stack::Stack;

/// Points of a panel that does not say how many it wants: about what fits a half of a laptop's width.
const POINTS: u32 = 300;

/// A Prometheus, and the time range that is looked at.
pub(super) struct Live<'a> {
    stack: &'a Stack<'a>,
    /// Unix time in seconds.
    end: f64,
    pub(super) range: Duration,
    scrape: Duration,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    values: Option<Vec<(f64, String)>>,
}

#[derive(Deserialize)]
struct Names {
    data: Vec<String>,
}

impl<'a> Live<'a> {
    /// The time range that ends now.
    pub(super) fn new(stack: &'a Stack<'a>, range: Duration, scrape: Duration) -> Result<Self> {
        let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok(Self { stack, end, range, scrape })
    }

    /// Beginning and end of the time range, Unix time in seconds.
    pub(super) fn times(&self) -> (f64, f64) {
        (self.end - self.range.as_secs_f64(), self.end)
    }

    /// Checks that every rule runs, and every panel shows something, whatever is chosen.
    pub(super) fn check(&self, dashboards: &[Dashboard], rules: &[Rule]) -> Result<()> {
        for metric in metrics::OTHERS {
            let found = self.query("query", metric, &[])?;
            ensure!(!found.is_empty(), "there is no metric {metric}");
        }
        for rule in rules {
            self.query("query", &rule.expr, &[])
                .with_context(|| format!("rule {}", rule.name()))?;
        }
        for dashboard in dashboards {
            for values in self.choices(dashboard)? {
                self.show(dashboard, values)?;
            }
        }
        Ok(())
    }

    /// Each choice that there is for the variables of a dashboard; all at once where the user can have that.
    pub(super) fn choices(&self, dashboard: &Dashboard) -> Result<Vec<Values>> {
        let mut choices = vec![Values::default()];
        for variable in dashboard.variables() {
            let place = || format!("{}: variable {}", dashboard.file, variable.name);
            if variable.kind == "datasource" {
                continue;
            }
            let (query, label) = variables::label_values(variable)
                .with_context(|| format!("{}: its query is not known here", place()))?;
            let mut further = Vec::new();
            for values in choices {
                let names = self.label_values(&values.resolve(query)?, label);
                let names = names.with_context(place)?;
                ensure!(!names.is_empty(), "{}: there is nothing to choose", place());
                for value in variable.choices(&names) {
                    let mut values = values.clone();
                    values.set(&variable.name, value);
                    further.push(values);
                }
            }
            choices = further;
        }
        Ok(choices)
    }

    /// What the panels of a dashboard show.
    ///
    /// # Errors
    /// When a query fails or finds nothing, or when a panel names a field that is not there.
    pub(super) fn show<'d>(
        &self,
        dashboard: &'d Dashboard,
        mut values: Values,
    ) -> Result<Vec<(&'d Panel, Vec<Answer>)>> {
        let mut panels = Vec::new();
        for panel in &dashboard.panels {
            let points = panel.max_data_points.unwrap_or(POINTS);
            values.times(self.range, points, self.scrape);
            let step = variables::step(self.range, points, self.scrape);
            let answers = panel.targets.iter().map(|target| self.answer(target, &values, step));
            let answers = answers.collect::<Result<Vec<_>>>();
            let place = || format!("{} with {values:?}", dashboard.place(panel));
            let answers = answers.with_context(place)?;
            fields(panel, &answers).with_context(place)?;
            panels.push((panel, answers));
        }
        Ok(panels)
    }

    fn answer(&self, target: &Target, values: &Values, step: Duration) -> Result<Answer> {
        let expr = values.resolve(&target.expr)?;
        let end = self.end.to_string();
        let series = if target.range {
            let start = (self.end - self.range.as_secs_f64()).to_string();
            let step = step.as_secs_f64().to_string();
            let times = [("start", start.as_str()), ("end", &end), ("step", &step)];
            self.query("query_range", &expr, &times)?
        } else {
            self.query("query", &expr, &[("time", &end)])?
        };
        let shown = series.iter().any(|series| series.points.iter().any(|(_, v)| v.is_finite()));
        ensure!(shown, "query {} finds nothing: {expr}", target.ref_id);
        Ok(Answer { ref_id: target.ref_id.clone(), legend: target.legend_format.clone(), series })
    }

    fn query(&self, path: &str, expr: &str, times: &[(&str, &str)]) -> Result<Vec<Series>> {
        let answer = self.stack.ask(path, &[&[("query", expr)], times].concat())?;
        let response: Response = serde_json::from_str(&answer).context("no answer to a query")?;
        let Some(Data { result }) = response.data else {
            bail!("Prometheus refuses {expr}: {}", response.error);
        };
        let series = |row: Row| -> Result<Series> {
            let points = row.values.unwrap_or_else(|| row.value.into_iter().collect());
            let points = points.into_iter().map(|(time, value)| Ok((time, value.parse()?)));
            Ok(Series { labels: row.metric, points: points.collect::<Result<_>>()? })
        };
        result.into_iter().map(series).collect()
    }

    fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>> {
        let path = format!("label/{label}/values");
        let start = (self.end - self.range.as_secs_f64()).to_string();
        let end = self.end.to_string();
        let parameters = [("match[]", selector), ("start", &start), ("end", &end)];
        let names: Names = serde_json::from_str(&self.stack.ask(&path, &parameters)?)?;
        Ok(names.data)
    }

    /// Checks that amounts in Prometheus are those of the sensor, to the byte.
    pub(super) fn amounts(&self, report: &Report) -> Result<()> {
        let mut counted = BTreeMap::<[String; 4], u64>::new();
        for device in &report.devices {
            for row in &device.destinations {
                for (direction, bytes) in [("tx", row.tx_bytes), ("rx", row.rx_bytes)] {
                    let key = [&device.name, direction, &row.country, &row.asn.to_string()];
                    *counted.entry(key.map(str::to_owned)).or_default() += bytes;
                }
            }
        }
        let labels = ["device", "direction", "country", "asn"];
        let expr = format!(
            "sum by ({}) (sum_over_time(labgate:device_bytes:added[{}s]))",
            labels.join(", "),
            self.range.as_secs()
        );
        let mut amounts = BTreeMap::new();
        for series in self.query("query", &expr, &[])? {
            let key = labels.map(|label| series.labels.get(label).cloned().unwrap_or_default());
            amounts.insert(key, series.points.first().map_or(0.0, |(_, value)| *value));
        }
        for (key, bytes) in counted {
            let amount = amounts.get(&key).copied().unwrap_or_default();
            ensure!(
                format!("{amount:.0}") == bytes.to_string(),
                "{key:?}: the sensor counted {bytes} bytes, the recorded amount is {amount}"
            );
        }
        Ok(())
    }
}

/// A panel speaks of fields that it has.
fn fields(panel: &Panel, answers: &[Answer]) -> Result<()> {
    let known: Vec<String> = if panel.kind == "table" || panel.kind == "geomap" {
        frames::table(panel, answers)?.fields
    } else {
        let names = answers.iter().map(|answer| answer.series.iter().map(|s| answer.name(s)));
        names.flatten().collect()
    };
    let renamed = panel.transformations.iter().filter_map(|transformation| {
        transformation.options["renameByName"].as_object().map(|map| map.values())
    });
    let sorted = panel.options["sortBy"].as_array().into_iter().flatten();
    let matched = panel.field_config.overrides.iter().map(|o| (&o.matcher.id, &o.matcher.options));
    for (id, _) in matched.clone() {
        ensure!(id == "byName", "a matcher {id:?}, which is not known here");
    }
    let named = matched.map(|(_, name)| name).chain(sorted.map(|by| &by["displayName"]));
    for name in named.chain(renamed.flatten()).filter_map(|name| name.as_str()) {
        ensure!(
            known.iter().any(|known| known == name),
            "there is no field {name:?} to show, only {known:?}"
        );
    }
    Ok(())
}
