//! Creates, describes, reshards, trims, repairs and deletes streams.

use std::io::ErrorKind;
use std::path::Path;

use hydrant_core::admin::{Admin, Trim};
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::settings::{OutrankingValue, path_in_url};
use hydrant_core::stream::{ShardState, SharedStream};
use hydrant_core::{Error, Interval, Position, Result, ShardId};
use serde::Serialize;

use super::{CreateArgs, StreamAccess, TrimArgs, shard_of, some_of};
use crate::output::{CommandOutput, bytes_text, count_text, counted, moment_text, table};

#[derive(Serialize)]
struct StreamDescription {
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

pub(super) async fn create(
    args: &CreateArgs,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let given = [
        ("retention", &args.retention),
        ("retention-bytes", &args.retention_bytes),
        ("codec", &args.codec),
    ];
    let flags = given.into_iter().filter_map(|(key, value)| {
        Some(OutrankingValue {
            key: key.to_owned(),
            value: value.clone()?,
            place: format!("flag `--{key}`"),
        })
    });
    let (flags, context): (Vec<_>, _) = (flags.collect(), access.context);
    let streams = access.streams;
    let stream = streams
        .create(&args.url, args.shards, &flags, context)
        .await?;
    let described = read(&stream, &[]).await?;
    output.print(&described, || {
        let shards = counted(described.shards.len() as u64, "shard");
        format!("created `{}` with {shards}", args.url)
    })
}

pub(super) async fn list(
    dir: &Path,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let disk = &access.context.disk;
    let names = disk.list(dir).await;
    let names = names.map_err(|error| unlisted(dir, error))?;
    let mut found = Vec::new();
    for name in names.iter().filter(|name| name.is_dir) {
        let path = dir.join(&name.name);
        let manifest = disk.stat(&path.join("manifest.json")).await;
        if manifest
            .map_err(|error| Error::io("look at", &path, error))?
            .is_none()
        {
            continue;
        }
        let url = format!("local:{}", path_in_url(&path)?);
        let stream = access.open(&url).await?;
        found.push(read(&stream, &[]).await?);
    }
    output.print(&found, || {
        if found.is_empty() {
            return format!("there are no local streams in `{}`", dir.display());
        }
        let mut rows = table(&["stream", ">shards", ">open", ">appended", ">size"]);
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

/// The error of a directory that cannot be listed; a refusal where its name is wrong.
fn unlisted(dir: &Path, error: std::io::Error) -> Error {
    let shown = dir.display().to_string();
    let hint = shown
        .strip_prefix("local:")
        .map(|path| format!(": write the path alone, `{path}`"));
    match error.kind() {
        ErrorKind::NotFound => Error::refused(format!(
            "directory `{shown}` does not exist{}",
            hint.unwrap_or_default()
        )),
        ErrorKind::NotADirectory => Error::refused(format!(
            "`{shown}` is not a directory: name one that holds streams"
        )),
        _ => Error::io("list", dir, error),
    }
}

pub(super) async fn describe(
    url: &str,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let stream = access.open(url).await?;
    let apps = stream.apps().await?;
    let described = read(&stream, &apps).await?;
    output.print(&described, || {
        let mut shards = table(&[
            "shard",
            "state",
            "parents",
            ">kept after",
            ">tip",
            ">appended",
            ">size",
            "newest",
        ]);
        for state in &described.shards {
            let parents: Vec<&str> = state.shard.parents.iter().map(ShardId::as_str).collect();
            shards.add_row(vec![
                state.shard.id.to_string(),
                if state.shard.closed { "closed" } else { "open" }.to_owned(),
                parents.join(", "),
                state.kept_after.to_string(),
                state
                    .tip
                    .map_or_else(|| "-".to_owned(), |tip| tip.to_string()),
                state.records.map_or_else(|| "-".to_owned(), count_text),
                state.bytes.map_or_else(|| "-".to_owned(), bytes_text),
                moment_text(state.newest_arrival),
            ]);
        }
        let mut text = format!("{}  ({})\n{shards}\n", described.url, described.incarnation);
        if !described.apps.is_empty() {
            let mut progress = table(&["app", "shard", ">done to", "owner", ">epoch"]);
            for app in &described.apps {
                for lease in &app.leases {
                    let to = lease.progress.as_ref().map(done_to);
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

/// How far an app is; of a shard that it has not read, where it begins if that was kept as it was asked for.
fn done_to(progress: &Progress) -> String {
    match (progress.to, progress.began) {
        (Position::Begin, Some(began)) => format!("from {began}"),
        (to, _) => to.to_string(),
    }
}

async fn read(stream: &SharedStream, apps: &[String]) -> Result<StreamDescription> {
    let mut described = StreamDescription {
        url: stream.url().to_owned(),
        name: stream.id().name.to_string(),
        incarnation: stream.id().incarnation.to_string(),
        shards: stream.states().await?,
        apps: Vec::new(),
    };
    for app in apps {
        described.apps.push(AppProgress {
            app: app.clone(),
            leases: stream.app_progress(app).await?,
        });
    }
    Ok(described)
}

#[derive(Serialize)]
struct ReshardReport {
    children: Vec<ShardId>,
}

pub(super) async fn split(
    url: &str,
    shard: &str,
    at: Option<u128>,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let (stream, admin) = admin(url, access).await?;
    let shard = shard_of(&stream, shard).await?;
    match admin.split(&shard, at).await {
        Ok(children) => resharded(children, output),
        Err(error) => Err(closed(&stream, error).await?),
    }
}

pub(super) async fn merge(
    url: &str,
    a: &str,
    b: &str,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let (stream, admin) = admin(url, access).await?;
    let (a, b) = (shard_of(&stream, a).await?, shard_of(&stream, b).await?);
    if a == b {
        return Err(Error::refused(format!(
            "`{a}` is named twice: name a shard and its neighbour"
        )));
    }
    match admin.merge(&a, &b).await {
        Ok(child) => resharded(vec![child], output),
        Err(error) => Err(closed(&stream, error).await?),
    }
}

/// Turns the error of a closed shard into a refusal that lists the open shards.
async fn closed(stream: &SharedStream, error: Error) -> Result<Error> {
    let Error::Sealed { shard } = error else {
        return Ok(error);
    };
    let map = stream.shards().await?;
    let open: Vec<&str> = map.open().map(|shard| shard.id.as_str()).collect();
    Ok(Error::refused(format!(
        "shard `{shard}` was split or merged and is closed: choose one of {}",
        some_of(&open)
    )))
}

fn resharded(children: Vec<ShardId>, output: &CommandOutput) -> Result<()> {
    output.print(
        &ReshardReport {
            children: children.clone(),
        },
        || {
            let names: Vec<&str> = children.iter().map(ShardId::as_str).collect();
            format!("opened {}", names.join(", "))
        },
    )
}

#[derive(Serialize)]
struct TrimReport {
    freed_bytes: u64,
}

pub(super) async fn trim(
    args: &TrimArgs,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let what = if let Some(position) = args.what.up_to {
        Trim::After(position)
    } else if let Some(age) = args.what.older_than {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Trim::OlderThan(access.context.clock.wall_micros().saturating_sub(micros))
    } else {
        Trim::ToBytes(args.what.to_bytes.unwrap_or(u64::MAX))
    };
    let (stream, admin) = admin(&args.url, access).await?;
    let shard = match &args.shard {
        Some(shard) => Some(shard_of(&stream, shard).await?),
        None => None,
    };
    let freed_bytes = admin.trim(shard.as_ref(), what).await?;
    output.print(&TrimReport { freed_bytes }, || match freed_bytes {
        0 => "freed nothing: segments are removed as a whole, and none lies wholly in that range"
            .to_owned(),
        bytes => format!("freed {}", bytes_text(bytes)),
    })
}

#[derive(Serialize)]
struct RepairReport {
    skipped: Vec<Interval>,
}

pub(super) async fn repair(
    url: &str,
    shard: &str,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    let (stream, admin) = admin(url, access).await?;
    let skipped = admin.repair(&shard_of(&stream, shard).await?).await?;
    output.print(
        &RepairReport {
            skipped: skipped.clone(),
        },
        || match skipped.as_slice() {
            [] => format!("shard `{shard}` is not corrupt: nothing was skipped"),
            gaps => {
                let gaps: Vec<String> = gaps
                    .iter()
                    .map(|gap| format!("after {} up to {}", gap.from, gap.to))
                    .collect();
                format!("skipped {}; readers see the gap", gaps.join("; "))
            }
        },
    )
}

#[derive(Serialize)]
struct DeleteReport<'a> {
    deleted: &'a str,
}

pub(super) async fn delete(
    url: &str,
    access: &StreamAccess<'_>,
    output: &CommandOutput,
) -> Result<()> {
    access.streams.delete(url, access.context).await?;
    output.print(&DeleteReport { deleted: url }, || {
        format!("deleted `{url}`")
    })
}

async fn admin(url: &str, access: &StreamAccess<'_>) -> Result<(SharedStream, Admin)> {
    let stream = access.open(url).await?;
    let admin = stream.admin();
    Ok((stream, admin))
}

#[cfg(test)]
mod tests {
    use hydrant_core::stream::Start;

    use super::*;

    #[test]
    fn a_shard_that_was_not_read_shows_the_start_that_was_asked_for() {
        let asked = Progress {
            began: Some(Start::At(1_795_248_000_000_000)),
            ..Progress::default()
        };
        assert_eq!(done_to(&asked), "from 2026-11-21T08:00:00.000000Z");
        let read = Progress {
            to: Position::offset(7),
            ..asked
        };
        assert_eq!(done_to(&read), "7");
        assert_eq!(done_to(&Progress::default()), "begin");
    }
}
