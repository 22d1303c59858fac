//! The URLs of streams: a scheme, a place, and behind a `?` settings that outrank the table of the kind.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hydrant_core::Error;
use hydrant_core::settings::{OutrankingValue, refuse_tilde, split_query};

/// A kind of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// The embedded log in a directory: `local:DIR`.
    Local,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [StreamKind; 1] = [StreamKind::Local];

    /// The scheme of its URLs, which is also the name of its table in the configuration.
    pub const fn scheme(self) -> &'static str {
        match self {
            StreamKind::Local => "local",
        }
    }

    /// Whether a writer makes a stream that does not exist: that costs nothing and needs no rights.
    pub const fn is_made_on_demand(self) -> bool {
        match self {
            StreamKind::Local => true,
        }
    }
}

/// Schemes of streams that this version does not open.
const LATER: [&str; 3] = ["kinesis", "kafka", "firehose"];

/// Where a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamUrl {
    place: StreamPlace,
    query: Vec<OutrankingValue>,
}

/// What a URL names, kind by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamPlace {
    Local { dir: PathBuf },
}

impl StreamUrl {
    /// Reads a URL; see [`FromStr`].
    ///
    /// # Errors
    /// Refused with what to write.
    pub fn parse(url: &str) -> Result<Self, Error> {
        url.parse()
    }

    /// Whether a text means a stream rather than a file, also where this version opens no such stream.
    pub fn is_meant_by(text: &str) -> bool {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        let mut kinds = StreamKind::ALL.into_iter().map(StreamKind::scheme);
        let is_known = |scheme| LATER.contains(&scheme) || kinds.any(|kind| kind == scheme);
        text.contains("://") || scheme.is_some_and(is_known)
    }

    /// The kind of the stream.
    pub const fn kind(&self) -> StreamKind {
        match self.place {
            StreamPlace::Local { .. } => StreamKind::Local,
        }
    }

    /// The directory of an embedded log; `None` for streams that are not in this file system.
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            StreamPlace::Local { dir } => Some(dir),
        }
    }

    pub(crate) const fn place(&self) -> &StreamPlace {
        &self.place
    }

    /// The settings behind the `?`.
    pub(crate) fn query(&self) -> &[OutrankingValue] {
        &self.query
    }
}

impl FromStr for StreamUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let Some((scheme, _)) = url.split_once(':') else {
            return Err(Error::refused(format!(
                "`{url}` is not the URL of a stream: write `local:DIR`, for example `local:./events`"
            )));
        };
        let kind = StreamKind::ALL
            .into_iter()
            .find(|kind| kind.scheme() == scheme);
        let Some(kind) = kind else {
            let why = match scheme {
                _ if LATER.contains(&scheme) => {
                    format!("this version of hydrant does not open `{scheme}:` streams (`{url}`)")
                }
                _ => format!("`{scheme}:` in `{url}` is not a kind of stream"),
            };
            return Err(Error::refused(format!("{why}: write `local:DIR`")));
        };
        let (named, query) = split_query(url)?;
        let place = match kind {
            StreamKind::Local => directory(url, &named[scheme.len() + 1..])?,
        };
        Ok(StreamUrl { place, query })
    }
}

fn directory(url: &str, dir: &str) -> Result<StreamPlace, Error> {
    if dir.starts_with("//") {
        let path = dir.trim_start_matches('/');
        return Err(Error::refused(format!(
            "`{url}` names a host: write `local:/{path}` for that absolute path, or `local:{path}` for a relative one"
        )));
    }
    let path = PathBuf::from(dir);
    refuse_tilde(&path)?;
    if path.file_name().is_none() {
        return Err(Error::refused(format!(
            "`{url}` names no directory of its own: write `local:DIR`, for example `local:./events`"
        )));
    }
    Ok(StreamPlace::Local { dir: path })
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            StreamPlace::Local { dir } => write!(f, "local:{}", dir.display())?,
        }
        for (n, setting) in self.query.iter().enumerate() {
            let separator = if n == 0 { '?' } else { '&' };
            write!(f, "{separator}{}={}", setting.key, setting.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_urls_are_read_and_written() {
        for url in [
            "local:events",
            "local:./a/b",
            "local:/var/lib/x",
            "local:x?codec=zstd&retention=7d",
        ] {
            assert_eq!(StreamUrl::parse(url).unwrap().to_string(), url);
        }
        let url = StreamUrl::parse("local:a/b?codec=zstd").unwrap();
        assert_eq!(url.directory(), Some(Path::new("a/b")));
    }

    #[test]
    fn other_urls_are_refused_with_what_to_write() {
        for (url, says) in [
            ("events", "local:DIR"),
            ("local:", "names no directory"),
            ("local:..", "names no directory"),
            ("local:/", "names no directory"),
            ("local:?codec=zstd", "names no directory"),
            ("local:x?codec", "`codec` after the `?`"),
            ("local:x?", "`nothing` after the `?`"),
            ("local:x?codec=zstd&", "`nothing` after the `?`"),
            ("local:x?codec=zstd&codec=lz4", "`codec` is given twice"),
            (
                "local:x?retention-bytes=1GiB&retention_bytes=2GiB",
                "`retention_bytes` is given twice",
            ),
            ("local:///var/x", "local:/var/x"),
            ("kinesis://s?region=eu-west-1", "does not open `kinesis:`"),
            ("kafka://b/t", "does not open `kafka:`"),
            ("firehose://d", "does not open `firehose:`"),
            ("ftp:x", "not a kind of stream"),
        ] {
            let error = StreamUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
    }
}
