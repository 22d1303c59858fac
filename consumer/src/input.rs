//! The settings of what a stage reads: the stream, where an app begins, how long to wait for it, and when it ends.
//!
//! Every program that reads a stream has them under the same names in its own table.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::stage::Stage;
use hydrant_core::stream::{SharedStream, Start};
use hydrant_core::{Context, Result, Shutdown};
use hydrant_process::config::Section;
use hydrant_stream::Streams;

use crate::runtime::{IDLE, RunSpec};

/// The default of `wait`: services start in any order.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// The settings of an input.
#[derive(Clone, Debug)]
pub struct InputSettings {
    streams: Streams,
    from: String,
    start: Start,
    wait: Duration,
    exit_at_end: bool,
    idle: Duration,
}

impl InputSettings {
    /// Reads the keys of an input from the table of a program:
    ///
    /// - `from`: the URL of the stream; `remedy` says what to write where it is missing.
    /// - `start`: where an app without progress begins. Default: `earliest`.
    /// - `wait`: how long to wait for a stream that does not exist. Default: 10 s. Raise it when the stage before starts
    ///   late. Cost: a mistake in the URL is reported later.
    /// - `exit-at-end`: whether to end when everything is done. Default: no.
    /// - `idle`: how long no record may come before the stream counts as ended. Default: 1 s. Raise it when the input
    ///   pauses. Cost: the end is detected later.
    pub fn read(section: &mut Section, streams: &Streams, remedy: &str) -> Self {
        InputSettings {
            streams: streams.clone(),
            from: section.checked("from", remedy, |url| streams.check(url)),
            start: section
                .parsed("start", str::parse)
                .unwrap_or(Start::Earliest),
            wait: section.duration("wait", WAIT_DEFAULT),
            exit_at_end: section.flag("exit-at-end", false),
            idle: section.duration("idle", IDLE),
        }
    }

    /// Returns what opens the stream, and the other streams of the program.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Returns the URL of the stream; empty if it was refused as missing.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Opens the stream, and waits for it as long as the settings say.
    ///
    /// # Errors
    /// As [`Streams::open_when_ready`].
    pub async fn open(&self, shutdown: &Shutdown, context: &Context) -> Result<SharedStream> {
        self.streams
            .open_when_ready(&self.from, self.wait, shutdown, context)
            .await
    }

    /// Returns the run of a stage over the open stream.
    pub fn run(
        &self,
        context: Context,
        stream: SharedStream,
        app: String,
        stage: Arc<dyn Stage>,
        shutdown: Shutdown,
    ) -> RunSpec {
        RunSpec {
            start: self.start,
            exit_at_end: self.exit_at_end,
            idle: self.idle,
            ..RunSpec::new(context, stream, app, stage, shutdown)
        }
    }
}
