//! Dashboards against what Grafana publishes of its own form, for each version under `schema`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use jsonschema::Validator;
use serde_json::Value;

use super::{
    grafana::{Dashboard, FieldConfig, Override, Panel, Property},
    name, read,
};
use crate::build::workspace;

/// Checks every dashboard; returns the versions of Grafana.
pub(super) fn check(dashboards: &[Dashboard]) -> Result<Vec<String>> {
    let directory = workspace().join("dashboards/grafana/schema");
    let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut versions = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        if path.is_dir() {
            versions.push(path);
        }
    }
    versions.sort();
    ensure!(!versions.is_empty(), "{}: no versions", directory.display());
    for version in &versions {
        let schemas = Schemas { directory: version.clone() };
        for dashboard in dashboards {
            schemas
                .check(dashboard)
                .with_context(|| format!("{}: Grafana {}", dashboard.file, name(version)))?;
        }
    }
    Ok(versions.iter().map(|version| name(version)).collect())
}

/// The schemas of one version.
struct Schemas {
    directory: PathBuf,
}

impl Schemas {
    fn check(&self, dashboard: &Dashboard) -> Result<()> {
        // Panels first: of one of these the whole's schema says only that it is wrong.
        for panel in &dashboard.panels {
            self.panel(panel).with_context(|| format!("panel {:?}", panel.title))?;
        }
        valid(&self.read("dashboard")?.context("no schema of dashboards")?, &dashboard.json)
    }

    fn panel(&self, panel: &Panel) -> Result<()> {
        let kind = &panel.kind;
        let Some(options) = self.read(&format!("{kind}.options"))? else {
            bail!("there is no schema of panels of the type {kind:?}");
        };
        valid(&options, &panel.options).context("options")?;
        let field = self.read("field")?.context("no schema of fields")?;
        let custom = self.read(&format!("{kind}.field"))?;
        let check = |shown: &Value| -> Result<()> {
            valid(&field, shown).context("field")?;
            match (&custom, &shown["custom"]) {
                (_, Value::Null) => Ok(()),
                (Some(schema), options) => valid(schema, options).context("custom field"),
                (None, _) => bail!("a panel of the type {kind:?} has no custom field"),
            }
        };
        let FieldConfig { defaults, overrides } = &panel.field_config;
        check(defaults)?;
        for Override { matcher, properties } in overrides {
            // A property is a path into what holds for all fields.
            let mut shown = defaults.clone();
            for Property { id, value } in properties {
                *id.split('.').fold(&mut shown, |shown, key| &mut shown[key]) = value.clone();
            }
            check(&shown).with_context(|| format!("the override of {}", matcher.options))?;
        }
        Ok(())
    }

    fn read(&self, what: &str) -> Result<Option<Validator>> {
        let path = self.directory.join(format!("{what}.json"));
        if !path.exists() {
            return Ok(None);
        }
        validator(&path).map(Some).with_context(|| path.display().to_string())
    }
}

fn validator(path: &Path) -> Result<Validator> {
    let schema: Value = serde_json::from_str(&read(path)?)?;
    Ok(jsonschema::validator_for(&schema)?)
}

fn valid(schema: &Validator, value: &Value) -> Result<()> {
    match schema.iter_errors(value).next() {
        Some(error) => bail!("at {:?}: {}", error.instance_path().as_str(), error.masked()),
        None => Ok(()),
    }
}
