//! How a panel wants its values shown.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::format;
use crate::dashboards::{
    frames::Cell,
    grafana::{Override, Panel},
};

/// What holds for one field.
pub(super) struct Style(Value);

impl Style {
    /// What holds for all fields, and for those of this name.
    pub(super) fn of(panel: &Panel, field: &str) -> Self {
        let mut shown = panel.field_config.defaults.clone();
        for Override { matcher, properties } in &panel.field_config.overrides {
            if matcher.options == field {
                for property in properties {
                    let keys = property.id.split('.');
                    *keys.fold(&mut shown, |shown, key| &mut shown[key]) = property.value.clone();
                }
            }
        }
        Self(shown)
    }

    /// An option of the kind of panel.
    pub(super) fn custom(&self, option: &str) -> &Value {
        &self.0["custom"][option]
    }

    /// Least and largest value of an axis, where they are given.
    pub(super) fn bounds(&self) -> (Option<f64>, Option<f64>) {
        (self.0["min"].as_f64(), self.0["max"].as_f64())
    }

    /// Text and colour of a cell.
    pub(super) fn cell(&self, cell: &Cell) -> Result<(String, String)> {
        let (key, plain) = match cell {
            Cell::Nothing => return Ok((String::new(), super::TEXT.to_owned())),
            Cell::Text(text) => (text.clone(), text.trim().to_owned()),
            Cell::Number(value) => (value.to_string(), self.text(*value)?),
        };
        let mappings = self.0["mappings"].as_array().into_iter().flatten();
        let mapped = mappings.map(|mapping| &mapping["options"][&key]).find(|to| to.is_object());
        if let Some(mapped) = mapped {
            let text = mapped["text"].as_str().unwrap_or(&plain).to_owned();
            return Ok((text, named(mapped["color"].as_str().unwrap_or("text")).to_owned()));
        }
        let value = if let Cell::Number(value) = cell { *value } else { 0.0 };
        Ok((plain, self.colour(value)))
    }

    /// A number in its unit.
    pub(super) fn text(&self, value: f64) -> Result<String> {
        let decimals = self.0["decimals"].as_u64().map(usize::try_from).transpose()?;
        format::value(value, self.0["unit"].as_str().context("no unit")?, decimals)
    }

    /// From which value on there is which colour.
    pub(super) fn steps(&self) -> Vec<(Option<f64>, &str)> {
        let steps = self.0["thresholds"]["steps"].as_array().into_iter().flatten();
        let step = |step| -> (Option<f64>, &str) {
            let step: &Value = step;
            (step["value"].as_f64(), step["color"].as_str().unwrap_or("text"))
        };
        steps.map(step).collect()
    }

    /// The colour of a value.
    pub(super) fn colour(&self, value: f64) -> String {
        match self.0["color"]["mode"].as_str() {
            Some("thresholds") => {
                let steps = self.steps();
                let reached = |(at, _): &&(Option<f64>, &str)| at.is_none_or(|at| value >= at);
                let step = steps.iter().rfind(reached);
                named(step.map_or("text", |(_, colour)| *colour)).to_owned()
            }
            _ => named(self.0["color"]["fixedColor"].as_str().unwrap_or("text")).to_owned(),
        }
    }
}

fn named(colour: &str) -> &str {
    if colour == "text" { super::TEXT } else { colour }
}
