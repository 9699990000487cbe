//! Rows for people (an aligned table) and for programs (CSV), by one list of columns each.

use std::{
    borrow::Cow,
    env,
    io::{self, Write},
};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use csv::{Terminator, WriterBuilder};
use terminal_size::{Width, terminal_size_of};
use unicode_width::UnicodeWidthStr as _;

use super::terminal::{is_colored, printable};

/// Widest cell of a table, in characters.
const MAX_WIDTH: usize = 40;
/// Between two columns.
const GAP: usize = 2;
/// No terminal is taken for narrower.
const NARROWEST: usize = 80;

/// A column of rows of `T`.
pub(super) struct Column<T> {
    /// Its head; in CSV the name that the field has in JSON.
    pub(super) name: &'static str,
    /// Numbers stand at the right of a table.
    pub(super) is_number: bool,
    pub(super) cell: fn(&T) -> String,
    /// Where a table is too wide, cells are cut to this; 0 for never.
    narrowest: usize,
    /// And then columns are left out, the highest rank first; 0 for never.
    rank: u8,
}

impl<T> Column<T> {
    /// May be cut to a width.
    pub(super) const fn cut_to(self, narrowest: usize) -> Self {
        Self { narrowest, ..self }
    }

    /// May be left out.
    pub(super) const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

/// A column of text.
pub(super) const fn text<T>(name: &'static str, cell: fn(&T) -> String) -> Column<T> {
    Column { name, is_number: false, cell, narrowest: 0, rank: 0 }
}

/// A column of numbers.
pub(super) const fn number<T>(name: &'static str, cell: fn(&T) -> String) -> Column<T> {
    Column { name, is_number: true, cell, narrowest: 0, rank: 0 }
}

/// How a table is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// In columns; nothing where there is no terminal to fit.
    pub(super) width: Option<usize>,
    pub(super) colored: bool,
}

impl Style {
    /// As it fits standard output: the terminal, else the environment's `COLUMNS`.
    pub(super) fn of_output() -> Self {
        let out = io::stdout();
        let terminal = terminal_size_of(&out).map(|(Width(width), _)| usize::from(width));
        let told = || env::var("COLUMNS").ok()?.parse().ok();
        let width = terminal.filter(|width| *width > 0).or_else(told);
        Self { width: width.map(|width| width.max(NARROWEST)), colored: is_colored(&out) }
    }
}

/// What a row stands out by, as ANSI's number of a colour.
pub(super) type Colour<T> = fn(&T) -> Option<u8>;

