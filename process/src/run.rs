//! The `main` of every binary: configuration, logs, runtime, signals, metrics, drain, exit code.
//!
//! A start parses, validates, connects, then spawns: [`main`] reads the whole configuration, with all its problems,
//! before it runs anything. The first SIGTERM or SIGINT drains: the process asks its tasks to end through [`Shutdown`]
//! and waits for them until the drain timeout; the second signal ends it at once. A panic of any task drains the
//! process and makes it fail (`panics.rs`).
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, or drained |
//! | 1 | failed: an error, a panic, a drain that took too long |
//! | 64 | refused: arguments, configuration or input; nothing was done |
//! | 130 | ended at once by a second signal |

use std::io::IsTerminal;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::{Common, LogFormat, Setup};
use crate::config::{Layers, Problems};
use crate::exit_code::{ABORTED, DONE, FAILED, complain, failed};
use crate::output::{self, Stdout};
use crate::telemetry::server::{Probes, Server};
use crate::telemetry::{Latch, Metrics};
use crate::{allocator, descriptors, panics};
use hydrant_core::Context;
use hydrant_core::clock;
use hydrant_core::disk::real::RealDisk;
use hydrant_core::error::{Error, Result};
use hydrant_core::shutdown::{Phase, Shutdown};

/// The most disk calls under way at once, each on its own thread, which is started when needed. No call waits for
/// another. Each directory has at most 32 calls under way, hanging ones included, and no process works in 16
/// directories.
const BLOCKING_THREADS: usize = 512;
/// A disk call that takes this long counts as hanging.
const HANGING: Duration = Duration::from_secs(5);

/// A running process: its context, shutdown, configuration and outputs.
#[derive(Clone, Debug)]
pub struct Process {
    /// The app name, under which progress is kept; the name of the binary by default.
    pub app: String,
    /// What its workers are called; the name of the host by default.
    pub worker: String,
    /// Disk, time, chance, computation and memory.
    pub context: Context,
    /// Asks the process to stop.
    pub shutdown: Shutdown,
    /// The configuration, for values that are read after the start.
    pub layers: Layers,
    /// Set this once the process can take work.
    pub ready: Latch,
    /// The standard output, for results.
    pub stdout: Stdout,
}

/// Runs a binary and answers its exit code. `configure` reads its part of the configuration and adds problems (it
/// answers `None` only with a problem); `run` is called if there is no problem.
pub fn main<C, R>(
    setup: Setup,
    configure: impl FnOnce(&Layers, &mut Problems) -> Option<C>,
    run: R,
) -> ExitCode
where
    R: AsyncFnOnce(Process, C) -> Result<()>,
{
    ExitCode::from(start(setup, configure, run).unwrap_or_else(|error| failed(&error)))
}

