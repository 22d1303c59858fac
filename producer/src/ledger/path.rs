//! Paths in a ledger: as text, and as escaped bytes where they are not UTF-8, which JSON cannot hold.
//!
//! Promises: each path is read back exactly. `{"escaped": "b%FF.json"}` stands for bytes; a mere text is never escaped,
//! so that ledgers that are there keep their meaning.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathText {
    Text(PathBuf),
    Bytes { escaped: String },
}

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let written = if path.to_str().is_some() {
        PathText::Text(path.to_owned())
    } else {
        PathText::Bytes {
            escaped: escape(path.as_os_str().as_bytes()),
        }
    };
    written.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    match PathText::deserialize(deserializer)? {
        PathText::Text(path) => Ok(path),
        PathText::Bytes { escaped } => {
            let bytes = unescape(&escaped).ok_or_else(|| {
                serde::de::Error::custom(format!("`{escaped}` is not an escaped path"))
            })?;
            Ok(PathBuf::from(OsString::from_vec(bytes)))
        }
    }
}

/// A path that may be missing.
pub(super) mod optional {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Path(#[serde(with = "super")] PathBuf);

    pub(in crate::ledger) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.clone().map(Path).serialize(serializer)
    }

    pub(in crate::ledger) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let path = Option::<Path>::deserialize(deserializer)?;
        Ok(path.map(|path| path.0))
    }
}

/// `%` and what is not UTF-8 as `%` and two hexadecimal digits a byte.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            // Writing into a string does not fail.
            let _written = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through(path: &Path) -> (String, PathBuf) {
        let mut text = Vec::new();
        serialize(path, &mut serde_json::Serializer::new(&mut text)).unwrap();
        let back = deserialize(&mut serde_json::Deserializer::from_slice(&text)).unwrap();
        (String::from_utf8(text).unwrap(), back)
    }

    #[test]
    fn a_text_stays_what_it_is_and_bytes_are_escaped() {
        for (bytes, written) in [
            (&b"/a/50%FF.json"[..], r#""/a/50%FF.json""#),
            ("/a/ä".as_bytes(), r#""/a/ä""#),
            (
                b"/50%/b\xFF\xC3.json",
                r#"{"escaped":"/50%25/b%FF%C3.json"}"#,
            ),
        ] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(through(&path), (written.to_owned(), path));
        }
        for wrong in ["b%F", "b%", "b%+1", "b%GG", "b%ä"] {
            assert_eq!(unescape(wrong), None, "`{wrong}`");
        }
    }

    proptest! {
        #[test]
        fn each_path_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let path = PathBuf::from(OsString::from_vec(bytes));
            prop_assert_eq!(through(&path).1, path);
        }
    }
}
