//! `hydrant stream reprocess`: makes an app send records again, as new ones.
//!
//! An output stream drops records that it already has from an app, and cannot take records that the app once skipped.
//! So the app sends them under a new generation, whose records are new to the output: the output keeps the old ones and
//! stores the records once more.

use std::collections::BTreeMap;

use hydrant_core::lease::{Generation, LeaseStore, Reprocess};
use hydrant_core::stream::{Assignment, Join, SharedStream, Start};
use hydrant_core::{Error, Position, Result, Sequence, ShardId};
use serde::Serialize;

use super::{StreamAccess, shard_of};
use crate::output::CommandOutput;

#[derive(Serialize)]
struct Reprocessed {
    app: String,
    shards: BTreeMap<ShardId, Generation>,
}

pub(super) async fn run(
    url: &str,
    app: &str,
    from: &[String],
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let stream = access.open(url).await?;
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
    let join = Join::new(app, "reprocess", &access.context.budget);
    let Assignment::Leases(leases) = stream.assignment(&join).await? else {
        return Err(Error::refused(format!(
            "the broker of `{url}` keeps the progress of `{app}`: reset the progress there"
        )));
    };
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
    let done = Reprocessed {
        app: app.to_owned(),
        shards: shards.collect(),
    };
    output.print(&done, || {
        let begins: Vec<String> = done
            .shards
            .iter()
            .map(|(shard, generation)| {
                let start = generation.start.unwrap_or_default();
                format!("  {shard} after {start}")
            })
            .collect();
        format!(
            "app `{app}` will start here; its output keeps what it has and takes the records from here on as new ones:\n{}",
            begins.join("\n")
        )
    })
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
                starts.insert(shard.id.clone(), stream.start(&shard.id, start).await?.to);
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
        let after = before(position)
            .ok_or_else(|| bad(format!("`{position}` is not a position of this stream")))?;
        if let Some(other) = starts.insert(shard.clone(), after) {
            return Err(bad(format!(
                "names shard `{shard}` twice, after {other} and after {after}"
            )));
        }
    }
    Ok(Reprocess::Only(starts))
}

/// The last position before one in a stream that counts by offsets.
fn before(position: Position) -> Option<Position> {
    match position {
        Position::Begin | Position::End => Some(position),
        Position::At { sequence, sub } if sub > 0 => Some(Position::at(sequence, sub - 1)),
        Position::At { sequence, .. } => match Sequence::offset(sequence)? {
            0 => Some(Position::Begin),
            offset => Some(Position::offset(offset - 1)),
        },
    }
}
