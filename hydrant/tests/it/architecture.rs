//! What `docs/architecture.md` says of the tree is true of the tree.
//!
//! Promises that a kind of stream or lake is named where the page says, so that one more of them touches those files and
//! no others, and that each file which the page's tables or the glossary name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What names a kind of stream or lake: types and modules of those that there are, and URLs, also of those to come.
const NAMES_OF_KINDS: [&str; 12] = [
    "LocalStream",
    "FileLake",
    "local::",
    "::Local",
    "LakeUrl::File",
    "\"local",
    "\"file:",
    "\"kinesis\"",
    "\"kinesis:",
    "\"kafka\"",
    "\"kafka:",
    "\"s3:",
];

/// The rooms of the kinds that there are.
const ROOMS: [&str; 4] = [
    "stream/src/local",
    "stream/src/local.rs",
    "sink/src/lake/file",
    "sink/src/lake/file.rs",
];

/// Files that name a kind because they are made for that one, which another kind does not change.
const MADE_FOR_ONE_KIND: [(&str, &str); 4] = [
    (
        "hydrant/src/demo/directory.rs",
        "the demo runs on this machine",
    ),
    (
        "hydrant/src/run.rs",
        "one process with a directory of its own",
    ),
    (
        "hydrant/src/stream/admin.rs",
        "lists the streams in a directory",
    ),
    (
        "hydrant/src/lake.rs",
        "shows where readers find a directory",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/architecture.md")).expect("the page reads")
}

/// The production code of the crates that an adapter could touch: path below the root, text without comments and tests.
pub(crate) fn production_code() -> Vec<(String, String)> {
    let crates = [
        "core",
        "process",
        "stream",
        "consumer",
        "producer",
        "transform",
        "transform/pii",
        "json",
        "sink",
        "hydrant",
    ];
    let mut files = Vec::new();
    for name in crates {
        collect(
            &root().join(name).join("src"),
            &format!("{name}/src"),
            &mut files,
        );
    }
    files
}

fn collect(dir: &Path, name: &str, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).expect("the folder lists") {
        let entry = entry.expect("the folder lists");
        let file = entry.file_name().into_string().expect("a name of text");
        let path = format!("{name}/{file}");
        if file.starts_with("tests") || file == "testing" || file == "fuzz.rs" {
            continue;
        }
        if entry.path().is_dir() {
            collect(&entry.path(), &path, files);
        } else if file.ends_with(".rs") {
            let text = std::fs::read_to_string(entry.path()).expect("the file reads");
            let code = text.split("#[cfg(test)]\nmod tests {").next();
            let lines = code.unwrap_or_default().lines();
            let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
            files.push((path, lines.collect::<Vec<_>>().join("\n")));
        }
    }
}

/// The paths in backquotes of the page's tables: `a/{b,c}.rs` stands for two.
fn paths_of(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let paths = quoted.filter(|path| path.contains('/') && path.ends_with(".rs"));
    paths.flat_map(each_of).collect()
}

/// The paths that `a/{b,c}.rs` stands for.
fn each_of(path: &str) -> Vec<String> {
    match (path.split_once('{'), path.split_once('}')) {
        (Some((before, _)), Some((inside, after))) => {
            let names = inside[before.len() + 1..].split(',');
            names.map(|name| format!("{before}{name}{after}")).collect()
        }
        _ => vec![path.to_owned()],
    }
}

fn section(title: &str) -> String {
    let page = page();
    let text = page.split(&format!("\n## {title}\n")).nth(1);
    let text = text.unwrap_or_else(|| panic!("the page has no section `{title}`"));
    text.split("\n## ").next().unwrap_or_default().to_owned()
}

#[test]
fn only_the_files_of_the_page_name_a_kind_of_stream_or_lake() {
    let said = paths_of(&section("Where a kind of stream or lake is named"));
    let exempt: BTreeSet<String> = MADE_FOR_ONE_KIND.map(|(path, _)| path.to_owned()).into();
    let files = production_code();
    assert!(files.len() > 200, "{} files were read", files.len());
    let names = files.iter().filter(|(path, text)| {
        let in_room = ROOMS.iter().any(|room| {
            path == room
                || path
                    .strip_prefix(room)
                    .is_some_and(|rest| rest.starts_with('/'))
        });
        !in_room && NAMES_OF_KINDS.iter().any(|name| text.contains(name))
    });
    let found: BTreeSet<String> = names.map(|(path, _)| path.clone()).collect();
    let expected: BTreeSet<String> = said.union(&exempt).cloned().collect();
    let unsaid: Vec<_> = found.difference(&expected).collect();
    assert!(
        unsaid.is_empty(),
        "these files name a kind of stream or lake, which the page does not say: {unsaid:?}"
    );
    let gone: Vec<_> = expected.difference(&found).collect();
    assert!(
        gone.is_empty(),
        "these files do not name a kind of stream or lake any more: {gone:?}"
    );
}

