//! One table of the configuration, merged from all layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use hydrant_core::settings::refuse_tilde;
use toml::Value;

use super::Secret;
use super::effective::{Effective, FILE};
use super::names::{ROOT, nearest, path_of, variable_of};
use super::problems::Problems;
use super::values::{
    ValueError, out_of_range, parse_bytes, parse_duration_within, shown_duration, whole,
    within_text,
};

/// A value as it was written, and where.
#[derive(Clone, Debug)]
pub(super) struct SourcedValue {
    /// The layer, as the log names it.
    pub(super) source: &'static str,
    /// The place, as problems name it.
    pub(super) place: String,
    pub(super) value: Value,
    /// The places of the entries of a table of the file.
    pub(super) entries: BTreeMap<String, String>,
}

/// The keys of one table. Each request names its key in kebab case and gets a usable value; mistakes are kept until
/// [`Section::finish`].
#[derive(Clone, Debug)]
pub struct Section {
    pub(super) name: &'static str,
    /// The values of each key, the one that counts first.
    pub(super) given: BTreeMap<String, Vec<SourcedValue>>,
    pub(super) flags: BTreeMap<String, String>,
    /// The file could not be read: a missing key counts as a problem, but is not listed beside the problem of the file.
    pub(super) is_unread: bool,
    pub(super) known: BTreeSet<&'static str>,
    pub(super) problems: Problems,
    pub(super) lacks_keys: bool,
    /// The problems of missing keys: the place of each, and the keys of which one must be given.
    pub(super) missing: Vec<(String, Vec<&'static str>)>,
    pub(super) effective: Vec<(String, String, &'static str)>,
}

impl Section {
    /// Whether any layer gives the key.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    fn first(&self, key: &str) -> Option<&SourcedValue> {
        self.given.get(key)?.first()
    }

    /// A text, never an empty one.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.text_such_as(key, "a text in quotes")
    }

    /// A text; `wanted` says what to write instead of another type, such as a number without quotes.
    pub fn text_such_as(&mut self, key: &'static str, wanted: &str) -> Option<String> {
        self.read(key, wanted, |given| text_of(&given.value), String::clone)
    }

    /// A required text; an empty text and a problem when it is not given. `remedy` says what to write.
    pub fn required(&mut self, key: &'static str, remedy: &str) -> String {
        match self.first(key).map(|given| is_empty(&given.value)) {
            None => self.missing(&[key], format!("is missing: {remedy}")),
            Some(true) => self.problem(key, format!("is empty: {remedy}")),
            Some(false) => return self.text(key).unwrap_or_default(),
        }
        String::new()
    }

