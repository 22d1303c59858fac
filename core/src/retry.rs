//! Retries: exponential delays with full jitter, and work that must succeed before anything else can.

use std::time::Duration;

use crate::clock;
use crate::error::{Disposition, Error, Result};
use crate::random::Random;

/// The pace of retries.
///
/// ```
/// use std::time::Duration;
/// use hydrant_core::Random;
/// use hydrant_core::retry::Backoff;
///
/// let backoff = Backoff { first: Duration::from_millis(20), ..Backoff::default() };
/// let random = Random::seeded(1);
/// for (retry, bound) in [(0, 20), (1, 40), (2, 80), (30, 5_000)] {
///     assert!(backoff.delay(retry, &random) <= Duration::from_millis(bound));
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The upper bound of the first delay.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(20),
            max: Duration::from_secs(5),
        }
    }
}

impl Backoff {
    /// The delay before retry `n` (from 0), drawn evenly from zero to the doubling bound.
    pub fn delay(&self, n: u32, random: &Random) -> Duration {
        let bound = self.first.saturating_mul(1 << n.min(20)).min(self.max);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(random.below(micros.saturating_add(1)))
    }
}

/// Whether to log failure `n` in a row, from 0: the first, second, fourth and so on, so that a lasting fault does not
/// fill the log.
#[must_use]
pub const fn is_logged(n: u32) -> bool {
    n.saturating_add(1).is_power_of_two()
}

/// Repeats `operation` until it succeeds: a full disk frees up, a store answers again. A caller that cannot wait drops
/// the future, which is as cancel-safe as `operation`.
///
/// # Errors
/// The first error whose disposition is not [`Disposition::Retry`].
pub async fn retry_forever<T, F, A>(what: &str, random: &Random, mut operation: F) -> Result<T>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T>>,
{
    let backoff = Backoff::default();
    let mut failures = 0_u32;
    loop {
        let error: Error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Disposition::Retry { after } = error.disposition() else {
            return Err(error);
        };
        if is_logged(failures) {
            tracing::warn!(what, attempt = failures, error = %error.report(), "trying again");
        }
        clock::sleep(after.max(backoff.delay(failures, random))).await;
        failures = failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Error {
        Error::Unavailable {
            message: "no answer".to_owned(),
            after: Duration::ZERO,
        }
    }

    #[test]
    fn a_fault_that_lasts_is_logged_ever_more_rarely() {
        let logged: Vec<u32> = (0..100).filter(|n| is_logged(*n)).collect();
        assert_eq!(logged, [0, 1, 3, 7, 15, 31, 63]);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_forever_outlasts_any_backoff_and_stops_at_a_final_error() {
        let random = Random::seeded(1);
        let mut calls = 0;
        let answer = retry_forever("ask", &random, || {
            calls += 1;
            let answer = if calls < 100 {
                Err(unavailable())
            } else {
                Ok(calls)
            };
            std::future::ready(answer)
        });
        assert_eq!(answer.await.unwrap(), 100);
        let mut calls = 0;
        let answer: Result<()> = retry_forever("ask", &random, || {
            calls += 1;
            std::future::ready(Err(Error::fatal("no")))
        })
        .await;
        assert!(answer.is_err());
        assert_eq!(calls, 1);
    }
}
