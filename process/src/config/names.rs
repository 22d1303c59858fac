//! The names of tables and keys: their one spelling, and the known name that a mistyped one probably means.

use strsim::osa_distance;

/// The name of the keys at the head of the file, before its first table.
pub const ROOT: &str = "";

/// The one spelling of a key: hyphens.
pub(super) fn normal(key: &str) -> String {
    key.replace('_', "-")
}

/// How problems name a key.
pub(super) fn path_of(section: &str, key: &str) -> String {
    match section {
        ROOT => format!("`{key}`"),
        section => format!("[{section}] {key}"),
    }
}

/// The environment variable of a key.
pub(super) fn variable_of(section: &str, key: &str) -> String {
    let path = match section {
        ROOT => format!("HYDRANT_{key}"),
        section => format!("HYDRANT_{section}_{key}"),
    };
    path.replace('-', "_").to_ascii_uppercase()
}

/// The known name that `written` probably means.
pub fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = normal(&written.to_ascii_lowercase());
    let tolerated = (written.chars().count() / 3).clamp(1, 4);
    names
        .into_iter()
        .map(|name| (osa_distance(&written, name), name))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, name)| name)
}