    /// A required text as [`Section::required`] reads it, with a problem when `check` refuses it.
    pub fn checked<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        remedy: &str,
        check: impl FnOnce(&str) -> Result<T, E>,
    ) -> String {
        let text = self.required(key, remedy);
        if !text.is_empty()
            && let Err(error) = check(&text)
        {
            self.problem(key, error.to_string());
        }
        text
    }

    /// A text that `parse` makes a value of; its refusal becomes a problem.
    pub fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let parsed = parse(&self.text(key)?);
        parsed
            .map_err(|error| self.problem(key, error.to_string()))
            .ok()
    }

    /// A path, which does not begin with `~`.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.parsed(key, |text| {
            let path = PathBuf::from(text);
            refuse_tilde(&path).map(|()| path)
        })
    }

    /// A duration with its unit, such as `5s`, `250ms`, `1h`.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.duration_within(key, default, Duration::ZERO..=Duration::MAX)
    }

    /// A duration inside `range`.
    pub fn duration_within(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let given = self.optional_duration_within(key, range);
        self.or_default(key, given, default, shown_duration)
    }

    /// A duration inside `range`, without default.
    pub fn optional_duration_within(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let wanted = "a duration such as `5s`";
        let parse = |text: &str| parse_duration_within(text, &range);
        self.quantity(key, wanted, parse, shown_duration)
    }

    /// A duration without default.
    pub fn optional_duration(&mut self, key: &'static str) -> Option<Duration> {
        self.optional_duration_within(key, Duration::ZERO..=Duration::MAX)
    }

    /// A number of bytes inside `range`.
    pub fn bytes_within(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let given = self.optional_bytes_within(key, range);
        self.or_default(key, given, default, shown_bytes)
    }

    /// A number of bytes inside `range`, without default.
    pub fn optional_bytes_within(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let wanted = "a number of bytes such as `128MiB`";
        let parse = |text: &str| {
            let bytes = parse_bytes(text)?;
            let remedy = || {
                format!(
                    "`{}` to `{}`",
                    shown_bytes(range.start()),
                    shown_bytes(range.end())
                )
            };
            match range.contains(&bytes) {
                true => Ok(bytes),
                false => Err(out_of_range(text, &remedy())),
            }
        };
        self.quantity(key, wanted, parse, shown_bytes)
    }

    /// A number of bytes without default.
    pub fn optional_bytes(&mut self, key: &'static str) -> Option<u64> {
        self.optional_bytes_within(key, 0..=u64::MAX)
    }

    /// A value that is written with its unit, also as a number of the file.
    fn quantity<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl Fn(&str) -> Result<T, ValueError>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let parse = |given: &SourcedValue| -> Result<T, BadValue> {
            let text = match &given.value {
                Value::Integer(number) => number.to_string(),
                value => text_of(value)?,
            };
            Ok(parse(&text)?)
        };
        self.read(key, wanted, parse, show)
    }

    /// A whole number inside `range`.
    pub fn number(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let given = self.optional_number(key, range);
        self.or_default(key, given, default, ToString::to_string)
    }

    /// A whole number inside `range`, without default.
    pub fn optional_number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.whole_number(key, range, u64::MAX)
    }

    /// A whole number inside `range`, which may be negative.
    pub fn integer(&mut self, key: &'static str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let given = self.whole_number(key, range, i64::MAX);
        self.or_default(key, given, default, ToString::to_string)
    }

    fn whole_number<T>(&mut self, key: &'static str, range: RangeInclusive<T>, max: T) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + ToString,
    {
        let remedy = within_text(&range, max);
        let parse = |given: &SourcedValue| -> Result<T, BadValue> {
            let text = match &given.value {
                Value::Integer(_) | Value::Float(_) => given.value.to_string(),
                value => text_of(value)?,
            };
            Ok(whole(&text, &range, &remedy)?)
        };
        self.read(key, &remedy, parse, T::to_string)
    }

    /// A number with a fraction inside `range`.
    pub fn fraction(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let remedy = within_text(&range, f64::MAX);
        let parse = |given: &SourcedValue| -> Result<f64, BadValue> {
            let text = match &given.value {
                Value::Integer(_) | Value::Float(_) => given.value.to_string(),
                value => text_of(value)?,
            };
            let wrong = |_| ValueError(format!("`{text}` is not a number: write {remedy}"));
            let number = text.trim().parse().map_err(wrong)?;
            if range.contains(&number) {
                return Ok(number);
            }
            Err(out_of_range(&text, &remedy).into())
        };
        let given = self.read(key, &remedy, parse, f64::to_string);
        self.or_default(key, given, default, ToString::to_string)
    }

    /// A switch; in the file without quotes.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let parse = |given: &SourcedValue| match &given.value {
            Value::Boolean(value) => Ok(*value),
            Value::String(_) if given.source == FILE => Err(BadValue::Kind),
            value => match text_of(value)?.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true),
                "false" | "no" | "off" | "0" => Ok(false),
                other => Err(BadValue::Value(format!(
                    "`{other}` is not a switch: write `on` or `off`"
                ))),
            },
        };
        let given = self.read(key, "`true` or `false`", parse, bool::to_string);
        self.or_default(key, given, default, ToString::to_string)
    }

    /// One of a few words.
    pub fn choice<T: Clone>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        let Some(text) = self.text(key) else {
            return default;
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return value.clone();
        }
        let words = choices.iter().map(|(word, _)| *word);
        let hint = match nearest(&text, words.clone()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("write one of {}", quoted(words)),
        };
        self.problem(key, format!("`{text}` is not a valid value: {hint}"));
        default
    }

    /// A list of texts: an array in the file, separated by commas elsewhere; empty when it is not given.
    pub fn list(&mut self, key: &'static str) -> Vec<String> {
        let parse = |given: &SourcedValue| match &given.value {
            Value::Array(values) => values
                .iter()
                .map(|value| scalar_text(value).ok_or(BadValue::Kind))
                .collect(),
            value => {
                let text = text_of(value)?;
                let parts = text.split(',').map(str::trim);
                let parts = parts.filter(|part| !part.is_empty()).map(str::to_owned);
                let parts: Vec<String> = parts.collect();
                match parts.is_empty() {
                    true => Err(BadValue::Empty),
                    false => Ok(parts),
                }
            }
        };
        self.read(key, "a list of texts", parse, |list| list.join(","))
            .unwrap_or_default()
    }

    /// As [`Section::list`], of texts that may hold commas: a text that would be cut at one is a problem.
    pub fn list_with_commas(&mut self, key: &'static str) -> Vec<String> {
        let text = self.first(key).and_then(|given| given.value.as_str());
        match text.filter(|text| text.contains(',')).map(str::to_owned) {
            None => self.list(key),
            Some(text) => {
                let message = format!(
                    "`{text}` holds a comma, which may be a part of it or separate two: write a list in the file, such as \
                     `[\"{text}\"]`"
                );
                self.problem(key, message);
                Vec::new()
            }
        }
    }

    /// A table of texts (`key = { a = "1" }` or `[section.key]`), from the file only; empty when it is not given.
    /// Numbers and switches become texts; another entry is a problem, and left out.
    pub fn table(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let show = |table: &TableEntries| {
            let entries = table
                .iter()
                .filter_map(|(key, entry)| Some((key, entry.as_ref().ok()?)));
            format!("{:?}", entries.collect::<BTreeMap<_, _>>())
        };
        let table = self.read(key, TABLE, table_of, show);
        let mut texts = BTreeMap::new();
        for (name, entry) in table.into_iter().flatten() {
            match entry {
                Ok(text) => drop(texts.insert(name, text)),
                Err(message) => self.problem_in(key, &name, message),
            }
        }
        texts
    }

    /// A table of texts that are never printed.
    pub fn secret_table(&mut self, key: &'static str) -> BTreeMap<String, Secret<String>> {
        let table = self.read(key, TABLE, table_of, |_| "[secret]".to_owned());
        let mut secrets = BTreeMap::new();
        for (name, entry) in table.into_iter().flatten() {
            match entry {
                Ok(text) => drop(secrets.insert(name, Secret::new(text))),
                Err(message) => self.problem_in(key, &name, message),
            }
        }
        secrets
    }

    /// Adds a problem about a key. The section adds its place; `message` says what is wrong and what to write.
    pub fn problem(&mut self, key: &'static str, message: impl Into<String>) {
        self.known.insert(key);
        if self.is_unread && !self.is_given(key) {
            self.lacks_keys = true;
            return;
        }
        let place = self.place(key);
        self.effective.retain(|(shown, _, _)| shown != key);
        self.problems.push(place, message);
    }

    /// As [`Section::problem`], about an entry of a table, in its own line.
    pub fn problem_in(&mut self, key: &'static str, entry: &str, message: impl Into<String>) {
        let place = self.first(key).and_then(|given| given.entries.get(entry));
        match place.cloned() {
            Some(place) => {
                self.effective.retain(|(shown, _, _)| shown != key);
                self.problems.push(place, message);
            }
            None => self.problem(key, message),
        }
    }

    /// Adds the problem that none of these keys is given; `message` says what to write. The problem is not listed
    /// beside an unknown key that probably means one of them.
    pub fn missing(&mut self, keys: &[&'static str], message: impl Into<String>) {
        let Some(first) = keys.first() else { return };
        self.known.extend(keys);
        self.problem(first, message);
        self.missing.push((self.place(first), keys.to_vec()));
    }

    /// Whether there are problems so far.
    pub fn has_problems(&self) -> bool {
        self.lacks_keys || !self.problems.is_empty()
    }

    /// Ends the section: unknown keys become problems, and `problems` takes all problems and the effective values for
    /// the log.
    pub fn finish(mut self, problems: &mut Problems) {
        let mut unknown_variables = Vec::new();
        for (key, layers) in &self.given {
            if self.known.contains(key.as_str()) {
                continue;
            }
            for given in layers {
                if self.name == ROOT
                    && let Some(variable) = given.place.strip_prefix("environment ")
                {
                    unknown_variables.push(variable.trim_matches('`').to_owned());
                    continue;
                }
                let hint = match nearest(key, self.known.iter().copied()) {
                    Some(known) => {
                        let meant = |(_, keys): &&(_, Vec<&str>)| keys.contains(&known);
                        for (place, _) in self.missing.iter().filter(meant) {
                            self.problems.found.retain(|found| found.place != *place);
                        }
                        format!("did you mean `{known}`?")
                    }
                    None if self.known.is_empty() => "this table has no keys".to_owned(),
                    None => format!("known keys are {}", quoted(self.known.iter().copied())),
                };
                self.problems
                    .push(&given.place, format!("unknown key `{key}`: {hint}"));
            }
        }
        problems.extend(self.problems);
        problems.effective.push(Effective {
            section: self.name,
            values: self.effective,
            unknown_variables,
        });
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&SourcedValue) -> Result<T, BadValue>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        self.known.insert(key);
        let given = self.first(key)?;
        let message = match parse(given) {
            Ok(value) => {
                let shown = (key.to_owned(), show(&value), given.source);
                self.effective.push(shown);
                return Some(value);
            }
            Err(BadValue::Kind) => format!("is {}: write {wanted}", kind(&given.value)),
            Err(BadValue::Empty) => "is empty: write a value, or leave it out".to_owned(),
            Err(BadValue::Value(message)) => message,
        };
        self.problem(key, message);
        None
    }

    fn or_default<T: Copy>(
        &mut self,
        key: &'static str,
        given: Option<T>,
        default: T,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        given.unwrap_or_else(|| {
            if !self.is_given(key) {
                self.effective
                    .push((key.to_owned(), show(&default), "default"));
            }
            default
        })
    }

    fn place(&self, key: &str) -> String {
        if let Some(given) = self.first(key) {
            return given.place.clone();
        }
        let flag = self.flags.get(key);
        let flag = flag.map_or_else(String::new, |flag| format!("flag `{flag}`, "));
        let (path, variable) = (path_of(self.name, key), variable_of(self.name, key));
        format!("{path} ({flag}environment `{variable}`)")
    }
}

