//! Panels over time.

use anyhow::{Context as _, Result};

use super::{
    BORDER, DIM,
    format::time,
    style::Style,
    svg::{self, Area, Svg, TEXT, Text},
};
use crate::dashboards::{frames::Answer, grafana::Panel, variables::Values};

const SMALL: Text<'_> = Text { colour: DIM, size: 11.0, ..TEXT };
const LEGEND: f64 = 34.0;
const AXIS: f64 = 64.0;
const TIMES: f64 = 18.0;

/// One line of a graph.
struct Line {
    name: String,
    style: Style,
    right: bool,
    points: Vec<(f64, f64)>,
}

/// Lines with their axes, and a legend below.
pub(super) fn lines(
    svg: &mut Svg,
    area: Area,
    panel: &Panel,
    answers: &[Answer],
    times: (f64, f64),
) -> Result<()> {
    let mut lines = Vec::new();
    for answer in answers {
        for series in &answer.series {
            let name = answer.name(series);
            let style = Style::of(panel, &name);
            let sign = if style.custom("transform") == "negative-Y" { -1.0 } else { 1.0 };
            let points = series.points.iter().map(|(time, value)| (*time, sign * value));
            let right = style.custom("axisPlacement") == "right";
            lines.push(Line { name, right, points: points.collect(), style });
        }
    }
    let right = lines.iter().any(|line| line.right);
    let plot = Area {
        x: area.x + AXIS,
        y: area.y + 4.0,
        w: area.w - AXIS - if right { AXIS } else { 0.0 },
        h: area.h - LEGEND - TIMES - 4.0,
    };
    time_axis(svg, plot, times);
    for side in [false, true] {
        let here = || lines.iter().filter(|line| line.right == side);
        let Some(first) = here().next() else { continue };
        let values = || here().flat_map(|line| &line.points).map(|(_, v)| *v);
        let finite = || values().filter(|value| value.is_finite());
        let low = finite().fold(first.style.bounds().0.unwrap_or(0.0), f64::min);
        let high = finite().fold(first.style.bounds().1.unwrap_or(f64::MIN_POSITIVE), f64::max);
        let high = high + (high - low) * 0.05;
        let at = |value: f64| plot.y + plot.h * (1.0 - (value - low) / (high - low));
        let step = round_step((high - low) / 4.0);
        let mut tick = (low / step).ceil() * step;
        while tick <= high {
            let y = at(tick);
            let text = first.style.text(tick.abs())?;
            if side {
                svg.text(plot.x + plot.w + 6.0, y + 4.0, &text, &SMALL);
            } else {
                svg.path(&[(plot.x, y), (plot.x + plot.w, y)], BORDER, None, false);
                svg.text(plot.x - 6.0, y + 4.0, &text, &Text { end: true, ..SMALL });
            }
            tick += step;
        }
        for line in here() {
            let points = line.points.iter().filter(|(_, value)| value.is_finite());
            let points = points.map(|(when, value)| (place(plot, times, *when), at(*value)));
            let dashed = line.style.custom("lineStyle")["fill"] == "dash";
            svg.path(&points.collect::<Vec<_>>(), &line.style.colour(0.0), None, dashed);
        }
    }
    let legend = |line: &Line| -> Result<(String, String)> {
        let last = line.points.last().map_or(0.0, |(_, value)| value.abs());
        Ok((line.style.colour(0.0), format!("{}  {}", line.name, line.style.text(last)?)))
    };
    let entries = lines.iter().map(legend).collect::<Result<Vec<_>>>()?;
    draw_legend(svg, area, &entries);
    Ok(())
}

