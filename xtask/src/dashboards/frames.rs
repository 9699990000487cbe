//! What Grafana makes of Prometheus' answers: tables of fields, and the transformations that the dashboards
//! use (its documentation, "Transform data").

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::grafana::{Panel, Transformation};

/// One series of an answer.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) labels: BTreeMap<String, String>,
    /// Unix time in seconds, and value.
    pub(super) points: Vec<(f64, f64)>,
}

/// The answer to one query of a panel.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) ref_id: String,
    pub(super) legend: String,
    pub(super) series: Vec<Series>,
}

impl Answer {
    /// What a series is called in a legend.
    pub(super) fn name(&self, series: &Series) -> String {
        let mut name = self.legend.clone();
        for (label, value) in &series.labels {
            name = name.replace(&format!("{{{{{label}}}}}"), value);
        }
        name
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Nothing,
    Text(String),
    Number(f64),
}

/// A table: names of fields, and rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    pub(super) fields: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// The table that a panel shows.
pub(super) fn table(panel: &Panel, answers: &[Answer]) -> Result<Frame> {
    let alone = answers.len() == 1;
    let mut frames = answers.iter().map(|answer| of_answer(answer, alone)).collect::<Vec<_>>();
    for Transformation { id, options } in &panel.transformations {
        match id.as_str() {
            "merge" => frames = vec![merge(&frames)],
            "organize" => frames.iter_mut().for_each(|frame| organize(frame, options)),
            "filterByValue" => {
                for frame in &mut frames {
                    filter(frame, options)?;
                }
            }
            other => bail!("the transformation {other} is not known here"),
        }
    }
    frames.into_iter().next().context("no query")
}

/// Labels and value, as the data source returns a table.
fn of_answer(answer: &Answer, alone: bool) -> Frame {
    let mut labels: Vec<_> = answer.series.iter().flat_map(|series| series.labels.keys()).collect();
    labels.sort();
    labels.dedup();
    let row = |series: &Series| {
        let text = |label| series.labels.get(label).cloned().map_or(Cell::Nothing, Cell::Text);
        let value = series.points.last().map_or(Cell::Nothing, |(_, value)| Cell::Number(*value));
        labels.iter().map(|label| text(label.as_str())).chain([value]).collect()
    };
    let rows = answer.series.iter().map(row).collect();
    let value = if alone { "Value".to_owned() } else { format!("Value #{}", answer.ref_id) };
    Frame { fields: labels.iter().map(|label| (*label).clone()).chain([value]).collect(), rows }
}

/// Rows that agree in all that they have in common become one. A row of few fields goes to each that it
/// agrees with.
fn merge(frames: &[Frame]) -> Frame {
    let mut merged = Frame::default();
    for frame in frames {
        let places: Vec<_> = frame.fields.iter().map(|field| merged.place_or_add(field)).collect();
        let mut new = Vec::new();
        for row in &frame.rows {
            let agrees = |old: &[Cell]| {
                let pairs = places.iter().zip(row);
                pairs.clone().all(|(place, cell)| [cell, &Cell::Nothing].contains(&&old[*place]))
                    && pairs.into_iter().any(|(place, cell)| old[*place] == *cell)
            };
            let mut found = false;
            for old in merged.rows.iter_mut().filter(|old| agrees(old)) {
                places.iter().zip(row).for_each(|(place, cell)| old[*place] = cell.clone());
                found = true;
            }
            if !found {
                let mut cells = vec![Cell::Nothing; merged.fields.len()];
                places.iter().zip(row).for_each(|(place, cell)| cells[*place] = cell.clone());
                new.push(cells);
            }
        }
        merged.rows.extend(new);
    }
    merged
}

impl Frame {
    /// Where a field is.
    pub(super) fn place(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|known| known == field)
    }

    fn place_or_add(&mut self, field: &str) -> usize {
        self.place(field).unwrap_or_else(|| {
            self.fields.push(field.to_owned());
            self.rows.iter_mut().for_each(|row| row.push(Cell::Nothing));
            self.fields.len() - 1
        })
    }
}

