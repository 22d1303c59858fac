//! `hydrant stream reprocess`: makes an app send records again, as new ones.
//!
//! An output stream drops records that it already has from an app, and cannot take records that the app once skipped.
//! So the app sends them under a new generation, whose records are new to the output: the output keeps the old ones and
//! stores the records once more.

use std::collections::BTreeMap;

use hydrant_core::lease::{Generation, LeaseStore, Progress, Reprocess};
use hydrant_core::stream::{SharedStream, Start};
use hydrant_core::{Error, Position, Result, ShardId};
use serde::Serialize;

use super::{StreamCommands, shard_of};

#[derive(Serialize)]
struct Reprocessed<'a> {
    app: &'a str,
    shards: BTreeMap<ShardId, Generation>,
}

impl StreamCommands<'_> {
    pub(super) async fn reprocess(&self, url: &str, app: &str, from: &[String]) -> Result<()> {
        let stream = self.open(url).await?;
        let apps = stream.apps().await?;
        if !apps.iter().any(|known| known == app) {
            let known = match apps.as_slice() {
                [] => "no app does".to_owned(),
                [one] => format!("only `{one}` does"),
                apps => format!("`{}` do", apps.join("`, `")),
            };
            return Err(Error::refused(format!(
                "app `{app}` keeps no progress in `{url}`: {known}"
            )));
        }
        let leases = stream.admin().leases(app).await?;
        check_output(&*leases, app).await?;
        let what = what(&stream, from).await?;
        let generations = leases.reprocess(&what).await?;
        let again: Vec<ShardId> = match &what {
            Reprocess::Only(starts) => starts.keys().cloned().collect(),
            Reprocess::All(_) => {
                let map = stream.shards().await?;
                map.all().iter().map(|shard| shard.id.clone()).collect()
            }
        };
        let shards = again.into_iter().map(|shard| {
            let generation = generations.of(&shard);
            (shard, generation)
        });
        let shards = shards.collect();
        let done = Reprocessed { app, shards };
        self.output.print(&done, || {
            let mut text = format!(
                "app `{app}` will start here; its output keeps what it has and takes the records from here on as new \
                 ones:"
            );
            for (shard, generation) in &done.shards {
                text += &format!("\n  {shard} {generation}");
            }
            text
        })
    }
}

/// Refuses an app whose output tracks its own progress: such an output takes no record twice.
async fn check_output(leases: &dyn LeaseStore, app: &str) -> Result<()> {
    let rows = leases.list().await?;
    let other = rows
        .iter()
        .filter_map(|row| row.output())
        .find(|id| !id.takes_records_again());
    match other {
        None => Ok(()),
        Some(id) => Err(Error::refused(format!(
            "app `{app}` writes to {}, which tracks its own progress and takes no record twice: write to another \
             table or file to have everything written again",
            id.name
        ))),
    }
}

async fn what(stream: &SharedStream, from: &[String]) -> Result<Reprocess> {
    if let [one] = from
        && let Ok(start) = one.parse::<Start>()
    {
        let mut starts = BTreeMap::new();
        if start != Start::Earliest {
            for shard in stream.shards().await?.all() {
                let beginning = stream.start(&shard.id, start).await?;
                starts.insert(shard.id.clone(), beginning);
            }
        }
        return Ok(Reprocess::All(starts));
    }
    let mut starts = BTreeMap::new();
    for text in from {
        let bad = |what: String| Error::refused(format!("flag `--from`: {what}"));
        if text.parse::<Start>().is_ok() {
            return Err(bad(format!("`{text}` is for all shards: write it alone")));
        }
        let Some((shard, position)) = text.split_once(':') else {
            return Err(bad(format!(
                "`{text}` is not a start: write `earliest`, `latest`, a time such as `2026-11-21T08:00:00Z`, or one or \
                 more `SHARD:POSITION`"
            )));
        };
        let shard = shard_of(stream, shard).await?;
        let position: Position = position
            .parse()
            .map_err(|error| bad(format!("`{text}`: {error}")))?;
        if position == Position::End {
            return Err(bad(format!(
                "`{text}` names no record: leave the shard out to send none of its records again"
            )));
        }
        let after = stream.before(position).ok_or_else(|| {
            bad(format!(
                "`{url}` cannot tell what comes before `{position}`: write `earliest`, `latest` or a time",
                url = stream.url(),
            ))
        })?;
        if let Some(tip) = stream.state(&shard).await?.tip
            && after > tip
        {
            return Err(bad(format!(
                "`{text}` is after the newest record of the shard, which is at `{tip}`: write the position of a record"
            )));
        }
        if let Some(other) = starts.insert(shard.clone(), Progress::starting(after)) {
            return Err(bad(format!(
                "names shard `{shard}` twice, after {} and after {after}",
                other.to
            )));
        }
    }
    Ok(Reprocess::Only(starts))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hydrant_core::Random;
    use hydrant_core::clock::SystemClock;
    use hydrant_testing::memory::MemoryStream;

    use super::*;

    /// A stream that has no position for the latest record keeps the time at which the operator asked.
    #[tokio::test(start_paused = true)]
    async fn a_start_without_a_position_is_kept_as_it_was_asked_for() {
        let clock = Arc::new(SystemClock);
        let stream = MemoryStream::storing("memory", 2, clock, Random::seeded(1));
        let stream: SharedStream = Arc::new(stream);
        let latest = what(&stream, &["latest".to_owned()]).await.unwrap();
        let Reprocess::All(starts) = &latest else {
            panic!("{latest:?}");
        };
        assert_eq!(starts.len(), 2);
        for start in starts.values() {
            assert_eq!(start.to, Position::Begin);
            assert!(matches!(start.began, Some(Start::At(_))), "{start:?}");
        }
        let shard = starts.keys().next().unwrap();
        let refused = what(&stream, &[format!("{shard}:7")]).await.unwrap_err();
        assert!(refused.to_string().contains("a time"), "{refused}");
    }
}
