//! Inputs as users name them: paths and patterns.
//!
//! `*` stands for any characters of a name, `?` for one, `[a-z]` and `[!a-z]` for one of a set, and a name `**` for
//! any number of directories. A name that begins with a dot is matched only by a pattern that does. What exists under
//! the very name of a pattern is that file. Pipes, sockets and devices are read where they are named, and passed over by
//! patterns.

use std::path::{Component, Path, PathBuf};

/// What `text` stands for, in the order of the paths' bytes; a path without pattern stands for itself. Directories that
/// `is_closed` to patterns are not entered, unless they are named.
#[must_use]
pub fn expand(text: &Path, mut is_closed: impl FnMut(&Path) -> bool) -> Vec<PathBuf> {
    if !is_pattern(text) || text.exists() {
        return vec![text.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    let mut components = text.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            for path in &mut found {
                path.push(component);
            }
            continue;
        };
        let pattern = name.as_encoded_bytes();
        found = if pattern == b"**" {
            let mut below = Vec::new();
            for directory in found {
                descend(directory, &mut is_closed, &mut below);
            }
            below
        } else if has_meaning(pattern) {
            let matching = |directory: PathBuf| {
                names(&directory)
                    .into_iter()
                    .filter(|name| matches(pattern, name.as_encoded_bytes()))
                    .map(move |name| directory.join(name))
            };
            let mut matching: Vec<_> = found.into_iter().flat_map(matching).collect();
            if components.peek().is_some() {
                matching.retain(|path| path.is_dir() && !is_closed(path));
            }
            matching
        } else {
            found
                .into_iter()
                .map(|path| path.join(name))
                .filter(|path| path.exists())
                .collect()
        };
    }
    found.retain(|path| may_be_file(path));
    found.sort();
    found.dedup();
    found
}

/// Whether what a pattern matches is a file, or may be one: a pipe, a socket or a device is waited for by those who open
/// it, so that only its own name leads to it.
fn may_be_file(path: &Path) -> bool {
    path.metadata().map_or(true, |found| found.is_file())
}

/// Whether a path stands for others.
#[must_use]
pub fn is_pattern(text: &Path) -> bool {
    has_meaning(text.as_os_str().as_encoded_bytes())
}

/// Whether `text` would stand for `path` if that were there, as far as names say.
#[must_use]
pub(crate) fn covers(text: &Path, path: &Path) -> bool {
    fn fits(patterns: &[Component<'_>], names: &[Component<'_>]) -> bool {
        let Some((pattern, patterns)) = patterns.split_first() else {
            return names.is_empty();
        };
        let pattern = pattern.as_os_str().as_encoded_bytes();
        if pattern == b"**" {
            return (0..=names.len()).any(|below| fits(patterns, &names[below..]));
        }
        names.split_first().is_some_and(|(name, names)| {
            let name = name.as_os_str().as_encoded_bytes();
            (pattern == name || has_meaning(pattern) && matches(pattern, name))
                && fits(patterns, names)
        })
    }
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (text, path) = (absolute(text), absolute(path));
    let parts = |path| Path::components(path).collect::<Vec<_>>();
    fits(&parts(&text), &parts(&path))
}

/// The directories whose changes may change what `text` stands for.
#[must_use]
pub fn directories(text: &Path, is_closed: impl FnMut(&Path) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = expand(text, is_closed)
        .iter()
        .filter_map(|path| path.parent())
        .map(here)
        .collect();
    found.push(here(&named(text)));
    found.sort();
    found.dedup();
    found
}

/// The directory that `text` names, in which it stands for something.
#[must_use]
pub(crate) fn named(text: &Path) -> PathBuf {
    let fixed: PathBuf = text
        .components()
        .take_while(|part| !has_meaning(part.as_os_str().as_encoded_bytes()))
        .collect();
    match text.parent() {
        Some(parent) if !is_pattern(text) => parent.to_owned(),
        _ => fixed,
    }
}

/// `.` for the empty path.
fn here(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path.to_owned()
    }
}