/// Colours and what they stand for, on the lowest line, or on two.
fn draw_legend(svg: &mut Svg, area: Area, entries: &[(String, String)]) {
    let width = |text: &str| 34.0 + svg::width(text, 11.0);
    let two = entries.iter().map(|(_, text)| width(text)).sum::<f64>() > area.w;
    let (mut x, mut y) = (area.x, area.y + area.h - if two { 18.0 } else { 4.0 });
    for (colour, text) in entries {
        if x + width(text) > area.x + area.w + 16.0 {
            (x, y) = (area.x, y + 15.0);
        }
        svg.rect(Area { x, y: y - 5.0, w: 14.0, h: 4.0 }, colour, None);
        svg.text(x + 18.0, y, text, &Text { size: 11.0, ..TEXT });
        x += width(text);
    }
}

/// A row for each series, a cell for each point.
pub(super) fn history(
    svg: &mut Svg,
    area: Area,
    panel: &Panel,
    answers: &[Answer],
    times: (f64, f64),
    values: &Values,
) -> Result<()> {
    let series = || {
        let named = |answer| move |series| (Answer::name(answer, series), series);
        answers.iter().flat_map(move |answer| answer.series.iter().map(named(answer)))
    };
    let count = f64::from(u32::try_from(series().count().max(1))?);
    let names = series().map(|(name, _)| svg::width(&name, 12.0)).fold(0.0, f64::max);
    let names = (names + 10.0).min(area.w * 0.4);
    let plot = Area { x: area.x + names, w: area.w - names, h: area.h - TIMES - LEGEND, ..area };
    time_axis(svg, plot, times);
    let milliseconds: f64 =
        values.resolve("$__interval_ms")?.parse().context("no time between points")?;
    let cell = plot.w * milliseconds / 1000.0 / (times.1 - times.0);
    let height = plot.h / count;
    let mut y = plot.y;
    for (name, series) in series() {
        let style = Style::of(panel, &name);
        let text = svg::fitting(&name, names - 8.0, 12.0);
        let look = Text { size: 12.0, end: true, ..TEXT };
        svg.text(plot.x - 8.0, y + height / 2.0 + 4.0, &text, &look);
        svg.path(&[(plot.x, y), (plot.x + plot.w, y)], BORDER, None, false);
        for (when, value) in &series.points {
            let x = place(plot, times, *when) - cell;
            let h = (height * 0.85).min(40.0);
            let area = Area { x, y: y + (height - h) / 2.0, w: cell * 0.9, h };
            svg.rect(area, &style.colour(*value), None);
        }
        y += height;
    }
    let style = Style::of(panel, "");
    let steps = style.steps();
    let entry = |(at, (from, colour)): (usize, &(Option<f64>, &str))| -> Result<(String, String)> {
        let text = match (from, steps.get(at + 1)) {
            (Some(from), _) => format!("{}+", style.text(*from)?),
            (None, Some((Some(next), _))) => format!("< {}", style.text(*next)?),
            (None, _) => "any".to_owned(),
        };
        Ok(((*colour).to_owned(), text))
    };
    let entries = steps.iter().enumerate().map(entry).collect::<Result<Vec<_>>>()?;
    draw_legend(svg, area, &entries);
    Ok(())
}

fn place(plot: Area, (start, end): (f64, f64), when: f64) -> f64 {
    plot.x + plot.w * (when - start) / (end - start)
}

/// Times of day below a plot.
fn time_axis(svg: &mut Svg, plot: Area, (start, end): (f64, f64)) {
    let steps = [5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 21_600.0];
    let fits = |step: &&f64| plot.w / ((end - start) / **step) >= 80.0;
    let step = steps.iter().find(fits).copied().unwrap_or(86_400.0);
    let mut when = (start / step).ceil() * step;
    while when <= end {
        let x = place(plot, (start, end), when);
        svg.path(&[(x, plot.y), (x, plot.y + plot.h)], BORDER, None, false);
        let text = time(when);
        let day = text.split(' ').next_back().unwrap_or_default();
        if x > plot.x + 20.0 && x < plot.x + plot.w - 20.0 {
            svg.text(x, plot.y + plot.h + 14.0, day, &Text { middle: true, ..SMALL });
        }
        when += step;
    }
}

/// 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|by| by * power)
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}