fn start<C, R>(
    setup: Setup,
    configure: impl FnOnce(&Layers, &mut Problems) -> Option<C>,
    run: R,
) -> Result<u8>
where
    R: AsyncFnOnce(Process, C) -> Result<()>,
{
    let mut problems = Problems::new();
    let layers = Layers::system(setup.file().as_deref(), &mut problems);
    let common = Common::read(&setup, &layers, &mut problems);
    start_log(&common);
    let config = configure(&layers, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    for section in problems.effective() {
        section.log();
    }
    let config = config.ok_or_else(|| {
        Error::fatal("the configuration was refused without a reason: report this")
    })?;
    let name = setup.name;
    let blocking_threads = descriptors::threads_within_limit(BLOCKING_THREADS)?;
    if !allocator::configure(common.memory) {
        tracing::debug!("the allocator did not take the settings for returning memory");
    }
    let mut context = Context::system(common.memory)?;
    let disk = RealDisk::with_mode(common.file_mode);
    context.disk = Arc::new(disk.clone());
    if let Some(count) = common.workers {
        context.workers = hydrant_core::Workers::threads(count)?;
    }
    let shutdown = Shutdown::new();
    let process = Process {
        app: common.app,
        worker: common.worker,
        context,
        stdout: Stdout::new(shutdown.clone()),
        shutdown,
        layers,
        ready: Latch::default(),
    };
    let failed = Latch::default();
    panics::watch(name, &process.shutdown, &process.stdout, &failed);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(common.io_threads)
        .thread_name("io")
        .max_blocking_threads(blocking_threads)
        .enable_all()
        .build()
        .map_err(|source| Error::fatal(format!("cannot start the runtime: {source}")))?;
    let supervised = Supervised {
        listen: common.metrics,
        drain_timeout: common.drain_timeout,
        failed,
        disk,
    };
    let code = runtime.block_on(supervised.run(process, config, run));
    // A task may be in a call that never ends, such as a sync on a hanging disk: the process does not wait for it. Nor
    // does it drop what the tasks hold: a file lock ends with the process, when no call under it continues.
    std::mem::forget(runtime);
    Ok(code)
}

struct Supervised {
    listen: Option<std::net::SocketAddr>,
    drain_timeout: Duration,
    failed: Latch,
    disk: RealDisk,
}

impl Supervised {
    async fn run<C, R>(self, mut process: Process, config: C, run: R) -> u8
    where
        R: AsyncFnOnce(Process, C) -> Result<()>,
    {
        let (shutdown, stdout) = (process.shutdown.clone(), process.stdout.clone());
        let mut helpers = JoinSet::new();
        if let Err(error) = self.attend(&mut process, &mut helpers).await {
            return failed(&error);
        }
        let work = AssertUnwindSafe(run(process, config)).catch_unwind();
        let overdue = async {
            shutdown.draining().await;
            tracing::info!("draining, for at most {:?}", self.drain_timeout);
            clock::sleep(self.drain_timeout).await;
        };
        // The losing arms are not polled again, so none of them needs to be cancel-safe.
        tokio::select! {
            biased;
            () = shutdown.reached(Phase::Aborting) => {
                complain("ended at once by a second signal");
                ABORTED
            }
            answer = work => match answer {
                Ok(Ok(())) if self.failed.is_set() => FAILED,
                Ok(Ok(())) => DONE,
                Ok(Err(Error::Stopped { message })) => {
                    tracing::info!("{message}");
                    DONE
                }
                Ok(Err(error)) => failed(&error),
                Err(_) if stdout.is_closed() => DONE,
                Err(_) => FAILED,
            },
            () = overdue => {
                complain(&self.overdue());
                FAILED
            }
        }
    }

    /// The message about a drain that took too long.
    fn overdue(&self) -> String {
        let seconds = self.drain_timeout.as_secs_f64();
        let hanging = self.disk.hanging(HANGING.min(self.drain_timeout / 2));
        let advice = match hanging.first() {
            Some((place, since)) => format!(
                "the disk has not answered in `{}` for {:.0} s, check that this directory can be read and written",
                place.display(),
                since.as_secs_f64(),
            ),
            None => "allow more time with `--drain-timeout`".to_owned(),
        };
        format!(
            "the drain took longer than {seconds} s: the next start repeats what was not published; {advice}"
        )
    }

    async fn attend(&self, process: &mut Process, helpers: &mut JoinSet<()>) -> Result<()> {
        let mut listening = Box::pin(process.shutdown.clone().listen());
        // The first poll registers the handlers: from here on a signal drains instead of killing.
        if let Some(Err(source)) = (&mut listening).now_or_never() {
            return Err(Error::fatal(format!("cannot listen for signals: {source}")));
        }
        helpers.spawn(async move {
            // It listens until the process ends.
            drop(listening.await);
        });
        let Some(address) = self.listen else {
            return Ok(());
        };
        let metrics = Metrics::install(&process.context.budget)?;
        let probes = Probes {
            metrics,
            ready: process.ready.clone(),
            failed: self.failed.clone(),
            shutdown: process.shutdown.clone(),
        };
        let server = Server::bind(address, probes).await?;
        output::to_stderr(&format!("metrics on http://{}/metrics", server.address()));
        helpers.spawn(server.serve());
        Ok(())
    }
}

fn start_log(common: &Common) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    let log = tracing_subscriber::registry().with(common.log_level.clone());
    // A process starts one log; only tests try a second one, which is ignored.
    let _kept = match common.log_format {
        LogFormat::Text => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).try_init(),
    };
}

#[cfg(test)]
mod tests;
