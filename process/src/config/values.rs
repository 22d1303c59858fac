//! Parses durations, byte counts and whole numbers.

use std::num::IntErrorKind;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

/// Says why a text is not a valid value, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(super) String);

/// The longest duration: adding it to a moment cannot overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// A duration such as `5s`, `250ms`, `1h 30m`; a bare number is refused because its unit is a guess.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    parse_duration_within(text, &(Duration::ZERO..=DURATION_MAX))
}

/// A duration inside `range`; so is what a message says to write.
pub fn parse_duration_within(
    text: &str,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, ValueError> {
    let mut sum = Duration::ZERO;
    for part in duration_parts(text) {
        let part = humantime::parse_duration(part);
        let part = part.map_err(|error| not_a_duration(text, range, &error))?;
        // Part by part, because humantime's own sum may overflow.
        sum = sum.saturating_add(part);
    }
    if range.contains(&sum) && sum <= DURATION_MAX {
        return Ok(sum);
    }
    let longest = *range.end().min(&DURATION_MAX);
    if range.start().is_zero() && longest == DURATION_MAX {
        return Err(ValueError(format!(
            "`{text}` is too large: write at most `{}`",
            shown_duration(&longest)
        )));
    }
    let remedy = format!(
        "`{}` to `{}`",
        shown_duration(range.start()),
        shown_duration(&longest)
    );
    Err(out_of_range(text, &remedy))
}

/// A duration as it is written in a configuration.
pub(super) fn shown_duration(value: &Duration) -> String {
    humantime::format_duration(*value).to_string()
}

/// `1h` and `30m` of `1h 30m`; a text without a unit is one part.
fn duration_parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut has_unit) = (0, false);
    for (at, c) in text.char_indices() {
        if c.is_ascii_digit() && std::mem::take(&mut has_unit) {
            parts.push(text[begin..at].trim_end());
            begin = at;
        }
        has_unit |= c.is_alphabetic();
    }
    parts.push(&text[begin..]);
    parts
}

fn not_a_duration(
    text: &str,
    range: &RangeInclusive<Duration>,
    error: &humantime::DurationError,
) -> ValueError {
    let why = match error {
        humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
            "has no unit".to_owned()
        }
        humantime::DurationError::UnknownUnit { unit, .. } => {
            format!("has the unknown unit `{unit}`")
        }
        humantime::DurationError::NumberOverflow => "is too large".to_owned(),
        _ => "is not a valid duration".to_owned(),
    };
    let number = text.trim();
    let meant: Vec<String> = match number.bytes().all(|byte| byte.is_ascii_digit()) {
        true => ["s", "h", "d"].map(|unit| format!("{number}{unit}")).into(),
        false => Vec::new(),
    };
    let usual = ["5s", "250ms", "1h", "30d"].map(str::to_owned);
    let fits = |example: &&String| {
        humantime::parse_duration(example).is_ok_and(|example| range.contains(&example))
    };
    let mut examples: Vec<&String> = meant.iter().filter(fits).collect();
    if examples.is_empty() {
        examples = usual.iter().filter(fits).take(3).collect();
    }
    let shortest = shown_duration(range.start());
    if examples.is_empty() {
        examples.push(&shortest);
    }
    let examples: Vec<String> = examples.iter().map(|one| format!("`{one}`")).collect();
    ValueError(format!(
        "`{text}` {why}: write for example {}",
        examples.join(" or ")
    ))
}

/// A number of bytes such as `1000`, `128MiB`, `1.5GB`.
pub fn parse_bytes(text: &str) -> Result<u64, ValueError> {
    let text = text.trim();
    if let Ok(bytes) = text.parse() {
        return Ok(bytes);
    }
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let size = if is_digits {
        // The number has more digits than a `u64`.
        ByteSize(u64::MAX)
    } else {
        text.parse().map_err(|_| {
            ValueError(format!(
                "`{text}` is not a number of bytes: write for example `128MiB` or `1000000`"
            ))
        })?
    };
    if size.as_u64() == u64::MAX {
        return Err(ValueError(format!(
            "`{text}` is too large: write for example `128MiB`"
        )));
    }
    Ok(size.as_u64())
}

/// A whole number inside `range`; `_` may group its digits.
pub fn parse_whole(text: &str, range: RangeInclusive<u64>) -> Result<u64, ValueError> {
    whole(text, &range, &within_text(&range, u64::MAX))
}

/// Parses a whole number inside `range`; `remedy` says which numbers are valid.
pub(super) fn whole<T: TryFrom<i128> + PartialOrd>(
    text: &str,
    range: &RangeInclusive<T>,
    remedy: &str,
) -> Result<T, ValueError> {
    let plain = text.trim().replace('_', "");
    let number = match plain.parse::<i128>() {
        Ok(number) => T::try_from(number).ok(),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => None,
            _ => {
                let message = format!("`{text}` is not a whole number: write {remedy}");
                return Err(ValueError(message));
            }
        },
    };
    let number = number.filter(|number| range.contains(number));
    number.ok_or_else(|| out_of_range(text, remedy))
}

/// The error of a value that is too small or too large.
pub(super) fn out_of_range(written: &str, remedy: &str) -> ValueError {
    ValueError(format!("`{written}` is out of range: write {remedy}"))
}

/// The remedy for a number: the least and the greatest value, or only the least where no value is too large.
pub(super) fn within_text<T: PartialEq + ToString>(range: &RangeInclusive<T>, max: T) -> String {
    let (low, high) = (range.start().to_string(), range.end().to_string());
    match *range.end() == max {
        true => format!("a number from `{low}` on"),
        false => format!("`{low}` to `{high}`"),
    }
}
