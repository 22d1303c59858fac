//! Making, describing and resharding streams.

use std::path::Path;

use hydrant_core::lease::Lease;
use hydrant_core::stream::{Assignment, ShardState, SharedStream, StreamAdmin, Trim};
use hydrant_core::{Context, Error, Interval, Result, ShardId};
use hydrant_stream::{Codec, CreateOptions};
use serde::Serialize;

use super::{CreateArgs, TrimArgs};
use crate::output::{Output, bytes_text, count_text, moment_text, table};

#[derive(Serialize)]
struct Described {
    url: String,
    name: String,
    incarnation: String,
    shards: Vec<ShardState>,
    apps: Vec<AppProgress>,
}

#[derive(Serialize)]
struct AppProgress {
    app: String,
    leases: Vec<Lease>,
}

pub(super) async fn create(args: &CreateArgs, context: &Context, output: &Output) -> Result<()> {
    let codec = match args.codec.as_str() {
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        "none" => Codec::None,
        other => {
            return Err(Error::refused(format!(
                "`--codec {other}` is no codec: write `lz4`, `zstd` or `none`"
            )));
        }
    };
    let options = CreateOptions {
        shards: args.shards,
        retention_time: args.retention,
        retention_bytes: args.retention_bytes.map(|size| size.as_u64()),
        codec,
        ..CreateOptions::default()
    };
    let stream = hydrant_stream::create(&args.url, options, context).await?;
    let described = read(&stream, &[]).await?;
    output.print(&described, || {
        format!("made `{}` with {} shards", args.url, described.shards.len())
    })
}

pub(super) async fn list(dir: &Path, context: &Context, output: &Output) -> Result<()> {
    let names = context
        .disk
        .list(dir)
        .await
        .map_err(|error| Error::io("list", dir, error))?;
    let mut found = Vec::new();
    for name in names.iter().filter(|name| name.is_dir) {
        let path = dir.join(&name.name);
        let manifest = context.disk.stat(&path.join("manifest.json")).await;
        if manifest
            .map_err(|error| Error::io("look at", &path, error))?
            .is_none()
        {
            continue;
        }
        let stream = hydrant_stream::open(&format!("local:{}", path.display()), context).await?;
        found.push(read(&stream, &[]).await?);
    }
    output.print(&found, || {
        let mut rows = table(&["stream", "shards", "open", "records", "size"]);
        for stream in &found {
            let open = stream
                .shards
                .iter()
                .filter(|state| !state.shard.closed)
                .count();
            rows.add_row(vec![
                stream.url.clone(),
                stream.shards.len().to_string(),
                open.to_string(),
                count_text(stream.shards.iter().filter_map(|state| state.records).sum()),
                bytes_text(stream.shards.iter().filter_map(|state| state.bytes).sum()),
            ]);
        }
        rows.to_string()
    })
}

pub(super) async fn describe(url: &str, context: &Context, output: &Output) -> Result<()> {
    let stream = hydrant_stream::open(url, context).await?;
    let apps = stream.apps().await?;
    let described = read(&stream, &apps).await?;
    output.print(&described, || {
        let mut shards = table(&[
            "shard", "state", "parents", "tip", "records", "size", "newest",
        ]);
        for state in &described.shards {
            let parents: Vec<&str> = state.shard.parents.iter().map(ShardId::as_str).collect();
            shards.add_row(vec![
                state.shard.id.to_string(),
                if state.shard.closed { "closed" } else { "open" }.to_owned(),
                parents.join(", "),
                state.tip.to_string(),
                state.records.map_or_else(|| "-".to_owned(), count_text),
                state.bytes.map_or_else(|| "-".to_owned(), bytes_text),
                moment_text(state.newest_arrival),
            ]);
        }
        let mut text = format!("{}  ({})\n{shards}\n", described.url, described.incarnation);
        if !described.apps.is_empty() {
            let mut progress = table(&["app", "shard", "done to", "owner", "epoch"]);
            for app in &described.apps {
                for lease in &app.leases {
                    let to = lease
                        .progress
                        .as_ref()
                        .map(|progress| progress.to.to_string());
                    progress.add_row(vec![
                        app.app.clone(),
                        lease.shard.to_string(),
                        to.unwrap_or_else(|| "-".to_owned()),
                        lease.owner.clone().unwrap_or_else(|| "-".to_owned()),
                        lease.epoch.to_string(),
                    ]);
                }
            }
            text.push_str(&progress.to_string());
        }
        text
    })
}

