//! Opening, making and deleting streams by URL, with the settings of their kinds.
//!
//! Owns what belongs to a kind: its settings, the table that they stand in, and the type that implements the seams. A
//! kind that comes later is a [`StreamKind`] with its scheme and an arm in each method of [`Streams`]; nothing outside of
//! these two files asks what kind a stream is.
//!
//! A setting of the URL outranks the kind's table (its environment, then its file). What is wrong with a table is found
//! by [`Streams::read`], what is wrong with a URL by [`Streams::check`], so that a process refuses both at start.

mod wait;

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::settings::{
    NoSettings, OutrankingValue, SettingProblem, Settings, SettingsTable, TableReading,
};
use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Result, Shutdown, places};

use crate::local::{self, CreateOptions, LocalStream};
use crate::url::{StreamKind, StreamPlace, StreamUrl};

/// The streams that this process can name. By default all settings are as they are without a configuration.
///
/// ```
/// use std::sync::Arc;
/// use hydrant_core::batch::{Entry, Span};
/// use hydrant_core::stream::{Append, OpenAt, Read};
/// use hydrant_core::{Batch, Context, Position, hash};
/// use hydrant_stream::Streams;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> hydrant_core::Result<()> {
/// let dir = tempfile::tempdir().unwrap();
/// let url = format!("local:{}", dir.path().join("raw").display());
/// let context = Context::system(64 << 20)?;
/// let stream = Streams::default().create(&url, 1, &[], &context).await?;
/// let shard = stream.shards().await?.all()[0].id.clone();
///
/// let (key, payload) = (Some(Span::new(0, 2)), Span::new(2, 7));
/// let batch = Arc::new(Batch {
///     segments: Arc::new(["k1{\"n\":1}".into()]),
///     records: vec![Entry { segment: 0, key, payload, stamp: 0 }],
///     ..Batch::default()
/// });
/// let routes = [hash::route_of_key(b"k1")].into();
/// let append = Append { batch, record_indexes: [0].into(), routes, ..Append::default() };
/// // The first answer says that the shard has room, the second that the record is durable.
/// stream.writer().await?.submit(&shard, append).await?.await?;
///
/// let beginning = OpenAt::after(Position::Begin);
/// let mut reader = stream.reader(&shard, beginning, &context.budget).await?;
/// let Read::Batch(batch) = reader.next().await? else { panic!("one record is there") };
/// assert_eq!(batch.payload(&batch.records[0]), b"{\"n\":1}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Streams {
    settings: Arc<dyn Settings>,
    /// The tables have mistakes, which are already reported.
    has_problems: bool,
}

impl Default for Streams {
    fn default() -> Self {
        Streams {
            settings: Arc::new(NoSettings),
            has_problems: false,
        }
    }
}

/// The settings of a kind.
enum KindSettings {
    Local(CreateOptions),
}

impl Streams {
    /// Reads the tables of all kinds; also answers what came of each.
    pub fn read(settings: Arc<dyn Settings>) -> (Streams, Vec<TableReading>) {
        let read = |kind| read_kind(&*settings, kind, &[]).1;
        let readings: Vec<TableReading> = StreamKind::ALL.into_iter().map(read).collect();
        let has_problems = readings.iter().any(|reading| !reading.problems.is_empty());
        let streams = Streams {
            settings,
            has_problems,
        };
        (streams, readings)
    }

    /// Reads a URL with its settings, without looking whether the stream is there.
    ///
    /// # Errors
    /// Refused with all that is wrong.
    pub fn check(&self, url: &str) -> Result<StreamUrl> {
        match self.has_problems {
            true => StreamUrl::parse(url),
            false => self.read_url(url),
        }
    }

    fn read_url(&self, url: &str) -> Result<StreamUrl> {
        let parsed = StreamUrl::parse(url)?;
        self.settings_of(&parsed, &[])?;
        Ok(parsed)
    }

