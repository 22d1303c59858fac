//! Opening lakes by URL, with the settings of their kinds.
//!
//! Owns what belongs to a kind: its scheme, its settings, and the type behind the seam. A kind that comes later is a
//! [`LakeKind`] with arms here; nothing outside of this file asks what kind a lake is. Settings stand in the table of
//! the kind, or behind a `?` in the URL, which outranks it. Lakes in directories have no settings, so any setting is
//! refused by name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hydrant_core::lake::SharedLake;
use hydrant_core::settings::{
    NoSettings, Settings, SettingsTable, TableReading, refuse_tilde, split_query,
};
use hydrant_core::{Context, Error, Result, places};

use super::file::FileLake;
use super::names::TableNames;

/// A kind of lakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LakeKind {
    /// A directory: `file:DIR`.
    File,
}

impl LakeKind {
    const ALL: [LakeKind; 1] = [LakeKind::File];

    /// The scheme of its URLs, which is also the name of its table in the configuration.
    const fn scheme(self) -> &'static str {
        match self {
            LakeKind::File => "file",
        }
    }

    /// Takes what it knows of its table.
    fn read(self, _table: &mut dyn SettingsTable) {
        match self {
            LakeKind::File => {}
        }
    }
}

/// Where a lake is.
enum LakeUrl {
    File { dir: PathBuf },
}

/// Where a lake is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeLocation {
    /// Distinguishes the lake from a copy of it elsewhere, also from a snapshot of its file system. All paths to the lake
    /// give the same id. A lake that is mounted again may get another one: it continues from its own contents.
    pub id: String,
    /// The URL of the lake, with an absolute path.
    pub url: String,
}

/// The lakes that this process can name.
#[derive(Clone, Debug)]
pub struct Lakes {
    settings: Arc<dyn Settings>,
}

impl Default for Lakes {
    fn default() -> Self {
        Lakes {
            settings: Arc::new(NoSettings),
        }
    }
}

impl Lakes {
    /// Reads the tables of all kinds; also answers what came of each.
    pub fn read(settings: Arc<dyn Settings>) -> (Lakes, Vec<TableReading>) {
        let read =
            |kind: LakeKind| settings.read_table(kind.scheme(), &[], &mut |table| kind.read(table));
        let readings = LakeKind::ALL.into_iter().map(read).collect();
        (Lakes { settings }, readings)
    }

    /// Reads a URL with its settings, without looking whether the lake is there.
    ///
    /// # Errors
    /// Refused with all that is wrong.
    pub fn check(&self, url: &str) -> Result<()> {
        self.parse(url).map(drop)
    }

    /// Opens the lake that `url` names for reading and writing.
    ///
    /// # Errors
    /// Refused for what is not the URL of a lake, and for directories that cannot hold one.
    pub async fn open(&self, url: &str, context: &Context) -> Result<SharedLake> {
        Ok(match self.parse(url)? {
            LakeUrl::File { dir } => Arc::new(FileLake::open(&dir, context).await?),
        })
    }

    /// Refuses a place for a table where something else lies.
    ///
    /// # Errors
    /// Refused with what lies there, and what to write instead.
    pub async fn check_table(
        &self,
        url: &str,
        names: &TableNames,
        context: &Context,
    ) -> Result<()> {
        match self.parse(url)? {
            LakeUrl::File { dir } => places::check_table(&*context.disk, &dir, names.table()).await,
        }
    }

    /// Opens the lake that `url` names for reading only.
    ///
    /// # Errors
    /// Refused for what is not the URL of a lake; not found when there is no such lake.
    pub async fn open_read(&self, url: &str, context: &Context) -> Result<SharedLake> {
        Ok(match self.parse(url)? {
            LakeUrl::File { dir } => Arc::new(FileLake::open_read(&dir, context).await?),
        })
    }

    /// Finds out where the existing lake that `url` names is stored.
    ///
    /// # Errors
    /// As [`Lakes::open_read`].
    pub async fn locate(&self, url: &str, context: &Context) -> Result<LakeLocation> {
        match self.parse(url)? {
            LakeUrl::File { dir } => locate_directory(&dir, context).await,
        }
    }

    fn parse(&self, url: &str) -> Result<LakeUrl> {
        let (scheme, _) = url.split_once(':').unwrap_or_default();
        let kind = LakeKind::ALL
            .into_iter()
            .find(|kind| kind.scheme() == scheme);
        let Some(kind) = kind else {
            return Err(Error::refused(match scheme {
                "s3" => format!(
                    "`{url}`: this version does not support lakes on S3; write `file:DIR` for a lake in a directory"
                ),
                _ => format!("`{url}` is not the URL of a lake: write `file:DIR`"),
            }));
        };
        let (named, values) = split_query(url)?;
        let read = &mut |table: &mut dyn SettingsTable| kind.read(table);
        let reading = self.settings.read_table(kind.scheme(), &values, read);
        if let Some(problem) = reading.problems.first() {
            return Err(Error::refused(format!(
                "{}: {}",
                problem.place, problem.message
            )));
        }
        match kind {
            LakeKind::File => directory(url, &named[scheme.len() + 1..]),
        }
    }
}

fn directory(url: &str, path: &str) -> Result<LakeUrl> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err(Error::refused(format!(
            "`{url}` does not name a directory: write `file:DIR`"
        )));
    }
    let dir = PathBuf::from(path);
    refuse_tilde(&dir)?;
    Ok(LakeUrl::File { dir })
}

async fn locate_directory(dir: &Path, context: &Context) -> Result<LakeLocation> {
    let stat = context.disk.stat(dir).await;
    let stat = stat.map_err(|e| Error::io("look at", dir, e))?;
    let stat = stat.ok_or_else(|| Error::NotFound {
        message: format!("there is no lake in `{}`", dir.display()),
    })?;
    // A path that cannot be made absolute is shown as it was given.
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    Ok(LakeLocation {
        id: format!("{:x}-{:x}", stat.device, stat.identity),
        url: format!("file:{}", whole.display()),
    })
}

#[cfg(test)]
mod tests {
    use hydrant_process::config::Layers;

    use super::*;

    #[test]
    fn urls_name_directories_or_are_refused_with_what_to_write() {
        let parse = |url| match Lakes::default().parse(url) {
            Ok(LakeUrl::File { dir }) => Ok(dir),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(parse("file:a/b").unwrap(), Path::new("a/b"));
        assert_eq!(parse("file:///a/b").unwrap(), Path::new("/a/b"));
        for url in ["s3://bucket/x", "file:", "file://", "lake", "local:x", ""] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("file:DIR"), "{error}");
        }
        for url in ["file:~/lake", "file://~", "file:~me/lake"] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("only shells read"), "{error}");
        }
        assert_eq!(parse("file:a/~").unwrap(), Path::new("a/~"));
    }

    #[test]
    fn a_setting_that_a_lake_does_not_have_is_refused_by_name() {
        let (lakes, readings) = Lakes::read(Arc::new(Layers::default()));
        assert!(readings.iter().all(|reading| reading.problems.is_empty()));
        let error = lakes.check("file:lake?codec=zstd").unwrap_err().to_string();
        assert!(error.contains("unknown key `codec`"), "{error}");
        for url in ["file:lake?codec", "file:lake?"] {
            let error = lakes.check(url).unwrap_err().to_string();
            assert!(error.contains("is not a setting"), "{error}");
        }
    }
}
