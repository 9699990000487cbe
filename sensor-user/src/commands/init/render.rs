//! The file: the shipped one, with what was found filled in.
//!
//! The shipped file is the only text with comments on every key; here are only the places where
//! something goes in. A block ends at the first empty line after its key.

use std::fmt::Write as _;

use super::devices::Proposal;
use crate::host::Link;

/// What comes with LabGate.
const SHIPPED: &str = include_str!("../../../../config.yaml");
/// The interface that it names.
const EXAMPLE: &str = "  - name: lan0\n";
/// Words that YAML does not take for text.
const NO_TEXT: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// The configuration, for at least one interface.
pub(super) fn render(interfaces: &[&Link], devices: &[Proposal]) -> String {
    let mut names = interfaces.iter().map(|link| format!("  - name: {}\n", scalar(&link.name)));
    let first = names.next().unwrap_or_default();
    let mut text = SHIPPED.replacen(EXAMPLE, &first, 1);
    append(&mut text, "interfaces:", &names.collect::<String>());
    append(&mut text, "devices:", &comments(devices));
    format!(
        "# Written by `labgate init`: the shipped file with what it found on this machine.\n{text}"
    )
}

/// Adds lines at the end of a key's block.
fn append(text: &mut String, key: &str, lines: &str) {
    let start = text.find(&format!("\n{key}\n")).map_or(0, |at| at + 1);
    let end = text[start..].find("\n\n").map_or(text.len(), |at| start + at + 1);
    text.insert_str(end, lines);
}

fn comments(devices: &[Proposal]) -> String {
    let mut lines = String::new();
    if !devices.is_empty() {
        lines += "  # Seen behind these interfaces; take away the `#` of those on the bench:\n";
    }
    for Proposal { name, mac, remark } in devices {
        // Writing to a String cannot fail.
        let _ok = writeln!(lines, "  # - name: {}", scalar(name));
        let _ok = writeln!(lines, "  #   mac: {mac} # {}", one_line(remark));
    }
    lines
}

/// The text as a scalar that is that text and nothing else, on one line.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !NO_TEXT.contains(&text.to_ascii_lowercase().as_str());
    // What JSON calls a string YAML calls a double-quoted scalar (YAML 1.2.2, 1.2).
    if plain { text.to_owned() } else { serde_json::Value::from(one_line(text)).to_string() }
}

fn one_line(text: &str) -> String {
    // Besides control characters YAML breaks lines at U+2028 and U+2029 (YAML 1.1).
    let breaks = |c: char| c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c);
    text.chars().filter(|c| !breaks(*c)).collect()
}
