//! The corpus: one input a line, escaped as Rust escapes bytes.

use std::path::PathBuf;

/// The file with the inputs of a target.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(format!("{name}.txt"))
}

/// Reads the inputs of a target; none if it has no file yet.
///
/// # Panics
/// A line holds an escape that does not exist.
pub(crate) fn load(name: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path(name)).unwrap_or_default();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            unescape(line).unwrap_or_else(|| panic!("`{line}` is not an input of corpus `{name}`"))
        })
        .collect()
}

/// Appends inputs to the file of a target.
pub(crate) fn add<'a>(name: &str, inputs: impl Iterator<Item = &'a [u8]>) -> std::io::Result<()> {
    let mut text = std::fs::read_to_string(path(name)).unwrap_or_default();
    for input in inputs {
        text.push_str(&escape(input));
        text.push('\n');
    }
    std::fs::write(path(name), text)
}

/// Writes an input as a line.
pub(crate) fn escape(input: &[u8]) -> String {
    match input.strip_prefix(b"#") {
        Some(rest) => format!("\\x23{}", rest.escape_ascii()),
        None => input.escape_ascii().to_string(),
    }
}

fn unescape(line: &str) -> Option<Vec<u8>> {
    let mut bytes = line.bytes();
    let mut input = Vec::with_capacity(line.len());
    while let Some(byte) = bytes.next() {
        input.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let mut digit = || char::from(bytes.next()?).to_digit(16);
                    u8::try_from(digit()? << 4 | digit()?).ok()?
                }
                byte @ (b'\\' | b'\'' | b'"') => byte,
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_comes_back_from_its_line() {
        let all: Vec<u8> = (0..=255).collect();
        for input in [&b""[..], b"#a", b"\\", b"\\x4", b"a#'\"\r\n\t", &all] {
            let line = escape(input);
            assert!(!line.starts_with('#') && !line.contains('\n'));
            assert_eq!(unescape(&line).as_deref(), Some(input));
        }
        for line in ["\\", "\\q", "\\x4", "\\xg0"] {
            assert_eq!(unescape(line), None, "{line}");
        }
    }
}
