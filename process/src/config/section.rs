//! One table of the configuration, merged from all layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use super::Secret;
use super::effective::{ENVIRONMENT, Effective, FILE};
use super::names::{ROOT, nearest};
use super::problems::Problems;
use super::values::{ValueError, out_of_range, parse_bytes, parse_duration, whole, within_text};

/// Where a value was written.
#[derive(Clone, Debug)]
pub(super) enum ValueSource {
    /// The program itself, such as `hydrant run` for the streams between its stages.
    Program,
    /// It outranks the other layers, as the query of a URL does.
    Above {
        place: String,
    },
    Flag {
        flag: String,
    },
    Environment {
        variable: String,
    },
    File {
        name: String,
        line: usize,
    },
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum RawValue {
    Text(String),
    List(Vec<String>),
    Toml(Value),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct SourcedValue {
    pub(super) source: ValueSource,
    pub(super) raw: RawValue,
}

/// The keys of one table. Each request names its key in kebab case and gets a usable value; mistakes are kept until
/// [`Section::finish`].
#[derive(Clone, Debug)]
pub struct Section {
    name: &'static str,
    given: BTreeMap<String, Vec<SourcedValue>>,
    flags: BTreeMap<String, String>,
    known: BTreeSet<&'static str>,
    problems: Problems,
    /// The file could not be read: a missing key counts as a problem, but is not listed beside the problem of the file.
    is_unread: bool,
    lacks_keys: bool,
    /// The problems of missing keys: the place of each, and the keys of which one must be given.
    missing: Vec<(String, Vec<&'static str>)>,
    effective: Vec<(String, String, &'static str)>,
}

impl Section {
    pub(super) fn new(
        name: &'static str,
        given: BTreeMap<String, Vec<SourcedValue>>,
        flags: BTreeMap<String, String>,
        is_unread: bool,
    ) -> Self {
        Section {
            name,
            given,
            flags,
            known: BTreeSet::new(),
            problems: Problems::new(),
            is_unread,
            lacks_keys: false,
            missing: Vec::new(),
            effective: Vec::new(),
        }
    }

    /// Whether any layer gives the key.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// A text, never an empty one.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.text_such_as(key, "a text in quotes")
    }

    /// A text; `wanted` says what to write instead of another type, such as a number without quotes.
    pub fn text_such_as(&mut self, key: &'static str, wanted: &str) -> Option<String> {
        self.read(key, wanted, text_of, |text| text.clone())
    }

    /// A required text; an empty text and a problem when it is not given. `remedy` says what to write.
    pub fn required(&mut self, key: &'static str, remedy: &str) -> String {
        let given = self.given.get(key).and_then(|layers| layers.first());
        match given.map(|given| given.raw.is_empty()) {
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

    /// A value of any type that can be parsed; a refusal has the message of that type.
    pub fn parsed<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, error.to_string());
                None
            }
        }
    }

    /// A path.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A duration with its unit, such as `5s`, `250ms`, `1h`.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let given = self.optional_duration(key);
        self.or_default(key, given, default, shown_duration)
    }

    /// A duration inside `range`.
    pub fn duration_within(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let given = self.optional_duration(key);
        let given = self.within(key, given, range, shown_duration);
        self.or_default(key, given, default, shown_duration)
    }

    /// A duration inside `range`, without default.
    pub fn optional_duration_within(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let given = self.optional_duration(key);
        self.within(key, given, range, shown_duration)
    }

    /// A duration without default.
    pub fn optional_duration(&mut self, key: &'static str) -> Option<Duration> {
        let parse = |raw: &RawValue| match raw {
            RawValue::Toml(Value::Integer(number)) => {
                parse_duration(&number.to_string()).map_err(BadValue::from)
            }
            raw => parse_duration(&text_of(raw)?).map_err(BadValue::from),
        };
        self.read(key, "a duration such as `5s`", parse, shown_duration)
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
        let given = self.optional_bytes(key);
        self.within(key, given, range, shown_bytes)
    }

    /// A number of bytes without default.
    pub fn optional_bytes(&mut self, key: &'static str) -> Option<u64> {
        let parse = |raw: &RawValue| match raw {
            RawValue::Toml(Value::Integer(number)) => {
                parse_bytes(&number.to_string()).map_err(BadValue::from)
            }
            raw => parse_bytes(&text_of(raw)?).map_err(BadValue::from),
        };
        self.read(
            key,
            "a number of bytes such as `128MiB`",
            parse,
            shown_bytes,
        )
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
        let remedy = within_text(&range, u64::MAX, u64::to_string);
        let number = self.whole_number(key, &remedy)?;
        let number = u64::try_from(number).ok();
        if number.is_none() {
            self.out_of_range(key, &remedy);
        }
        self.within(key, number, range, u64::to_string)
    }

    /// A whole number inside `range`, which may be negative.
    pub fn integer(&mut self, key: &'static str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let remedy = within_text(&range, i64::MAX, i64::to_string);
        let number = self.whole_number(key, &remedy);
        let given = number.and_then(|number| {
            let number = i64::try_from(number).ok();
            if number.is_none() {
                self.out_of_range(key, &remedy);
            }
            number
        });
        let given = self.within(key, given, range, i64::to_string);
        self.or_default(key, given, default, ToString::to_string)
    }

