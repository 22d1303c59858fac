//! Forms of times as of strftime.
//!
//! Refuses what is no such form, with the reason, and how a form of Java is written here.

use std::fmt::Write as _;

use chrono::DateTime;
use chrono::format::{Item, StrftimeItems};
use hydrant_core::Error;

use super::TimeReader;
use crate::table::zone::Zone;

pub(super) fn format_items(format: &str) -> Result<Vec<Item<'static>>, Error> {
    let refused = |why: String| {
        Error::refused(format!(
            "`{format}` {why}: forms are written as of strftime, for example `%d.%m.%Y %H:%M:%S`"
        ))
    };
    let items = StrftimeItems::new(format).parse_to_owned();
    let items = items.map_err(|_| refused(unknown_part(format)))?;
    if !format.contains('%') {
        return Err(refused(match as_strftime(format) {
            Some(meant) => format!("is no form of strftime, which writes it as `{meant}`"),
            None => "has no part with a `%`".to_owned(),
        }));
    }
    // What the format writes must be a time again.
    let sample = DateTime::from_timestamp(1_800_000_015, 0).unwrap_or_default();
    let mut text = String::new();
    let is_written = write!(text, "{}", sample.format_with_items(items.iter())).is_ok();
    let reader = TimeReader::try_new(Zone::default(), &[], sample.timestamp_micros())?;
    if is_written && reader.by_format(&text, &items, reader.zone).is_some() {
        return Ok(items);
    }
    // With a day and an hour in front it would be one.
    let is_time = |more: &str| {
        let whole = format!("{more} {format}");
        let items = StrftimeItems::new(&whole).parse_to_owned().ok()?;
        let text = sample.format_with_items(items.iter()).to_string();
        reader.by_format(&text, &items, reader.zone)
    };
    Err(refused(
        match (is_time("%Y-%m-%d"), is_time("%H:%M"), is_time("%p")) {
            (Some(_), ..) => "names no day",
            (_, Some(_), _) | (.., Some(_)) => {
                "has a part of a time without its hour (with `%I` write `%p`)"
            }
            _ => "names no day, or not all of one",
        }
        .to_owned(),
    ))
}

/// What is wrong with a format that has an unknown part.
fn unknown_part(format: &str) -> String {
    let is_part = |part: &&str| StrftimeItems::new(part).parse_to_owned().is_ok();
    for (at, _) in format.match_indices('%') {
        let part = &format[at..];
        let ends = part.char_indices().skip(1).take(4);
        let mut starts = ends.map(|(at, c)| &part[..at + c.len_utf8()]);
        if starts.clone().any(|start| is_part(&start)) || format[..at].ends_with('%') {
            continue;
        }
        let end = starts.find(|start| start.ends_with(char::is_alphabetic));
        return match end {
            Some(end) => format!("has the unknown part `{end}`"),
            None => "has a `%` without a letter".to_owned(),
        };
    }
    "has an unknown part".to_owned()
}

/// A format of Java, .NET or moment.js as of strftime; `None` for what is none.
fn as_strftime(format: &str) -> Option<String> {
    let parts = [
        ("SSSSSS", "%6f"),
        ("yyyy", "%Y"),
        ("YYYY", "%Y"),
        ("SSS", "%3f"),
        ("yy", "%y"),
        ("YY", "%y"),
        ("MMM", "%b"),
        ("MM", "%m"),
        ("dd", "%d"),
        ("DD", "%d"),
        ("HH", "%H"),
        ("hh", "%I"),
        ("mm", "%M"),
        ("ss", "%S"),
        ("XXX", "%:z"),
        ("Z", "%z"),
        ("a", "%p"),
    ];
    let (mut text, mut rest) = (String::new(), format);
    while let Some(first) = rest.chars().next() {
        let part = parts.iter().find(|(theirs, _)| rest.starts_with(theirs));
        let len = match part {
            Some((theirs, ours)) => {
                text.push_str(ours);
                theirs.len()
            }
            None if first.is_alphabetic() && first != 'T' => return None,
            None => {
                text.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    text.contains('%').then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_is_none_is_refused_with_the_reason() {
        for (format, why) in [
            ("%d.%m.%Y %Q", "has the unknown part `%Q`"),
            ("%%%Y-%m-%d %J", "has the unknown part `%J`"),
            ("%Y-%m-%d %", "has a `%` without a letter"),
            ("dd.MM.yyyy", "writes it as `%d.%m.%Y`"),
            (
                "yyyy-MM-ddTHH:mm:ss.SSSXXX",
                "writes it as `%Y-%m-%dT%H:%M:%S.%3f%:z`",
            ),
            ("date", "has no part with a `%`"),
            ("", "has no part with a `%`"),
            ("%H:%M", "names no day"),
            ("%H:%M:%S %p", "names no day"),
            ("%Y-%m", "names no day"),
            ("%d.%m.%Y %M", "without its hour"),
            ("%d.%m.%Y %I:%M", "write `%p`"),
        ] {
            let formats = [format.to_owned()];
            let refused = TimeReader::try_new(Zone::default(), &formats, 0).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.starts_with(&format!("`{format}` ")), "{refused}");
            assert!(
                refused.contains(why) && refused.contains("as of strftime"),
                "{refused}"
            );
        }
    }
}
