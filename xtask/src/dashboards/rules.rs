//! A file of rules, as far as it is looked at here (Prometheus, docs/configuration/recording_rules.md).

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::read;

#[derive(Debug, Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// A rule, which either alerts or records.
#[derive(Debug, Deserialize)]
pub(super) struct Rule {
    pub(super) alert: Option<String>,
    pub(super) record: Option<String>,
    pub(super) expr: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Rule {
    /// What it is called.
    pub(super) fn name(&self) -> &str {
        self.alert.as_deref().or(self.record.as_deref()).unwrap_or_default()
    }
}

/// All rules of a file.
pub(super) fn read_rules(path: &Path) -> Result<Vec<Rule>> {
    let file: File = serde_saphyr::from_str(&read(path)?)
        .with_context(|| format!("{}: no file of rules", path.display()))?;
    Ok(file.groups.into_iter().flat_map(|group| group.rules).collect())
}
