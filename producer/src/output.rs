//! Opens the stream that a producer writes.
//!
//! A stream that does not exist is created where its kind is made on demand. Refuses to create one for inputs or a ledger that do not fit.

use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Result};
use hydrant_stream::StreamUrl;

use crate::config::{Config, Files, InputSpec, SHARDS_DEFAULT};
use crate::input::chunk_source;
use crate::input::files::{file, glob};
use crate::ledger;

/// Opens the stream; one of a kind that is made on demand is made when it does not exist, and what it is made for does.
///
/// # Errors
/// When the URL is not one of a stream, or the stream is not there and cannot be made, or would be made for an input or
/// a ledger that does not fit.
pub(crate) async fn open(config: &Config, context: &Context) -> Result<SharedStream> {
    let url = StreamUrl::parse(&config.to)?;
    match config.streams.open(&config.to, context).await {
        Err(Error::NotFound { .. }) if url.kind().is_made_on_demand() => {
            check(config, &url, context).await?;
            let shards = config.shards.unwrap_or(SHARDS_DEFAULT as u32);
            tracing::info!(
                url = &config.to,
                shards,
                "the stream does not exist and is created"
            );
            // Another producer may make it at the same time.
            let streams = &config.streams;
            streams.open_or_create(&config.to, shards, context).await
        }
        Ok(stream) => {
            if config.shards.is_some() {
                tracing::info!(
                    url = &config.to,
                    "the stream exists already: `--shards` has no effect"
                );
            }
            Ok(stream)
        }
        Err(error) => Err(error),
    }
}

/// Refuses what does not fit, before a stream is made for it: files that are not there, and a ledger that is, since it
/// is about another stream.
async fn check(config: &Config, url: &StreamUrl, context: &Context) -> Result<()> {
    if let InputSpec::Files(files) = &config.origin {
        let files = files.clone();
        context.workers.run(move || check_files(&files)).await??;
    }
    if let (Some(who), Some(dir)) = (&config.remembered, url.directory()) {
        let input = chunk_source::identity(config);
        ledger::check_without_stream(context, &who.ledger, &who.name, &input, dir).await?;
    }
    Ok(())
}

fn check_files(files: &Files) -> Result<()> {
    let paths = files.inputs.iter().filter(|input| input.as_os_str() != "-");
    for path in paths {
        if !files.follow && (path.exists() || !glob::is_pattern(path)) {
            file::check(path)?;
        }
    }
    Ok(())
}
