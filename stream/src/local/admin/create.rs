//! Making and deleting a stream's directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hydrant_core::error::OrCannot;
use hydrant_core::settings::SettingsTable;
use hydrant_core::{Context, Error, HashRange, Result, Shard, ShardMap, StreamId};

use crate::local::end::new_shards::make_shard;
use crate::local::format::dedup_state::DedupState;
use crate::local::format::frame::Codec;
use crate::local::format::home;
use crate::local::format::manifest::{self, FORMAT, Manifest, StreamSettings};
use crate::local::stream_dir::StreamDir;

/// Segments are followed by a new one at this size.
const SEGMENT_BYTES: u64 = 128 << 20;
/// What is kept by bytes lies in so many segments at least, since a segment goes as a whole..
const SEGMENTS_KEPT: u64 = 8;
/// ..but they are not smaller than this for that.
const SEGMENT_BYTES_KEPT_MIN: u64 = 1 << 20;
/// Smaller segments would make more files than data.
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// Shards of one stream, each of which has files and a lock.
const SHARDS_MAX: u32 = 4096;

/// Data goes by age in quarters of it: less would remove what was just stored.
const RETENTION_MIN: Duration = Duration::from_secs(1);

/// How a stream is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Shards that share the hash space evenly. Default: 1. Raise it when more workers than shards would read.
    /// Cost: files and a sync each.
    pub shards: u32,
    /// Data older than this is removed, a segment at a time, while a process has the stream open for writing. Default:
    /// kept.
    pub retention_time: Option<Duration>,
    /// The oldest data of a shard beyond this is removed, a segment at a time. Default: kept.
    pub retention_bytes: Option<u64>,
    /// How frames are compressed. Default: lz4.
    pub codec: Codec,
    /// A segment that would grow beyond this is followed by a new one, or beyond an eighth of `retention_bytes` when that
    /// is less. Default: 128 MiB.
    pub segment_bytes: u64,
    /// How long an append waits for others to share its sync, beside those that come while one is under way anyway.
    /// Default: 0.
    pub linger: Duration,
}

impl Default for CreateOptions {
    fn default() -> Self {
        CreateOptions {
            shards: 1,
            retention_time: None,
            retention_bytes: None,
            codec: Codec::default(),
            segment_bytes: SEGMENT_BYTES,
            linger: Duration::ZERO,
        }
    }
}

impl CreateOptions {
    /// The defaults with this many shards.
    pub fn with_shards(shards: u32) -> Self {
        CreateOptions {
            shards,
            ..CreateOptions::default()
        }
    }

    /// Takes what the table of this kind says.
    pub(crate) fn read(&mut self, table: &mut dyn SettingsTable) {
        if let Some(age) = table.duration("retention") {
            self.retention_time = Some(age);
            if age < RETENTION_MIN {
                let message = "is too short: write at least `1s`, such as `7d`".to_owned();
                table.problem("retention", message);
            }
        }
        if let Some(bytes) = table.bytes("retention-bytes") {
            self.retention_bytes = Some(bytes);
            if bytes == 0 {
                let message = "`0` keeps nothing: write for example `10GiB`".to_owned();
                table.problem("retention-bytes", message);
            }
        }
        if let Some(name) = table.text("codec") {
            match name.as_str() {
                "lz4" => self.codec = Codec::Lz4,
                "zstd" => self.codec = Codec::Zstd,
                "none" => self.codec = Codec::None,
                other => {
                    let message =
                        format!("`{other}` is not a codec: write `lz4`, `zstd` or `none`");
                    table.problem("codec", message);
                }
            }
        }
    }

    fn settings(&self) -> Result<StreamSettings> {
        let mut problems = Vec::new();
        if self.shards == 0 || self.shards > SHARDS_MAX {
            let shards = self.shards;
            problems.push(format!(
                "a stream cannot have `{shards}` shards: write 1 to {SHARDS_MAX}"
            ));
        }
        if self.segment_bytes < SEGMENT_BYTES_MIN {
            let bytes = self.segment_bytes;
            problems.push(format!(
                "segments of `{bytes}` bytes: write {SEGMENT_BYTES_MIN} or more"
            ));
        }
        if self.retention_bytes == Some(0) {
            problems.push("a retention of `0` bytes keeps nothing: write 1 or more".to_owned());
        }
        if !problems.is_empty() {
            return Err(Error::refused(problems.join("; ")));
        }
        let kept = self.retention_bytes.unwrap_or(u64::MAX) / SEGMENTS_KEPT;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Ok(StreamSettings {
            codec: self.codec,
            segment_bytes: self.segment_bytes.min(kept.max(SEGMENT_BYTES_KEPT_MIN)),
            linger_micros: micros(self.linger),
            retention_micros: self.retention_time.map(micros),
            retention_bytes: self.retention_bytes,
        })
    }
}

