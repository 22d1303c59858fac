//! A copy to a device or a named pipe: written like standard output, at least once.
//!
//! The printing thread opens the path with the first text, so a named pipe without a reader delays the copy and not
//! the process. When the reader of a pipe goes away, the process drains, as it does for `| head`.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use hydrant_core::error::{Error, Result};
use hydrant_core::shutdown::{Phase, Shutdown};

use super::printer::TextOutput;

/// A device or a named pipe, opened by the first text. When its reader goes away, the process drains.
pub(crate) struct DeviceText {
    pub(crate) path: PathBuf,
    pub(crate) file: Option<File>,
    pub(crate) shutdown: Shutdown,
}

impl TextOutput for DeviceText {
    fn write(&mut self, text: &[u8]) -> Result<bool> {
        let path = &self.path;
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let opened = OpenOptions::new().append(true).open(path);
                let opened = opened.map_err(|error| failed("open", path, &error))?;
                self.file.insert(opened)
            }
        };
        match file.write_all(text) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.shutdown.advance(Phase::Draining);
                Ok(false)
            }
            Err(error) => Err(failed("write to", path, &error)),
        }
    }
}

/// Returns a fatal error: a device does not get more room, so trying again does not help.
fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::fatal(format!("cannot {what} `{}`: {error}", path.display()))
}
