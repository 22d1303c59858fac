//! Reads values from the file, the environment and the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use toml::Value;
use toml::de::{DeTable, DeValue};

use hydrant_core::settings::OutrankingValue;

use super::effective::{ENVIRONMENT, FILE, FLAG};
use super::names::{ROOT, nearest, normal, path_of};
use super::problems::Problems;
use super::section::{Section, SourcedValue};

/// The tables that Hydrant's binaries read, all together.
pub const SECTIONS: &[&str] = &[
    "consumer",
    "local",
    "log",
    "metrics",
    "pii",
    "producer",
    "run",
    "sink",
    "transform",
];

const PREFIX: &str = "HYDRANT_";

/// The largest configuration file: a larger one is probably not a configuration.
const FILE_BYTES_MAX: u64 = 4 << 20;

type SourcedValues = BTreeMap<String, SourcedValue>;

/// The file and the environment, read once at start.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file could not be read, so keys that seem missing may be in it.
    is_unread: bool,
    /// The program has no flags for these keys and sets values itself.
    without_flags: bool,
    file: BTreeMap<String, SourcedValues>,
    environment: BTreeMap<String, SourcedValues>,
}

impl Layers {
    /// Reads `file`, and the variables of `environment` that start with `HYDRANT_`. What cannot be read is left out and
    /// added to `problems`.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        problems: &mut Problems,
    ) -> Layers {
        let mut layers = Layers::default();
        if let Some(path) = file {
            let name = path.display().to_string();
            match read_text(path) {
                Ok(text) => layers.take_text(&name, &text, problems),
                Err(error) => {
                    problems.push(format!("`{name}`"), format!("cannot be read: {error}"));
                    layers.is_unread = true;
                }
            }
        }
        for (variable, value) in environment {
            layers.read_variable(&variable, value);
        }
        layers
    }

    /// Reads `file` and the environment of this process.
    pub fn system(file: Option<&Path>, problems: &mut Problems) -> Layers {
        let mut environment = Vec::new();
        for (variable, value) in std::env::vars_os() {
            let Ok(variable) = variable.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => environment.push((variable, value)),
                Err(_) if !variable.starts_with(PREFIX) => {}
                Err(_) => problems.push(
                    format!("environment `{variable}`"),
                    "is not valid UTF-8: write its value in UTF-8",
                ),
            }
        }
        Layers::load(file, environment, problems)
    }

    /// The same layers for a program that has no flags for these keys, but sets some of them itself: no problem then
    /// names a flag.
    pub fn without_flags(&self) -> Layers {
        Layers {
            without_flags: true,
            ..self.clone()
        }
    }

    /// The keys of one table, with `outranking` values on top of what the environment and the file say.
    pub(super) fn section_below(
        &self,
        name: &'static str,
        outranking: &[OutrankingValue],
    ) -> Section {
        let mut flags = Flags::new();
        for value in outranking {
            let above = SourcedValue {
                source: "url",
                place: value.place.clone(),
                value: Value::String(value.value.clone()),
                entries: BTreeMap::new(),
            };
            flags.given.insert(normal(&value.key), above);
        }
        self.section(name, &flags)
    }

    /// The keys of one table, or of [`ROOT`], with `flags` on top.
    pub fn section(&self, name: &'static str, flags: &Flags) -> Section {
        let mut given: BTreeMap<String, Vec<SourcedValue>> = BTreeMap::new();
        let layers = [
            Some(&flags.given),
            self.environment.get(name),
            self.file.get(name),
        ];
        for (key, value) in layers.into_iter().flatten().flatten() {
            let mut value = value.clone();
            if self.without_flags && value.source == FLAG {
                (value.source, value.place) = ("program", path_of(name, key));
            }
            given.entry(key.clone()).or_default().push(value);
        }
        let flags = match self.without_flags {
            true => BTreeMap::new(),
            false => flags.names.clone(),
        };
        Section {
            name,
            given,
            flags,
            is_unread: self.is_unread,
            known: BTreeSet::new(),
            problems: Problems::new(),
            lacks_keys: false,
            missing: Vec::new(),
            effective: Vec::new(),
        }
    }

    fn read_variable(&mut self, variable: &str, value: String) {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            return;
        };
        if value.is_empty() {
            return;
        }
        let path = normal(&rest.to_ascii_lowercase());
        let key_in = |section: &str| path.strip_prefix(section)?.strip_prefix('-');
        let owner = SECTIONS
            .iter()
            .find_map(|section| Some((*section, key_in(section)?)));
        let (section, key) = owner.unwrap_or((ROOT, path.as_str()));
        let given = SourcedValue {
            source: ENVIRONMENT,
            place: format!("environment `{variable}`"),
            value: Value::String(value),
            entries: BTreeMap::new(),
        };
        let keys = self.environment.entry(section.to_owned()).or_default();
        keys.insert(key.to_owned(), given);
    }

    /// Reads the text of a file.
    pub(crate) fn take_text(&mut self, name: &str, text: &str, problems: &mut Problems) {
        let (places, mut errors) = DeTable::parse_recoverable(text);
        let values = text.parse::<toml::Table>();
        if let Err(error) = &values
            && errors.is_empty()
        {
            errors.push(error.clone());
        }
        let place_of = |line: usize| format!("`{name}` line {line}");
        let mut last = 0;
        for error in &errors {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            // Further errors in a line usually follow from the first one.
            if line != last {
                problems.push(place_of(line), error.message().trim_end());
            }
            last = line;
        }
        let Ok(values) = values else {
            self.is_unread = true;
            return;
        };
        let mut places: Vec<_> = places.get_ref().iter().collect();
        places.sort_by_key(|(key, _)| key.span().start);
        let mut written = Vec::new();
        for (key, place) in places {
            let name: &str = key.get_ref();
            match (place.get_ref(), values.get(name)) {
                (DeValue::Table(keys), Some(Value::Table(table))) if SECTIONS.contains(&name) => {
                    written.extend(keys.iter().map(|(key, place)| (name, key, place, table)));
                }
                (DeValue::Table(_), _) => {
                    let known = nearest(name, SECTIONS.iter().copied());
                    let hint = known.map_or_else(
                        || format!("known tables are `[{}]`", SECTIONS.join("]`, `[")),
                        |known| format!("did you mean `[{known}]`?"),
                    );
                    let place = place_of(line_of(text, key.span().start));
                    problems.push(place, format!("unknown table `[{name}]`: {hint}"));
                }
                _ => written.push((ROOT, key, place, &values)),
            }
        }
        for (section, key, place, table) in written {
            let line = line_of(text, key.span().start);
            let entries = match place.get_ref() {
                DeValue::Table(entries) => entries.iter().collect(),
                _ => Vec::new(),
            };
            let path = path_of(section, &normal(key.get_ref()));
            let entries = entries.into_iter().map(|(entry, _)| {
                let line = line_of(text, entry.span().start);
                let entry = entry.get_ref().to_string();
                let place = format!("`{name}` {path} (line {line})");
                (entry, place)
            });
            let entries = entries.collect();
            let (written, key): (&str, _) = (key.get_ref(), normal(key.get_ref()));
            let Some(value) = table.get(written) else {
                continue;
            };
            let given = SourcedValue {
                source: FILE,
                place: format!("`{name}` {path} (line {line})"),
                value: value.clone(),
                entries,
            };
            let keys = self.file.entry(section.to_owned()).or_default();
            if keys.insert(key, given).is_some() {
                let message = format!("`{written}` is given twice, with `-` and with `_`");
                problems.push(place_of(line), message);
            }
        }
    }
}