/// Leaves fields out, orders and renames them.
fn organize(frame: &mut Frame, options: &Value) {
    let mut kept: Vec<_> = (0..frame.fields.len())
        .filter(|place| options["excludeByName"][&frame.fields[*place]] != true)
        .collect();
    kept.sort_by_key(|place| {
        options["indexByName"][&frame.fields[*place]].as_u64().unwrap_or(u64::MAX)
    });
    let renamed = |field: &String| {
        options["renameByName"][field].as_str().unwrap_or(field.as_str()).to_owned()
    };
    let fields = kept.iter().map(|place| renamed(&frame.fields[*place])).collect();
    let row = |row: &Vec<Cell>| kept.iter().map(|place| row[*place].clone()).collect();
    *frame = Frame { fields, rows: frame.rows.iter().map(row).collect() };
}

/// Keeps the rows in which one of the fields is above its bound, the only filter in use.
fn filter(frame: &mut Frame, options: &Value) -> Result<()> {
    let supported = options["type"] == "include" && options["match"] == "any";
    let filters = options["filters"].as_array().filter(|_| supported);
    let mut bounds = Vec::new();
    for filter in filters.context("a filter that is not known here")? {
        let field = filter["fieldName"].as_str().unwrap_or_default();
        let place = frame.place(field).with_context(|| format!("no field {field:?} to filter"))?;
        let bound = filter["config"]["options"]["value"].as_f64();
        let bound = bound.filter(|_| filter["config"]["id"] == "greater");
        bounds.push((place, bound.context("a filter that is not known here")?));
    }
    frame.rows.retain(|row| {
        bounds.iter().any(|(at, bound)| matches!(row[*at], Cell::Number(value) if value > *bound))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(ref_id: &str, rows: &[(&[(&str, &str)], f64)]) -> Answer {
        let series = rows.iter().map(|(labels, value)| Series {
            labels: labels.iter().map(|(l, v)| ((*l).to_owned(), (*v).to_owned())).collect(),
            points: vec![(0.0, *value)],
        });
        let legend = "{{device}} to {{country}}".to_owned();
        Answer { ref_id: ref_id.to_owned(), legend, series: series.collect() }
    }

    fn texts(frame: &Frame) -> Vec<String> {
        let text = |cell: &Cell| match cell {
            Cell::Nothing => "-".to_owned(),
            Cell::Text(text) => text.clone(),
            Cell::Number(value) => value.to_string(),
        };
        frame.rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_row_of_few_labels_goes_to_each_that_it_agrees_with() {
        let bytes = answer(
            "A",
            &[
                (&[("device", "a"), ("asn", "1")], 5.0),
                (&[("device", "a"), ("asn", "2")], 6.0),
                (&[("device", "b"), ("asn", "1")], 7.0),
            ],
        );
        let first = answer("B", &[(&[("device", "a")], 100.0), (&[("device", "c")], 300.0)]);
        let merged = merge(&[of_answer(&bytes, false), of_answer(&first, false)]);
        assert_eq!(merged.fields, ["asn", "device", "Value #A", "Value #B"]);
        assert_eq!(texts(&merged), ["1 a 5 100", "2 a 6 100", "1 b 7 -", "- c - 300"]);
    }

    #[test]
    fn fields_are_left_out_ordered_and_renamed_and_rows_filtered() {
        let rows: [(&[(&str, &str)], f64); 2] =
            [(&[("country", "CN"), ("device", "a")], 5.0), (&[("device", "b")], 0.0)];
        let mut frame = of_answer(&answer("A", &rows), true);
        let options = json!({
            "excludeByName": { "country": true },
            "indexByName": { "Value": 0, "device": 1 },
            "renameByName": { "Value": "Sent" },
        });
        organize(&mut frame, &options);
        assert_eq!(frame.fields, ["Sent", "device"]);
        assert_eq!(texts(&frame), ["5 a", "0 b"]);
        let above = |field: &str| {
            json!({
                "filters": [{
                    "fieldName": field,
                    "config": { "id": "greater", "options": { "value": 0 } },
                }],
                "match": "any",
                "type": "include",
            })
        };
        filter(&mut frame, &above("Sent")).unwrap();
        assert_eq!(texts(&frame), ["5 a"]);
        assert!(filter(&mut frame, &above("Value")).is_err(), "it has another name now");
    }

    #[test]
    fn a_legend_names_the_labels() {
        let answer = answer("A", &[(&[("country", "CN"), ("device", "a")], 5.0)]);
        assert_eq!(answer.name(&answer.series[0]), "a to CN");
    }
}
