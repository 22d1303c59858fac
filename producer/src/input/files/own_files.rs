//! Keeps a producer from reading what it writes: its own files, and the directories of hydrant.
//!
//! Owns which these are. The files are the ledger, its lock, the report, and what each is written to before it gets its
//! name. A ledger is replaced four times a second, so that its inode alone would not do: a path counts, and behind links
//! both the path that they lead to and the inode. The directories are streams and lakes; a pattern does not enter one,
//! but an input that names one may be read, unless it is the stream that is written to.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use hydrant_core::{Error, Result};
use hydrant_stream::StreamUrl;

use super::file::{FileIdentity, real_path};
use super::glob::{self, Expansion, here};
use crate::config::{Config, Files};
use crate::ledger;

/// The files of one producer.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnFiles {
    paths: Vec<PathBuf>,
    /// The directory of the stream that is written to.
    stream: Option<PathBuf>,
    /// Paths that were skipped, and that a log line has named.
    passed: BTreeSet<PathBuf>,
}

impl OwnFiles {
    pub(crate) fn of(config: &Config) -> Self {
        let remembered = config.remembered.as_ref();
        let ledger = remembered.map(|remembered| remembered.ledger.clone());
        let lock = ledger.as_deref().map(ledger::lock_path);
        let paths = ledger.into_iter().chain(lock).chain(config.report.clone());
        let stream = StreamUrl::parse(&config.to).ok();
        OwnFiles {
            paths: paths.collect(),
            stream: stream.and_then(|url| Some(url.directory()?.to_owned())),
            passed: BTreeSet::new(),
        }
    }

    /// Whether `path` names the ledger, or a file that belongs to it.
    pub(crate) fn belongs_to_ledger(config: &Config, path: &Path) -> bool {
        let report = None;
        let config = Config {
            report,
            ..config.clone()
        };
        OwnFiles::of(&config).has_name(path)
    }

    /// Whether `path` leads to one of them, as far as names say.
    fn has_name(&self, path: &Path) -> bool {
        let (Some(name), directory) = (path.file_name(), directory(path)) else {
            return false;
        };
        self.paths.iter().any(|own| {
            own.file_name()
                .is_some_and(|own| name == own || is_temporary(name, own))
                && real_path(&directory) == real_path(&self::directory(own))
        })
    }

    fn ids(&self) -> Vec<FileIdentity> {
        self.paths
            .iter()
            .filter_map(|own| FileIdentity::at(own))
            .collect()
    }

    /// Whether `path` leads to one of them, which have these identities now.
    fn holds(&self, path: &Path, ids: &[FileIdentity]) -> bool {
        let id = match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                if self.has_name(&real_path(path)) {
                    return true;
                }
                FileIdentity::at(path)
            }
            found => found.ok().and_then(|found| FileIdentity::of(&found)),
        };
        self.has_name(path) || id.is_some_and(|id| ids.contains(&id))
    }

    /// The files that the input stands for, without the own ones. Each path that is skipped is logged once.
    pub(crate) fn expand(&mut self, input: &Path) -> Expansion {
        let mut found = glob::expand(input, |directory| self.is_closed(directory));
        for (path, metadata) in &found.passed {
            if self.passed.insert(path.clone()) {
                let kind = kind_of(metadata.file_type());
                tracing::info!(input = %path.display(), "the file is not read: it is {kind}, which is read only where an input names it");
            }
        }
        if self.paths.is_empty() {
            return found;
        }
        let ids = self.ids();
        found.files.retain(|path| {
            let is_own = self.holds(path, &ids);
            if is_own && self.passed.insert(path.clone()) {
                tracing::info!(input = %path.display(), "the file is not read: this producer writes it");
            }
            !is_own
        });
        found
    }

    /// Whether patterns do not enter the directory.
    fn is_closed(&mut self, directory: &Path) -> bool {
        let Some(kind) = kept_in(directory) else {
            return false;
        };
        if self.passed.insert(directory.to_owned()) {
            tracing::info!(
                directory = %directory.display(),
                "the directory is not searched for inputs: it is {kind}, whose files belong to hydrant"
            );
        }
        true
    }

    /// Refuses an input that names one of them.
    ///
    /// # Errors
    /// Refused.
    pub(crate) fn check(&self, files: &Files) -> Result<()> {
        let ids = self.ids();
        for input in files.inputs.iter().filter(|input| input.as_os_str() != "-") {
            let shown = input.display();
            if self
                .stream
                .as_ref()
                .is_some_and(|stream| is_within(input, stream))
            {
                return Err(Error::refused(format!(
                    "the input `{shown}` lies in the stream that this producer writes: name another `--input` or `--to`"
                )));
            }
            if (!glob::is_pattern(input) || input.exists()) && self.holds(input, &ids) {
                return Err(Error::refused(format!(
                    "the input `{shown}` is a file that this producer writes, its ledger or its report: name \
                     another `--input`, `--ledger` or `--report`"
                )));
            }
        }
        Ok(())
    }
}

