//! The effective configuration of a section, as one line of the log.

use std::fmt;

use super::names::ROOT;

/// How the log names a value of the command line.
pub(super) const FLAG: &str = "flag";
/// How the log names a value of the environment.
pub(super) const ENVIRONMENT: &str = "environment";
/// How the log names a value of the file.
pub(super) const FILE: &str = "file";

/// The effective values of a section, without secrets.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    pub(super) section: &'static str,
    pub(super) values: Vec<(String, String, &'static str)>,
    pub(super) unknown_variables: Vec<String>,
}

impl Effective {
    /// Warns of unknown environment variables, and logs the values of the file and the environment; on level `debug`
    /// all effective values.
    pub fn log(&self) {
        for variable in &self.unknown_variables {
            tracing::warn!(target: "hydrant::config", "ignoring the unknown environment variable `{variable}`: check its spelling");
        }
        if !self.values.is_empty() {
            tracing::debug!(target: "hydrant::config", "{self}");
        }
        let mut given = self.clone();
        given
            .values
            .retain(|(_, _, source)| matches!(*source, ENVIRONMENT | FILE));
        if !given.values.is_empty() {
            tracing::info!(target: "hydrant::config", "{given}");
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration")?;
        if self.section != ROOT {
            write!(f, " [{}]", self.section)?;
        }
        for (n, (key, value, source)) in self.values.iter().enumerate() {
            let separator = if n == 0 { ": " } else { ", " };
            write!(f, "{separator}{key} = {value} ({source})")?;
        }
        Ok(())
    }
}
