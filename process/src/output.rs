//! Standard output and standard error, whose readers may close them at any time.

use std::borrow::Cow;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use hydrant_core::error::{Error, Result};
use hydrant_core::shutdown::{Phase, Shutdown};

/// The standard output of a process; cheap to clone. When its reader goes away (`hydrant ... | head`), the process
/// drains and ends with success, and later output is discarded.
#[derive(Clone, Debug)]
pub struct Stdout {
    shutdown: Shutdown,
    closed: Arc<AtomicBool>,
}

impl Stdout {
    /// The standard output of a process that ends through `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Stdout {
            shutdown,
            closed: Arc::default(),
        }
    }

    /// Prints a line.
    pub fn line(&self, text: impl fmt::Display) -> Result<()> {
        let mut text = text.to_string();
        text.push('\n');
        self.bytes(text.as_bytes())
    }

    /// Prints a value as one line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value)
            .map_err(|error| Error::fatal(format!("cannot print a result as JSON: {error}")))?;
        self.line(text)
    }

    /// Prints bytes as they are. Blocks while the reader is slow.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.close();
                Ok(())
            }
            // A second attempt would print the beginning again.
            Err(error) => Err(Error::fatal(format!(
                "cannot write to standard output: {error}"
            ))),
        }
    }

    /// Whether its reader is gone.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.shutdown.advance(Phase::Draining);
    }
}

/// A count for people: `1,234,567`.
pub fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A counted noun for people: `1 record`, `1,234 records`.
pub fn counted(count: u64, one: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {one}{ending}", count_text(count))
}

/// A text for terminals and metrics: control characters, which a key of a record may hold, are written as JSON writes them.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len() + 5);
    for c in text.chars() {
        match c {
            '\n' => printable.push_str("\\n"),
            '\r' => printable.push_str("\\r"),
            '\t' => printable.push_str("\\t"),
            c if c.is_control() => printable.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => printable.push(c),
        }
    }
    Cow::Owned(printable)
}

/// The path of a value in a record, for terminals and metrics: [`printable`], an empty key as `""`.
pub fn path_text(path: &str) -> String {
    let keys = path.split('.').map(|key| match key {
        "" => Cow::Borrowed("\"\""),
        key => printable(key),
    });
    keys.collect::<Vec<_>>().join(".")
}

/// Prints a line to standard error. A closed standard error is ignored.
pub fn to_stderr(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Whether the panic comes from a `println!` to a closed standard output.
pub(super) fn is_broken_pipe(panic: &PanicHookInfo<'_>) -> bool {
    panic
        .payload()
        .downcast_ref::<String>()
        .is_some_and(|text| {
            text.starts_with("failed printing to std") && text.contains("Broken pipe")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_as_json_does() {
        assert_eq!(
            printable("a\u{1b}[31mRED\n\u{85}\u{7f}"),
            r"a\u001b[31mRED\n\u0085\u007f"
        );
        assert_eq!(printable("München\\x"), "München\\x");
        for (path, text) in [
            ("", r#""""#),
            ("a..b", r#"a."".b"#),
            ("a.", r#"a."""#),
            ("a[].b", "a[].b"),
        ] {
            assert_eq!(path_text(path), text);
        }
    }

    #[test]
    fn counts_are_grouped_and_agree_with_what_they_count() {
        assert_eq!(count_text(0), "0");
        assert_eq!(count_text(999), "999");
        assert_eq!(count_text(1_234_567), "1,234,567");
        assert_eq!(counted(0, "record"), "0 records");
        assert_eq!(counted(1, "dead letter"), "1 dead letter");
        assert_eq!(counted(1_000, "record"), "1,000 records");
    }
}
