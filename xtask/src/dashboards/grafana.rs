//! Grafana's dashboards, as far as they are looked at here, and what holds for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{files_named, name, read, variables};
use crate::build::workspace;

/// Columns of a dashboard.
const COLUMNS: u32 = 24;
/// Narrower than this, in columns, nothing can be read on a laptop.
const NARROWEST: u32 = 3;

/// A dashboard (Grafana's documentation, "Dashboard JSON model").
#[derive(Debug, Deserialize)]
pub(super) struct Dashboard {
    pub(super) uid: String,
    pub(super) title: String,
    #[serde(default)]
    description: String,
    tags: BTreeSet<String>,
    links: Vec<Link>,
    templating: Templating,
    pub(super) panels: Vec<Panel>,
    /// Where it was read.
    #[serde(skip)]
    pub(super) file: String,
    /// All of it.
    #[serde(skip)]
    pub(super) json: Value,
}

#[derive(Debug, Deserialize)]
struct Link {
    #[serde(rename = "type")]
    kind: String,
    tags: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Templating {
    list: Vec<Variable>,
}

/// A variable that the user chooses.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Variable {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) label: String,
    #[serde(default)]
    description: String,
    pub(super) query: Value,
    #[serde(default)]
    pub(super) regex: String,
    #[serde(default)]
    pub(super) include_all: bool,
    pub(super) all_value: Option<String>,
}

/// A panel.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Panel {
    id: u32,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) title: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(rename = "datasource")]
    _datasource: Value,
    pub(super) grid_pos: Grid,
    pub(super) targets: Vec<Target>,
    pub(super) field_config: FieldConfig,
    #[serde(default)]
    pub(super) options: Value,
    #[serde(default)]
    pub(super) transformations: Vec<Transformation>,
    pub(super) max_data_points: Option<u32>,
}

/// Where a panel is: columns of a 24th of the width, rows of 30 pixels and 8 between.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Grid {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) w: u32,
    pub(super) h: u32,
}

impl Grid {
    const fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.w
            && other.x < self.x + self.w
            && self.y < other.y + other.h
            && other.y < self.y + self.h
    }
}

/// A query; Grafana publishes no schema of those to Prometheus.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Target {
    #[serde(rename = "datasource")]
    _datasource: Value,
    #[serde(rename = "editorMode")]
    _editor_mode: EditorMode,
    pub(super) expr: String,
    format: Format,
    pub(super) ref_id: String,
    /// At the end of the time range.
    instant: bool,
    /// Over the time range.
    pub(super) range: bool,
    #[serde(default)]
    pub(super) legend_format: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EditorMode {
    Code,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Table,
    TimeSeries,
}

/// How values are shown.
#[derive(Debug, Deserialize)]
pub(super) struct FieldConfig {
    pub(super) defaults: Value,
    pub(super) overrides: Vec<Override>,
}

/// How the values of one field are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Override {
    pub(super) matcher: Matcher,
    pub(super) properties: Vec<Property>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Matcher {
    pub(super) id: String,
    pub(super) options: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct Property {
    pub(super) id: String,
    pub(super) value: Value,
}

/// What is done to the answers before they are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Transformation {
    pub(super) id: String,
    pub(super) options: Value,
}

impl Dashboard {
    /// Those under `dashboards/grafana`.
    pub(super) fn all() -> Result<Vec<Self>> {
        let directory = workspace().join("dashboards/grafana/dashboards");
        let files = files_named(&directory, ".json")?;
        let dashboards = files.iter();
        dashboards
            .map(|path| Self::read(path).with_context(|| path.display().to_string()))
            .collect()
    }

    fn read(path: &Path) -> Result<Self> {
        let json: Value = serde_json::from_str(&read(path)?).context("no JSON")?;
        let dashboard = Self::deserialize(&json).context("no dashboard")?;
        Ok(Self { file: name(path), json, ..dashboard })
    }

    /// The variables, in order.
    pub(super) fn variables(&self) -> &[Variable] {
        &self.templating.list
    }

    /// Names it and a panel in a message.
    pub(super) fn place(&self, panel: &Panel) -> String {
        format!("{}: panel {:?}", self.file, panel.title)
    }
}

