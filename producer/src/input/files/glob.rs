//! Inputs as users name them: paths and patterns.
//!
//! `*` stands for any characters of a name, `?` for one, `[a-z]` and `[!a-z]` for one of a set, and a name `**` for
//! any number of directories. A name that begins with a dot is matched only by a pattern that does. What exists under
//! the very name of a pattern is that file. Pipes, sockets and devices are read where they are named, and passed over by
//! patterns.
//!
//! Promises: what cannot be looked at is part of the answer, and never counts as absent.

use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::input::InputError;

/// The files that an input stands for.
#[derive(Debug, Default)]
pub struct Expansion {
    /// The files, in the order of their paths' bytes.
    pub files: Vec<PathBuf>,
    /// Pipes, sockets and devices that its pattern passes over, and what each is.
    pub passed: Vec<(PathBuf, Metadata)>,
    /// What could not be looked at: files may be missing.
    pub failed: Vec<InputError>,
}

/// What `text` stands for; a path without pattern stands for itself. Directories that `is_closed` to patterns are not
/// entered, unless they are named.
#[must_use]
pub fn expand(text: &Path, is_closed: impl FnMut(&Path) -> bool) -> Expansion {
    let mut expander = Expander {
        text,
        is_closed,
        expansion: Expansion::default(),
    };
    expander.run();
    expander.expansion
}

struct Expander<'a, F> {
    text: &'a Path,
    is_closed: F,
    expansion: Expansion,
}

impl<F: FnMut(&Path) -> bool> Expander<'_, F> {
    fn run(&mut self) {
        if !is_pattern(self.text) || self.text.exists() {
            self.expansion.files.push(self.text.to_owned());
            return;
        }
        let mut found = vec![PathBuf::new()];
        let mut components = self.text.components().peekable();
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else {
                for path in &mut found {
                    path.push(component);
                }
                continue;
            };
            let pattern = name.as_encoded_bytes();
            let mut next = Vec::new();
            for directory in found {
                if pattern == b"**" {
                    self.descend(directory, &mut next);
                } else if has_meaning(pattern) {
                    let names = self.names(&directory).into_iter();
                    let names = names.filter(|name| matches(pattern, name.as_encoded_bytes()));
                    let paths = names.map(|name| directory.join(name));
                    if components.peek().is_none() {
                        next.extend(paths);
                    } else {
                        next.extend(paths.filter(|path| {
                            self.look(path).is_some_and(|found| found.is_dir())
                                && !(self.is_closed)(path)
                        }));
                    }
                } else {
                    let path = directory.join(name);
                    next.extend(self.look(&path).is_some().then_some(path));
                }
            }
            found = next;
        }
        found.sort();
        found.dedup();
        for path in found {
            match path.metadata() {
                Ok(found) if found.is_dir() => {}
                // Those who open it would wait for it, so that only its own name leads to it.
                Ok(found) if !found.is_file() => self.expansion.passed.push((path, found)),
                // Those who open it say why they cannot.
                _ => self.expansion.files.push(path),
            }
        }
    }

    /// What stands at `path`; nothing also where that cannot be looked at.
    fn look(&mut self, path: &Path) -> Option<Metadata> {
        self.known(path, path.metadata())
    }

    fn known<T>(&mut self, path: &Path, looked_at: io::Result<T>) -> Option<T> {
        match looked_at {
            Ok(found) => Some(found),
            Err(error) if is_absence(&error) => None,
            Err(error) => {
                self.expansion.failed.push(failed(path, self.text, error));
                None
            }
        }
    }

    /// The names in a directory, in order.
    fn names(&mut self, directory: &Path) -> Vec<std::ffi::OsString> {
        let entries = self.known(directory, std::fs::read_dir(here(directory)));
        let mut names = Vec::new();
        for entry in entries.into_iter().flatten() {
            names.extend(self.known(directory, entry).map(|entry| entry.file_name()));
        }
        names.sort();
        names
    }

    /// Adds the directory and all below it; links are not followed.
    fn descend(&mut self, directory: PathBuf, below: &mut Vec<PathBuf>) {
        below.push(directory.clone());
        for name in self.names(&directory) {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = directory.join(&name);
            let found = self.known(&path, path.symlink_metadata());
            if found.is_some_and(|found| found.is_dir()) && !(self.is_closed)(&path) {
                self.descend(path, below);
            }
        }
    }
}