/// The values of the command line, by key.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    given: SourcedValues,
    names: BTreeMap<String, String>,
}

impl Flags {
    /// No flags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of the fields of parsed arguments: each is the flag of the key of its name, a text that was given or not, a list or
    /// a switch.
    pub fn of(args: &impl Serialize) -> Self {
        const SIMPLE: &str = "flags are texts, lists and switches";
        let args = serde_json::to_value(args).expect(SIMPLE);
        let mut flags = Flags::new();
        for (field, value) in args.as_object().into_iter().flatten() {
            let (key, flag) = (normal(field), format!("--{}", normal(field)));
            let is_given = match value {
                serde_json::Value::Null | serde_json::Value::Bool(false) => false,
                serde_json::Value::Array(values) => !values.is_empty(),
                _ => true,
            };
            if is_given {
                let given = SourcedValue {
                    source: FLAG,
                    place: format!("flag `{flag}`"),
                    value: Value::try_from(value).expect(SIMPLE),
                    entries: BTreeMap::new(),
                };
                flags.given.insert(key.clone(), given);
            }
            flags.names.insert(key, flag);
        }
        flags
    }

    /// Takes flags out for another table, whose keys have other names: each flag by its key here and there.
    pub(crate) fn split_off(&mut self, moved: &[(&str, &str)]) -> Flags {
        let mut flags = Flags::new();
        for (here, there) in moved {
            let there = (*there).to_owned();
            flags
                .names
                .extend(self.names.remove(*here).map(|name| (there.clone(), name)));
            flags
                .given
                .extend(self.given.remove(*here).map(|value| (there, value)));
        }
        flags
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let len = std::fs::metadata(path)?.len();
    if len > FILE_BYTES_MAX {
        let message = format!(
            "it has {len} bytes and a configuration has at most {FILE_BYTES_MAX}: check the path"
        );
        return Err(std::io::Error::other(message));
    }
    std::fs::read_to_string(path)
}
