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
        let in_force = problems.effective.pop().map(|section| section.values);
        TableReading {
            table,
            problems: problems.found,
            in_force: in_force.unwrap_or_default(),
        }
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
    /// Adds the problems and values of tables that kinds of streams and lakes have read.
    pub fn take(&mut self, readings: impl IntoIterator<Item = TableReading>) {
        for reading in readings {
            self.found.extend(reading.problems);
            self.effective.push(Effective {
                section: reading.table,
                values: reading.in_force,
                unknown_variables: Vec::new(),
            });
        }
    }
}
