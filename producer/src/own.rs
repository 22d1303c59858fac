//! The files that a producer writes itself, which are never its input: it would feed itself.
//!
//! Owns which ones they are: the ledger, its lock, the report, and what each is written to before it gets its name.
//! A ledger is replaced four times a second, so that its inode alone would not do: a path counts, and behind links
//! both the path that they lead to and the inode.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use hydrant_core::{Error, Result};

use crate::config::{Config, Files};
use crate::input::file::{FileId, real_path};
use crate::input::glob;

/// The files of one producer.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnFiles {
    paths: Vec<PathBuf>,
}

impl OwnFiles {
    pub(crate) fn of(config: &Config) -> Self {
        let remembered = config.remembered.as_ref();
        let ledger = remembered.map(|remembered| remembered.ledger.clone());
        let lock = ledger.as_ref().map(|ledger| {
            let mut name = ledger.file_name().unwrap_or_default().to_os_string();
            name.push(".lock");
            ledger.with_file_name(name)
        });
        let paths = ledger.into_iter().chain(lock).chain(config.report.clone());
        OwnFiles {
            paths: paths.collect(),
        }
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

    fn ids(&self) -> Vec<FileId> {
        self.paths
            .iter()
            .filter_map(|own| FileId::at(own))
            .collect()
    }

    /// Whether `path` leads to one of them, which have these identities now.
    fn holds(&self, path: &Path, ids: &[FileId]) -> bool {
        let id = match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                if self.has_name(&real_path(path)) {
                    return true;
                }
                FileId::at(path)
            }
            found => found.ok().and_then(|found| FileId::of(&found)),
        };
        self.has_name(path) || id.is_some_and(|id| ids.contains(&id))
    }

    /// The paths that lead to none of them.
    pub(crate) fn without(&self, mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
        if !self.paths.is_empty() {
            let ids = self.ids();
            paths.retain(|path| !self.holds(path, &ids));
        }
        paths
    }

    /// Refuses an input that names one of them.
    ///
    /// # Errors
    /// Refused.
    pub(crate) fn check(&self, files: &Files) -> Result<()> {
        let ids = self.ids();
        let mut named = files
            .inputs
            .iter()
            .filter(|input| input.as_os_str() != "-")
            .filter(|input| !glob::is_pattern(input) || input.exists());
        match named.find(|input| self.holds(input, &ids)) {
            None => Ok(()),
            Some(input) => Err(Error::refused(format!(
                "the input `{}` is a file that this producer writes itself, its ledger or its report: name \
                 another `--input`, `--ledger` or `--report`",
                input.display()
            ))),
        }
    }
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
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
    use crate::config::Origin;

    #[test]
    fn own_files_are_known_by_path_through_links_and_by_inode() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let origin = Origin::Files(Files::new(["*"]));
        let mut config = Config::new("local:raw", origin).with_ledger("n", at("edge.json"));
        config.report = Some(at("report.json"));
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
        let nothing = OwnFiles::of(&Config::new("local:raw", config.origin));
        assert_eq!(nothing.without(vec![at("edge.json")]), [at("edge.json")]);
        let all = ["a.json", "edge.json", "soft.json"].map(at).to_vec();
        assert_eq!(own.without(all), [at("a.json")]);
    }
}
