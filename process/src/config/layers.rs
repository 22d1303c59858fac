//! Reads values from the file, the environment and the command line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;
use toml::Value;
use toml::de::{DeTable, DeValue};

use hydrant_core::settings::OutrankingValue;

use super::names::{ROOT, nearest, normal};
use super::problems::Problems;
use super::section::{RawValue, Section, SourcedValue, ValueSource};

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
    /// Reads `file`, and the variables of `environment` that start with `HYDRANT_`. `sections` names all tables that
    /// the file may hold, also those that this binary does not read. What cannot be read is left out and added to
    /// `problems`.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        sections: &[&str],
        problems: &mut Problems,
    ) -> Layers {
        let mut layers = Layers::default();
        if let Some(path) = file {
            layers.read_file(path, sections, problems);
        }
        for (variable, value) in environment {
            layers.read_variable(variable, value, sections);
        }
        layers
    }

    /// Reads `file` and the environment of this process.
    pub fn system(file: Option<&Path>, sections: &[&str], problems: &mut Problems) -> Layers {
        let mut environment = Vec::new();
        for (variable, value) in std::env::vars_os() {
            let Ok(variable) = variable.into_string() else {
                continue;
            };
            if !variable.starts_with(PREFIX) {
                continue;
            }
            match value.into_string() {
                Ok(value) => environment.push((variable, value)),
                Err(_) => problems.push(
                    format!("environment `{variable}`"),
                    "is not valid UTF-8: write its value in UTF-8",
                ),
            }
        }
        Layers::load(file, environment, sections, problems)
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
            let source = ValueSource::Above {
                place: value.place.clone(),
            };
            let raw = RawValue::Text(value.value.clone());
            flags
                .given
                .insert(normal(&value.key), SourcedValue { source, raw });
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
            if self.without_flags && matches!(value.source, ValueSource::Flag { .. }) {
                value.source = ValueSource::Program;
            }
            given.entry(key.clone()).or_default().push(value);
        }
        let names = match self.without_flags {
            true => BTreeMap::new(),
            false => flags.names.clone(),
        };
        Section::new(name, given, names, self.is_unread)
    }

    fn read_variable(&mut self, variable: String, value: String, sections: &[&str]) {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            return;
        };
        if value.is_empty() {
            return;
        }
        let path = normal(&rest.to_ascii_lowercase());
        let owner = sections
            .iter()
            .filter_map(|section| {
                let key = path.strip_prefix(*section)?.strip_prefix('-')?;
                (!section.is_empty()).then_some((*section, key))
            })
            .max_by_key(|(section, _)| section.len());
        let (section, key) = owner.unwrap_or((ROOT, path.as_str()));
        let given = SourcedValue {
            source: ValueSource::Environment { variable },
            raw: RawValue::Text(value),
        };
        self.environment
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), given);
    }

    fn read_file(&mut self, path: &Path, sections: &[&str], problems: &mut Problems) {
        let name = path.display().to_string();
        let text = match read_text(path) {
            Ok(text) => text,
            Err(error) => {
                problems.push(format!("`{name}`"), format!("cannot be read: {error}"));
                self.is_unread = true;
                return;
            }
        };
        self.take_text(&name, &text, sections, problems);
    }

    /// Reads the text of a file.
    pub(crate) fn take_text(
        &mut self,
        name: &str,
        text: &str,
        sections: &[&str],
        problems: &mut Problems,
    ) {
        let (places, errors) = DeTable::parse_recoverable(text);
        let mut last = 0;
        let mut refuse = |span: Option<Range<usize>>, message: &str| {
            let line = line_of(text, span.map_or(0, |span| span.start));
            // Further errors in a line usually follow from the first one.
            if line != last {
                problems.push(format!("`{name}` line {line}"), message.trim_end());
            }
            last = line;
        };
        if !errors.is_empty() {
            errors
                .iter()
                .for_each(|error| refuse(error.span(), error.message()));
            self.is_unread = true;
            return;
        }
        let values: toml::Table = match text.parse() {
            Ok(values) => values,
            Err(error) => {
                refuse(error.span(), error.message());
                self.is_unread = true;
                return;
            }
        };
        let mut places: Vec<_> = places.get_ref().iter().collect();
        places.sort_by_key(|(key, _)| key.span().start);
        for (key, place) in places {
            let written: &str = key.get_ref();
            let Some(value) = values.get(written) else {
                continue;
            };
            let line = line_of(text, key.span().start);
            match (place.get_ref(), value) {
                (DeValue::Table(keys), Value::Table(table)) => {
                    if sections.contains(&written) {
                        self.read_table(name, text, written, keys, table, problems);
                    } else {
                        let hint = nearest(written, sections.iter().copied()).map_or_else(
                            || format!("known tables are {}", listed(sections)),
                            |known| format!("did you mean `[{known}]`?"),
                        );
                        problems.push(
                            format!("`{name}` line {line}"),
                            format!("unknown table `[{written}]`: {hint}"),
                        );
                    }
                }
                (_, value) => self.keep(name, ROOT, written, line, value.clone(), problems),
            }
        }
    }

    fn read_table(
        &mut self,
        name: &str,
        text: &str,
        section: &str,
        places: &DeTable<'_>,
        table: &toml::Table,
        problems: &mut Problems,
    ) {
        for (key, _) in places {
            let written: &str = key.get_ref();
            if let Some(value) = table.get(written) {
                let line = line_of(text, key.span().start);
                self.keep(name, section, written, line, value.clone(), problems);
            }
        }
    }

    fn keep(
        &mut self,
        file: &str,
        section: &str,
        written: &str,
        line: usize,
        value: Value,
        problems: &mut Problems,
    ) {
        let source = ValueSource::File {
            name: file.to_owned(),
            line,
        };
        let given = SourcedValue {
            source,
            raw: RawValue::Toml(value),
        };
        let keys = self.file.entry(section.to_owned()).or_default();
        if keys.insert(normal(written), given).is_some() {
            problems.push(
                format!("`{file}` line {line}"),
                format!("`{written}` is given twice, with `-` and with `_`"),
            );
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
        let args = serde_json::to_value(args).expect("flags are texts, lists and switches");
        let mut flags = Flags::new();
        for (field, value) in args.as_object().into_iter().flatten() {
            let raw = match value {
                serde_json::Value::String(text) => Some(RawValue::Text(text.clone())),
                serde_json::Value::Bool(true) => Some(RawValue::Text("true".to_owned())),
                serde_json::Value::Array(values) if !values.is_empty() => {
                    let texts = values.iter().filter_map(serde_json::Value::as_str);
                    Some(RawValue::List(texts.map(str::to_owned).collect()))
                }
                _ => None,
            };
            let key = normal(field);
            let flag = format!("--{key}");
            flags.insert(key, flag, raw);
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

    fn insert(&mut self, key: String, flag: String, raw: Option<RawValue>) {
        if let Some(raw) = raw {
            let source = ValueSource::Flag { flag: flag.clone() };
            self.given.insert(key.clone(), SourcedValue { source, raw });
        }
        self.names.insert(key, flag);
    }
}

fn listed(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`[{name}]`")).collect();
    names.join(", ")
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