/// Whether nothing is there, rather than what cannot be looked at.
#[must_use]
pub(crate) fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn failed(path: &Path, text: &Path, source: io::Error) -> InputError {
    let (remedy, source) = match source.kind() {
        io::ErrorKind::PermissionDenied => (
            "this user lacks permission; grant the right to read and to search the directory",
            None,
        ),
        _ => ("the system refused; repair or remove it", Some(source)),
    };
    let (place, input) = (here(path), text.display());
    InputError::Open {
        attempt: format!("look at `{}` for the input `{input}`", place.display()),
        remedy,
        source,
    }
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

/// The directories whose changes may change what `text` stands for, which is `files` now.
#[must_use]
pub fn directories(text: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let parents = files.iter().filter_map(|path| path.parent());
    let mut found: Vec<PathBuf> = parents.map(here).collect();
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
pub(super) fn here(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path.to_owned()
    }
}

fn has_meaning(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Behind the last `*`: where the pattern and the name continue when the rest does not match.
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
            let is_covered = covers(Path::new(text), Path::new(path));
            assert_eq!(is_covered, covered, "`{text}` `{path}`");
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
        assert_eq!(found.files, [root.join("a.log"), root.join("e.log")]);
        let passed: Vec<_> = found.passed.into_iter().map(|one| one.0).collect();
        assert_eq!(
            passed,
            ["b.log", "c.log", "d.log"].map(|name| root.join(name))
        );
        let named = root.join("b.log");
        assert_eq!(expand(&named, |_| false).files, [named]);
    }

    #[test]
    #[cfg(unix)]
    fn what_a_pattern_cannot_look_at_is_answered_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("d/e")).unwrap();
        std::fs::write(root.join("d/a.log"), "").unwrap();
        std::os::unix::fs::symlink("loop", root.join("d/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("d/gone")).unwrap();
        let long = "l".repeat(300);
        for (text, place) in [
            ("d/loop/*.log", "d/loop"),
            ("*/loop/*.log", "d/loop"),
            ("d/*/*.log", "d/loop"),
            ("d/**/loop/*", "d/loop"),
            (&format!("d/*/{long}/x"), &format!("d/e/{long}")),
            ("d/gone/*", ""),
            ("d/gone/**", ""),
            ("d/a.log/*", ""),
            ("d/**/*.log", ""),
            ("absent/*", ""),
        ] {
            let found = expand(&root.join(text), |_| false);
            let reports: Vec<String> = found.failed.iter().map(ToString::to_string).collect();
            let shown = format!("`{}`", root.join(place).display());
            let is_reported = reports.iter().any(|report| report.contains(&shown));
            assert_eq!(is_reported, !place.is_empty(), "{text}: {reports:?}");
            assert_eq!(reports.is_empty(), !is_reported, "{text}: {reports:?}");
        }
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
            let paths = expand(&root.join(text), |_| false).files;
            let shown = |path: PathBuf| path.strip_prefix(root).unwrap().display().to_string();
            paths.into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(found("*.log"), ["a.log", "b.log", "l[1].log"]);
        assert_eq!(found("l[1].log"), ["l[1].log"]);
        assert_eq!(found("*/*.log"), ["x/d.log"]);
        assert_eq!(found("x/**/*.log"), ["x/d.log", "x/y/e.log"]);
        assert_eq!(found("absent.log"), ["absent.log"]);
        assert!(found("absent*").is_empty() && found("absent/*").is_empty());
        let directories = |text: &Path| directories(text, &expand(text, |_| false).files);
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
            assert_eq!(found.files.len(), count, "{text}");
        }
    }
}
