//! The ledger of a claim whose output commits the progress itself.
//!
//! The runtime then neither reads nor writes progress here: what the output committed with its records is the truth,
//! and a later write of older progress would move it back. The claim is still released through this ledger, and its
//! loss is still reported by it.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::error::Result;
use hydrant_core::lease::Progress;
use hydrant_core::subscription::Ledger;

/// Holds nothing and forgets what it is given.
#[derive(Debug)]
pub(super) struct SilentLedger(pub(super) Arc<dyn Ledger>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Ledger for SilentLedger {
    async fn read(&self) -> Result<Option<Progress>> {
        Ok(None)
    }

    async fn write(&self, _progress: &Progress) -> Result<()> {
        Ok(())
    }

    async fn release(&self) -> Result<()> {
        self.0.release().await
    }

    fn is_held(&self) -> bool {
        self.0.is_held()
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }
}
