//! Settings, as the kinds of streams and lakes read them: by name, from a table of their own.
//!
//! A kind declares its keys by asking for them. Where values come from, which layer outranks which, and how mistakes are
//! shown is the business of the process that implements [`Settings`]; a key that a kind does not ask for is a mistake.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

/// A value that outranks the tables, of the query of a URL or of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutrankingValue {
    /// The key.
    pub key: String,
    /// The value as it was written.
    pub value: String,
    /// Where it was written, for people.
    pub place: String,
}

/// Splits a URL into what it names and the settings behind its `?`.
///
/// # Errors
/// Refused for what is not `key=value`, and for a key that is given twice.
pub fn split_query(url: &str) -> Result<(&str, Vec<OutrankingValue>)> {
    let Some((named, query)) = url.split_once('?') else {
        return Ok((url, Vec::new()));
    };
    let mut values: Vec<OutrankingValue> = Vec::new();
    for part in query.split('&') {
        let setting = part.split_once('=').filter(|(key, _)| !key.is_empty());
        let Some((key, value)) = setting else {
            let part = if part.is_empty() { "nothing" } else { part };
            return Err(Error::refused(format!(
                "`{part}` after the `?` in `{url}` is not a setting: write `key=value`, and separate settings with `&`"
            )));
        };
        // As everywhere, `-` and `_` are one.
        let is_twice =
            |other: &OutrankingValue| other.key.replace('_', "-") == key.replace('_', "-");
        if values.iter().any(is_twice) {
            return Err(Error::refused(format!(
                "`{key}` is given twice in `{url}`: write it once"
            )));
        }
        values.push(OutrankingValue {
            key: key.to_owned(),
            value: value.to_owned(),
            place: format!("`{key}` in `{url}`"),
        });
    }
    Ok((named, values))
}

/// Refuses a path that begins with `~`, which means a home to a shell and nothing to a file system.
///
/// # Errors
/// Refused with what to write instead.
pub fn refuse_tilde(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if !text.starts_with('~') {
        return Ok(());
    }
    let in_home = text.split_once('/').map_or("", |(_, rest)| rest);
    Err(Error::refused(format!(
        "`{text}` begins with `~`, which only shells read: write an absolute path, on a command line `$HOME/{in_home}`, or \
         `./{text}` for a directory of that name"
    )))
}

/// Returns a path as a URL holds it.
///
/// # Errors
/// Refused for a path that no URL can hold.
pub fn path_in_url(path: &Path) -> Result<&str> {
    refuse_tilde(path)?;
    let text = path.to_str().filter(|text| !text.contains('?'));
    text.ok_or_else(|| {
        Error::refused(format!(
            "path `{}` cannot be written as a URL, because it contains a `?` or is not UTF-8: choose another path",
            path.display()
        ))
    })
}

/// What is wrong with a setting, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// Where it was written.
    pub place: String,
    /// What is wrong and what to write.
    pub message: String,
}

/// What came of a table that was read.
#[derive(Clone, Debug, Default)]
pub struct TableReading {
    /// The table.
    pub table: &'static str,
    /// Everything that is wrong.
    pub problems: Vec<SettingProblem>,
    /// What is in force: key, value and where it comes from; without secrets.
    pub in_force: Vec<(String, String, &'static str)>,
}

/// The tables of a configuration.
pub trait Settings: Send + Sync + fmt::Debug {
    /// Lets `read` take what it wants of `table`, with `outranking` on top.
    fn read_table(
        &self,
        table: &'static str,
        outranking: &[OutrankingValue],
        read: &mut dyn FnMut(&mut dyn SettingsTable),
    ) -> TableReading;
}

/// The keys of one table. What is wrong with a value is kept, and the answer is then `None`.
pub trait SettingsTable {
    /// A text, never an empty one.
    fn text(&mut self, key: &'static str) -> Option<String>;
    /// A duration with its unit.
    fn duration(&mut self, key: &'static str) -> Option<Duration>;
    /// A number of bytes.
    fn bytes(&mut self, key: &'static str) -> Option<u64>;
    /// Adds that something about a key is wrong: what, and what to write.
    fn problem(&mut self, key: &'static str, message: String);
}

/// No tables: everything is as by default, and nothing outranks it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSettings;

impl Settings for NoSettings {
    fn read_table(
        &self,
        table: &'static str,
        outranking: &[OutrankingValue],
        read: &mut dyn FnMut(&mut dyn SettingsTable),
    ) -> TableReading {
        read(&mut NoSettings);
        let refused = |value: &OutrankingValue| SettingProblem {
            place: value.place.clone(),
            message: format!("setting `{}` has no effect here: leave it out", value.key),
        };
        TableReading {
            table,
            problems: outranking.iter().map(refused).collect(),
            in_force: Vec::new(),
        }
    }
}

impl SettingsTable for NoSettings {
    fn text(&mut self, _: &'static str) -> Option<String> {
        None
    }

    fn duration(&mut self, _: &'static str) -> Option<Duration> {
        None
    }

    fn bytes(&mut self, _: &'static str) -> Option<u64> {
        None
    }

    fn problem(&mut self, _: &'static str, _: String) {}
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_in_which_a_url_would_end_is_refused_by_name() {
        assert_eq!(path_in_url(Path::new("a/b c")).unwrap(), "a/b c");
        let refused = path_in_url(Path::new("a?codec=zstd")).unwrap_err();
        assert!(refused.to_string().contains("`a?codec=zstd`"), "{refused}");
        path_in_url(Path::new(OsStr::from_bytes(b"\xFF"))).unwrap_err();
    }
}
