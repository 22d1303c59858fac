//! Where an app starts that has no progress: as an operator writes it, and as it is kept until a record was read.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where an app starts that has no progress yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record kept.
    Earliest,
    /// After the newest record.
    Latest,
    /// At the first record that arrived at this time or later, microseconds since 1970.
    At(i64),
}

/// The text says no start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a start: write `earliest`, `latest` or a time such as `2026-11-21T08:00:00Z`"
)]
pub struct ParseStartError(String);

impl FromStr for Start {
    type Err = ParseStartError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => return Ok(Start::Earliest),
            "latest" => return Ok(Start::Latest),
            _ => {}
        }
        let bad = || ParseStartError(text.to_owned());
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| bad())?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| bad())?;
        let micros = i64::try_from(since.as_micros()).map_err(|_| bad())?;
        Ok(Start::At(micros))
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::At(micros) => {
                let since = Duration::from_micros(u64::try_from(*micros).unwrap_or_default());
                let time = humantime::format_rfc3339_micros(UNIX_EPOCH + since);
                write!(f, "{time}")
            }
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_from_what_it_shows() {
        for start in [
            Start::Earliest,
            Start::Latest,
            Start::At(1_795_248_000_250_000),
        ] {
            assert_eq!(start.to_string().parse::<Start>(), Ok(start));
        }
        assert_eq!(
            "2026-11-21 08:00:00".parse(),
            Ok(Start::At(1_795_248_000_000_000))
        );
        for text in ["", "now", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }
}
