//! The lexer against a strict parser that is not ours.

use hydrant_fuzz::Target;

use serde_json::{Error, Value};

use super::*;

/// Whether all of a text is one value.
fn is_json(text: &[u8]) -> Result<(), JsonFault> {
    let end = skip_space(text, value(text, skip_space(text, 0))?);
    if end == text.len() {
        Ok(())
    } else {
        Err(JsonFault::new(FaultKind::UNEXPECTED, end))
    }
}

/// Whether the strict parser does not judge: numbers and depths beyond its own limits.
fn is_beyond(error: &Error) -> bool {
    let why = error.to_string();
    why.starts_with("number out of range") || why.starts_with("recursion limit")
}

fn check(input: &[u8]) -> Option<FaultKind> {
    std::str::from_utf8(input).ok()?;
    let ours = is_json(input);
    match serde_json::from_slice::<Value>(input) {
        Ok(_) => assert_eq!(ours, Ok(())),
        Err(error) => assert!(ours.is_err() || is_beyond(&error), "{error}"),
    }
    for (at, byte) in input.iter().enumerate().take(64) {
        match byte {
            b'"' => check_string(input, at),
            b'-' | b'0'..=b'9' => check_number(input, at),
            _ => {}
        }
    }
    ours.err().map(|fault| {
        assert!(fault.at <= input.len(), "{fault:?}");
        fault.kind
    })
}

fn check_string(input: &[u8], open: usize) {
    let mut theirs = serde_json::Deserializer::from_slice(&input[open..]).into_iter::<String>();
    let wanted = theirs.next().expect("something is there").ok();
    let found = string(input, open).ok().map(|text| {
        let mut out = Vec::new();
        unescape(input, text, &mut out).expect("the string was read");
        let out = String::from_utf8(out).expect("the input is UTF-8");
        assert_eq!(open + theirs.byte_offset(), text.end + 1);
        assert!(!text.plain || out.as_bytes() == &input[text.start..text.end]);
        out
    });
    assert_eq!(found, wanted);
}

fn check_number(input: &[u8], start: usize) {
    let Ok(number) = number(input, start) else {
        return;
    };
    let text = std::str::from_utf8(&input[start..number.end]).expect("a number is ASCII");
    serde_json::from_str::<serde::de::IgnoredAny>(text).expect("a number is a number");
    assert_eq!(number.negative, text.starts_with('-'));
    assert_eq!(number.integer, !text.contains(['.', 'e', 'E']));
    if number.digits <= JsonNumber::EXACT_DIGITS {
        let sign = if number.negative { "-" } else { "" };
        let rebuilt = format!("{sign}{}e{}", number.mantissa, number.power);
        let (value, wanted) = (rebuilt.parse::<f64>(), text.parse::<f64>());
        assert_eq!(
            value.map(f64::to_bits),
            wanted.map(f64::to_bits),
            "{rebuilt}"
        );
    }
}

#[test]
fn the_lexer_takes_what_a_strict_parser_takes() {
    Target::new("json-lexer")
        .made_by(&hydrant_fuzz::json)
        .tokens(&[
            "\\u",
            "\\ud83d\\ude00",
            "null",
            "true",
            "false",
            "{\"a\":",
            "[",
            "]}",
        ])
        .run(check);
}

#[test]
fn strings_end_at_their_quote_wherever_it_is() {
    for length in 0..40 {
        let text = "x".repeat(length);
        for (inside, plain) in [
            ("", true),
            ("é\u{80}\u{ff}\u{7f} ", true),
            ("\\\"", false),
            ("\\u0041", false),
        ] {
            let input = format!("?\"{text}{inside}{text}\"{text}\"");
            let end = 2 + 2 * length + inside.len();
            let start = 2;
            assert_eq!(
                string(input.as_bytes(), 1),
                Ok(JsonString { start, end, plain }),
                "{input}"
            );
        }
        for control in ["\0", "\n", "\x1f"] {
            let input = format!("\"{text}{control}{text}\"");
            let fault = JsonFault::new(FaultKind::CONTROL_CHARACTER, 1 + length);
            assert_eq!(string(input.as_bytes(), 0), Err(fault), "{input}");
        }
        let cut = format!("\"{text}");
        assert_eq!(
            string(cut.as_bytes(), 0),
            Err(JsonFault::new(FaultKind::CUT_STRING, 1 + length))
        );
    }
}

#[test]
fn a_fault_says_what_and_where() {
    for (text, kind, at) in [
        ("\"a\\x\"", FaultKind::UNKNOWN_ESCAPE, 2),
        ("\"a\\", FaultKind::CUT_STRING, 3),
        ("\"a\\u12\"", FaultKind::UNICODE_ESCAPE, 2),
        ("\"a\\u+123\"", FaultKind::UNICODE_ESCAPE, 2),
        ("\"a\\ud800\"", FaultKind::LONE_SURROGATE, 2),
        ("\"a\\ud800\\n\"", FaultKind::LONE_SURROGATE, 2),
        ("\"a\\ud800\\u0041\"", FaultKind::LONE_SURROGATE, 2),
        ("\"a\\udc00\"", FaultKind::LONE_SURROGATE, 2),
        ("-", FaultKind::NO_DIGIT, 1),
        ("-01", FaultKind::LEADING_ZERO, 1),
        ("1.", FaultKind::NO_FRACTION, 2),
        ("1.5e+", FaultKind::NO_EXPONENT, 5),
        ("[nul]", FaultKind::UNKNOWN_WORD, 1),
        ("[1}", FaultKind::UNEXPECTED, 2),
        ("{\"a\":1]", FaultKind::UNEXPECTED, 6),
        ("[1,]", FaultKind::UNEXPECTED, 3),
        ("{\"a\" 1}", FaultKind::UNEXPECTED, 5),
        ("", FaultKind::UNEXPECTED, 0),
    ] {
        assert_eq!(
            is_json(text.as_bytes()),
            Err(JsonFault::new(kind, at)),
            "{text}"
        );
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(is_json(nested(DEPTH_MAX).as_bytes()), Ok(()));
    let fault = JsonFault::new(FaultKind::TOO_DEEP, DEPTH_MAX);
    assert_eq!(is_json(nested(DEPTH_MAX + 1).as_bytes()), Err(fault));
}
