//! The text forms of durations and byte counts.

use std::time::Duration;

use bytesize::ByteSize;

/// Why a text is not the value that it should be, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(super) String);

/// No duration is longer, so that adding one to a moment cannot overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// A duration such as `5s`, `250ms`, `1h 30m`; a bare number is refused because its unit is a guess.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let duration = humantime::parse_duration(text).map_err(|error| {
        let why = match error {
            humantime::DurationError::UnknownUnit { ref unit, .. } if unit.is_empty() => {
                "has no unit".to_owned()
            }
            humantime::DurationError::UnknownUnit { unit, .. } => {
                format!("has the unknown unit `{unit}`")
            }
            humantime::DurationError::NumberOverflow => "is too large".to_owned(),
            _ => "is no duration".to_owned(),
        };
        ValueError(format!(
            "`{text}` {why}: write for example `5s`, `250ms` or `1h`"
        ))
    })?;
    if duration > DURATION_MAX {
        return Err(ValueError(format!(
            "`{text}` is too large: write at most `100 years`"
        )));
    }
    Ok(duration)
}

/// A number of bytes such as `1000`, `128MiB`, `1.5GB`.
pub fn parse_bytes(text: &str) -> Result<u64, ValueError> {
    let text = text.trim();
    if let Ok(bytes) = text.parse() {
        return Ok(bytes);
    }
    let size: ByteSize = text.parse().map_err(|_| {
        ValueError(format!(
            "`{text}` is no number of bytes: write for example `128MiB` or `1000000`"
        ))
    })?;
    if size.as_u64() == u64::MAX {
        return Err(ValueError(format!("`{text}` is too large")));
    }
    Ok(size.as_u64())
}
