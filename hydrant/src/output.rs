//! Prints results: a table for people, one JSON document for programs.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use hydrant_core::Result;
use hydrant_process::Stdout;
pub(crate) use hydrant_process::{count_text, counted, path_text, printable};
use serde::Serialize;

/// Prints the result of a command to standard output, as text or as JSON.
#[derive(Clone, Debug)]
pub(crate) struct CommandOutput {
    stdout: Stdout,
    json: bool,
}

impl CommandOutput {
    /// Prints JSON with `json`, else text.
    pub(crate) fn new(stdout: Stdout, json: bool) -> Self {
        CommandOutput { stdout, json }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The standard output, for lines and bytes.
    pub(crate) fn stdout(&self) -> &Stdout {
        &self.stdout
    }

    /// Tells people something beside the result.
    pub(crate) fn note(&self, text: &str) {
        hydrant_process::to_stderr(text);
    }

    /// Prints `value` as JSON, or else the answer of `text`.
    pub(crate) fn print<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.json {
            self.stdout.json(value)
        } else {
            self.stdout.line(text().trim_end())
        }
    }
}

/// The width of a table in a file or a pipe, in characters.
const WIDTH_ELSEWHERE: u16 = 120;

/// A table with these column names and rows. What a device named may hold control characters, which no cell prints. A column whose name begins with `>` is aligned to the right, as numbers
/// are. Long cells wrap: the table is at most as wide as the terminal, or [`WIDTH_ELSEWHERE`] where standard output is
/// not a terminal.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let names = header.iter().map(|name| name.trim_start_matches('>'));
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(names)
        .add_rows(rows.into_iter().map(printable_cells));
    for (column, name) in table.column_iter_mut().zip(header) {
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if !table.is_tty() {
        table.set_width(WIDTH_ELSEWHERE);
    }
    table.to_string()
}

fn printable_cells(row: Vec<String>) -> Vec<String> {
    let cells = row.into_iter();
    cells.map(|cell| printable(&cell).into_owned()).collect()
}

/// Bytes for people: `1.5 MiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() as usize / 10).min(UNITS.len() - 1);
    match unit {
        0 => format!("{bytes} B"),
        unit => {
            let value = bytes as f64 / 1024_f64.powi(unit as i32);
            format!("{value:.1} {}", UNITS[unit])
        }
    }
}

/// A moment for people, in UTC; `-` without one.
pub(crate) fn moment_text(micros: Option<i64>) -> String {
    micros
        .and_then(chrono::DateTime::from_timestamp_micros)
        .map_or_else(
            || "-".to_owned(),
            |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_moments_are_for_people() {
        assert_eq!(bytes_text(1023), "1023 B");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(moment_text(Some(0)), "1970-01-01T00:00:00Z");
        assert_eq!(moment_text(None), "-");
    }

    #[test]
    fn numbers_stand_at_the_right_of_their_columns() {
        let rows = [["a", "1,234"], ["b", "7"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let text = table(&["name", ">records"], rows);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(
            lines,
            [
                "| name   records |",
                "| a        1,234 |",
                "| b            7 |"
            ],
            "{text}"
        );
    }
}
