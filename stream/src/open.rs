//! Opening, creating and deleting streams by URL.

use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Result};

use crate::local::{self, CreateOptions, LocalStream};
use crate::url::StreamUrl;

/// Opens a stream; [`Error::NotFound`] names the command that makes it.
pub async fn open(url: &str, ctx: &Context) -> Result<SharedStream> {
    let StreamUrl::Local { dir } = StreamUrl::parse(url)?;
    match LocalStream::open(&dir, url, ctx).await? {
        Some(stream) => Ok(stream),
        None => Err(missing(url)),
    }
}

/// Creates a stream and opens it; refused when it exists.
pub async fn create(url: &str, options: CreateOptions, ctx: &Context) -> Result<SharedStream> {
    let StreamUrl::Local { dir } = StreamUrl::parse(url)?;
    if !local::create(&dir, &options, ctx).await? {
        return Err(Error::refused(format!(
            "stream `{url}` exists already: use it as it is, or remove it with `hydrant stream delete --yes {url}`"
        )));
    }
    open(url, ctx).await
}

/// Opens a stream, which is created first if it does not exist.
pub async fn open_or_create(
    url: &str,
    options: CreateOptions,
    ctx: &Context,
) -> Result<SharedStream> {
    let StreamUrl::Local { dir } = StreamUrl::parse(url)?;
    if let Some(stream) = LocalStream::open(&dir, url, ctx).await? {
        return Ok(stream);
    }
    // Another process may have made it meanwhile: that one serves as well.
    local::create(&dir, &options, ctx).await?;
    open(url, ctx).await
}

/// Deletes a stream with everything that was stored in it and every app's progress.
pub async fn delete(url: &str, ctx: &Context) -> Result<()> {
    let StreamUrl::Local { dir } = StreamUrl::parse(url)?;
    if local::delete(&dir, ctx).await? {
        return Ok(());
    }
    Err(Error::NotFound {
        message: format!("stream `{url}` does not exist: nothing was deleted"),
    })
}

fn missing(url: &str) -> Error {
    Error::NotFound {
        message: format!(
            "stream `{url}` does not exist: create it with `hydrant stream create {url} --shards N`"
        ),
    }
}