async fn read(stream: &SharedStream, apps: &[String]) -> Result<Described> {
    let mut described = Described {
        url: stream.url().to_owned(),
        name: stream.id().name.to_string(),
        incarnation: stream.id().incarnation.to_string(),
        shards: stream.states().await?,
        apps: Vec::new(),
    };
    for app in apps {
        if let Assignment::Leases(store) = stream.assignment(app).await? {
            let generations = store.generations().await?;
            let mut leases = store.list().await?;
            // What was reprocessed begins again when the app does.
            for row in leases.iter_mut().filter(|row| !generations.count(row)) {
                row.progress = None;
            }
            let app = app.clone();
            described.apps.push(AppProgress { app, leases });
        }
    }
    Ok(described)
}

#[derive(Serialize)]
struct Resharded {
    children: Vec<ShardId>,
}

pub(super) async fn split(
    url: &str,
    shard: &str,
    at: Option<u128>,
    context: &Context,
    output: &Output,
) -> Result<()> {
    let children = admin(url, context)
        .await?
        .split(&ShardId::new(shard), at)
        .await?;
    resharded(children, output)
}

pub(super) async fn merge(
    url: &str,
    a: &str,
    b: &str,
    context: &Context,
    output: &Output,
) -> Result<()> {
    let child = admin(url, context)
        .await?
        .merge(&ShardId::new(a), &ShardId::new(b))
        .await?;
    resharded(vec![child], output)
}

fn resharded(children: Vec<ShardId>, output: &Output) -> Result<()> {
    output.print(
        &Resharded {
            children: children.clone(),
        },
        || {
            let names: Vec<&str> = children.iter().map(ShardId::as_str).collect();
            format!("opened {}", names.join(", "))
        },
    )
}

#[derive(Serialize)]
struct Trimmed {
    freed_bytes: u64,
}

pub(super) async fn trim(args: &TrimArgs, context: &Context, output: &Output) -> Result<()> {
    let what = if let Some(after) = &args.what.after {
        Trim::After(
            after
                .parse()
                .map_err(|error| Error::refused(format!("`--after`: {error}")))?,
        )
    } else if let Some(age) = args.what.older_than {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Trim::OlderThan(context.clock.wall_micros().saturating_sub(micros))
    } else {
        Trim::ToBytes(args.what.to_bytes.map_or(u64::MAX, |size| size.as_u64()))
    };
    let shard = args.shard.as_deref().map(ShardId::new);
    let freed_bytes = admin(&args.url, context)
        .await?
        .trim(shard.as_ref(), what)
        .await?;
    output.print(&Trimmed { freed_bytes }, || {
        format!("freed {}", bytes_text(freed_bytes))
    })
}

#[derive(Serialize)]
struct Repaired {
    skipped: Vec<Interval>,
}

pub(super) async fn repair(
    url: &str,
    shard: &str,
    context: &Context,
    output: &Output,
) -> Result<()> {
    let skipped = admin(url, context)
        .await?
        .repair(&ShardId::new(shard))
        .await?;
    output.print(
        &Repaired {
            skipped: skipped.clone(),
        },
        || match skipped.as_slice() {
            [] => format!("shard {shard} is sound: nothing was skipped"),
            gaps => {
                let gaps: Vec<String> = gaps
                    .iter()
                    .map(|gap| format!("after {} up to {}", gap.from, gap.to))
                    .collect();
                format!("skipped {}; readers are told of the gap", gaps.join("; "))
            }
        },
    )
}

#[derive(Serialize)]
struct Deleted<'a> {
    deleted: &'a str,
}

pub(super) async fn delete(url: &str, context: &Context, output: &Output) -> Result<()> {
    hydrant_stream::delete(url, context).await?;
    output.print(&Deleted { deleted: url }, || format!("deleted `{url}`"))
}

async fn admin(url: &str, context: &Context) -> Result<std::sync::Arc<dyn StreamAdmin>> {
    let stream = hydrant_stream::open(url, context).await?;
    stream.admin().ok_or_else(|| {
        Error::refused(format!(
            "`{url}` is administered by its own service, not from here"
        ))
    })
}
