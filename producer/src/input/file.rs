//! Files as inputs.
//!
//! Owns opening and its errors. A named pipe is a file too: opening one waits for its writer.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{InputError, LineReader};

/// Opens `path` for reading lines of at most `line_bytes_max` bytes.
///
/// # Errors
/// When there is no such file, it may not be read, or it is a directory.
pub fn open(path: &Path, line_bytes_max: usize) -> Result<LineReader<File>, InputError> {
    let name = path.display().to_string();
    let opened = File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            Err(io::Error::from(io::ErrorKind::IsADirectory))
        } else {
            Ok(file)
        }
    });
    match opened {
        Ok(file) => Ok(LineReader::new(name, file, line_bytes_max)),
        Err(source) => Err(InputError::Open {
            name,
            remedy: remedy(source.kind()),
            source,
        }),
    }
}

/// Refuses a path that leads to nothing or to a directory, without opening it: a named pipe can be opened once only.
///
/// # Errors
/// [`InputError::Open`].
pub fn check(path: &Path) -> Result<(), InputError> {
    let source = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => io::Error::from(io::ErrorKind::IsADirectory),
        Ok(_) => return Ok(()),
        Err(source) => source,
    };
    Err(InputError::Open {
        name: path.display().to_string(),
        remedy: remedy(source.kind()),
        source,
    })
}

/// The path without links and dots, by which two runs know that they read the same file.
#[must_use]
pub fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

const fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => {
            "there is no such file; check the path, or use `-` for standard input"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not read it; grant read permission or run as its owner"
        }
        io::ErrorKind::IsADirectory => "it is a directory; name one file, or pipe with `cat DIR/*`",
        _ => "the system refused; the reason follows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_read_and_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"a\":1}\n{\"a\":2}").unwrap();
        let mut reader = open(file.path(), 1_024).unwrap();
        assert_eq!(reader.name(), file.path().display().to_string());
        let block = reader.next_block().unwrap().unwrap();
        assert_eq!(&block.bytes[block.lines[0].range.clone()], b"{\"a\":1}");
    }

    #[test]
    fn a_check_tells_what_opening_would_tell() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent");
        for path in [directory.path(), &absent] {
            let opened = open(path, 1_024).err().unwrap().to_string();
            assert_eq!(check(path).unwrap_err().to_string(), opened);
        }
        std::fs::write(&absent, b"").unwrap();
        check(&absent).unwrap();
    }

    #[test]
    fn what_cannot_be_opened_is_refused_with_place_and_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.ndjson");
        for (path, word) in [
            (directory.path(), "directory"),
            (missing.as_path(), "no such file"),
        ] {
            let message = open(path, 1_024).err().unwrap().to_string();
            assert!(message.contains(&path.display().to_string()), "{message}");
            assert!(message.contains(word), "{message}");
        }
    }
}
