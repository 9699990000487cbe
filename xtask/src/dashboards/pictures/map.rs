//! The map: outlines of countries (Natural Earth 1:110m, public domain), and a circle on each of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::{
    BORDER,
    style::Style,
    svg::{Area, Svg, TEXT, Text},
};
use crate::dashboards::{
    frames::{self, Answer, Cell},
    grafana::Panel,
};

/// Rings of longitude and latitude in turn, in degrees, the largest first; one point for a small country.
const COUNTRIES: &str = include_str!("../../../data/countries.json");
const LAND: &str = "#3a3f45";

/// Latitudes at the lower and upper edge.
const SOUTH: f64 = -58.0;
const NORTH: f64 = 84.0;

pub(super) fn draw(svg: &mut Svg, area: Area, panel: &Panel, answers: &[Answer]) -> Result<()> {
    let countries: BTreeMap<String, Vec<Vec<f64>>> = serde_json::from_str(COUNTRIES)?;
    let scale = (area.w / 360.0).min(area.h / (NORTH - SOUTH));
    let left = area.x + (area.w - 360.0 * scale) / 2.0;
    let top = area.y + (area.h - (NORTH - SOUTH) * scale) / 2.0;
    let place = |lon: f64, lat: f64| (left + (lon + 180.0) * scale, top + (NORTH - lat) * scale);
    let points = |ring: &[f64]| -> Vec<_> {
        ring.chunks_exact(2).map(|pair| place(pair[0], pair[1])).collect()
    };
    for ring in countries.values().flatten().filter(|ring| ring.len() > 4) {
        svg.path(&points(ring), BORDER, Some(LAND), false);
    }

    let layer = &panel.options["layers"][0];
    let style = &layer["config"]["style"];
    let frame = frames::table(panel, answers)?;
    let field = |of: &serde_json::Value| {
        let name = of.as_str().context("a layer without a field")?;
        frame.place(name).with_context(|| format!("no field {name:?} for the map"))
    };
    let (country, size) = (field(&layer["location"]["lookup"])?, field(&style["size"]["field"])?);
    let sizes = ["min", "max"].map(|end| style["size"][end].as_f64());
    let [Some(least), Some(most)] = sizes else { anyhow::bail!("circles without sizes") };
    let shown = frame.rows.iter().filter_map(|row| match (&row[country], &row[size]) {
        (Cell::Text(country), Cell::Number(value)) => Some((country, *value)),
        _ => None,
    });
    let shown: Vec<_> = shown.collect();
    let low = shown.iter().map(|(_, value)| *value).fold(f64::MAX, f64::min);
    let high = shown.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let colour = style["color"]["fixed"].as_str().context("circles without a colour")?;
    for (country, value) in shown {
        // As ZZ, which is nowhere.
        let Some(ring) = countries.get(country).and_then(|rings| rings.first()) else { continue };
        let points = points(ring);
        let middle = |of: fn(&(f64, f64)) -> f64| {
            let count = f64::from(u32::try_from(points.len()).unwrap_or(1));
            points.iter().map(of).sum::<f64>() / count
        };
        let (x, y) = (middle(|point| point.0), middle(|point| point.1));
        let part = if high > low { (value - low) / (high - low) } else { 1.0 };
        svg.circle(x, y, (least + (most - least) * part) / 2.0 + 3.0, colour);
        let text = format!("{country}  {}", Style::of(panel, "").text(value)?);
        svg.text(x, y - 10.0, &text, &Text { size: 11.0, middle: true, bold: true, ..TEXT });
    }
    Ok(())
}