/// What to write for a table.
const TABLE: &str = "a table of texts";

/// The kind of a value, without the value itself, which may be a secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "a switch",
        Value::Datetime(_) => "a time",
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_str() == Some("")
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// Why a value cannot be used.
enum BadValue {
    /// The value has the wrong kind.
    Kind,
    /// The value is empty.
    Empty,
    /// The value has the right kind but is not valid.
    Value(String),
}

impl From<ValueError> for BadValue {
    fn from(error: ValueError) -> Self {
        BadValue::Value(error.0)
    }
}

fn text_of(value: &Value) -> Result<String, BadValue> {
    match value {
        Value::String(text) if text.is_empty() => Err(BadValue::Empty),
        Value::String(text) => Ok(text.clone()),
        _ => Err(BadValue::Kind),
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The entries of a table: the text of each, or what is wrong with it.
type TableEntries = BTreeMap<String, Result<String, String>>;

fn table_of(given: &SourcedValue) -> Result<TableEntries, BadValue> {
    let Value::Table(table) = &given.value else {
        return Err(BadValue::Kind);
    };
    let entry = |(key, value): (&String, &Value)| {
        let wrong = || match value {
            Value::Table(inner) => {
                let path = path_to_text(key, inner);
                format!(
                    "`{path}` is read as tables in one another: write the whole name in quotes, `\"{path}\" = ..`"
                )
            }
            _ => format!("`{key}` is not a text: write it in quotes"),
        };
        (key.clone(), scalar_text(value).ok_or_else(wrong))
    };
    Ok(table.iter().map(entry).collect())
}

/// The dotted path to the first value in a table in a table.
fn path_to_text(name: &str, table: &toml::Table) -> String {
    match table.iter().next() {
        Some((key, Value::Table(inner))) => format!("{name}.{}", path_to_text(key, inner)),
        Some((key, _)) => format!("{name}.{key}"),
        None => name.to_owned(),
    }
}

/// Bytes as they are written in a configuration: `8MiB`, or `1000` where no unit fits.
fn shown_bytes(value: &u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fit = units.into_iter().find(|(_, shift)| {
        let unit = 1_u64 << shift;
        *value >= unit && value.is_multiple_of(unit)
    });
    match fit {
        Some((name, shift)) => format!("{}{name}", value >> shift),
        None => value.to_string(),
    }
}