fn has_meaning(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// The names in a directory, none when it cannot be read.
pub(crate) fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(here(directory)).into_iter().flatten();
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// Adds the directory and all below it; links are not followed.
fn descend(directory: PathBuf, is_closed: &mut dyn FnMut(&Path) -> bool, found: &mut Vec<PathBuf>) {
    found.push(directory.clone());
    for name in names(&directory) {
        let path = directory.join(&name);
        let is_dir = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        if is_dir && !name.as_encoded_bytes().starts_with(b".") && !is_closed(&path) {
            descend(path, is_closed, found);
        }
    }
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Behind the last `*`: where the pattern and the name go on when the rest does not match.
    let (mut p, mut n) = (0, 0);
    let mut again = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            again = Some((p, n));
            continue;
        }
        match one(&pattern[p..], &name[n..]) {
            Some((used, taken)) => {
                p += used;
                n += taken;
            }
            None => match again {
                Some((behind, at)) => {
                    p = behind;
                    n = at + 1;
                    again = Some((behind, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Matches one character: how many bytes of pattern and name that uses.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let taken = match name[0] {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    let taken = taken.min(name.len());
    match pattern.first()? {
        b'?' => Some((1, taken)),
        b'[' => {
            let Some(end) = pattern.iter().skip(2).position(|byte| *byte == b']') else {
                return (name[0] == b'[').then_some((1, 1));
            };
            let set = &pattern[1..end + 2];
            let (negated, set) = match set {
                [b'!' | b'^', rest @ ..] if !rest.is_empty() => (true, rest),
                set => (false, set),
            };
            (is_in(set, name[0]) != negated).then_some((end + 3, taken))
        }
        byte => (*byte == name[0]).then_some((1, 1)),
    }
}

fn is_in(set: &[u8], byte: u8) -> bool {
    let mut rest = set;
    loop {
        match rest {
            [low, b'-', high, more @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                rest = more;
            }
            [one, more @ ..] => {
                if *one == byte {
                    return true;
                }
                rest = more;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_shells_do() {
        for (pattern, name, fits) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*.gz", "a.gz", true),
            ("*.gz", "a.gz.tmp", false),
            ("a*b*c", "aXbXbc", true),
            ("a?c", "abc", true),
            ("a?c", "aäc", true),
            ("a?c", "ac", false),
            ("log.[0-9]", "log.7", true),
            ("log.[0-9]", "log.x", false),
            ("log.[!0-9]", "log.x", true),
            ("[]x]", "]", true),
            ("a[", "a[", true),
            ("", "", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                fits,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_pattern_covers_names_that_are_not_there() {
        for (text, path, covered) in [
            ("app-*.log", "app-1.log", true),
            ("./app-*.log", "app-1.log.gz", false),
            ("a/**/x", "a/b/c/x", true),
            ("a/**/x", "a/x", true),
            ("a/*/x", "a/b/c/x", false),
            ("l[1].log", "l[1].log", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
        ] {
            let told = covers(Path::new(text), Path::new(path));
            assert_eq!(told, covered, "`{text}` `{path}`");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_pattern_passes_over_what_is_not_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::write(root.join("a.log"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("b.log")).unwrap();
        std::os::unix::fs::symlink("b.log", root.join("c.log")).unwrap();
        std::os::unix::fs::symlink("/dev/null", root.join("d.log")).unwrap();
        std::os::unix::fs::symlink("a.log", root.join("e.log")).unwrap();
        let found = expand(&root.join("*.log"), |_| false);
        assert_eq!(found, [root.join("a.log"), root.join("e.log")]);
        let named = root.join("b.log");
        assert_eq!(expand(&named, |_| false), [named]);
    }

    #[test]
    fn patterns_stand_for_files_in_order_and_paths_for_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in [
            "b.log",
            "a.log",
            "c.txt",
            "x/d.log",
            "x/y/e.log",
            "l[1].log",
            ".h.log",
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |text: &str| {
            let paths = expand(&root.join(text), |_| false);
            let shown = |path: PathBuf| path.strip_prefix(root).unwrap().display().to_string();
            paths.into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(found("*.log"), ["a.log", "b.log", "l[1].log"]);
        assert_eq!(found("l[1].log"), ["l[1].log"]);
        assert_eq!(found("*/*.log"), ["x/d.log"]);
        assert_eq!(found("x/**/*.log"), ["x/d.log", "x/y/e.log"]);
        assert_eq!(found("absent.log"), ["absent.log"]);
        assert!(found("absent*").is_empty() && found("absent/*").is_empty());
        let directories = |text: &Path| directories(text, |_| false);
        assert_eq!(
            directories(&root.join("*/*.log")),
            [root.to_owned(), root.join("x")]
        );
        assert_eq!(directories(&root.join("a.log")), [root.to_owned()]);
        assert_eq!(directories(Path::new("a.log")), [PathBuf::from(".")]);
        // A closed directory is entered by its name only.
        for (text, count) in [
            ("**/*.log", 3),
            ("*/*.log", 0),
            ("x/*.log", 1),
            ("x/**/*.log", 2),
        ] {
            let found = expand(&root.join(text), |path| path.ends_with("x"));
            assert_eq!(found.len(), count, "{text}");
        }
    }
}
