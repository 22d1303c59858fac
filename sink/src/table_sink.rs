//! The sink of one stream into one table, as a stage: it takes batches of shards and publishes intervals in the lake.
//!
//! Owns the table's identity and the progress that the lake holds of each shard. Promises that progress comes from the
//! lake, and that a record which a dead owner left unfinished is finished before anything follows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hydrant_core::lake::SharedLake;
use hydrant_core::lease::{OutputId, Progress};
use hydrant_core::stage::{LedgerUse, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::{Context, Error, Overdraft, Position, Result, Shard, ShardId, StreamId};

use crate::lake::{
    Chain, ChainProgress, Finisher, LakeLocation, Publisher, Rebuild, TableNames, identify,
};
use crate::schema::registry::Registry;
use crate::shard::buffer::StreamShard;
use crate::shard::column_values::ValueWarnings;
use crate::shard::context::SinkContext;
use crate::shard::flush_rules::FlushRules;
use crate::shard::pressure::Holders;
use crate::shard::sink_shard::SinkShard;
use crate::shard::totals::Totals;
use crate::table::spec::TableRules;

/// The sink of one stream into one table.
#[derive(Clone, Debug)]
pub struct TableSink {
    shared: Arc<SinkContext>,
    output: OutputId,
    /// The progress that `resume` found, for the `open` that follows.
    resumed: Arc<Mutex<HashMap<ShardId, ChainProgress>>>,
}

impl TableSink {
    /// Opens the table. `rebuild` makes files again that vanished before they were visible.
    ///
    /// # Errors
    /// Refused when the stored schema contradicts the rules.
    pub async fn open(
        lake: &SharedLake,
        context: &Context,
        stream: &StreamId,
        names: &TableNames,
        rules: TableRules,
        flush: FlushRules,
        rebuild: Option<Arc<dyn Rebuild>>,
    ) -> Result<Self> {
        let (declared, layout) = (rules.first_schema()?, rules.layout()?);
        let (columns_max, random) = (rules.columns_max, &context.random);
        let registry = Registry::open(lake, names, declared, &layout, columns_max, random).await?;
        let newest = registry.newest();
        if rules.frozen && newest.number == 0 && newest.columns.is_empty() {
            return Err(Error::refused(format!(
                "`frozen = true` for the new table `{}` without [sink.columns] would leave it without columns, and every \
                 value in `_rescued`: declare the columns, or set `frozen` once the table has some",
                names.table()
            )));
        }
        let id = identify(lake, names, random).await?;
        let output = OutputId::new(id, name(names, lake.url()));
        Ok(TableSink {
            output,
            resumed: Arc::default(),
            shared: Arc::new(SinkContext {
                lake: SharedLake::clone(lake),
                context: context.clone(),
                stream: stream.clone(),
                names: names.clone(),
                rules,
                flush,
                registry,
                finisher: Finisher::new(rebuild, context),
                holders: Holders::default(),
                overdraft: Overdraft::default(),
                publishing_overdraft: Overdraft::default(),
                specs: Mutex::default(),
                totals: Arc::default(),
                value_warnings: ValueWarnings::default(),
            }),
        })
    }

    /// Adds the lake's location to the output id, so that a copy of the lake counts as a different output.
    pub fn at(mut self, location: &LakeLocation) -> Self {
        let id = format!("{}-{}", self.output.id, location.id);
        self.output = OutputId::new(id, name(&self.shared.names, &location.url));
        self
    }

    /// The schemas of the table.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// The counters of what the sink publishes.
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.shared.totals)
    }

    fn resumed(&self) -> std::sync::MutexGuard<'_, HashMap<ShardId, ChainProgress>> {
        self.resumed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain(&self, shard: &Shard) -> Chain {
        let shared = &self.shared;
        Chain::new(&shared.lake, &shared.names, &shared.stream, &shard.id)
    }
}

fn name(names: &TableNames, lake: &str) -> String {
    format!("table `{}` of {lake}", names.table())
}

#[async_trait]
impl Stage for TableSink {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    fn output(&self) -> Option<Output> {
        Some(Output {
            id: self.output.clone(),
            keeps_progress: true,
            ledger: LedgerUse::Written,
        })
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        self.resumed().remove(&shard.id);
        let progress = Publisher::resume(&self.chain(shard), &self.shared.finisher).await?;
        if let Some(progress) = &progress {
            self.resumed().insert(shard.id.clone(), progress.clone());
        }
        Ok(progress.map(|progress| Progress {
            to: progress.to,
            marks: progress.marks,
            began: progress.began,
            ..Progress::default()
        }))
    }

    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
        Ok(self.chain(shard).tip().await?.to())
    }

    async fn open(&self, opened: Opened) -> Result<Box<dyn ShardStage>> {
        let (shared, shard) = (Arc::clone(&self.shared), opened.shard);
        let (finisher, chain) = (shared.finisher.clone(), self.chain(&shard));
        let (began, to) = (opened.after.began, opened.after.to);
        let resumed = self.resumed().remove(&shard.id);
        let resumed = resumed.filter(|progress| progress.to == to);
        let opening = Publisher::open(chain, finisher, opened.start, began, to, resumed);
        let mut publisher = opening.await?;
        debug_assert_eq!(
            publisher.to, to,
            "what is pushed follows what the lake holds"
        );
        publisher.clean_up().await;
        let stream_shard = StreamShard::new(&shared.stream, &shard.id);
        Ok(Box::new(SinkShard::new(shared, stream_shard, publisher)))
    }
}