#[test]
fn each_file_of_the_page_exists() {
    for title in ["Seams", "Where a kind of stream or lake is named"] {
        let paths = paths_of(&section(title));
        assert!(!paths.is_empty(), "the tables of `{title}` name no file");
        for path in paths {
            assert!(root().join(&path).is_file(), "`{title}` names `{path}`");
        }
    }
}

#[test]
fn each_concept_of_the_glossary_lives_where_it_says() {
    let page = std::fs::read_to_string(root().join("docs/glossary.md")).expect("the page reads");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.ends_with("lives in |"));
    let mut concepts = 0;
    for row in rows {
        let place = row.rsplit('|').nth(1).unwrap_or_default();
        let paths: Vec<_> = place
            .split('`')
            .skip(1)
            .step_by(2)
            .flat_map(each_of)
            .collect();
        assert!(!paths.is_empty(), "{row}");
        for path in paths {
            assert!(root().join(&path).exists(), "`{path}` is gone: {row}");
        }
        concepts += 1;
    }
    assert!(concepts > 50, "{concepts} concepts were found");
}

/// The sources of a crate, tests included.
fn sources(name: &str) -> String {
    let folder = match name {
        "hydrant-pii" => "transform/pii",
        name => name.trim_start_matches("hydrant-"),
    };
    let (mut text, mut open) = (String::new(), vec![root().join(folder)]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("the folder lists") {
            let path = entry.expect("the folder lists").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &std::fs::read_to_string(&path).expect("the file reads");
            }
        }
    }
    text
}

#[test]
fn each_test_of_the_guarantees_is_in_its_crate() {
    let page = std::fs::read_to_string(root().join("docs/guarantees.md")).expect("the page reads");
    let mut crates: BTreeMap<&str, String> = BTreeMap::new();
    crates.insert("hydrant-testing", sources("hydrant-testing"));
    let (mut tests, mut name, mut missing) = (0, "hydrant", Vec::new());
    for (n, part) in page.split('`').enumerate() {
        if n % 2 == 0 {
            let mut words =
                part.split(|letter: char| !letter.is_ascii_lowercase() && letter != '-');
            name = words
                .rfind(|word| word.starts_with("hydrant"))
                .unwrap_or(name);
            continue;
        }
        let is_name = part
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name || part.matches('_').count() < 3 || part.starts_with("hydrant_") {
            continue;
        }
        tests += 1;
        let head = format!("fn {part}(");
        let is_there = crates
            .entry(name)
            .or_insert_with(|| sources(name))
            .contains(&head);
        if !is_there && !crates["hydrant-testing"].contains(&head) {
            missing.push(format!("{name} {part}"));
        }
    }
    assert!(tests > 100, "{tests} tests were found");
    assert!(
        missing.is_empty(),
        "these tests are not there: {missing:#?}"
    );
}

#[test]
fn the_page_of_the_simulation_names_each_file_and_each_test() {
    let folder = root().join("hydrant/tests/it/simulation");
    let page = std::fs::read_to_string(folder.join("README.md")).expect("the page reads");
    let said: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let mut names = vec!["simulation.rs".to_owned()];
    for entry in std::fs::read_dir(&folder).expect("the folder lists") {
        let entry = entry.expect("the folder lists");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            names.push(format!("{name}/"));
        } else if name.ends_with(".rs") {
            names.push(name);
        }
    }
    assert!(names.len() > 10, "{names:?}");
    let unsaid: Vec<_> = names
        .iter()
        .filter(|name| !said.contains(&name[..]))
        .collect();
    assert!(unsaid.is_empty(), "the page does not name {unsaid:?}");
    // The tests of mutants are many, and the page says how they are called.
    let mut tests = 0;
    for file in names.iter().filter(|name| name.ends_with(".rs")) {
        let path = match &file[..] {
            "simulation.rs" => folder.with_extension("rs"),
            file => folder.join(file),
        };
        let text = std::fs::read_to_string(path).expect("the file reads");
        for test in text.split("#[test]\n").skip(1) {
            let name = test.trim_start().trim_start_matches("fn ");
            let name = name.split('(').next().unwrap_or_default();
            tests += 1;
            assert!(
                name.starts_with("kills_") || said.contains(name),
                "the page does not name the test `{name}` of `{file}`"
            );
        }
    }
    assert!(tests > 50, "{tests} tests were found");
}
