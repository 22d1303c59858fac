//! Creates, describes, reshards, trims, repairs and deletes streams.

use std::io::ErrorKind;
use std::path::Path;

use hydrant_core::admin::Trim;
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::settings::{OutrankingValue, path_in_url};
use hydrant_core::stream::{ShardState, SharedStream};
use hydrant_core::{Error, Position, Result, ShardId};
use serde::Serialize;
use serde_json::json;

use super::{CreateArgs, StreamCommands, TrimArgs, shard_of, some_of};
use crate::output::{bytes_text, count_text, counted, moment_text, table};

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

impl StreamCommands<'_> {
    pub(super) async fn create(&self, args: &CreateArgs) -> Result<()> {
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
        let flags: Vec<_> = flags.collect();
        let (shards, context) = (args.shards as u32, &self.process.context);
        let stream = self.streams.create(&args.url, shards, &flags, context);
        let described = read(&stream.await?, &[]).await?;
        self.output.print(&described, || {
            let shards = counted(described.shards.len() as u64, "shard");
            format!("created `{}` with {shards}", args.url)
        })
    }

    pub(super) async fn list(&self, dir: &Path) -> Result<()> {
        let disk = &self.process.context.disk;
        let names = disk.list(dir).await;
        let names = names.map_err(|error| unlisted(dir, error))?;
        let mut found = Vec::new();
        for name in names.iter().filter(|name| name.is_dir) {
            let path = dir.join(&name.name);
            let manifest = disk.stat(&path.join("manifest.json")).await;
            let manifest = manifest.map_err(|error| Error::io("look at", &path, error))?;
            if manifest.is_some() {
                let url = format!("local:{}", path_in_url(&path)?);
                found.push(read(&self.open(&url).await?, &[]).await?);
            }
        }
        self.output.print(&found, || {
            if found.is_empty() {
                return format!("there are no local streams in `{}`", dir.display());
            }
            let rows = found.iter().map(|StreamDescription { url, shards, .. }| {
                let open = shards.iter().filter(|state| !state.shard.closed).count();
                vec![
                    url.clone(),
                    shards.len().to_string(),
                    open.to_string(),
                    count_text(shards.iter().filter_map(|state| state.records).sum()),
                    bytes_text(shards.iter().filter_map(|state| state.bytes).sum()),
                ]
            });
            table(&["stream", ">shards", ">open", ">appended", ">size"], rows)
        })
    }

    pub(super) async fn describe(&self, url: &str) -> Result<()> {
        let stream = self.open(url).await?;
        let apps = stream.apps().await?;
        let described = read(&stream, &apps).await?;
        self.output.print(&described, || {
            let none = || "-".to_owned();
            let shards = described.shards.iter().map(|state| {
                let parents: Vec<&str> = state.shard.parents.iter().map(ShardId::as_str).collect();
                vec![
                    state.shard.id.to_string(),
                    if state.shard.closed { "closed" } else { "open" }.to_owned(),
                    parents.join(", "),
                    state.kept_after.to_string(),
                    state.tip.map_or_else(none, |tip| tip.to_string()),
                    state.records.map_or_else(none, count_text),
                    state.bytes.map_or_else(none, bytes_text),
                    moment_text(state.newest_arrival),
                ]
            });
            let shards = table(
                &[
                    "shard",
                    "state",
                    "parents",
                    ">kept after",
                    ">tip",
                    ">appended",
                    ">size",
                    "newest",
                ],
                shards,
            );
            let mut text = format!("{}  ({})\n{shards}\n", described.url, described.incarnation);
            let leases = described.apps.iter().flat_map(|app| {
                app.leases.iter().map(|lease| {
                    vec![
                        app.app.clone(),
                        lease.shard.to_string(),
                        lease.progress.as_ref().map_or_else(none, done_to),
                        lease.owner.clone().unwrap_or_else(none),
                        lease.epoch.to_string(),
                    ]
                })
            });
            if !described.apps.is_empty() {
                text += &table(&["app", "shard", ">done to", "owner", ">epoch"], leases);
            }
            text
        })
    }

    pub(super) async fn split(&self, url: &str, shard: &str, at: Option<u128>) -> Result<()> {
        let stream = self.open(url).await?;
        let shard = shard_of(&stream, shard).await?;
        let children = stream.admin().split(&shard, at).await;
        self.resharded(&stream, children).await
    }

    pub(super) async fn merge(&self, url: &str, a: &str, b: &str) -> Result<()> {
        let stream = self.open(url).await?;
        let (a, b) = (shard_of(&stream, a).await?, shard_of(&stream, b).await?);
        if a == b {
            return Err(Error::refused(format!(
                "`{a}` is named twice: name a shard and its neighbour"
            )));
        }
        let child = stream.admin().merge(&a, &b).await;
        self.resharded(&stream, child.map(|child| vec![child]))
            .await
    }

    /// Prints the children. A shard that was closed already becomes a refusal that lists the open ones.
    async fn resharded(&self, stream: &SharedStream, children: Result<Vec<ShardId>>) -> Result<()> {
        let shard = match children {
            Ok(children) => {
                return self.output.print(&json!({ "children": children }), || {
                    let names: Vec<&str> = children.iter().map(ShardId::as_str).collect();
                    format!("opened {}", names.join(", "))
                });
            }
            Err(Error::Sealed { shard }) => shard,
            Err(error) => return Err(error),
        };
        let map = stream.shards().await?;
        let open: Vec<&str> = map.open().map(|shard| shard.id.as_str()).collect();
        Err(Error::refused(format!(
            "shard `{shard}` was split or merged and is closed: choose one of {}",
            some_of(&open)
        )))
    }

    pub(super) async fn trim(&self, args: &TrimArgs) -> Result<()> {
        let what = if let Some(position) = args.what.up_to {
            Trim::After(position)
        } else if let Some(age) = args.what.older_than {
            let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            let now = self.process.context.clock.wall_micros();
            Trim::OlderThan(now.saturating_sub(micros))
        } else {
            Trim::ToBytes(args.what.to_bytes.unwrap_or(u64::MAX))
        };
        let stream = self.open(&args.url).await?;
        let shard = match &args.shard {
            Some(shard) => Some(shard_of(&stream, shard).await?),
            None => None,
        };
        let freed = stream.admin().trim(shard.as_ref(), what).await?;
        self.output.print(&json!({ "freed_bytes": freed }), || match freed {
            0 => "freed nothing: segments are removed as a whole, and none lies wholly in that range"
                .to_owned(),
            bytes => format!("freed {}", bytes_text(bytes)),
        })
    }

    pub(super) async fn repair(&self, url: &str, shard: &str) -> Result<()> {
        let stream = self.open(url).await?;
        let skipped = stream
            .admin()
            .repair(&shard_of(&stream, shard).await?)
            .await?;
        self.output.print(&json!({ "skipped": skipped }), || {
            if skipped.is_empty() {
                return format!("shard `{shard}` is not corrupt: nothing was skipped");
            }
            let gaps = skipped.iter();
            let gaps = gaps.map(|gap| format!("after {} up to {}", gap.from, gap.to));
            let gaps: Vec<String> = gaps.collect();
            format!("skipped {}; readers see the gap", gaps.join("; "))
        })
    }

    pub(super) async fn delete(&self, url: &str) -> Result<()> {
        self.streams.delete(url, &self.process.context).await?;
        let deleted = json!({ "deleted": url });
        self.output.print(&deleted, || format!("deleted `{url}`"))
    }
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