/// What holds for all of them.
pub(super) fn conventions(dashboards: &[Dashboard]) -> Result<()> {
    ensure!(!dashboards.is_empty(), "there are no dashboards");
    let uids: BTreeMap<&str, &Dashboard> =
        dashboards.iter().map(|dashboard| (dashboard.uid.as_str(), dashboard)).collect();
    ensure!(uids.len() == dashboards.len(), "two dashboards have one uid");
    for dashboard in dashboards {
        let file = &dashboard.file;
        ensure!(!dashboard.description.is_empty(), "{file} has no description");
        ensure!(dashboard.title.starts_with("LabGate / "), "{file}: it is called something else");
        for link in &dashboard.links {
            let tagged = dashboards.iter().all(|other| link.tags.is_subset(&other.tags));
            ensure!(link.kind == "dashboards" && tagged, "{file}: its links miss a dashboard");
        }
        for variable in dashboard.variables() {
            let explained = !variable.label.is_empty() && !variable.description.is_empty();
            ensure!(explained, "{file}: variable {} has no label or description", variable.name);
            // The check of the queries takes any name that the query finds.
            let harmless = variable.regex.is_empty() || variable.all_value.is_some();
            ensure!(harmless, "{file}: variable {} leaves names out by a regex", variable.name);
        }
        for (at, panel) in dashboard.panels.iter().enumerate() {
            let others = &dashboard.panels[..at];
            of_panel(panel, others).with_context(|| dashboard.place(panel))?;
        }
        let look = &mut |key: &str, value: &Value| match (key, value) {
            ("url", Value::String(url)) if !url.is_empty() => link(url, &uids),
            ("datasource", source) => {
                ensure!(source["uid"] == "${datasource}", "a data source of its own: {source}");
                Ok(())
            }
            _ => Ok(()),
        };
        entries(&dashboard.json, look).with_context(|| dashboard.file.clone())?;
    }
    Ok(())
}

fn of_panel(panel: &Panel, others: &[Panel]) -> Result<()> {
    ensure!(!panel.title.is_empty(), "no title");
    ensure!(panel.description.ends_with('.'), "no description in whole sentences");
    let unit = panel.field_config.defaults["unit"].as_str().unwrap_or_default();
    ensure!(!unit.is_empty(), "no unit; `none` is one");
    ensure!(!panel.targets.is_empty(), "no query");
    let references: BTreeSet<_> = panel.targets.iter().map(|target| &target.ref_id).collect();
    ensure!(references.len() == panel.targets.len(), "two queries have one refId");
    for target in &panel.targets {
        ensure!(target.instant != target.range, "a query is both instant and a range, or neither");
        let table = ["table", "geomap"].contains(&panel.kind.as_str());
        ensure!(
            (target.format == Format::Table) == table,
            "a query has the format of another kind"
        );
    }
    let Grid { x, w, .. } = panel.grid_pos;
    ensure!(x + w <= COLUMNS, "it goes beyond the {COLUMNS} columns");
    ensure!(w >= NARROWEST, "{w} columns are too narrow to read");
    for other in others {
        ensure!(other.id != panel.id, "it has the id of {:?}", other.title);
        ensure!(!panel.grid_pos.overlaps(other.grid_pos), "it overlaps {:?}", other.title);
    }
    Ok(())
}

/// Shows every key and value in a document.
fn entries(json: &Value, look: &mut dyn FnMut(&str, &Value) -> Result<()>) -> Result<()> {
    match json {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            look(key, value)?;
            entries(value, look)
        }),
        Value::Array(list) => list.iter().try_for_each(|value| entries(value, look)),
        _ => Ok(()),
    }
}

/// A link leads to one of the dashboards, with variables that it has, or to the runbooks.
fn link(url: &str, dashboards: &BTreeMap<&str, &Dashboard>) -> Result<()> {
    if url.starts_with(super::RUNBOOKS) {
        return Ok(());
    }
    let Some((uid, query)) = url.strip_prefix("/d/").and_then(|rest| rest.split_once('?')) else {
        bail!("the link {url} leads neither to a dashboard nor to a runbook");
    };
    let dashboard =
        dashboards.get(uid).with_context(|| format!("{url}: there is no dashboard {uid}"))?;
    for parameter in query.split('&') {
        let variable = match parameter.strip_prefix("var-") {
            Some(set) => set.split('=').next().unwrap_or_default().to_owned(),
            None => variables::names(parameter).into_iter().next().unwrap_or_default(),
        };
        let known = variable == "__url_time_range"
            || dashboard.variables().iter().any(|known| known.name == variable);
        ensure!(known, "{url}: {} has no variable {variable:?}", dashboard.file);
    }
    Ok(())
}
