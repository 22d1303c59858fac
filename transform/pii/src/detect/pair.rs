//! Pairs of a name and a value in a text: `first_name=Jane lat=52.52`, and those of a query.

use std::ops::Range;

use crate::text::windows::trailing;

/// Longest name.
const NAME_BYTES_MAX: usize = 64;

/// The name of the first pair in `text` whose `=` stands at `from` or behind it. A value starts
/// behind the `=`.
pub(crate) fn pair(text: &[u8], from: usize) -> Option<Range<usize>> {
    memchr::memchr_iter(b'=', text.get(from..)?).find_map(|found| {
        let end = from + found;
        let floor = end.saturating_sub(NAME_BYTES_MAX).max(from);
        let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let length = trailing(&text[floor..end], named).len();
        (length > 0).then(|| end - length..end)
    })
}

/// The value that starts at `start`: what quotes hold, or all up to a space or a byte that ends
/// values in logs, queries and lists.
pub(crate) fn pair_value(text: &[u8], start: usize) -> Range<usize> {
    if let Some(&quote @ (b'"' | b'\'')) = text.get(start) {
        let inside = &text[start + 1..];
        let length = memchr::memchr(quote, inside).unwrap_or(inside.len());
        return start + 1..start + 1 + length;
    }
    // A label is one value with its brackets.
    let bracket = text.get(start) == Some(&b'[');
    let ends = |byte: &u8| match byte {
        b',' | b';' | b'&' | b'|' | b')' | b'}' | b'"' | b'\'' | b'<' | b'>' => true,
        b']' => !bracket,
        byte => byte.is_ascii_whitespace() || byte.is_ascii_control(),
    };
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    start..start + length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(name) = pair(text.as_bytes(), from) {
            let value = pair_value(text.as_bytes(), name.end + 1);
            from = value.end;
            found.push((&text[name], &text[value]));
        }
        found
    }

    #[test]
    fn names_and_values_are_parted() {
        assert_eq!(
            all(r#"level=info user.name="Jane Doe" lat=52.5, a='b c';x=[NAME] (y=1) z="#),
            [
                ("level", "info"),
                ("user.name", "Jane Doe"),
                ("lat", "52.5"),
                ("a", "b c"),
                ("x", "[NAME]"),
                ("y", "1"),
                ("z", "")
            ]
        );
        assert_eq!(all("https://x.y/?a=1&b=2"), [("a", "1"), ("b", "2")]);
        assert_eq!(all("= == a =b"), Vec::<(&str, &str)>::new());
    }
}
