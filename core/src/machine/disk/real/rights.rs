//! Sets the modes of new files and directories.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::disk::Open;

/// The mode of new files, such as `0600`; users who may read files may search directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(u32);

impl FileMode {
    /// Only the owner may read and write.
    pub const OWNER: FileMode = FileMode(0o600);

    /// Parses a mode of octal digits; `None` unless the owner may read and write and no user may execute.
    pub fn parse(text: &str) -> Option<Self> {
        let mode = u32::from_str_radix(text, 8).ok()?;
        let is_fit = mode & 0o600 == 0o600 && mode & !0o666 == 0;
        is_fit.then_some(FileMode(mode))
    }

    fn of_directories(self) -> u32 {
        self.0 | (self.0 & 0o444) >> 2
    }

    /// Whether the umask may remove permissions of this mode.
    fn is_widened(self) -> bool {
        self.0 & 0o077 != 0
    }
}

impl Default for FileMode {
    fn default() -> Self {
        FileMode::OWNER
    }
}

/// The modes of what a disk creates.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rights {
    /// This mode; the umask does not matter.
    Given(FileMode),
    /// The mode that the umask leaves.
    Umask,
}

impl Rights {
    /// Opens or creates a file.
    pub(super) fn open(self, path: &Path, how: Open) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(how != Open::Read);
        let Rights::Given(mode) = self else {
            options.create(how == Open::Create);
            options.create_new(how == Open::CreateNew);
            return options.open(path);
        };
        loop {
            if how != Open::CreateNew {
                match options.open(path) {
                    Err(error) if error.kind() == ErrorKind::NotFound && how == Open::Create => {}
                    opened => return opened,
                }
            }
            let mut new = options.clone();
            let file = match new.create_new(true).mode(mode.0).open(path) {
                // Another process was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && how == Open::Create => {
                    continue;
                }
                made => made?,
            };
            if mode.is_widened() {
                file.set_permissions(Permissions::from_mode(mode.0))?;
            }
            return Ok(file);
        }
    }

    /// Creates a directory. Missing parents get the mode that the umask leaves: their names are no secret.
    pub(super) fn create_dir_all(self, path: &Path) -> io::Result<()> {
        let Rights::Given(mode) = self else {
            return std::fs::create_dir_all(path);
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(mode.of_directories()).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Ok(()) if mode.is_widened() => {
                std::fs::set_permissions(path, Permissions::from_mode(mode.of_directories()))
            }
            made => made,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_and_directories_have_the_mode_that_was_given() {
        let dir = tempfile::tempdir().unwrap();
        for (text, files, directories) in [
            ("0600", 0o600, 0o700),
            ("640", 0o640, 0o750),
            ("0664", 0o664, 0o775),
        ] {
            let rights = Rights::Given(FileMode::parse(text).unwrap());
            let made = dir.path().join(text).join("own");
            rights.create_dir_all(&made).unwrap();
            rights.create_dir_all(&made).unwrap();
            assert_eq!(mode_of(&made), directories, "{text}");
            for (name, how) in [("a", Open::Create), ("b", Open::CreateNew)] {
                rights.open(&made.join(name), how).unwrap();
                assert_eq!(mode_of(&made.join(name)), files, "{text}");
            }
            assert!(rights.open(&made.join("a"), Open::CreateNew).is_err());
            assert!(rights.open(&made.join("c"), Open::Write).is_err());
            rights.open(&made.join("a"), Open::Create).unwrap();
        }
        for text in ["", "rw", "0400", "0700", "0755", "1600", "8", "-600"] {
            assert_eq!(FileMode::parse(text), None, "{text}");
        }
    }
}
