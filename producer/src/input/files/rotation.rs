//! Recognises the names that rotation gives to files.
//!
//! Owns the decision whether a name says that its file was made of another one. What a file holds does not suffice:
//! two files may begin with the same records, and each of them is to be sent.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Digits of a date: fewer are the number of a file of its own, such as `part-1`.
const DATE_DIGITS: usize = 8;

/// How many rotations a compressed file is looked back for.
const COUNTED_MAX: u16 = 64;

/// What compression adds to a name.
const PACKED: [&str; 3] = [".gz", ".zst", ".zstd"];

/// The name without what compression added to it.
fn unpacked(name: &[u8]) -> Option<&[u8]> {
    let mut suffixes = PACKED.iter();
    suffixes.find_map(|suffix| name.strip_suffix(suffix.as_bytes()))
}

/// Whether the name is that of a compressed file.
pub(super) fn is_packed(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| unpacked(name.as_encoded_bytes()).is_some())
}

/// Whether rotation or compression of `original` makes a file called `path`: `log` becomes `log.1`, `log-20261129`,
/// `log.old` or `log.gz`, `x.log` also `x.1.log`, and `log.1` also `log.2.gz`.
pub(super) fn is_rotated(path: &Path, original: &Path) -> bool {
    let (Some(name), Some(base)) = (path.file_name(), original.file_name()) else {
        return false;
    };
    is_made_of(name.as_encoded_bytes(), base.as_encoded_bytes())
        && path.parent() == original.parent()
}

fn is_made_of(name: &[u8], base: &[u8]) -> bool {
    let unpacked = unpacked(name);
    let is_packed = unpacked.is_some();
    let name = unpacked.unwrap_or(name);
    if name == base {
        return is_packed;
    }
    if name.strip_prefix(base).is_some_and(is_mark) {
        return true;
    }
    let (front, extension) = base.split_at(extension_at(base));
    let inserted = name
        .strip_prefix(front)
        .and_then(|rest| rest.strip_suffix(extension));
    inserted.is_some_and(is_mark) || is_packed && is_counted_up(name, base)
}

/// The files that `path` may be made of by rotation or compression.
pub(super) fn originals(path: &Path) -> Vec<PathBuf> {
    let Some(whole) = path.file_name().map(OsStr::as_encoded_bytes) else {
        return Vec::new();
    };
    let name = unpacked(whole).unwrap_or(whole);
    let extension = &name[extension_at(name)..];
    let mut bases = vec![name.to_vec()];
    for (at, _) in name.iter().enumerate().filter(|one| b".-_".contains(one.1)) {
        bases.push(name[..at].to_vec());
        bases.push([&name[..at], extension].concat());
    }
    // `x.7.gz` and `x.7.log.gz` may have been `x.6` and `x.6.log`, and so on.
    let before = &name[..extension_at(name)];
    for (front, digits, rest) in [
        (before, extension, &b""[..]),
        (
            &before[..extension_at(before)],
            &before[extension_at(before)..],
            extension,
        ),
    ] {
        let below = number(digits).unwrap_or(0);
        for count in below.saturating_sub(COUNTED_MAX)..below {
            let width = digits.len() - 1;
            for text in [format!(".{count}"), format!(".{count:0width$}")] {
                bases.push([front, text.as_bytes(), rest].concat());
            }
        }
    }
    bases.retain(|base| is_made_of(whole, base));
    bases.sort();
    bases.dedup();
    let named = |base| path.with_file_name(OsString::from_vec(base));
    bases.into_iter().map(named).collect()
}

/// Where `.log` begins, or the end.
fn extension_at(name: &[u8]) -> usize {
    match memchr::memrchr(b'.', name) {
        Some(at) if at > 0 => at,
        _ => name.len(),
    }
}

/// What rotation adds to a name: `.1`, a date behind `.`, `-` or `_`, `.old`, `.bak`.
fn is_mark(added: &[u8]) -> bool {
    let &[separator, first, ..] = added else {
        return false;
    };
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"-_.:TZ".contains(byte);
    let digits = added.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_number = first.is_ascii_digit() && added[1..].iter().all(is_part);
    match separator {
        b'.' => is_number || matches!(added, b".old" | b".bak"),
        b'-' | b'_' => is_number && digits >= DATE_DIGITS,
        _ => false,
    }
}

/// Whether both end in a number behind a dot, or have one before the same extension, and that of `name` is greater.
fn is_counted_up(name: &[u8], base: &[u8]) -> bool {
    let counted = |name: &[u8]| {
        let (front, last) = name.split_at(extension_at(name));
        if let Some(number) = number(last) {
            return Some((front.to_vec(), number, Vec::new()));
        }
        let (front, before) = front.split_at(extension_at(front));
        Some((front.to_vec(), number(before)?, last.to_vec()))
    };
    match (counted(name), counted(base)) {
        (Some((front, number, extension)), Some((was_front, was, was_extension))) => {
            front == was_front && extension == was_extension && number > was
        }
        _ => false,
    }
}

/// That of `.1`.
fn number(extension: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(extension.strip_prefix(b".")?).ok()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_differs_from_files_that_are_numbered() {
        for (name, original, wanted) in [
            ("app.log.1", "app.log", true),
            ("app.log.1.gz", "app.log", true),
            ("app.log-20261129", "app.log", true),
            ("app.log-20261129-1764374400.zst", "app.log", true),
            ("app.log.2026-11-29_10", "app.log", true),
            ("0.log.20261129-101010.gz", "0.log.20261129-101010", true),
            ("app-20261129.log", "app.log", true),
            ("app-2026-11-29.1.log.gz", "app.log", true),
            ("app.1.log", "app.log", true),
            ("app.log.old", "app.log", true),
            ("app.log.2.gz", "app.log.1", true),
            ("app.2.log.gz", "app.1.log", true),
            ("g.1", "g", true),
            ("app.log.2", "app.log.1", false),
            ("app.2.log", "app.1.log", false),
            ("app.2.txt.gz", "app.1.log", false),
            ("app.log.1.gz", "app.log.2", false),
            ("app.log.10", "app.log.1", false),
            ("w10", "w1", false),
            ("part-10", "part-1", false),
            ("part-1", "part", false),
            ("status-02.json", "status-01.json", false),
            ("status-02.json.gz", "status-01.json", false),
            ("status-20261129.json.gz", "status-20261128.json", false),
            ("app.logs", "app.log", false),
            ("app.log", "app.log", false),
            ("other/app.log.1", "app.log", false),
        ] {
            let rotated = is_rotated(Path::new(name), Path::new(original));
            assert_eq!(rotated, wanted, "`{name}` of `{original}`");
            let originals = originals(Path::new(name));
            let is_among = originals.contains(&PathBuf::from(original));
            assert_eq!(is_among, wanted, "`{name}` of `{original}`: {originals:?}");
        }
    }
}
