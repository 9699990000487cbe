//! A corpus as a text file: one input a line, so that a change of it can be read.
//!
//! ```text
//! # What the inputs up to the next such line are, or what one of them once did.
//! "GET / HTTP/1.1\r\n\r\n"
//! 7f454c46
//! ```
//!
//! A line is the octets in hexadecimal, or in quotes with the escapes of Rust's byte strings, whichever is
//! shorter.

use anyhow::{Context as _, Result, bail, ensure};

/// Inputs below one comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The comment; empty for none.
    pub comment: String,
    /// The inputs.
    pub inputs: Vec<Vec<u8>>,
}

/// Reads a corpus.
///
/// # Errors
/// The first line that is none of those that there are.
pub fn read(text: &str) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            match groups.last_mut() {
                // A comment of several lines.
                Some(group) if group.inputs.is_empty() => {
                    group.comment = format!("{}\n{comment}", group.comment);
                }
                _ => groups.push(Group { comment: comment.to_owned(), inputs: Vec::new() }),
            }
        } else if !line.is_empty() {
            let input = decode(line).with_context(|| format!("line {number}"))?;
            if groups.is_empty() {
                groups.push(Group::default());
            }
            groups.last_mut().into_iter().for_each(|group| group.inputs.push(input.clone()));
        }
    }
    Ok(groups)
}

/// Writes a corpus, as [`read`] reads it.
pub fn write(groups: &[Group]) -> String {
    let mut text = String::new();
    for Group { comment, inputs } in groups {
        if !text.is_empty() {
            text.push('\n');
        }
        for line in comment.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        for input in inputs {
            text.push_str(&encode(input));
            text.push('\n');
        }
    }
    text
}

/// An input as a line.
pub fn encode(input: &[u8]) -> String {
    let quoted = format!("\"{}\"", input.escape_ascii());
    if quoted.len() < 2 * input.len() || input.is_empty() {
        return quoted;
    }
    input.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The input of a line.
///
/// # Errors
/// When the line is neither hexadecimal nor a quoted text.
pub fn decode(line: &str) -> Result<Vec<u8>> {
    let digits = |digits: &[u8]| -> Result<u8> {
        let digits = str::from_utf8(digits).context("an octet has two hexadecimal digits")?;
        u8::from_str_radix(digits, 16)
            .with_context(|| format!("`{digits}` is not two hexadecimal digits"))
    };
    let Some(quoted) = line.strip_prefix('"') else {
        ensure!(line.len().is_multiple_of(2), "an odd number of hexadecimal digits");
        return line.as_bytes().chunks(2).map(digits).collect();
    };
    let mut rest = quoted.strip_suffix('"').context("the quote does not end")?.as_bytes();
    let mut input = Vec::with_capacity(rest.len());
    while let [octet, behind @ ..] = rest {
        rest = behind;
        if *octet != b'\\' {
            input.push(*octet);
            continue;
        }
        let (escape, behind) = rest.split_first().context("a backslash at the end")?;
        rest = behind;
        input.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' | b'\'' | b'"' => *escape,
            b'x' => {
                let (octet, behind) = rest.split_at_checked(2).context("`\\x` needs two digits")?;
                rest = behind;
                digits(octet)?
            }
            other => bail!("there is no escape `\\{}`", other.escape_ascii()),
        });
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let every: Vec<u8> = (0..=255).collect();
        let groups = vec![
            Group { comment: "one\ntwo".to_owned(), inputs: vec![every, Vec::new()] },
            Group {
                comment: "text".to_owned(),
                inputs: vec![b"GET /\"\\'\t\r\n".to_vec(), vec![0, 255]],
            },
        ];
        let text = write(&groups);
        assert!(text.contains("# one\n# two\n") && text.contains("\n00ff\n"), "{text}");
        assert!(text.contains(r#""GET /\"\\\'\t\r\n""#), "{text}");
        assert_eq!(read(&text).unwrap(), groups);
    }

    #[test]
    fn a_line_that_is_no_input_is_named() {
        for (line, why) in [
            ("abc", "odd"),
            ("zz", "`zz`"),
            ("\"open", "does not end"),
            (r#""\q""#, r"`\q`"),
            (r#""\x4""#, "two digits"),
        ] {
            let error = format!("{:#}", read(&format!("00\n{line}\n")).unwrap_err());
            assert!(error.starts_with("line 2: ") && error.contains(why), "{error}");
        }
    }
}
