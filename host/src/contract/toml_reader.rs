//! Reads TOML that people write: every fault with its place, and what to write instead.
//!
//! A [`Table`] hands out the values of its keys and remembers which keys were asked for; what nobody asked for is
//! unknown. A wrong value is noted and the default stands in for it, so that one pass finds every fault.

use std::{cell::RefCell, ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use self::{fault::Place, units::UnitError};

pub mod fault;
pub mod units;

pub use fault::{Fault, Faults, Problem};

/// A text that is being read, and what was found wrong with it.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    faults: RefCell<Vec<Place>>,
}

/// One table of a document.
#[derive(Debug)]
#[must_use = "unknown keys are found by `finish`"]
pub struct Table<'d> {
    entries: Option<&'d DeTable<'d>>,
    /// The table's header, or the start of the text.
    span: Range<usize>,
    /// Dotted path of the table, empty for the root.
    path: String,
    asked: Vec<&'static str>,
    /// Keys that were found misplaced.
    refused: Vec<&'static str>,
    faults: &'d RefCell<Vec<Place>>,
}

/// A value and where it stands.
#[derive(Debug)]
pub struct Found<T> {
    pub value: T,
    pub span: Range<usize>,
}

impl<'t> Document<'t> {
    /// Reads the text's syntax; if that is wrong, only that is reported.
    pub fn parse(text: &'t str) -> Result<Self, Faults> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let faults: Vec<_> = errors
            .iter()
            .map(|error| Place {
                span: error.span().unwrap_or(text.len()..text.len()),
                key: String::new(),
                problem: Problem::Syntax(error.message().to_owned()),
            })
            .collect();
        if faults.is_empty() {
            Ok(Self { text, root, faults: RefCell::default() })
        } else {
            Err(Faults::of(text, faults))
        }
    }

    pub fn root(&self) -> Table<'_> {
        Table {
            entries: Some(self.root.get_ref()),
            span: 0..0,
            path: String::new(),
            asked: Vec::new(),
            refused: Vec::new(),
            faults: &self.faults,
        }
    }

    /// The line of a place, counted from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        fault::line_and_column(self.text, span.start).0
    }

    /// `value`, unless anything was found wrong on the way to it.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Faults> {
        let faults = self.faults.into_inner();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => Err(Faults::of(self.text, faults)),
        }
    }
}

impl<'d> Table<'d> {
    pub fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.push(key);
        self.entries?.get(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a fault of `key`'s value.
    pub fn fault(&self, key: &str, span: &Range<usize>, problem: Problem) {
        self.note(self.path_of(key), span.clone(), problem);
    }

    fn note(&self, key: String, span: Range<usize>, problem: Problem) {
        self.faults.borrow_mut().push(Place { span, key, problem });
    }

    /// Notes that `key` must be there; `example` is a right line.
    pub fn missing(&self, key: &'static str, example: &str) {
        let problem = Problem::Missing { key, example: example.to_owned() };
        self.fault(key, &self.span, problem);
    }

    fn wrong_type(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &'static str,
        example: &str,
    ) {
        let found = in_words(value.get_ref());
        let problem = Problem::WrongType { found, expected, example: example.to_owned() };
        self.fault(key, &value.span(), problem);
    }

    /// A string. `example` is what a right line would have after `=`.
    pub fn string(&mut self, key: &'static str, example: &str) -> Option<Found<&'d str>> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a string", example);
        }
        text.map(|text| Found { value: text, span: value.span() })
    }

