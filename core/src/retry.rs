//! Retries: exponential delays with full jitter, and a budget that bounds retries by the number of successes.
//!
//! A fixed number of retries per call multiplies the load on a failing service. The budget is one bucket per client:
//! each success adds a little, each retry takes one, and an empty bucket lets the error through. Work that must succeed
//! before anything else can, such as a publish, has no budget: [`retry_forever`].

use std::sync::atomic::{AtomicI64, Ordering};
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
    /// The most retries of one call; `None` leaves that to the budget and the caller.
    pub attempts: Option<u32>,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(20),
            max: Duration::from_secs(5),
            attempts: Some(10),
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

/// A bucket of retries shared by the calls of one client, in hundredths of a retry.
#[derive(Debug)]
pub struct RetryBudget {
    hundredths: AtomicI64,
    capacity: i64,
}

impl RetryBudget {
    /// Creates a full bucket of `retries`.
    pub fn new(retries: u32) -> Self {
        let capacity = i64::from(retries) * 100;
        RetryBudget {
            hundredths: AtomicI64::new(capacity),
            capacity,
        }
    }

    fn succeeded(&self) {
        const GAIN: i64 = 10;
        let capacity = self.capacity;
        let gain = |now: i64| Some((now + GAIN).min(capacity));
        // The closure never refuses.
        let _before = self
            .hundredths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, gain);
    }

    fn take(&self) -> bool {
        let capacity = self.capacity;
        let spend = |now: i64| {
            debug_assert!((0..=capacity).contains(&now), "{now} of {capacity}");
            (now >= 100).then(|| now - 100)
        };
        self.hundredths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }

    /// Calls `operation` until it succeeds, fails with a final error, or the retries are spent; answers its last
    /// result.
    pub async fn run<T, F>(&self, backoff: Backoff, random: &Random, mut operation: F) -> Result<T>
    where
        F: AsyncFnMut() -> Result<T>,
    {
        for n in 0.. {
            let error: Error = match operation().await {
                Ok(value) => {
                    self.succeeded();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let Disposition::Retry { after } = error.disposition() else {
                return Err(error);
            };
            if backoff.attempts.is_some_and(|most| n >= most) || !self.take() {
                return Err(error);
            }
            clock::sleep(after.max(backoff.delay(n, random))).await;
        }
        unreachable!("the loop returns from inside")
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

    #[tokio::test(start_paused = true)]
    async fn retries_until_success_and_stops_for_good_errors() {
        let budget = RetryBudget::new(10);
        let random = Random::seeded(1);
        let mut calls = 0;
        let answer = budget
            .run(Backoff::default(), &random, async || {
                calls += 1;
                if calls < 4 {
                    Err(unavailable())
                } else {
                    Ok(calls)
                }
            })
            .await;
        assert_eq!(answer.unwrap(), 4);
        let mut calls = 0;
        let answer: Result<()> = budget
            .run(Backoff::default(), &random, async || {
                calls += 1;
                Err(Error::fatal("no"))
            })
            .await;
        assert!(answer.is_err());
        assert_eq!(calls, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_budget_lets_errors_through() {
        let budget = RetryBudget::new(3);
        let random = Random::seeded(1);
        let backoff = Backoff {
            attempts: None,
            ..Backoff::default()
        };
        let mut calls = 0;
        let answer: Result<()> = budget
            .run(backoff, &random, async || {
                calls += 1;
                Err(unavailable())
            })
            .await;
        assert!(answer.is_err());
        assert_eq!(calls, 4);
    }
}
