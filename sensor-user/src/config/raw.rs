//! What the user typed: the YAML document as a tree that knows where each part stands.
//!
//! A tree rather than derived structs, so that one faulty key does not hide the next: serde's
//! derived code stops at the first error. Nothing is interpreted here; a scalar keeps its spelling
//! (`NO` is Norway, not false; `02:11:22:33:44:55` is no number).

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{
    DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, MessageFormatter, Spanned,
    UserMessageFormatter, options::NonFiniteFloatPolicy,
};

use super::diagnostic::{Diagnostic, Source};

/// A node of the document, with its place.
pub(super) type Node = Spanned<Value>;

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing after the key or the dash, `~` or `null`.
    Null,
    /// A scalar that YAML takes for a number or a truth value; its text is in the source.
    Typed,
    /// Any other scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order typed; a key given twice is here twice.
    Mapping(Vec<(Spanned<String>, Node)>),
}

/// Deeper nesting than any key of ours has is an attack or an accident.
const MAX_DEPTH: usize = 16;
/// A thousand devices take some ten thousand nodes.
const MAX_NODES: usize = 100_000;
/// Aliases are handy for repeated country lists; more than this is a YAML bomb.
const MAX_ALIASES: usize = 256;

/// What to do about the parser's commonest complaints, by how they begin.
const ADVICE: [(&str, &str); 8] = [
    ("tabs", "indent with spaces"),
    ("mapping values", "a value takes no key beside or below it; one that holds `: ` needs quotes"),
    ("simple key expected", "put `: ` between key and value"),
    ("illegal placement of ':'", "close the bracket that was opened before, or quote the value"),
    ("unclosed bracket", "close it, with `]` after `[` and with `}` after `{`"),
    ("invalid indentation in multiline quoted", "close the quotes that were opened before"),
    ("reference to unknown value", "a value that begins with `*` needs quotes"),
    ("only single YAML document", "remove the line `---` and what belongs to another file"),
];

/// And about all others: the fault is often a line before the place where it shows.
const LOOK_AROUND: &str = "check indentation, quotes and brackets here and in the line above";

/// Parses YAML; its size is bounded by the caller, all else here.
pub(super) fn parse(source: &Source<'_>) -> Result<Node, Diagnostic> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: MAX_DEPTH,
        },
        // Our comments are long, and no one reads them here.
        emit_comments: false,
        // Both are reported by the conversion, along with everything else.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(source.text, options)
        .map_err(|error| diagnostic(source, &error))
}

fn diagnostic(source: &Source<'_>, error: &Error) -> Diagnostic {
    let said = UserMessageFormatter.format_message(error);
    let message = match error {
        Error::Budget { .. } => "the file holds too much, or nests too deeply".into(),
        _ => format!("not valid YAML: {said}"),
    };
    let advice = ADVICE.iter().find(|(start, _)| said.starts_with(start));
    let label = match (error, advice) {
        (Error::Budget { .. }, _) => "",
        (_, Some((_, label))) => label,
        (_, None) => LOOK_AROUND,
    };
    let at = error.location().map(|location| span(source, &location));
    Diagnostic { message, at, label: label.into(), other: None }
}

/// The bytes of the source that a node covers (only the start of a list or mapping).
pub(super) fn span(source: &Source<'_>, location: &Location) -> Range<usize> {
    let span = location.span();
    match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(len)) => {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            source.clamp(start..start.saturating_add(len))
        }
        _ => source.at(location.line(), location.column()),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Value::Mapping(mapping))
    }
}
