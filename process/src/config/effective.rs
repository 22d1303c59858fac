//! The configuration that is in force, as one line of the log.

use std::fmt;

use super::layers::ROOT;

/// How the log names a value of the environment.
pub(super) const ENVIRONMENT: &str = "environment";
/// How the log names a value of the file.
pub(super) const FILE: &str = "file";

/// The values of a section that are in force. Secrets are already left out.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    pub(super) section: &'static str,
    pub(super) values: Vec<(String, String, &'static str)>,
    pub(super) strangers: Vec<String>,
}

impl Effective {
    /// Warns of unknown environment variables, and logs what the file and the environment say; on level `debug` all
    /// values that are in force.
    pub fn log(&self) {
        for variable in &self.strangers {
            tracing::warn!(target: "hydrant::config", "nothing reads the environment variable `{variable}`");
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