    /// A string that `read` understands; its error's text is the fault.
    pub fn parsed<T, E: ToString>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let found = self.string(key, example)?;
        match read(found.value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, &found.span, Problem::Invalid(error.to_string()));
                None
            }
        }
    }

    /// Like [`Table::parsed`], for a key that must be there.
    pub fn required<T, E: ToString>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.entries.is_none_or(|entries| !entries.contains_key(key)) {
            self.asked.push(key);
            self.missing(key, &format!("{key} = {example}"));
            return None;
        }
        self.parsed(key, example, read)
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let example = format!("\"{}\"", words.first().map_or("", |(word, _)| word));
        let found = self.string(key, &example)?;
        let value = words.iter().find(|(word, _)| *word == found.value).map(|(_, value)| *value);
        if value.is_none() {
            let valid = words.iter().map(|(word, _)| *word).collect();
            let problem = Problem::NotOneOf { found: found.value.to_owned(), valid };
            self.fault(key, &found.span, problem);
        }
        value
    }

    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(key, value, "true or false", "true");
        }
        found
    }

    /// An integer in `allowed`, else `default`.
    pub fn integer(&mut self, key: &'static str, default: u64, allowed: Range<u64>) -> u64 {
        let Some(value) = self.get(key) else { return default };
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "an integer", &default.to_string());
            return default;
        };
        let bounds = (allowed.start.to_string(), allowed.end.to_string());
        self.within(key, value, as_u64(integer), allowed, bounds).unwrap_or(default)
    }

    /// A size in bytes from the range `allowed` (both ends included), else `default`.
    pub fn size(&mut self, key: &'static str, default: u64, allowed: Range<u64>) -> u64 {
        let Some(value) = self.get(key) else { return default };
        let example = format!("\"{}\"", units::show_size(default));
        let size = match value.get_ref() {
            DeValue::Integer(integer) => Ok(as_u64(integer)),
            DeValue::String(text) => units::parse_size(text).map(Some),
            _ => {
                self.wrong_type(key, value, "a size", &example);
                return default;
            }
        };
        let bounds = (units::show_size(allowed.start), units::show_size(allowed.end));
        self.unit(key, value, size, &example)
            .and_then(|size| self.within(key, value, size, allowed, bounds))
            .unwrap_or(default)
    }

    /// A duration from the range `allowed` (both ends included), else `default`.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        allowed: Range<Duration>,
    ) -> Duration {
        let Some(value) = self.get(key) else { return default };
        let example = format!("\"{}\"", units::show_duration(default));
        let duration = match value.get_ref() {
            DeValue::Integer(integer) => {
                Err(UnitError::Missing { text: integer.to_string(), units: units::DURATIONS })
            }
            DeValue::String(text) => units::parse_duration(text).map(Some),
            _ => {
                self.wrong_type(key, value, "a duration", &example);
                return default;
            }
        };
        let bounds = (units::show_duration(allowed.start), units::show_duration(allowed.end));
        self.unit(key, value, duration, &example)
            .and_then(|duration| self.within(key, value, duration, allowed, bounds))
            .unwrap_or(default)
    }

    fn unit<T>(
        &self,
        key: &'static str,
        value: &Spanned<DeValue<'_>>,
        read: Result<T, UnitError>,
        example: &str,
    ) -> Option<T> {
        read.map_err(|error| {
            let problem = Problem::Unit { error, example: example.to_owned() };
            self.fault(key, &value.span(), problem);
        })
        .ok()
    }

    /// `read`, if it is in `allowed`, both ends included. None is a number that no `u64` holds.
    fn within<T: PartialOrd>(
        &self,
        key: &'static str,
        value: &Spanned<DeValue<'_>>,
        read: Option<T>,
        allowed: Range<T>,
        (least, most): (String, String),
    ) -> Option<T> {
        match read {
            Some(read) if read >= allowed.start && read <= allowed.end => Some(read),
            _ => {
                self.fault(key, &value.span(), Problem::OutOfRange { key, least, most });
                None
            }
        }
    }

    /// Strings of an array that `read` understands; the wrong ones are noted and left out.
    pub fn list<T, E: ToString>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array of strings", example);
            return Vec::new();
        };
        let mut read_ones = Vec::with_capacity(array.len());
        for (at, item) in array.iter().enumerate() {
            let item_key = format!("{key}[{at}]");
            match item.get_ref().as_str().map(&read) {
                Some(Ok(value)) => read_ones.push(value),
                Some(Err(error)) => {
                    self.fault(&item_key, &item.span(), Problem::Invalid(error.to_string()));
                }
                None => self.wrong_type(&item_key, item, "a string", example),
            }
        }
        read_ones
    }

    /// A table; an absent one is as good as an empty one.
    pub fn table(&mut self, key: &'static str) -> Self {
        let value = self.get(key);
        let entries = value.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (value, entries) {
            self.wrong_type(key, value, "a table", &format!("[{}]", self.path_of(key)));
        }
        Table {
            entries,
            span: value.map_or(0..0, Spanned::span),
            path: self.path_of(key),
            asked: Vec::new(),
            refused: Vec::new(),
            faults: self.faults,
        }
    }

    /// An array of tables, `[[key]]`.
    pub fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let example = format!("[[{}]]", self.path_of(key));
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array of tables", &example);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(array.len());
        for (at, item) in array.iter().enumerate() {
            let item_key = format!("{key}[{at}]");
            match item.get_ref().as_table() {
                Some(entries) => tables.push(Table {
                    entries: Some(entries),
                    span: item.span(),
                    path: self.path_of(&item_key),
                    asked: Vec::new(),
                    refused: Vec::new(),
                    faults: self.faults,
                }),
                None => self.wrong_type(&item_key, item, "a table", &example),
            }
        }
        tables
    }

    /// Where `key`'s value stands, if it is there.
    pub fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.entries?.get(key).map(Spanned::span)
    }

    /// If nobody asked for `key`, it is refused with `because` and not as unknown: it has its place elsewhere.
    pub fn misplaced(&mut self, key: &'static str, because: &str) {
        let name =
            self.entries.and_then(|entries| entries.get_key_value(key)).map(|(name, _)| name);
        if let (Some(name), false) = (name, self.asked.contains(&key)) {
            let problem = Problem::Misplaced { key, because: because.to_owned() };
            self.fault(key, &name.span(), problem);
            self.refused.push(key);
        }
    }

    /// Notes the keys that nobody asked for.
    pub fn finish(self) {
        for name in self.entries.into_iter().flat_map(DeTable::keys) {
            let key = name.get_ref().as_ref();
            if !self.asked.contains(&key) && !self.refused.contains(&key) {
                let problem = Problem::UnknownKey {
                    key: key.to_owned(),
                    table: self.path.clone(),
                    nearest: nearest(key, &self.asked),
                    valid: self.asked.clone(),
                };
                self.fault(key, &name.span(), problem);
            }
        }
    }
}

/// The word that was probably meant.
pub fn nearest(word: &str, valid: &[&'static str]) -> Option<&'static str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    valid
        .iter()
        .map(|known| (strsim::jaro_winkler(&word, known), *known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn as_u64(integer: &toml::de::DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
