//! Lists what the walker sees of a record, for tests that compare it with the other readers of JSON.

use crate::QuarantineReason;
use crate::text::fold::{FoldReading, Notation, Shadow};
use crate::text::json::{JsonEvent, Token, Walker};

/// A key, a scalar, or the begin or end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonPart {
    /// An object begins.
    Object,
    /// An array begins.
    Array,
    /// The innermost container ends.
    End,
    /// A key, its escapes decoded.
    Key(String),
    /// A string, its escapes decoded.
    Text(String),
    /// A number as it is written.
    Number(String),
    /// `true`, `false` or `null`.
    Word(String),
}

/// What the walker sees of a record up to its end, or to what it refuses.
pub fn seen(record: &[u8], depth_max: usize) -> (Vec<JsonPart>, Option<QuarantineReason>) {
    if std::str::from_utf8(record).is_err() {
        return (Vec::new(), Some(QuarantineReason::InvalidUtf8));
    }
    let mut all = Vec::new();
    let mut walker = Walker::new(record, depth_max, Vec::new());
    loop {
        let written = |token: Token| String::from_utf8_lossy(&record[token.start..token.end]);
        let decoded = |token: Token| {
            let mut shadow = Shadow::default();
            let written = &record[token.start..token.end];
            shadow.cast(written, token.start, Notation::Escaped, FoldReading::Exact);
            String::from_utf8_lossy(&shadow.text).into_owned()
        };
        all.push(match walker.advance() {
            Ok(JsonEvent::Object(_)) => JsonPart::Object,
            Ok(JsonEvent::Array(_)) => JsonPart::Array,
            Ok(JsonEvent::End(_)) => JsonPart::End,
            Ok(JsonEvent::Key(token)) => JsonPart::Key(decoded(token)),
            Ok(JsonEvent::Text(token)) => JsonPart::Text(decoded(token)),
            Ok(JsonEvent::Number(token)) => JsonPart::Number(written(token).into_owned()),
            Ok(JsonEvent::Literal(token)) => JsonPart::Word(written(token).into_owned()),
            Ok(JsonEvent::Done) => return (all, None),
            Err(error) => return (all, Some(error)),
        });
    }
}