    fn whole_number(&mut self, key: &'static str, remedy: &str) -> Option<i128> {
        let parse = |raw: &RawValue| match raw {
            RawValue::Toml(Value::Integer(number)) => Ok(i128::from(*number)),
            RawValue::Toml(Value::Float(number)) => Err(BadValue::Value(format!(
                "`{number}` is not a whole number: write {remedy}"
            ))),
            raw => whole(&text_of(raw)?, remedy).map_err(BadValue::from),
        };
        self.read(key, remedy, parse, i128::to_string)
    }

    /// A number with a fraction inside `range`.
    pub fn fraction(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let remedy = within_text(&range, f64::MAX, f64::to_string);
        let parse = |raw: &RawValue| match raw {
            RawValue::Toml(Value::Float(number)) => Ok(*number),
            #[allow(clippy::cast_precision_loss, reason = "a setting, not a count")]
            RawValue::Toml(Value::Integer(number)) => Ok(*number as f64),
            raw => {
                let text = text_of(raw)?;
                text.trim().parse().map_err(|_| {
                    BadValue::Value(format!("`{text}` is not a number: write {remedy}"))
                })
            }
        };
        let given = self.read(key, &remedy, parse, f64::to_string);
        let given = self.within(key, given, range, f64::to_string);
        self.or_default(key, given, default, ToString::to_string)
    }

