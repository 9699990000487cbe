//! Panels of numbers and words.

use anyhow::{Context as _, Result};

use super::{
    BORDER, DIM,
    style::Style,
    svg::{self, Area, Svg, TEXT, Text},
};
use crate::dashboards::{
    frames::{self, Answer, Cell},
    grafana::Panel,
};

/// Grafana's small rows.
const ROW: f64 = 36.0;

/// One number.
pub(super) fn stat(svg: &mut Svg, area: Area, panel: &Panel, answers: &[Answer]) -> Result<()> {
    let value = answers.iter().flat_map(|answer| &answer.series).next();
    let value = value.and_then(|series| series.points.last()).context("no value")?.1;
    let (text, colour) = Style::of(panel, "").cell(&Cell::Number(value))?;
    let size = (area.w * 0.85 / svg::width(&text, 1.0)).min(38.0);
    let look = Text { colour: &colour, size, bold: true, middle: true, ..TEXT };
    svg.text(area.x + area.w / 2.0, area.y + area.h / 2.0 + size / 3.0, &text, &look);
    Ok(())
}

/// Rows and columns; rows that don't fit are reached by scrolling.
pub(super) fn table(svg: &mut Svg, area: Area, panel: &Panel, answers: &[Answer]) -> Result<()> {
    let mut frame = frames::table(panel, answers)?;
    let sorts = panel.options["sortBy"].as_array().map_or(&[][..], Vec::as_slice);
    for sort in sorts.iter().rev() {
        let name = sort["displayName"].as_str().unwrap_or_default();
        let place = frame.place(name).with_context(|| format!("no field {name} to sort by"))?;
        frame.rows.sort_by(|a, b| {
            let order = compare(&a[place], &b[place]);
            if sort["desc"] == true { order.reverse() } else { order }
        });
    }
    let styles: Vec<_> = frame.fields.iter().map(|field| Style::of(panel, field)).collect();
    let given: Vec<_> = styles.iter().map(|style| style.custom("width").as_f64()).collect();
    let rest = area.w - given.iter().flatten().sum::<f64>();
    let shares = given.iter().filter(|width| width.is_none()).count();
    let share = if shares == 0 { 0.0 } else { rest / f64::from(u32::try_from(shares)?) };
    let widths: Vec<_> = given.into_iter().map(|width| width.unwrap_or(share)).collect();

    let numbers =
        |column: usize| frame.rows.iter().any(|row| matches!(row[column], Cell::Number(_)));
    let place = |svg: &mut Svg, column: usize, y: f64, text: &str, look: Text<'_>| {
        let x = area.x + widths[..column].iter().sum::<f64>();
        let text = svg::fitting(text, widths[column] - 8.0, look.size);
        let end = numbers(column) && styles[column].custom("align") != "left";
        let x = if end { x + widths[column] - 8.0 } else { x };
        svg.text(x, y, &text, &Text { end, ..look });
    };
    let head = Text { bold: true, ..TEXT };
    for (column, field) in frame.fields.iter().enumerate() {
        place(svg, column, area.y + 22.0, field, head);
    }
    let mut y = area.y + ROW;
    for row in &frame.rows {
        if y + ROW > area.y + area.h + 4.0 {
            break;
        }
        svg.path(&[(area.x, y), (area.x + area.w, y)], BORDER, None, false);
        for (column, cell) in row.iter().enumerate() {
            let (text, colour) = styles[column].cell(cell)?;
            place(svg, column, y + 23.0, &text, Text { colour: &colour, ..TEXT });
        }
        y += ROW;
    }
    Ok(())
}

fn compare(a: &Cell, b: &Cell) -> std::cmp::Ordering {
    match (a, b) {
        (Cell::Number(a), Cell::Number(b)) => a.total_cmp(b),
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        (Cell::Nothing, Cell::Nothing) => std::cmp::Ordering::Equal,
        (Cell::Nothing, _) => std::cmp::Ordering::Less,
        (_, Cell::Nothing) => std::cmp::Ordering::Greater,
        (Cell::Number(_), Cell::Text(_)) => std::cmp::Ordering::Less,
        (Cell::Text(_), Cell::Number(_)) => std::cmp::Ordering::Greater,
    }
}

/// A bar for each series.
pub(super) fn bars(svg: &mut Svg, area: Area, panel: &Panel, answers: &[Answer]) -> Result<()> {
    let mut bars = Vec::new();
    for answer in answers {
        for series in &answer.series {
            let value = series.points.last().map_or(0.0, |(_, value)| *value);
            bars.push((answer.name(series), value));
        }
    }
    let largest = bars.iter().fold(0.0, |largest: f64, (_, value)| largest.max(*value));
    let names = bars.iter().map(|(name, _)| svg::width(name, 13.0)).fold(0.0, f64::max);
    let names = (names + 10.0).min(area.w * 0.4);
    let height = (area.h / f64::from(u32::try_from(bars.len().max(1))?)).min(40.0);
    for (at, (name, value)) in bars.iter().enumerate() {
        let style = Style::of(panel, name);
        let y = area.y + height * f64::from(u32::try_from(at)?);
        let middle = y + height / 2.0 + 4.0;
        let look = Text { end: true, ..TEXT };
        svg.text(area.x + names - 8.0, middle, &svg::fitting(name, names - 8.0, 13.0), &look);
        let (text, colour) = style.cell(&Cell::Number(*value))?;
        let room = area.w - names - svg::width("000.0 MB", 13.0);
        let largest = style.bounds().1.unwrap_or(largest);
        let w = if largest > 0.0 { room * value / largest } else { 0.0 };
        let bar = Area { x: area.x + names, y: y + 2.0, w: room, h: height - 4.0 };
        if panel.options["showUnfilled"] == true {
            svg.rect(bar, BORDER, None);
        }
        svg.rect(Area { w: w.max(1.0), ..bar }, &colour, None);
        let unbarred = Text { colour: if *value == 0.0 { DIM } else { TEXT.colour }, ..look };
        svg.text(area.x + area.w, middle, &text, &unbarred);
    }
    Ok(())
}
