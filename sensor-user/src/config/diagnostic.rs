//! One complaint about the file, and its rendering in the manner of rustc.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

/// More complaints than anyone reads; the rest is only counted.
const MAX_RENDERED: usize = 100;
/// Rendering takes time for each byte of a line, and a list can be broken anywhere.
const MAX_LINE: usize = 16 << 10;
/// A quoted token is cut here; the source line below the message shows more.
const MAX_QUOTED: usize = 64;

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnostic {
    /// What is wrong, in one line.
    pub(super) message: String,
    /// The offending token as a range of bytes of the file; `None` when something is missing.
    pub(super) at: Option<Range<usize>>,
    /// What to write instead; empty for no advice.
    pub(super) label: String,
    /// A second place that matters, and why.
    pub(super) other: Option<(Range<usize>, &'static str)>,
}

/// The file's name and text.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { name, text, line_starts }
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= byte)
    }

    /// The range, moved inside the text and to whole characters.
    pub(super) fn clamp(&self, range: Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(range.start);
        start..self.text.ceil_char_boundary(range.end.clamp(start, self.text.len()))
    }

    /// The character at a line and column, both counted from 1.
    pub(super) fn at(&self, line: u64, column: u64) -> Range<usize> {
        let index = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        let row = index(line).min(self.line_starts.len() - 1);
        let (start, text) = self.row(row);
        let mut rest = text.char_indices().skip(index(column));
        match rest.next() {
            Some((i, character)) => start + i..start + i + character.len_utf8(),
            None => start + text.len()..start + text.len(),
        }
    }

    /// Start and text of a line, counted from 0, without its end.
    fn row(&self, row: usize) -> (usize, &'a str) {
        let start = self.line_starts[row];
        let end = self.line_starts.get(row + 1).map_or(self.text.len(), |next| next - 1);
        let line = &self.text[start..end];
        (start, line.strip_suffix('\r').unwrap_or(line))
    }

    /// The line of a range with the range inside it, for the renderer.
    fn snippet(&self, range: &Range<usize>) -> (usize, &'a str, Range<usize>) {
        let row = self.line(range.start) - 1;
        let (start, text) = self.row(row);
        let inside = |byte: usize| byte.saturating_sub(start).min(text.len());
        (row, text, inside(range.start)..inside(range.end))
    }

    /// The complaint about the first line that is too long to be shown.
    pub(super) fn too_long_line(&self) -> Option<Diagnostic> {
        let mut rows = (0..self.line_starts.len()).map(|row| self.row(row));
        let (start, _) = rows.find(|(_, text)| text.len() > MAX_LINE)?;
        Some(Diagnostic {
            message: "the line is longer than 16 KiB".into(),
            at: Some(self.clamp(start..start + 1)),
            label: "break it into several lines".into(),
            other: None,
        })
    }

    /// All complaints, in the order of the file.
    pub(super) fn render(&self, diagnostics: &[Diagnostic]) -> String {
        let mut sorted: Vec<_> = diagnostics.iter().collect();
        sorted.sort_by_key(|d| d.at.as_ref().map_or(usize::MAX, |at| at.start));
        let (shown, hidden) = sorted.split_at(sorted.len().min(MAX_RENDERED));
        let rendered: Vec<_> = shown.iter().map(|d| self.render_one(d)).collect();
        let mut out = rendered.join("\n\n");
        if !hidden.is_empty() {
            let (name, count) = (self.name, hidden.len());
            out += &format!("\n\nerror: {count} more errors in {name} not shown");
        }
        // The renderer leaves those of C1 as they are, and some terminals obey them.
        out.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
    }

    fn render_one(&self, diagnostic: &Diagnostic) -> String {
        let title = Level::ERROR.primary_title(diagnostic.message.as_str());
        let label = Some(diagnostic.label.as_str()).filter(|label| !label.is_empty());
        let Some(at) = &diagnostic.at else {
            let group = title.element(Origin::path(self.name));
            let help = label.map(|label| Level::HELP.message(label));
            return Renderer::plain().render(&[group.elements(help)]);
        };
        let (row, line, primary) = self.snippet(at);
        let mut main = Snippet::source(line)
            .path(self.name)
            .line_start(row + 1)
            .annotation(AnnotationKind::Primary.span(primary).label(label));
        let mut elsewhere = None;
        if let Some((other, why)) = &diagnostic.other {
            let (other_row, line, span) = self.snippet(other);
            let note = AnnotationKind::Context.span(span).label(*why);
            if other_row == row {
                main = main.annotation(note);
            } else {
                let snippet = Snippet::source(line).path(self.name).line_start(other_row + 1);
                elsewhere = Some(snippet.annotation(note));
            }
        }
        Renderer::plain().render(&[title.element(main).elements(elsewhere)])
    }
}

/// A token of the file in backticks: cut when long, control characters escaped.
pub(super) fn quote(token: &str) -> String {
    let mut out = String::from("`");
    for (i, character) in token.chars().enumerate() {
        if i == MAX_QUOTED {
            out.push_str("...");
            break;
        }
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out.push('`');
    out
}