    fn settings_of(&self, url: &StreamUrl, outranking: &[OutrankingValue]) -> Result<KindSettings> {
        let values = [url.query(), outranking].concat();
        let (settings, reading) = read_kind(&*self.settings, url.kind(), &values);
        let wrong = |problem: &SettingProblem| format!("{}: {}", problem.place, problem.message);
        let wrong: Vec<String> = reading.problems.iter().map(wrong).collect();
        match wrong.is_empty() {
            true => Ok(settings),
            false => Err(Error::refused(wrong.join("; "))),
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`Error::NotFound`] names the command that makes it.
    pub async fn open(&self, url: &str, ctx: &Context) -> Result<SharedStream> {
        match self.read_url(url)?.place() {
            StreamPlace::Local { dir } => match LocalStream::open(dir, url, ctx).await? {
                Some(stream) => Ok(stream),
                None => Err(missing(url)),
            },
        }
    }

    /// Opens a stream, and waits up to `wait` for it to appear.
    ///
    /// # Errors
    /// As [`Streams::open`], and [`Error::Stopped`] when the process is asked to end while it waits.
    pub async fn open_when_ready(
        &self,
        url: &str,
        wait: Duration,
        shutdown: &Shutdown,
        ctx: &Context,
    ) -> Result<SharedStream> {
        wait::wait_for(url, wait, shutdown, || self.open(url, ctx)).await
    }

    /// Makes a stream with so many shards and opens it. `flags` outrank the settings of the URL.
    ///
    /// # Errors
    /// Refused when it exists, and for a flag that is not a setting of its kind.
    pub async fn create(
        &self,
        url: &str,
        shards: u32,
        flags: &[OutrankingValue],
        ctx: &Context,
    ) -> Result<SharedStream> {
        // What a flag outranks has to be right as well: the stream is opened by its URL from now on.
        self.check(url)?;
        if !self.make(url, shards, flags, ctx).await? {
            return Err(Error::refused(format!(
                "stream `{url}` exists already: use it as it is, or remove it with `hydrant stream delete --yes {url}`"
            )));
        }
        self.open(url, ctx).await
    }

    /// Opens a stream, which is made with so many shards first if it does not exist.
    ///
    /// # Errors
    /// As [`Streams::open`] and [`Streams::create`].
    pub async fn open_or_create(
        &self,
        url: &str,
        shards: u32,
        ctx: &Context,
    ) -> Result<SharedStream> {
        match self.open(url, ctx).await {
            Err(Error::NotFound { .. }) => {}
            opened => return opened,
        }
        // Another process may have made it meanwhile: that one serves as well.
        self.make(url, shards, &[], ctx).await?;
        self.open(url, ctx).await
    }

    /// Opens the output of a stage that reads `input`, and makes one that does not exist where its kind is made on
    /// demand. `shards` says with how many; else it gets as many as the input has open.
    ///
    /// # Errors
    /// As [`Streams::open`] and [`Streams::create`].
    pub async fn open_or_create_like(
        &self,
        input: &SharedStream,
        url: &str,
        shards: Option<u32>,
        ctx: &Context,
    ) -> Result<SharedStream> {
        match self.open(url, ctx).await {
            Err(Error::NotFound { .. }) if StreamUrl::parse(url)?.kind().is_made_on_demand() => {}
            opened => return opened,
        }
        let shards = match shards {
            Some(shards) => shards,
            None => input.shards().await?.open().count() as u32,
        };
        tracing::info!(url, shards, "creating the output stream");
        // Another worker may create it at the same time.
        self.open_or_create(url, shards, ctx).await
    }

    async fn make(
        &self,
        url: &str,
        shards: u32,
        flags: &[OutrankingValue],
        ctx: &Context,
    ) -> Result<bool> {
        let parsed = StreamUrl::parse(url)?;
        match (parsed.place(), self.settings_of(&parsed, flags)?) {
            (StreamPlace::Local { dir }, KindSettings::Local(options)) => {
                places::check_new_stream(&*ctx.disk, dir).await?;
                local::create(dir, &CreateOptions { shards, ..options }, ctx).await
            }
        }
    }

    /// Deletes a stream with everything that was stored in it and every app's progress.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn delete(&self, url: &str, ctx: &Context) -> Result<()> {
        let gone = match self.read_url(url)?.place() {
            StreamPlace::Local { dir } => local::delete(dir, ctx).await?,
        };
        if gone {
            return Ok(());
        }
        Err(Error::NotFound {
            message: format!("stream `{url}` does not exist: nothing was deleted"),
        })
    }
}

/// The settings of a kind, from its table with `outranking` on top.
fn read_kind(
    settings: &dyn Settings,
    kind: StreamKind,
    outranking: &[OutrankingValue],
) -> (KindSettings, TableReading) {
    let mut found = match kind {
        StreamKind::Local => KindSettings::Local(CreateOptions::default()),
    };
    let mut read = |table: &mut dyn SettingsTable| match &mut found {
        KindSettings::Local(options) => options.read(table),
    };
    let reading = settings.read_table(kind.scheme(), outranking, &mut read);
    (found, reading)
}

fn missing(url: &str) -> Error {
    Error::NotFound {
        message: format!(
            "stream `{url}` does not exist: create it with `hydrant stream create {url} --shards N`"
        ),
    }
}

#[cfg(test)]
mod tests;
