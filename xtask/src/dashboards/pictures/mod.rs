//! `cargo xtask dashboards --pictures`: the dashboards as pictures, drawn here from what the queries found.
//!
//! This is not Grafana: it places, names, colours and formats as the dashboards say and as Grafana would, and
//! leaves out what can only be clicked.

mod format;
mod graphs;
mod map;
mod panels;
mod style;
mod svg;

use anyhow::{Context as _, Result, bail};
use svg::{Area, Svg};

use super::{
    frames::Answer,
    grafana::{Dashboard, Grid, Panel},
    variables::Values,
};

/// A laptop's screen.
const WIDTH: f64 = 1366.0;
const MARGIN: f64 = 12.0;
const GAP: f64 = 8.0;
/// Of a grid's row, without the gap.
const ROW: f64 = 30.0;
const HEAD: f64 = 56.0;
const TITLE: f64 = 28.0;
const FOOT: f64 = 24.0;
const COLUMNS: f64 = 24.0;

const PAGE: &str = "#111217";
const PANEL: &str = "#181b1f";
const BORDER: &str = "#2c3035";
const TEXT: &str = "#ccccdc";
const DIM: &str = "#8e8e9a";

/// A dashboard as SVG: its panels with their answers, in the time range that ends at `end`.
pub(super) fn draw(
    dashboard: &Dashboard,
    values: &Values,
    panels: &[(&Panel, Vec<Answer>)],
    times: (f64, f64),
) -> Result<String> {
    let rows = panels.iter().map(|(panel, _)| panel.grid_pos.y + panel.grid_pos.h).max();
    let height = HEAD + f64::from(rows.unwrap_or_default()) * (ROW + GAP) + FOOT;
    let mut svg = Svg::new(WIDTH, height);
    svg.rect(Area { x: 0.0, y: 0.0, w: WIDTH, h: height }, PAGE, None);
    head(&mut svg, dashboard, values, times);
    for (panel, answers) in panels {
        let area = area(panel.grid_pos);
        svg.rect(area, PANEL, Some(BORDER));
        let title = svg::fitting(&panel.title, area.w - 16.0, 13.0);
        svg.text(area.x + 8.0, area.y + 18.0, &title, &svg::Text { bold: true, ..svg::TEXT });
        let inside =
            Area { x: area.x + 8.0, y: area.y + TITLE, w: area.w - 16.0, h: area.h - TITLE - 6.0 };
        let drawn = match panel.kind.as_str() {
            "stat" => panels::stat(&mut svg, inside, panel, answers),
            "table" => panels::table(&mut svg, inside, panel, answers),
            "bargauge" => panels::bars(&mut svg, inside, panel, answers),
            "timeseries" => graphs::lines(&mut svg, inside, panel, answers, times),
            "status-history" => graphs::history(&mut svg, inside, panel, answers, times, values),
            "geomap" => map::draw(&mut svg, inside, panel, answers),
            other => bail!("panels of the type {other} can't be drawn"),
        };
        drawn.with_context(|| dashboard.place(panel))?;
    }
    let foot = "Drawn by `cargo xtask dashboards --pictures` from the demo's data, not by Grafana.";
    svg.text(MARGIN, height - 9.0, foot, &svg::Text { colour: DIM, size: 11.0, ..svg::TEXT });
    Ok(svg.finish())
}

/// Title, variables and time range.
fn head(svg: &mut Svg, dashboard: &Dashboard, values: &Values, (start, end): (f64, f64)) {
    let text = svg::Text { size: 17.0, bold: true, ..svg::TEXT };
    svg.text(MARGIN, 22.0, &dashboard.title, &text);
    let mut x = MARGIN;
    for variable in dashboard.variables() {
        let (label, value) = variable.shown(values);
        let (label, value) = (format!("{label} "), svg::fitting(&value, 180.0, 12.0));
        svg.text(x, 43.0, &label, &svg::Text { colour: DIM, size: 12.0, ..svg::TEXT });
        x += svg::width(&label, 12.0) + 2.0;
        svg.text(x, 43.0, &value, &svg::Text { size: 12.0, ..svg::TEXT });
        x += svg::width(&value, 12.0) + 22.0;
    }
    let times = format!("{} to {} UTC", format::time(start), format::time(end));
    svg.text(WIDTH - MARGIN, 22.0, &times, &svg::Text { size: 12.0, end: true, ..svg::TEXT });
}

fn area(grid: Grid) -> Area {
    let column = (WIDTH - 2.0 * MARGIN + GAP) / COLUMNS;
    Area {
        x: MARGIN + f64::from(grid.x) * column,
        y: HEAD + f64::from(grid.y) * (ROW + GAP),
        w: f64::from(grid.w) * column - GAP,
        h: f64::from(grid.h) * (ROW + GAP) - GAP,
    }
}