/// What is not a regular file.
fn kind_of(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// What hydrant keeps in the directory, if it made it.
fn kept_in(directory: &Path) -> Option<&'static str> {
    if directory.join("_hydrant").is_dir() {
        Some("a lake")
    } else if ["manifest.json", "manifest.lock"]
        .iter()
        .all(|name| directory.join(name).exists())
    {
        Some("a stream")
    } else {
        None
    }
}

/// Whether what `input` names lies in `directory`, if that is there.
fn is_within(input: &Path, directory: &Path) -> bool {
    let named = here(&glob::named(input));
    directory.is_dir() && real_path(&named).starts_with(real_path(directory))
}

fn directory(path: &Path) -> PathBuf {
    here(path.parent().unwrap_or(path))
}

/// Whether a file called `name` is renamed to `own` once it is whole: `.own.NONCE.tmp`.
fn is_temporary(name: &OsStr, own: &OsStr) -> bool {
    // As the disk makes it.
    let own = own.to_string_lossy();
    name.as_encoded_bytes()
        .strip_prefix(b".")
        .and_then(|rest| rest.strip_prefix(own.as_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."))
        .is_some_and(|rest| rest.ends_with(b".tmp"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{InputSpec, Remembered};

    #[test]
    fn own_files_are_known_by_path_through_links_and_by_inode() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let origin = InputSpec::Files(Files::new(["*"]));
        let config = Config {
            remembered: Some(Remembered {
                name: "n".to_owned(),
                ledger: at("edge.json"),
            }),
            report: Some(at("report.json")),
            ..Config::new("local:raw", origin)
        };
        let own = OwnFiles::of(&config);
        // Also before they exist.
        for name in [
            "edge.json",
            "edge.json.lock",
            "report.json",
            ".edge.json.ledger.tmp",
            ".report.json.ab12.tmp",
            "./edge.json",
        ] {
            assert!(own.holds(&at(name), &own.ids()), "`{name}`");
        }
        fs::write(at("edge.json"), "{}\n").unwrap();
        fs::write(at("a.json"), "{}\n").unwrap();
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/edge.json"), "{}\n").unwrap();
        fs::hard_link(at("edge.json"), at("hard.json")).unwrap();
        std::os::unix::fs::symlink("edge.json", at("soft.json")).unwrap();
        std::os::unix::fs::symlink(".", at("here")).unwrap();
        for (name, is_own) in [
            ("hard.json", true),
            ("soft.json", true),
            ("here/edge.json", true),
            ("sub/../edge.json", true),
            ("sub/edge.json", false),
            ("a.json", false),
            ("edge.json.1", false),
            (".edge.json.tmp", false),
            (".a.json.x.tmp", false),
        ] {
            assert_eq!(own.holds(&at(name), &own.ids()), is_own, "`{name}`");
        }
        let mut nothing = OwnFiles::of(&Config::new("local:raw", config.origin));
        assert_eq!(nothing.expand(&at("edge.json")).files, [at("edge.json")]);
        let (mut own, all) = (own, at("*.json"));
        assert_eq!(own.expand(&all).files, [at("a.json")]);
    }
}