/// A table that fits, with a last line of sums if there is one. What doesn't fit is cut or left out, which JSON and
/// CSV don't do.
pub(super) fn table<'a, T: 'a>(
    out: &mut dyn Write,
    style: Style,
    columns: &[Column<T>],
    rows: impl IntoIterator<Item = &'a T>,
    sums: Option<&'a T>,
    colour: Colour<T>,
) -> io::Result<()> {
    let rows: Vec<&T> = rows.into_iter().chain(sums).collect();
    let head = columns.iter().map(|column| column.name.to_owned()).collect();
    let cells = rows.iter().map(|row| {
        columns
            .iter()
            .map(|column| cut(&printable(&(column.cell)(row)), MAX_WIDTH).into_owned())
            .collect()
    });
    let mut lines: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
    let shown = fit(columns, &mut lines, style.width);

    let mut table = Table::new();
    table.load_style(NOTHING);
    for line in &lines {
        table.add_row(shown.iter().map(|column| &line[*column]));
    }
    for (drawn, column) in table.column_iter_mut().zip(&shown) {
        drawn.set_padding((0, 2));
        if columns[*column].is_number {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    let last = lines.len() - 1;
    for (index, line) in table.lines().enumerate() {
        let ansi = match index {
            0 => Some(1),
            index if index == last && sums.is_some() => Some(1),
            index => rows.get(index - 1).and_then(|row| colour(row)),
        };
        match ansi.filter(|_| style.colored) {
            Some(ansi) => writeln!(out, "\x1b[{ansi}m{}\x1b[0m", line.trim_end())?,
            None => writeln!(out, "{}", line.trim_end())?,
        }
    }
    Ok(())
}

/// Cuts cells until all fit; says which columns are left.
fn fit<T>(columns: &[Column<T>], lines: &mut [Vec<String>], width: Option<usize>) -> Vec<usize> {
    let natural: Vec<usize> = (0..columns.len())
        .map(|at| lines.iter().map(|line| line[at].width()).max().unwrap_or(0))
        .collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let Some(width) = width else { return shown };
    let widths = loop {
        let mut widths = natural.clone();
        let narrowest = |at: usize| match columns[at].narrowest {
            0 => usize::MAX,
            narrowest => narrowest.max(columns[at].name.len()),
        };
        let needed = |widths: &[usize]| {
            shown.iter().map(|at| widths[*at]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
        };
        while needed(&widths) > width {
            let room = |at: &usize| widths[*at].saturating_sub(narrowest(*at));
            match shown.iter().copied().max_by_key(room).filter(|at| room(at) > 0) {
                Some(widest) => widths[widest] -= 1,
                None => break,
            }
        }
        let last = shown
            .iter()
            .copied()
            .max_by_key(|at| columns[*at].rank)
            .filter(|at| columns[*at].rank > 0);
        match last.filter(|_| needed(&widths) > width) {
            Some(least) => shown.retain(|at| *at != least),
            None => break widths,
        }
    };
    for line in lines {
        for at in &shown {
            line[*at] = cut(&line[*at], widths[*at]).into_owned();
        }
    }
    shown
}

/// Bytes with a unit, in four digits at most; a kB is 1000 bytes.
pub(super) fn amount(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut number, mut unit) = (bytes, 0);
    while number >= 10_000 {
        number = number / 1000 + u64::from(number % 1000 >= 500);
        unit += 1;
    }
    format!("{number} {}", UNITS[unit])
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

/// The text in a width, with an ellipsis for what is missing.
fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut end = 0;
    for (start, character) in text.char_indices() {
        let next = start + character.len_utf8();
        if text[..next].width() + 1 > width {
            break;
        }
        end = next;
    }
    format!("{}…", &text[..end]).into()
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
        let text = written(|out| table(out, Style::default(), &COLUMNS, &rows, None, |_| None));
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
    fn tables_fit_where_they_are_shown() {
        const WIDE: [Column<Row>; 4] = [
            text("name", |row: &Row| row.0.to_owned()).cut_to(8),
            text("vendor", |_: &Row| "a vendor with a long name".to_owned()).cut_to(10).rank(1),
            text("over", |_: &Row| "tcp/80".to_owned()),
            number("bytes", |row: &Row| amount(row.1)),
        ];
        let long = "电信".repeat(15);
        let rows = [("a", 1), (&*long.leak(), 22_222_222)];
        let sums = ("total", 22_222_223);
        for width in [80, 50, 41, 30, 20] {
            let style = Style { width: Some(width), colored: false };
            let text = written(|out| table(out, style, &WIDE, &rows, Some(&sums), |_| None));
            // Name, over and bytes are never left out: 8 + 6 + 5 and two gaps.
            assert!(text.lines().all(|line| line.width() <= width.max(23)), "{width}: {text}");
            assert_eq!(text.lines().count(), 4);
            assert!(text.lines().last().unwrap().starts_with("total "), "{text}");
            assert_eq!(text.contains("vendor"), width > 30, "{width}: {text}");
        }
        let style = Style { width: None, colored: true };
        let text = written(|out| {
            table(out, style, &WIDE, &rows, Some(&sums), |row| (row.1 == 1).then_some(33))
        });
        let begin: Vec<_> = text
            .lines()
            .map(|line| {
                line.strip_prefix('\x1b').and_then(|line| line.split('m').next()).unwrap_or("")
            })
            .collect();
        assert_eq!(begin, ["[1", "[33", "", "[1"], "{text}");
    }

    #[test]
    fn amounts_have_four_digits_at_most() {
        for (bytes, expected) in [
            (0, "0 B"),
            (9999, "9999 B"),
            (10_000, "10 kB"),
            (4_450_123, "4450 kB"),
            (9_999_500, "10 MB"),
            (13_219_746, "13 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(amount(bytes), expected, "{bytes}");
        }
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
