//! Rows for people (an aligned table) and for programs (CSV), by one list of columns each.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use csv::{Terminator, WriterBuilder};

use super::terminal::printable;

/// Widest cell of a table, in characters.
const MAX_WIDTH: usize = 40;

/// A column of rows of `T`.
pub(super) struct Column<T> {
    /// Its head; in CSV the name that the field has in JSON.
    pub(super) name: &'static str,
    /// Numbers stand at the right of a table.
    pub(super) is_number: bool,
    pub(super) cell: fn(&T) -> String,
}

/// A column of text.
pub(super) const fn text<T>(name: &'static str, cell: fn(&T) -> String) -> Column<T> {
    Column { name, is_number: false, cell }
}

/// A column of numbers.
pub(super) const fn number<T>(name: &'static str, cell: fn(&T) -> String) -> Column<T> {
    Column { name, is_number: true, cell }
}

/// A table; cells too wide for it are cut, which JSON and CSV don't do.
pub(super) fn table<'a, T: 'a>(
    out: &mut dyn Write,
    columns: &[Column<T>],
    rows: impl IntoIterator<Item = &'a T>,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns.iter().map(|column| column.name));
    for row in rows {
        table.add_row(
            columns.iter().map(|column| cut(&printable(&(column.cell)(row))).into_owned()),
        );
    }
    for (drawn, column) in table.column_iter_mut().zip(columns) {
        drawn.set_padding((0, 2));
        if column.is_number {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// CSV as RFC 4180 has it, with a header.
pub(super) fn csv<'a, T: 'a>(
    out: &mut dyn Write,
    columns: &[Column<T>],
    rows: impl IntoIterator<Item = &'a T>,
) -> io::Result<()> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    writer.write_record(columns.iter().map(|column| column.name))?;
    for row in rows {
        writer.write_record(
            columns.iter().map(|column| defused(&printable(&(column.cell)(row))).into_owned()),
        )?;
    }
    writer.flush()
}

/// Spreadsheets run a cell that begins like a formula, quoted or not; behind an apostrophe it is
/// text (OWASP, "CSV Injection"). No number of ours has a sign, so only names change.
fn defused(cell: &str) -> Cow<'_, str> {
    let formula = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    // Spaces before it do not help.
    if cell.trim_start().starts_with(formula) { format!("'{cell}").into() } else { cell.into() }
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_WIDTH) {
        None => text.into(),
        Some(_) => {
            let end = text.char_indices().nth(MAX_WIDTH - 1).map_or(text.len(), |(end, _)| end);
            format!("{}…", &text[..end]).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, u64);
    const COLUMNS: [Column<Row>; 2] =
        [text("name", |row| row.0.to_owned()), number("bytes", |row| row.1.to_string())];

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_align_by_what_is_shown() {
        let long = "x".repeat(MAX_WIDTH + 1);
        let rows = [("a", 1), ("电信", 22_222_222), ("\x1b[2J", 3), (long.leak(), 4)];
        let text = written(|out| table(out, &COLUMNS, &rows));
        let x = "x".repeat(MAX_WIDTH - 1);
        let expected = [
            format!("name{:36}     bytes", ""),
            format!("a{:39}         1", ""),
            format!("电信{:36}  22222222", ""),
            format!("?[2J{:36}         3", ""),
            format!("{x}…         4"),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn csv_can_be_read_back_and_runs_nothing() {
        let rows = [
            ("plain", 1),
            ("comma, \"quote\"", 2),
            ("=HYPERLINK(\"http://x\")", 3),
            (" @SUM(1)", 4),
            ("－1", 5),
            ("line\nbreak\x1b", 6),
            ("a=b", 7),
        ];
        let text = written(|out| csv(out, &COLUMNS, &rows));
        assert!(
            text.starts_with("name,bytes\r\nplain,1\r\n\"comma, \"\"quote\"\"\",2\r\n"),
            "{text}"
        );
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<_> = reader.records().map(|record| record.unwrap()[0].to_owned()).collect();
        let expected = [
            "plain",
            "comma, \"quote\"",
            "'=HYPERLINK(\"http://x\")",
            "' @SUM(1)",
            "'－1",
            "line?break?",
            "a=b",
        ];
        assert_eq!(names, expected);
    }
}
