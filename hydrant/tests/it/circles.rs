//! No two files of a crate import one another, directly or through others.
//!
//! A file and the folder beside it belong together: what a module and its own children import of each other counts for
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::production_code;

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The name of the module that a file is: `stream/src/local/end.rs` is `stream::local::end`.
fn module_of(path: &str) -> String {
    let path = path.trim_end_matches(".rs").replacen("/src", "", 1);
    let path = path.trim_end_matches("/lib").trim_end_matches("/main");
    path.replace('/', "::")
}

/// What one `use` names: `a::{b, c::{d}}` names `a::b` and `a::c::d`.
fn names(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        return vec![name.trim().trim_end_matches("::*").to_owned()];
    };
    let inside = rest.trim_end().trim_end_matches('}');
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inside.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    let names = parts.flat_map(|part| names(part));
    names
        .map(|name| match name.as_str() {
            "self" => before.trim_end_matches("::").to_owned(),
            name => format!("{before}{name}"),
        })
        .collect()
}

/// The absolute form of a name that `module` of the crate `root` uses.
fn absolute(name: &str, module: &str, root: &str) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").collect();
    let mut parts = name.split("::").peekable();
    match parts.peek() {
        Some(&"crate") => {
            parts.next();
            return Some(
                [root]
                    .into_iter()
                    .chain(parts)
                    .collect::<Vec<_>>()
                    .join("::"),
            );
        }
        Some(&"self") => drop(parts.next()),
        Some(&"super") => {
            while parts.peek() == Some(&"super") {
                parts.next();
                at.pop();
            }
        }
        _ => return None,
    }
    Some(at.into_iter().chain(parts).collect::<Vec<_>>().join("::"))
}

fn is_family(one: &str, other: &str) -> bool {
    let below = |child: &str, parent: &str| child.starts_with(&format!("{parent}::"));
    one == other || below(one, other) || below(other, one)
}

fn imports(files: &[(String, String)]) -> Imports {
    let modules: BTreeSet<String> = files.iter().map(|(path, _)| module_of(path)).collect();
    let mut imports = Imports::new();
    for (path, code) in files {
        let module = module_of(path);
        let root = path
            .split("/src")
            .next()
            .unwrap_or_default()
            .replace('/', "::");
        let uses = code.split("use ").skip(1);
        let trees = uses.filter_map(|rest| rest.split(';').next());
        for name in trees.flat_map(names) {
            let Some(mut used) = absolute(&name, &module, &root) else {
                continue;
            };
            while !modules.contains(&used) {
                let Some((parent, _)) = used.rsplit_once("::") else {
                    break;
                };
                used = parent.to_owned();
            }
            if modules.contains(&used) && !is_family(&used, &module) {
                imports.entry(module.clone()).or_default().insert(used);
            }
        }
    }
    imports
}

/// Whether `from` imports `to`, directly or through others.
fn reaches(imports: &Imports, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        for next in imports.get(at).into_iter().flatten() {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

fn circles(imports: &Imports) -> Vec<&str> {
    let all = imports.keys().map(String::as_str);
    all.filter(|module| reaches(imports, module, module))
        .collect()
}

#[test]
fn no_file_imports_itself_through_others() {
    let imports = imports(&production_code());
    assert!(imports.len() > 200, "{} files import others", imports.len());
    let circles = circles(&imports);
    assert!(
        circles.is_empty(),
        "these files are in circles: {circles:#?}"
    );
}

#[test]
fn a_circle_is_found() {
    let file = |path: &str, code: &str| (format!("core/src/{path}.rs"), code.to_owned());
    let files = [
        file("lib", "mod a; mod b; mod c;"),
        file("a", "use super::b::{self, Of};"),
        file("b", "use crate::c::{d::{Deep as Other}, Thing};"),
        file("c", "use std::fmt;"),
        file("c/d", "use crate::a::*;"),
    ];
    let found = imports(&files);
    assert_eq!(circles(&found), ["core::a", "core::b", "core::c::d"]);
}
