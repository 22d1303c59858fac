//! Injected time.
//!
//! Wall time comes from a [`Clock`], so that a simulation can make it jump. Durations and waits use tokio's time, which
//! a simulation pauses, and only through [`now`] and [`sleep`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// A source of wall time. It may jump either way, so no protocol decision depends on it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now, in microseconds since 1970.
    fn wall_micros(&self) -> i64;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one reading of the system clock"
    )]
    fn wall_micros(&self) -> i64 {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        }
    }
}

/// The moment now on the monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Waits for `duration`. Cancel-safe.
#[allow(clippy::disallowed_methods, reason = "the one door to tokio's sleep")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `deadline`; without one it never returns. Cancel-safe.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
