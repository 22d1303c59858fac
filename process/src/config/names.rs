//! The names of tables and keys: their one spelling, and the known name that a mistyped one probably means.

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
pub(super) fn nearest<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = normal(&written.to_ascii_lowercase());
    let tolerated = (written.chars().count() / 3).clamp(1, 4);
    names
        .into_iter()
        .map(|name| (edits(&written, name), name))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, name)| name)
}

/// The number of insertions, removals, replacements and swaps of neighbours that turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut fewest = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                fewest = fewest.min(rows[i - 2][j - 2] + 1);
            }
            row.push(fewest);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
