//! What the `main` of every binary does: configuration, logs, runtime, signals, metrics, drain, exit code.
//!
//! Start is parse, validate, connect, then spawn: [`main`] reads the configuration with all its problems before it
//! runs anything. The first SIGTERM or SIGINT drains: the process tells its parts through [`Shutdown`] and waits for
//! them until the drain timeout; the second one ends it at once. A panic of any task drains the process and makes it
//! fail (`panics.rs`).
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
use crate::output::{self, Stdout};
use crate::telemetry::server::{Health, Probes, Server};
use crate::telemetry::{Metrics, Readiness};
use crate::{allocator, descriptors, panics};
use hydrant_core::Context;
use hydrant_core::clock;
use hydrant_core::disk::real::RealDisk;
use hydrant_core::error::{Disposition, Error, Result};
use hydrant_core::shutdown::{Phase, Shutdown};

/// The process did what it was asked to.
pub(crate) const DONE: u8 = 0;
/// The process failed.
pub(crate) const FAILED: u8 = 1;
/// Arguments, configuration or input were refused.
pub(crate) const REFUSED: u8 = 64;
/// A second signal ended the process.
pub(crate) const ABORTED: u8 = 130;

/// Disk calls under way at once, in a thread each; threads are made when they are needed. None of them waits for another
/// one. Each place has at most 32 calls under way, whether they hang or not, and no process works in 16 places.
const BLOCKING_THREADS: usize = 512;
/// A disk call that takes this long hangs.
const HANGING: Duration = Duration::from_secs(5);

/// What a running process has at hand.
#[derive(Clone, Debug)]
pub struct Process {
    /// The binary.
    pub name: &'static str,
    /// The name under which progress is kept; the binary's by default.
    pub app: String,
    /// Disk, time, chance, computation and memory.
    pub context: Context,
    /// When to stop.
    pub shutdown: Shutdown,
    /// The configuration, for what is read later than at start.
    pub layers: Layers,
    /// To be set once the process can take work.
    pub ready: Readiness,
    /// The metrics, when they are served.
    pub metrics: Option<Metrics>,
    /// Where results are printed.
    pub stdout: Stdout,
}

/// Runs a binary: `configure` reads its part of the configuration and adds what is wrong (`None` only with a
/// problem); `run` is called when nothing is. Answers the exit code.
pub fn main<C, R>(
    setup: Setup,
    configure: impl FnOnce(&Layers, &mut Problems) -> Option<C>,
    run: R,
) -> ExitCode
where
    R: AsyncFnOnce(Process, C) -> Result<()>,
{
    ExitCode::from(main_code(setup, configure, run))
}

fn main_code<C, R>(
    setup: Setup,
    configure: impl FnOnce(&Layers, &mut Problems) -> Option<C>,
    run: R,
) -> u8
where
    R: AsyncFnOnce(Process, C) -> Result<()>,
{
    let mut problems = Problems::new();
    let layers = Layers::system(setup.file().as_deref(), setup.sections, &mut problems);
    let common = Common::read(&setup, &layers, &mut problems);
    start_log(&common);
    let config = configure(&layers, &mut problems);
    if !problems.is_empty() {
        return failed(&problems.into());
    }
    for section in problems.effective() {
        section.log();
    }
    let Some(config) = config else {
        return failed(&Error::fatal(
            "the configuration was refused without a reason",
        ));
    };
    match start(setup.name, common, layers, config, run) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn start<C, R>(name: &'static str, common: Common, layers: Layers, config: C, run: R) -> Result<u8>
where
    R: AsyncFnOnce(Process, C) -> Result<()>,
{
    let blocking_threads = descriptors::threads_within_limit(BLOCKING_THREADS)?;
    if !allocator::settle(common.memory) {
        tracing::debug!("the allocator keeps its own idea of how soon memory is given back");
    }
    let mut context = Context::system(common.memory)?;
    let disk = RealDisk::with_mode(common.file_mode);
    context.disk = Arc::new(disk.clone());
    if let Some(count) = common.workers {
        context.workers = hydrant_core::Workers::threads(count)?;
    }
    let shutdown = Shutdown::new();
    let process = Process {
        name,
        app: common.app,
        context,
        stdout: Stdout::new(shutdown.clone()),
        shutdown,
        layers,
        ready: Readiness::default(),
        metrics: None,
    };
    let health = Health::default();
    panics::watch(&process, &health);
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
        health,
        disk,
    };
    let code = runtime.block_on(supervised.run(process, config, run));
    // A task may stand in a call that nothing ends, such as a sync on a disk that hangs: the process does not wait for it.
    // Nor does it drop what the tasks hold: a file lock ends with the process, when no call that it guards goes on.
    std::mem::forget(runtime);
    Ok(code)
}

struct Supervised {
    listen: Option<std::net::SocketAddr>,
    drain_timeout: Duration,
    health: Health,
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
        // The arms that lose are not polled again, so none of them has to be cancel-safe.
        tokio::select! {
            biased;
            () = shutdown.reached(Phase::Aborting) => {
                complain("ended at once by a second signal");
                ABORTED
            }
            answer = work => match answer {
                Ok(Ok(())) if self.health.has_failed() => FAILED,
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

    /// What is said of a drain that took too long.
    fn overdue(&self) -> String {
        let seconds = self.drain_timeout.as_secs_f64();
        let hanging = self.disk.hanging(HANGING.min(self.drain_timeout / 2));
        let advice = match hanging.first() {
            Some((place, since)) => format!(
                "the disk has not answered in `{}` for {:.0} s, look whether that directory can be read and written",
                place.display(),
                since.as_secs_f64(),
            ),
            None => "raise it with `--drain-timeout`".to_owned(),
        };
        format!(
            "the drain took longer than {seconds} s: what was not published will be done again; {advice}"
        )
    }

    async fn attend(&self, process: &mut Process, helpers: &mut JoinSet<()>) -> Result<()> {
        let mut listening = Box::pin(process.shutdown.clone().listen());
        // The first poll registers the handlers: from here on a signal drains instead of killing.
        if let Some(Err(source)) = (&mut listening).now_or_never() {
            return Err(Error::fatal(format!("cannot listen for signals: {source}")));
        }
        helpers.spawn(async move {
            // It has no end of its own.
            drop(listening.await);
        });
        let Some(address) = self.listen else {
            return Ok(());
        };
        let metrics = Metrics::install(&process.context.budget)?;
        process.metrics = Some(metrics.clone());
        let probes = Probes {
            metrics: metrics.clone(),
            ready: process.ready.clone(),
            health: self.health.clone(),
            shutdown: process.shutdown.clone(),
        };
        let server = Server::bind(address, probes).await?;
        output::to_stderr(&format!("metrics on http://{}/metrics", server.address()));
        helpers.spawn(server.serve());
        Ok(())
    }
}

fn failed(error: &Error) -> u8 {
    complain(&error.report());
    match error.disposition() {
        Disposition::Refused => REFUSED,
        _ => FAILED,
    }
}

pub(crate) fn complain(message: &str) {
    output::to_stderr(&format!("error: {message}"));
}

fn start_log(common: &Common) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    let log = tracing_subscriber::registry().with(common.log_level.clone());
    // The first log of a process stays: only tests start a second one.
    let _kept = match common.log_format {
        LogFormat::Text => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).try_init(),
    };
}

#[cfg(test)]
mod tests;
