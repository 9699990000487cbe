//! What may be printed. Names come from packets, files and other machines; none steers a terminal or
//! runs in a spreadsheet.

use std::{
    borrow::Cow,
    env,
    ffi::OsStr,
    fmt::{Arguments, Write as _},
    io::{self, BufWriter, IsTerminal, Write},
};

use anyhow::{Context as _, Result};

/// Control characters (C0, DEL, C1), and format characters (Unicode category Cf, line and paragraph
/// separators) that hide text or change its order.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with a `?` for each character that is not to be printed.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_hostile) { text.replace(is_hostile, "?").into() } else { text.into() }
}

/// JSON with such characters as escapes, which changes nothing of what it says: outside of strings
/// there are none but spaces, which stay.
pub(super) fn printable_json(text: &str) -> Cow<'_, str> {
    let escaped = |c: char| is_hostile(c) && !c.is_ascii_whitespace();
    if !text.contains(escaped) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ok = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// Prints to standard output. That nobody reads to the end, as in `labgate query | head`, is no
/// failure.
///
/// # Errors
///
/// When standard output can't be written.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("can't print"),
    }
}

/// Prints a line to standard output, as `println!` does, but goes on where nobody reads it any more: `labgate
/// check | head` still checks everything, and its exit status is the same.
macro_rules! say {
    ($($text:tt)*) => { $crate::commands::terminal::line(&mut std::io::stdout(), format_args!($($text)*)) };
}

/// The same on standard error.
macro_rules! tell {
    ($($text:tt)*) => { $crate::commands::terminal::line(&mut std::io::stderr(), format_args!($($text)*)) };
}

pub(super) use {say, tell};

/// Writes a line; what can't be written is said on standard error, and nowhere if that is gone, too.
pub(super) fn line(out: &mut dyn Write, text: Arguments<'_>) {
    match writeln!(out, "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            writeln!(io::stderr(), "labgate: can't print: {error}").ok();
        }
        _ => {}
    }
}

/// Whether it may be coloured: a terminal that can, and a user who has not said no (<https://no-color.org>).
pub(super) fn is_colored(out: &impl IsTerminal) -> bool {
    out.is_terminal() && colors_are_wanted(env::var_os("NO_COLOR").as_deref(), is_plain())
}

fn colors_are_wanted(no_color: Option<&OsStr>, plain: bool) -> bool {
    no_color.is_none_or(OsStr::is_empty) && !plain
}

/// Whether the terminal shows text and nothing else.
pub(super) fn is_plain() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}d\u{7f}e\u{202e}f\u{feff}"), "a?[2Jb?c?d?e?f?");
        assert_eq!(printable("Телеком 电信 é"), "Телеком 电信 é");
    }

    #[test]
    fn a_line_that_nobody_reads_is_no_failure() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        line(&mut writer, format_args!("nobody {}", "reads this"));
        let mut out = Vec::new();
        line(&mut out, format_args!("a{}", 1));
        assert_eq!(out, b"a1\n");
    }

    #[test]
    fn who_refuses_colors_gets_none() {
        for (no_color, plain, expected) in [
            (None, false, true),
            (Some(""), false, true),
            (Some("1"), false, false),
            (None, true, false),
        ] {
            let no_color = no_color.map(OsStr::new);
            assert_eq!(colors_are_wanted(no_color, plain), expected, "{no_color:?}, {plain}");
        }
        assert!(!is_colored(&std::fs::File::open("/dev/null").unwrap()), "no terminal");
    }

    #[test]
    fn json_says_the_same_in_harmless_characters() {
        let value = serde_json::json!({ "a\u{9b}": "\u{7f}\u{202e}\u{e0041} \u{1b} é" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        assert!(text.contains('\u{9b}'), "serde_json would escape it");
        let safe = printable_json(&text);
        assert!(!safe.contains(|c| is_hostile(c) && c != '\n'), "{safe:?}");
        assert!(safe.contains("\\udb40\\udc41") && safe.contains('é'), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