    /// A switch.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let parse = |raw: &RawValue| match raw {
            RawValue::Toml(Value::Boolean(value)) => Ok(*value),
            RawValue::Toml(_) => Err(BadValue::Kind),
            raw => match text_of(raw)?.to_ascii_lowercase().as_str() {
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
        let words = || {
            let words: Vec<String> = choices
                .iter()
                .map(|(word, _)| format!("`{word}`"))
                .collect();
            words.join(", ")
        };
        match self.text(key) {
            None => default,
            Some(text) => match choices.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => value.clone(),
                None => {
                    let hint = match nearest(&text, choices.iter().map(|(word, _)| *word)) {
                        Some(word) => format!("did you mean `{word}`?"),
                        None => format!("write one of {}", words()),
                    };
                    self.problem(key, format!("`{text}` is not a valid value: {hint}"));
                    default
                }
            },
        }
    }

    /// A list of texts: an array in the file, separated by commas elsewhere; empty when it is not given.
    pub fn list(&mut self, key: &'static str) -> Vec<String> {
        let parse = |raw: &RawValue| match raw {
            RawValue::List(values) => Ok(values.clone()),
            RawValue::Toml(Value::Array(values)) => values
                .iter()
                .map(|value| scalar_text(value).ok_or(BadValue::Kind))
                .collect(),
            raw => {
                let text = text_of(raw)?;
                let parts = text.split(',').map(str::trim);
                let parts: Vec<String> = parts
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect();
                if parts.is_empty() {
                    return Err(BadValue::Empty);
                }
                Ok(parts)
            }
        };
        self.read(key, "a list of texts", parse, |list| list.join(","))
            .unwrap_or_default()
    }

    /// A table of texts (`key = { a = "1" }` or `[section.key]`), from the file only; empty when it is not given.
    /// Numbers and switches become texts.
    pub fn table(&mut self, key: &'static str) -> BTreeMap<String, String> {
        self.read(key, "a table of texts", table_of, |table| {
            format!("{table:?}")
        })
        .unwrap_or_default()
    }

    /// A table of texts that are never printed.
    pub fn secret_table(&mut self, key: &'static str) -> BTreeMap<String, Secret<String>> {
        let parse = |raw: &RawValue| {
            let table = table_of(raw)?;
            Ok(table
                .into_iter()
                .map(|(key, value)| (key, Secret::new(value)))
                .collect())
        };
        self.read(key, "a table of texts", parse, |_| "[secret]".to_owned())
            .unwrap_or_default()
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
                if let (ROOT, ValueSource::Environment { variable }) = (self.name, &given.source) {
                    unknown_variables.push(variable.clone());
                    continue;
                }
                let hint = match nearest(key, self.known.iter().copied()) {
                    Some(known) => {
                        let meant = |(_, keys): &&(_, Vec<&str>)| keys.contains(&known);
                        let missed = self.missing.iter().filter(meant);
                        missed.for_each(|(place, _)| self.problems.forget(place));
                        format!("did you mean `{known}`?")
                    }
                    None => self.known_keys(),
                };
                let message = format!("unknown key `{key}`: {hint}");
                self.problems.push(self.place_of(key, given), message);
            }
        }
        let effective = Effective {
            section: self.name,
            values: self.effective,
            unknown_variables,
        };
        problems.extend(self.problems);
        problems.read(effective);
    }

    fn known_keys(&self) -> String {
        if self.known.is_empty() {
            return "this table has no keys".to_owned();
        }
        let keys: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
        format!("known keys are {}", keys.join(", "))
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&RawValue) -> Result<T, BadValue>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        self.known.insert(key);
        let given = self.given.get(key)?.first()?;
        match parse(&given.raw) {
            Ok(value) => {
                let source = match given.source {
                    ValueSource::Program => "program",
                    ValueSource::Above { .. } => "url",
                    ValueSource::Flag { .. } => "flag",
                    ValueSource::Environment { .. } => ENVIRONMENT,
                    ValueSource::File { .. } => FILE,
                };
                self.effective.push((key.to_owned(), show(&value), source));
                Some(value)
            }
            Err(fault) => {
                let message = match fault {
                    BadValue::Kind => format!("is {}: write {wanted}", given.raw.kind()),
                    BadValue::Empty => "is empty: write a value, or leave it out".to_owned(),
                    BadValue::Value(message) => message,
                };
                self.problem(key, message);
                None
            }
        }
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

    fn within<T: PartialOrd + Copy>(
        &mut self,
        key: &'static str,
        given: Option<T>,
        range: RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let value = given?;
        if range.contains(&value) {
            return Some(value);
        }
        let remedy = format!("`{}` to `{}`", show(range.start()), show(range.end()));
        self.out_of_range(key, &remedy);
        None
    }

    /// Adds the problem that the value of a key is too small or too large, and quotes it as it was written.
    fn out_of_range(&mut self, key: &'static str, remedy: &str) {
        let given = self.given.get(key).and_then(|layers| layers.first());
        let written = given.map(|given| given.raw.to_string());
        let error = out_of_range(&written.unwrap_or_default(), remedy);
        self.problem(key, error.0);
    }

    fn place(&self, key: &str) -> String {
        match self.given.get(key).and_then(|layers| layers.first()) {
            Some(given) => self.place_of(key, given),
            None => {
                let variable = self.variable(key);
                match self.flags.get(key) {
                    Some(flag) => {
                        format!(
                            "{} (flag `{flag}`, environment `{variable}`)",
                            self.path_of(key)
                        )
                    }
                    None => format!("{} (environment `{variable}`)", self.path_of(key)),
                }
            }
        }
    }

    fn place_of(&self, key: &str, given: &SourcedValue) -> String {
        match &given.source {
            ValueSource::Program => self.path_of(key),
            ValueSource::Above { place } => place.clone(),
            ValueSource::Flag { flag } => format!("flag `{flag}`"),
            ValueSource::Environment { variable } => format!("environment `{variable}`"),
            ValueSource::File { name, line } => {
                format!("`{name}` {} (line {line})", self.path_of(key))
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        match self.name {
            ROOT => format!("`{key}`"),
            name => format!("[{name}] {key}"),
        }
    }

    fn variable(&self, key: &str) -> String {
        let path = match self.name {
            ROOT => format!("HYDRANT_{key}"),
            name => format!("HYDRANT_{name}_{key}"),
        };
        path.replace('-', "_").to_ascii_uppercase()
    }
}

impl RawValue {
    /// The kind of the value, without the value itself, which may be a secret.
    fn kind(&self) -> &'static str {
        match self {
            RawValue::Text(_) | RawValue::Toml(Value::String(_)) => "a text",
            RawValue::List(_) | RawValue::Toml(Value::Array(_)) => "a list",
            RawValue::Toml(Value::Table(_)) => "a table",
            RawValue::Toml(Value::Integer(_) | Value::Float(_)) => "a number",
            RawValue::Toml(Value::Boolean(_)) => "a switch",
            RawValue::Toml(Value::Datetime(_)) => "a time",
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, RawValue::Text(text) | RawValue::Toml(Value::String(text)) if text.is_empty())
    }
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawValue::Text(text) | RawValue::Toml(Value::String(text)) => f.write_str(text),
            RawValue::List(values) => f.write_str(&values.join(",")),
            RawValue::Toml(value) => write!(f, "{value}"),
        }
    }
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

fn text_of(raw: &RawValue) -> Result<String, BadValue> {
    if raw.is_empty() {
        return Err(BadValue::Empty);
    }
    match raw {
        RawValue::Text(text) | RawValue::Toml(Value::String(text)) => Ok(text.clone()),
        RawValue::List(values) => Ok(values.join(",")),
        RawValue::Toml(_) => Err(BadValue::Kind),
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Some(value.to_string()),
        _ => None,
    }
}

fn table_of(raw: &RawValue) -> Result<BTreeMap<String, String>, BadValue> {
    let RawValue::Toml(Value::Table(table)) = raw else {
        return Err(BadValue::Kind);
    };
    let entry = |(key, value): (&String, &Value)| {
        let wrong = || BadValue::Value(format!("`{key}` in it is not a text: write it in quotes"));
        let text = scalar_text(value).ok_or_else(wrong)?;
        Ok((key.clone(), text))
    };
    table.iter().map(entry).collect()
}

fn shown_duration(value: &Duration) -> String {
    humantime::format_duration(*value).to_string()
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
