//! The URLs of streams.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hydrant_core::Error;

/// Where a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamUrl {
    /// `local:DIR`, the embedded log in a directory.
    Local {
        /// The directory.
        dir: PathBuf,
    },
}

impl StreamUrl {
    /// Reads a URL; see [`FromStr`].
    pub fn parse(url: &str) -> Result<Self, Error> {
        url.parse()
    }
}

impl FromStr for StreamUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(Error::refused(format!(
                "`{url}` is not the URL of a stream: write `local:DIR`, for example `local:./events`"
            )));
        };
        match scheme {
            "local" => local(url, rest),
            "kinesis" | "kafka" | "firehose" => Err(Error::refused(format!(
                "this version of hydrant does not open `{scheme}:` streams (`{url}`): write `local:DIR`"
            ))),
            _ => Err(Error::refused(format!(
                "`{scheme}:` in `{url}` is not a kind of stream: write `local:DIR`"
            ))),
        }
    }
}

fn local(url: &str, rest: &str) -> Result<StreamUrl, Error> {
    if rest.starts_with("//") {
        let path = rest.trim_start_matches('/');
        return Err(Error::refused(format!(
            "`{url}` names a host: write `local:/{path}` for that absolute path, or `local:{path}` for a relative one"
        )));
    }
    let dir = PathBuf::from(rest);
    if dir.file_name().is_none() {
        return Err(Error::refused(format!(
            "`{url}` names no directory of its own: write `local:DIR`, for example `local:./events`"
        )));
    }
    Ok(StreamUrl::Local { dir })
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamUrl::Local { dir } => write!(f, "local:{}", dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_urls_are_read_and_written() {
        for url in ["local:events", "local:./a/b", "local:/var/lib/x"] {
            assert_eq!(StreamUrl::parse(url).unwrap().to_string(), url);
        }
    }

    #[test]
    fn other_urls_are_refused_with_what_to_write() {
        for (url, says) in [
            ("events", "local:DIR"),
            ("local:", "names no directory"),
            ("local:..", "names no directory"),
            ("local:/", "names no directory"),
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
