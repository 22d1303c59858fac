//! What the walker sees of a record, for tests that compare it with the other readers of JSON.

use crate::Reason;
use crate::text::fold::{Reading, Shadow, Writing};
use crate::text::json::{Event, JsonError, Token, Walker};

/// A key, a scalar, or the begin or end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
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
pub fn seen(record: &[u8], depth_max: usize) -> (Vec<Seen>, Option<Reason>) {
    if std::str::from_utf8(record).is_err() {
        return (Vec::new(), Some(Reason::InvalidUtf8));
    }
    let mut all = Vec::new();
    let mut walker = Walker::new(record, depth_max, Vec::new());
    loop {
        let written = |token: Token| String::from_utf8_lossy(&record[token.start..token.end]);
        let decoded = |token: Token| {
            let mut shadow = Shadow::default();
            let written = &record[token.start..token.end];
            shadow.cast(written, token.start, Writing::Escaped, Reading::Exact);
            String::from_utf8_lossy(&shadow.text).into_owned()
        };
        all.push(match walker.advance() {
            Ok(Event::Object(_)) => Seen::Object,
            Ok(Event::Array(_)) => Seen::Array,
            Ok(Event::End(_)) => Seen::End,
            Ok(Event::Key(token)) => Seen::Key(decoded(token)),
            Ok(Event::Text(token)) => Seen::Text(decoded(token)),
            Ok(Event::Number(token)) => Seen::Number(written(token).into_owned()),
            Ok(Event::Literal(token)) => Seen::Word(written(token).into_owned()),
            Ok(Event::Done) => return (all, None),
            Err(error) => return (all, Some(JsonError::into(error))),
        });
    }
}
