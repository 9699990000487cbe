//! Reading the raw tree: every fault is noted with its place, and reading goes on.

use std::{collections::HashMap, hash::Hash, ops::Range};

use serde_saphyr::Spanned;

use super::{
    diagnostic::{Diagnostic, Source, quote},
    raw::{Node, Value, span},
};

/// How many typing errors still make a suggestion.
const CLOSE: usize = 2;
/// What messages call the document itself.
const DOCUMENT: &str = "the file";

/// A value under the name that messages use for it.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    /// The key; for an item of a list, the key of the list.
    pub(super) name: &'a str,
    /// Where a message points: the value, or the key when the value is missing.
    pub(super) at: Range<usize>,
    value: &'a Value,
    is_item: bool,
}

/// A scalar as typed (without quotes).
#[derive(Debug, Clone)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) at: Range<usize>,
}

/// The entries of a mapping, one for each known key; a misspelt key stands for the one it is close
/// to, so that its value is checked and nothing is called missing.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// The first key, or the empty mapping: where a missing key is missed.
    pub(super) at: Range<usize>,
    known: &'static [&'static str],
    entries: Vec<Field<'a>>,
}

impl<'a> Fields<'a> {
    /// The entry with this key, unless it is omitted.
    pub(super) fn get(&self, key: &str) -> Option<&Field<'a>> {
        debug_assert!(self.known.contains(&key), "{key} would be refused as unknown");
        self.entries.iter().find(|field| field.name == key)
    }

    /// True without any known key.
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The file and what was noted about it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    source: &'a Source<'a>,
    pub(super) problems: Vec<Diagnostic>,
    /// With the lines they are about.
    warnings: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Notes a fault and what to write instead.
    pub(super) fn refuse(
        &mut self,
        at: &Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        let (message, label) = (message.into(), label.into());
        self.problems.push(Diagnostic { message, at: Some(at.clone()), label, other: None });
    }

    /// Notes a fault of something secret: the line is named, but not shown.
    pub(super) fn refuse_secret(&mut self, at: &Range<usize>, message: &str, label: &str) {
        let line = self.source.line(at.start);
        self.missing(&format!("line {line}: {message}"), label);
    }

    /// Notes that something the file must have is not there.
    pub(super) fn missing(&mut self, message: &str, label: &str) {
        let (message, label) = (message.into(), label.into());
        self.problems.push(Diagnostic { message, at: None, label, other: None });
    }

    /// Notes something legal that is probably not meant.
    pub(super) fn warn(&mut self, at: &Range<usize>, message: &str) {
        let line = self.source.line(at.start);
        self.warnings.push((line, format!("{}:{line}: {message}", self.source.name)));
    }

    /// The warnings in the order of the file, or else the faults.
    pub(super) fn finish(mut self) -> Result<Vec<String>, Vec<Diagnostic>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        self.warnings.sort_by_key(|(line, _)| *line);
        Ok(self.warnings.into_iter().map(|(_, warning)| warning).collect())
    }

    /// Notes the place of a thing that must be unique; true when it is new.
    pub(super) fn unique<K: Hash + Eq>(
        &mut self,
        places: &mut HashMap<K, Range<usize>>,
        key: K,
        at: &Range<usize>,
        what: &str,
    ) -> bool {
        if let Some(first) = places.get(&key) {
            self.problems.push(Diagnostic {
                message: format!("{what} is given twice"),
                at: Some(at.clone()),
                label: "remove one of the two".into(),
                other: Some((first.clone(), "first given here")),
            });
            return false;
        }
        places.insert(key, at.clone());
        true
    }

    /// The document itself.
    pub(super) fn root(&self, node: &'a Node) -> Field<'a> {
        Field { name: DOCUMENT, at: self.place(node), value: &node.value, is_item: false }
    }

    /// A mapping with these keys; nothing (a key whose lines are all commented out) is an empty
    /// one.
    pub(super) fn fields(
        &mut self,
        field: &Field<'a>,
        known: &'static [&'static str],
    ) -> Option<Fields<'a>> {
        let mut fields = Fields { at: field.at.clone(), known, entries: Vec::new() };
        let mut places = HashMap::new();
        for (index, (key, value)) in self.mapping(field)?.iter().enumerate() {
            let at = span(self.source, &key.defined);
            if index == 0 {
                fields.at = at.clone();
            }
            let name = key.value.as_str();
            let mut entry = self.entry(key, value);
            if known.contains(&name) {
                if self.unique(&mut places, name, &at, &format!("key `{name}`")) {
                    fields.entries.push(entry);
                }
                continue;
            }
            let close = nearest(name, known);
            let label = close.map_or_else(
                || format!("known keys here: {}", known.join(", ")),
                |close| format!("did you mean `{close}`?"),
            );
            self.refuse(&at, format!("unknown key {}", quote(name)), label);
            if let Some(close) = close {
                entry.name = close;
                fields.entries.push(entry);
            }
        }
        Some(fields)
    }

    /// A mapping whose keys are the user's own names; nothing is an empty one.
    pub(super) fn named(&mut self, field: &Field<'a>) -> Vec<(Text<'a>, Field<'a>)> {
        let entries = self.mapping(field).unwrap_or_default();
        entries
            .iter()
            .map(|(key, value)| {
                let text = key.value.as_str();
                (Text { text, at: span(self.source, &key.defined) }, self.entry(key, value))
            })
            .collect()
    }

    /// The items of a list; nothing is an empty one.
    pub(super) fn items(&mut self, field: &Field<'a>) -> Vec<Field<'a>> {
        match field.value {
            Value::Null => Vec::new(),
            Value::List(items) => items
                .iter()
                .map(|item| Field {
                    name: field.name,
                    at: self.place(item),
                    value: &item.value,
                    is_item: true,
                })
                .collect(),
            _ => {
                let typed = &self.source.text[field.at.clone()];
                let short = Self::is_scalar(field) && typed.len() < 40 && !typed.contains('\n');
                let example = if short { typed } else { "a, b" };
                let label = format!("write a list: `[{example}]`, or one item a line after `- `");
                self.refuse(&field.at, format!("{} is not a list", title(field)), label);
                Vec::new()
            }
        }
    }

    /// A scalar; `example` says what to write when it is none.
    pub(super) fn text(&mut self, field: &Field<'a>, example: &str) -> Option<Text<'a>> {
        let problem = match field.value {
            Value::Text(text) => {
                return Some(Text { text, at: field.at.clone() });
            }
            Value::Typed => {
                let text = &self.source.text[field.at.clone()];
                let unquoted = text.trim_matches(['"', '\'']);
                return Some(Text { text: unquoted, at: field.at.clone() });
            }
            Value::Null => "has no value",
            Value::List(_) => "takes one value, not a list",
            Value::Mapping(_) => "takes one value, not a mapping",
        };
        self.refuse(&field.at, format!("{} {problem}", title(field)), example);
        None
    }

    /// The scalar under a key that `owner` must have.
    pub(super) fn required(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        owner: &str,
        example: &str,
    ) -> Option<Text<'a>> {
        let Some(field) = fields.get(key) else {
            self.refuse(&fields.at, format!("{owner} has no `{key}`"), example);
            return None;
        };
        self.text(field, example)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        field: &Field<'a>,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let words: Vec<&'static str> = choices.iter().map(|(word, _)| *word).collect();
        let typed = self.text(field, &one_of(&words))?;
        let found = choices.iter().find(|(word, _)| *word == typed.text).map(|(_, value)| *value);
        if found.is_none() {
            let message = format!("{} cannot be {}", title(field), quote(typed.text));
            let close = nearest(typed.text, &words);
            self.refuse(
                &typed.at,
                message,
                close.map_or_else(|| one_of(&words), |word| format!("did you mean `{word}`?")),
            );
        }
        found
    }

    /// True for nothing: an empty value, `~` or `null`.
    pub(super) fn is_null(field: &Field<'_>) -> bool {
        matches!(field.value, Value::Null)
    }

    /// True for a single value rather than a list or mapping.
    pub(super) fn is_scalar(field: &Field<'_>) -> bool {
        matches!(field.value, Value::Text(_) | Value::Typed)
    }

    fn mapping(&mut self, field: &Field<'a>) -> Option<&'a [(Spanned<String>, Node)]> {
        match field.value {
            Value::Null => Some(&[]),
            Value::Mapping(entries) => Some(entries),
            _ => {
                let message = format!("{} is not a mapping", title(field));
                self.refuse(&field.at, message, "write `key: value` pairs (mind the space)");
                None
            }
        }
    }

    fn entry(&self, key: &'a Spanned<String>, node: &'a Node) -> Field<'a> {
        let at = match node.value {
            Value::Null => span(self.source, &key.defined),
            _ => self.place(node),
        };
        Field { name: &key.value, at, value: &node.value, is_item: false }
    }

    /// Where to point for a node: a block mapping's place is its first key.
    fn place(&self, node: &Node) -> Range<usize> {
        span(self.source, &node.defined)
    }
}

/// What messages call the field.
fn title(field: &Field<'_>) -> String {
    match field.name {
        DOCUMENT => DOCUMENT.to_owned(),
        name if field.is_item => format!("an entry of {}", quote(name)),
        name => quote(name),
    }
}

fn one_of(words: &[&str]) -> String {
    format!("write one of `{}`", words.join("`, `"))
}

/// The known word that a typing error or two make of this one.
pub(super) fn nearest<'w>(typed: &str, known: &[&'w str]) -> Option<&'w str> {
    let distance = |word: &str| {
        // Comparing costs time, and a file may hold many long keys; those are close to none.
        if typed.len().abs_diff(word.len()) > CLOSE {
            return usize::MAX;
        }
        let plain = |text: &str| text.to_lowercase().replace('-', "_");
        strsim::osa_distance(&plain(typed), &plain(word))
    };
    let close = |word: &str| distance(word) <= CLOSE.min(word.len().div_ceil(3));
    known.iter().copied().filter(|word| close(word)).min_by_key(|word| distance(word))
}
