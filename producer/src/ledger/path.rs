//! Paths in a ledger: as text, and as a list of bytes where they are not UTF-8, which JSON cannot hold.
//!
//! Promises: each path is read back exactly.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum PathText {
    Text(PathBuf),
    Bytes(Vec<u8>),
}

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => text.serialize(serializer),
        None => path.as_os_str().as_bytes().serialize(serializer),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(match PathText::deserialize(deserializer)? {
        PathText::Text(path) => path,
        PathText::Bytes(bytes) => OsString::from_vec(bytes).into(),
    })
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
    fn a_text_stays_what_it_is_and_bytes_are_a_list() {
        for (bytes, written) in [
            (&b"/a/50%FF.json"[..], r#""/a/50%FF.json""#),
            ("/a/ä".as_bytes(), r#""/a/ä""#),
            (b"/b\xFF\xC3", "[47,98,255,195]"),
        ] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(through(&path), (written.to_owned(), path));
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
