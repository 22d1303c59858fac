//! Gives the kinds of streams and lakes their tables of the configuration.

use std::time::Duration;

use hydrant_core::settings::{OutrankingValue, Settings, SettingsTable, TableReading};

use super::effective::Effective;
use super::layers::Layers;
use super::problems::Problems;
use super::section::Section;

impl Settings for Layers {
    fn read_table(
        &self,
        table: &'static str,
        outranking: &[OutrankingValue],
        read: &mut dyn FnMut(&mut dyn SettingsTable),
    ) -> TableReading {
        let mut section = self.section_below(table, outranking);
        read(&mut section);
        let mut problems = Problems::new();
        section.finish(&mut problems);
        problems.into_reading(table)
    }
}

impl SettingsTable for Section {
    fn text(&mut self, key: &'static str) -> Option<String> {
        Section::text(self, key)
    }

    fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.optional_duration(key)
    }

    fn bytes(&mut self, key: &'static str) -> Option<u64> {
        self.optional_bytes(key)
    }

    fn problem(&mut self, key: &'static str, message: String) {
        Section::problem(self, key, message);
    }
}

impl Problems {
    fn into_reading(self, table: &'static str) -> TableReading {
        let effective = self.effective().first().cloned().unwrap_or_default();
        TableReading {
            table,
            problems: self.into_found(),
            in_force: effective.values,
        }
    }

    /// Adds the problems and values of tables that kinds of streams and lakes have read.
    pub fn take(&mut self, readings: impl IntoIterator<Item = TableReading>) {
        for reading in readings {
            for problem in reading.problems {
                self.push(problem.place, problem.message);
            }
            self.read(Effective {
                section: reading.table,
                values: reading.in_force,
                unknown_variables: Vec::new(),
            });
        }
    }
}