/// The name that a stream in `dir` gets: its last part, with what is not fit for a path of an object store replaced.
fn name_of(dir: &Path) -> String {
    let last = dir.file_name().unwrap_or_default().to_string_lossy();
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    last.chars().map(|c| if fit(c) { c } else { '-' }).collect()
}

/// Makes a stream in `dir`; `false` when there is one already.
///
/// # Errors
/// Refused for options that no stream can have, and where the records of a stream lie that has no manifest; those of the
/// disk.
pub async fn create(dir: &Path, options: &CreateOptions, ctx: &Context) -> Result<bool> {
    let settings = options.settings()?;
    let made = ctx.disk.create_dir_all(dir).await;
    made.map_err(|e| Error::directory("create", dir, e))?;
    // Who made the directory may have died before its name was durable.
    if let Some(parent) = dir.parent().filter(|parent| *parent != Path::new("")) {
        ctx.disk.sync_dir(parent).await.or_cannot("sync", parent)?;
    }
    let _lock = manifest::lock(ctx, dir).await?;
    if Manifest::read(ctx, dir).await?.is_some() {
        return Ok(false);
    }
    if home::hold_records(&*ctx.disk, dir).await? {
        let shown = dir.display();
        return Err(Error::refused(format!(
            "`{shown}` holds records of a stream whose `manifest.json` is missing: put that back, or remove the records with \
             `hydrant stream delete --yes local:{shown}`"
        )));
    }
    // A creation that died has left homes. Other names in the directory may belong to other programs.
    home::remove_all(&*ctx.disk, dir).await?;
    let mut manifest = Manifest {
        format: FORMAT,
        version: 0,
        stream: StreamId::new(name_of(dir), ctx.random.identity()),
        routing_secret: ctx.random.identity() + &ctx.random.identity(),
        settings,
        next_shard: 0,
        shards: ShardMap::default(),
        ends: BTreeMap::new(),
    };
    let stream_dir = StreamDir::try_new(ctx, dir, &manifest)?;
    let shards_dir = stream_dir.shards_dir();
    // One by one: a directory above the one that is made may belong to others, and has the rights that the umask gives.
    for dir in [&stream_dir.home, &shards_dir] {
        let made = ctx.disk.create_dir_all(dir).await;
        made.or_cannot("create", dir)?;
    }
    let mut shards = Vec::new();
    for range in HashRange::even(options.shards) {
        let shard = Shard {
            id: Manifest::name_of(manifest.next_shard),
            range,
            parents: Vec::new(),
            closed: false,
        };
        manifest.next_shard += 1;
        let dir = stream_dir.shard_dir(&shard.id);
        let made = ctx.disk.create_dir_all(&dir).await;
        made.or_cannot("create", &dir)?;
        make_shard(&stream_dir, &shard, &DedupState::new(range)).await?;
        shards.push(shard);
    }
    manifest.shards = ShardMap::new(shards);
    manifest.replace(ctx, dir).await?;
    Ok(true)
}

/// Deletes the stream in `dir`, or what a creation or deletion that died has left of one; `false` when there is neither.
pub(crate) async fn delete(dir: &Path, ctx: &Context) -> Result<bool> {
    let disk = &*ctx.disk;
    let path = Manifest::path(dir);
    if disk.stat(dir).await.or_cannot("look at", dir)?.is_none() {
        return Ok(false);
    }
    let _lock = manifest::lock(ctx, dir).await?;
    let is_there = Manifest::read(ctx, dir).await?.is_some();
    if is_there {
        // From here on there is no stream. Those who are at work in it find that out by what they miss.
        disk.remove(&path).await.or_cannot("remove", &path)?;
        disk.sync_dir(dir).await.or_cannot("sync", dir)?;
    }
    let left = home::remove_all(disk, dir).await?;
    // Nothing that was stored comes back with a power cut.
    disk.sync_dir(dir).await.or_cannot("sync", dir)?;
    Ok(is_there || left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_small_enough_for_what_is_kept() {
        for (kept, segment) in [
            (None, 128 << 20),
            (Some(u64::MAX), 128 << 20),
            (Some(80 << 20), 10 << 20),
            (Some(4 << 20), 1 << 20),
            (Some(1), 1 << 20),
        ] {
            let options = CreateOptions {
                retention_bytes: kept,
                ..CreateOptions::default()
            };
            assert_eq!(
                options.settings().unwrap().segment_bytes,
                segment,
                "{kept:?}"
            );
        }
        let nothing = CreateOptions {
            retention_bytes: Some(0),
            ..CreateOptions::default()
        };
        let refused = nothing.settings().unwrap_err();
        assert!(refused.to_string().contains("`0` bytes"), "{refused}");
    }
}
