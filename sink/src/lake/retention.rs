//! How long a table keeps its rows, as declared.
//!
//! Owns the chain of declarations. A declaration removes nothing: it says that rows whose time is longer ago may be
//! gone, whoever removed them, such as a rule of a bucket. Promises that what was past a retention while it was in force
//! stays so. Refuses to judge by a clock that is not set.

use std::time::Duration;

use bytes::Bytes;
use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::retry::retry_forever;
use hydrant_core::{Random, Result};
use serde::{Deserialize, Serialize};

use super::chain::PRODUCT;
use super::commit::{seal_body, unseal_body};
use super::error::ObjectError;
use super::names::TableNames;
use super::slots::SlotChain;

/// The newest version of [`Declaration`].
const VERSION: u32 = 1;

/// 2000-01-01 in microseconds: an earlier time comes from a clock that is not set.
const CLOCKS_SET: i64 = 946_684_800_000_000;

/// A declared retention, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Declaration {
    version: u32,
    slot: u64,
    /// In seconds; none when rows are kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_seconds: Option<u64>,
    /// When it was declared, in microseconds since 1970.
    since: i64,
    product: String,
}

/// The retention of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRetention {
    /// The oldest first.
    declared: Vec<Declaration>,
}

fn chain(lake: &SharedLake, names: &TableNames) -> SlotChain {
    SlotChain::new(lake, names.settings(), "settings of a table")
}

fn read(chain: &SlotChain, slot: u64, body: &Bytes) -> Result<Declaration, ObjectError> {
    let key = chain.key(slot);
    let declared: Declaration = unseal_body(&key, body, VERSION)?;
    match declared.slot == slot {
        true => Ok(declared),
        false => Err(ObjectError::damaged(&key, "it belongs to another slot")),
    }
}

impl TableRetention {
    /// Reads what was declared for a table.
    ///
    /// # Errors
    /// Those of the lake; fatal when a declaration is damaged.
    pub async fn read(lake: &SharedLake, names: &TableNames) -> Result<Self> {
        let chain = chain(lake, names);
        let mut declared = Vec::new();
        for slot in chain.slots().await?.into_iter().rev() {
            if let Some(body) = chain.get(slot).await? {
                declared.push(read(&chain, slot, &body)?);
            }
        }
        Ok(TableRetention { declared })
    }

    /// Declares a retention at the time `now`, or none, unless it is what is declared already.
    ///
    /// # Errors
    /// Those of the lake; fatal when a declaration is damaged.
    pub async fn declare(
        lake: &SharedLake,
        names: &TableNames,
        retention: Option<Duration>,
        now: i64,
        random: &Random,
    ) -> Result<()> {
        let chain = chain(lake, names);
        loop {
            let found = Self::read(lake, names).await?;
            if found.current() == retention {
                return Ok(());
            }
            let declaration = Declaration {
                version: VERSION,
                slot: found.declared.last().map_or(0, |last| last.slot) + 1,
                retention_seconds: retention.map(|retention| retention.as_secs()),
                since: now,
                product: PRODUCT.to_owned(),
            };
            let (slot, body) = (declaration.slot, seal_body(&declaration));
            let put = retry_forever("declare a retention", random, || {
                chain.put_new(slot, body.clone())
            });
            match put.await? {
                // Another operator was faster: the later one counts.
                Put::Exists(found) if found != body => {}
                _ => return Ok(()),
            }
        }
    }

    /// The retention that is in force; `None` when rows are kept for ever.
    pub fn current(&self) -> Option<Duration> {
        let seconds = self.declared.last()?.retention_seconds?;
        Some(Duration::from_secs(seconds))
    }

    /// When the retention in force was declared, in microseconds since 1970.
    pub fn since(&self) -> Option<i64> {
        Some(self.declared.last()?.since)
    }

    /// Whether rows with times up to `newest`, which a record of the time `made` holds, have been past a retention while
    /// it was in force, up to `now`. One that ended before the record was made says nothing of its rows.
    pub(crate) fn is_past(&self, newest: i64, made: i64, now: i64) -> bool {
        if newest < CLOCKS_SET {
            return false;
        }
        let ends = self.declared.iter().skip(1).map(|next| next.since);
        let ends = ends.chain([now]);
        self.declared.iter().zip(ends).any(|(declared, end)| {
            let seconds = declared.retention_seconds.map(i64::try_from);
            let kept = seconds.map(|seconds| seconds.unwrap_or(i64::MAX).saturating_mul(1_000_000));
            declared.since <= now
                && (made < end || end >= now)
                && kept.is_some_and(|kept| newest.saturating_add(kept) < end.min(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hydrant_testing::memory::MemoryLake;

    use super::*;

    const DAY: i64 = 86_400_000_000;
    const NOW: i64 = 20_000 * DAY;

    #[tokio::test]
    async fn what_was_past_a_retention_in_force_stays_past() {
        let lake: SharedLake = Arc::new(MemoryLake::new());
        let names = TableNames::try_new("t").unwrap();
        let random = Random::seeded(1);
        let none = TableRetention::read(&lake, &names).await.unwrap();
        assert_eq!(
            (none.current(), none.is_past(NOW - 900 * DAY, 0, NOW)),
            (None, false)
        );
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        for (retention, at) in [
            (days(90), NOW),
            (days(90), NOW + DAY),
            (None, NOW + 10 * DAY),
            (days(30), NOW + 20 * DAY),
        ] {
            TableRetention::declare(&lake, &names, retention, at, &random)
                .await
                .unwrap();
        }
        let retention = TableRetention::read(&lake, &names).await.unwrap();
        assert_eq!(
            (retention.declared.len(), retention.current()),
            (3, days(30))
        );
        for (newest, now, past) in [
            (NOW - 91 * DAY, NOW, true),
            (NOW - 90 * DAY, NOW, false),
            // Past while 90 days were in force, which they are no longer.
            (NOW - 81 * DAY, NOW + 15 * DAY, true),
            (NOW - 79 * DAY, NOW + 15 * DAY, false),
            (NOW - 79 * DAY, NOW + 21 * DAY, true),
            (NOW, NOW + 21 * DAY, false),
            (1, NOW + 21 * DAY, false),
        ] {
            assert_eq!(retention.is_past(newest, 0, now), past, "{newest} {now}");
        }
        // Old rows that came after the 90 days had ended, and after the 30 days had begun.
        let made = NOW + 11 * DAY;
        assert!(!retention.is_past(NOW - 900 * DAY, made, NOW + 15 * DAY));
        assert!(retention.is_past(NOW - 900 * DAY, NOW + 22 * DAY, NOW + 23 * DAY));
    }
}
