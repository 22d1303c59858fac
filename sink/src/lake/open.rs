//! The lakes that URLs name.

use std::path::Path;
use std::sync::Arc;

use hydrant_core::lake::SharedLake;
use hydrant_core::{Context, Error, Result};

use super::file::FileLake;

/// Opens the lake that `url` names for reading and writing: `file:DIR`.
///
/// # Errors
/// Refused for other URLs and for directories that cannot hold a lake.
pub async fn open(url: &str, context: &Context) -> Result<SharedLake> {
    Ok(Arc::new(FileLake::open(directory(url)?, context).await?))
}

/// Opens the lake that `url` names for reading only.
///
/// # Errors
/// Refused for other URLs; not found when there is no such lake.
pub async fn open_read(url: &str, context: &Context) -> Result<SharedLake> {
    Ok(Arc::new(
        FileLake::open_read(directory(url)?, context).await?,
    ))
}

/// Where a lake is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeLocation {
    /// Distinguishes the lake from a copy of it elsewhere. All paths to the lake give the same id.
    pub id: String,
    /// The URL of the lake, with an absolute path.
    pub url: String,
}

/// Finds out where the existing lake that `url` names is stored.
///
/// # Errors
/// Refused for other URLs; not found when there is no such lake.
pub async fn locate(url: &str, context: &Context) -> Result<LakeLocation> {
    let dir = directory(url)?;
    let stat = context.disk.stat(dir).await;
    let stat = stat.map_err(|e| Error::io("look at", dir, e))?;
    let stat = stat.ok_or_else(|| Error::NotFound {
        message: format!("there is no lake in `{}`", dir.display()),
    })?;
    // A path that cannot be made absolute is shown as it was given.
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    Ok(LakeLocation {
        id: format!("{:x}", stat.identity),
        url: format!("file:{}", whole.display()),
    })
}

fn directory(url: &str) -> Result<&Path> {
    match url.split_once(':') {
        Some(("file", path)) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(Error::refused(format!(
                    "`{url}` does not name a directory: write `file:DIR`"
                )));
            }
            Ok(Path::new(path))
        }
        Some(("s3", _)) => Err(Error::refused(format!(
            "`{url}`: this version does not support lakes on S3; write `file:DIR` for a lake in a directory"
        ))),
        _ => Err(Error::refused(format!(
            "`{url}` is not the URL of a lake: write `file:DIR`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_directories_or_are_refused_with_what_to_write() {
        assert_eq!(directory("file:a/b").unwrap(), Path::new("a/b"));
        assert_eq!(directory("file:///a/b").unwrap(), Path::new("/a/b"));
        for url in ["s3://bucket/x", "file:", "file://", "lake", "local:x", ""] {
            let error = directory(url).unwrap_err().to_string();
            assert!(error.contains("file:DIR"), "{error}");
        }
    }
}
