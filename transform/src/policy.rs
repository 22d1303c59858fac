//! Reads a policy and its keys from the configuration: the `[pii]` table and the file that a flag names.
//!
//! ```toml
//! [pii]
//! key-file = "/run/secrets/hydrant-pii.toml"   # lines `id = "secret"`; or HYDRANT_PII_KEY_FILE
//!
//! [pii.keys]                                   # or here
//! 2026-11 = "at least 32 bytes, such as the output of `openssl rand -hex 32`"
//! ```
//!
//! A secret is used as the bytes of its text. All workers of a deployment need the same ones. Promises: no secret is
//! printed or logged; all problems of policy and keys are reported at once.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hydrant_pii::{Policy, TokenKeys};
use hydrant_process::config::{Flags, Layers, Problems, Secret};

/// A policy or key file of more than this is a mistake in the path.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The policy of the file, or the built-in `strict` one; `None` with a problem.
pub fn load(layers: &Layers, file: Option<&Path>, problems: &mut Problems) -> Option<Arc<Policy>> {
    let keys = keys(layers, problems)?;
    let Some(file) = file else {
        return Some(Arc::new(Policy::strict()));
    };
    let shown = format!("policy `{}`", file.display());
    let unread = |error| problems.push(&shown, format!("cannot be read: {error}"));
    let text = read_text(file).map_err(unread).ok()?;
    let policy = Policy::from_toml(&text, &keys).map_err(|found| {
        for problem in found.0 {
            let message = format!("{}: {}", problem.problem, problem.remedy);
            problems.push(format!("{shown}, {}", problem.place), message);
        }
    });
    policy.map(Arc::new).ok()
}

/// The keys for tokens, of `[pii.keys]` and of the key file; `None` with a problem.
pub fn keys(layers: &Layers, problems: &mut Problems) -> Option<TokenKeys> {
    let mut section = layers.section("pii", &Flags::new());
    let file: Option<PathBuf> = section.path("key-file");
    let written: Vec<_> = section.secret_table("keys").into_iter().collect();
    let read = match file.as_deref().map(read_keys) {
        Some(Ok(secrets)) => secrets,
        Some(Err(message)) => {
            section.problem("key-file", message);
            Vec::new()
        }
        None => Vec::new(),
    };
    let mut keys = TokenKeys::none();
    for (place, secrets) in [("keys", &written), ("key-file", &read)] {
        for (id, secret) in secrets {
            if let Err(problem) = keys.insert(id, secret.expose().as_bytes()) {
                let message = format!("{}: {}: {}", problem.place, problem.problem, problem.remedy);
                section.problem(place, message);
            }
        }
    }
    let usable = !section.has_problems();
    section.finish(problems);
    usable.then_some(keys)
}

fn read_keys(file: &Path) -> Result<Vec<(String, Secret<String>)>, String> {
    let shown = file.display();
    let text = read_text(file).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    // The parser's own message would quote the line, which holds a secret.
    let table: BTreeMap<String, String> = toml::from_str(&text).map_err(|_| {
        format!("`{shown}` holds something other than lines of the form `id = \"secret\"`")
    })?;
    if table.is_empty() {
        return Err(format!(
            "`{shown}` holds no key: write a line `id = \"secret\"`"
        ));
    }
    let secrets = table.into_iter();
    Ok(secrets
        .map(|(id, secret)| (id, Secret::new(secret)))
        .collect())
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it is longer than the {FILE_BYTES_MAX} bytes that are read");
        return Err(std::io::Error::other(message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const TOKENS: &str =
        "[policy]\nname = \"t\"\nkey = \"k1\"\n[[rule]]\nclass = \"email\"\naction = \"token\"\n";

    fn messages(problems: Problems) -> String {
        let error = problems.into_result().unwrap_err();
        error.to_string()
    }

    fn layers(environment: &[(&str, &str)], config: Option<&Path>) -> Layers {
        let mut problems = Problems::new();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let layers = Layers::load(config, environment, &mut problems);
        problems.into_result().unwrap();
        layers
    }

    #[test]
    fn without_a_file_the_strict_policy_holds_and_needs_no_key() {
        let mut problems = Problems::new();
        let policy = load(&layers(&[], None), None, &mut problems).unwrap();
        assert!(problems.is_empty());
        assert_eq!(policy.digest(), Policy::strict().digest());
    }

    #[test]
    fn tokens_need_a_key_from_the_file_or_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, TOKENS).unwrap();
        let mut problems = Problems::new();
        assert!(load(&layers(&[], None), Some(&policy), &mut problems).is_none());
        let message = messages(problems);
        assert!(message.contains("HYDRANT_PII_KEY_FILE"), "{message}");

        let keys = dir.path().join("keys.toml");
        std::fs::write(&keys, format!("k1 = \"{SECRET}\"\n")).unwrap();
        let name = keys.display().to_string();
        let from_file = layers(&[("HYDRANT_PII_KEY_FILE", &name)], None);
        let config = dir.path().join("hydrant.toml");
        std::fs::write(&config, format!("[pii.keys]\nk1 = \"{SECRET}\"\n")).unwrap();
        for layers in [from_file, layers(&[], Some(&config))] {
            let mut problems = Problems::new();
            let policy = load(&layers, Some(&policy), &mut problems).unwrap();
            assert_eq!(policy.key_id(), Some("k1"));
        }
    }

    #[test]
    fn bad_keys_are_refused_without_a_word_of_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys.toml");
        for text in [
            "k1 = \"hunter2\"",
            "k1 = hunter2",
            "",
            "[k1]\na = \"hunter2\"",
        ] {
            std::fs::write(&keys, text).unwrap();
            let name = keys.display().to_string();
            let mut problems = Problems::new();
            let layers = layers(&[("HYDRANT_PII_KEY_FILE", &name)], None);
            assert!(load(&layers, None, &mut problems).is_none(), "{text}");
            let message = messages(problems);
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
