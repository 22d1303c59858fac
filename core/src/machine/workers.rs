//! Runs computation: decoding, scanning, compressing and encoding stay off the threads that do I/O.
//!
//! [`Workers::Threads`] owns named threads, one per core by default; [`Workers::Inline`] computes in the calling task,
//! which makes a simulation deterministic. The caller keeps order: a shard's task awaits one job before it submits the
//! next. Any number of jobs may be submitted at once: those without room wait in their own tasks, in turn, and a task
//! that is dropped there leaves nothing behind. A panic of a job is an error of that job and ends no thread.

use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use crate::error::{Error, Result};

/// The stack of a worker thread; only the used part takes memory. The Parquet encoder recurses once per level of
/// nesting; the deepest record took 0.8 MiB in an optimised build and 2.5 MiB without optimisation.
pub const STACK_BYTES: usize = 16 << 20;

/// Jobs queued for each thread, so that no thread is idle while the tasks that wait for room wake up. A queued job runs
/// even if its caller is gone, so there are few of them.
const READY_JOBS: usize = 4;

/// The reason of a dead letter or refusal whose record made a computation panic: a fault of hydrant, not of the record.
pub const INTERNAL_FAULT: &str = "internal_fault";

type Job = Box<dyn FnOnce() + Send>;

/// Where computation runs; cheap to clone.
#[derive(Clone, Debug)]
pub enum Workers {
    /// On worker threads.
    Threads(Pool),
    /// In the calling task.
    Inline,
}

/// The threads of [`Workers::Threads`]; they end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Pool {
    queue: SyncSender<Job>,
    /// One permit for each place in the queue.
    room: Arc<Semaphore>,
}

impl Workers {
    /// Starts `count` threads, at least one.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that makes worker threads"
    )]
    pub fn threads(count: usize) -> Result<Self> {
        let count = count.max(1);
        let ready_jobs = count.saturating_mul(READY_JOBS);
        let (queue, jobs) = sync_channel::<Job>(ready_jobs);
        let jobs = Arc::new(Mutex::new(jobs));
        for n in 0..count {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name(format!("worker-{n}"))
                .stack_size(STACK_BYTES)
                .spawn(move || work(&jobs))
                .map_err(|source| {
                    Error::fatal(format!("cannot start a worker thread: {source}"))
                })?;
        }
        let room = Arc::new(Semaphore::new(ready_jobs));
        Ok(Workers::Threads(Pool { queue, room }))
    }

    /// Starts one thread per core.
    pub fn per_core() -> Result<Self> {
        Workers::threads(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Computes `job` and answers its result; a panic becomes [`Error::Fatal`]. Waits while the queue is full; a call
    /// that is dropped before its job is queued computes nothing.
    pub async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let pool = match self {
            Workers::Inline => return catch_unwind(AssertUnwindSafe(job)).map_err(panicked),
            Workers::Threads(pool) => pool,
        };
        let room = Arc::clone(&pool.room).acquire_owned().await;
        let room = room.map_err(|_| Error::fatal("the worker threads take no more jobs"))?;
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The job has left the queue.
            drop(room);
            // The caller may be gone: a shard's task may end while its job runs.
            drop(answer.send(catch_unwind(AssertUnwindSafe(job))));
        });
        pool.queue.try_send(job).map_err(|error| {
            debug_assert!(
                matches!(error, TrySendError::Disconnected(_)),
                "a permit is a place in the queue"
            );
            Error::fatal("the worker threads have ended")
        })?;
        match result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(panicked(panic)),
            Err(_) => Err(Error::fatal("a worker thread ended before its job")),
        }
    }
}

/// Starts a thread for calls that may never return, such as reading a pipe. The process does not wait for its end.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that makes threads for blocking calls"
)]
pub fn spawn_named(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
        .map_err(|source| Error::fatal(format!("cannot start the thread `{name}`: {source}")))
}

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Computes `job`; answers `None` when it panics. The caller must know what that means for its data. The panic is
/// reported with its place and does not end the process.
pub fn contain<T>(job: impl FnOnce() -> T) -> Option<T> {
    let before = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(job));
    CONTAINED.set(before);
    result.ok()
}

/// Calls `step` for each of `items` in order until it breaks, and answers the break value. A panic costs only the item
/// at which it happens: `faulted` gets that item, and the state that the panic may have left half done. Items without a
/// panic cost nothing extra.
pub fn contain_each<S, B>(
    state: &mut S,
    items: Range<usize>,
    mut step: impl FnMut(&mut S, usize) -> ControlFlow<B>,
    mut faulted: impl FnMut(&mut S, usize),
) -> ControlFlow<B> {
    let mut next = items.start;
    while next < items.end {
        let done = contain(|| {
            while next < items.end {
                step(state, next)?;
                next += 1;
            }
            ControlFlow::Continue(())
        });
        if let Some(done) = done {
            return done;
        }
        faulted(state, next);
        next += 1;
    }
    ControlFlow::Continue(())
}

/// Whether this thread is inside [`contain`]; for panic hooks.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Error {
    // A formatted message may quote a record: only fixed texts are printed.
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .unwrap_or("its message is withheld");
    Error::fatal(format!(
        "a computation panicked, which is a fault of hydrant: {text}"
    ))
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_gives_no_result_and_leaves_nothing_behind() {
        assert_eq!(contain(|| (is_contained(), 1)), Some((true, 1)));
        let inner = contain(|| contain(|| -> u8 { panic!("boom") }).is_none() && is_contained());
        assert_eq!(inner, Some(true));
        assert!(!is_contained());
    }

    #[test]
    fn a_panic_costs_one_item_and_the_others_are_taken_in_order() {
        let mut seen = Vec::new();
        let step = |seen: &mut Vec<usize>, item: usize| {
            seen.push(item);
            assert!(!matches!(item, 2 | 3 | 7), "boom");
            if item == 8 {
                return ControlFlow::Break("enough");
            }
            ControlFlow::Continue(())
        };
        let faulted = |seen: &mut Vec<usize>, item: usize| seen.push(100 + item);
        let end = contain_each(&mut seen, 2..10, step, faulted);
        assert_eq!(end, ControlFlow::Break("enough"));
        assert_eq!(seen, [2, 102, 3, 103, 4, 5, 6, 7, 107, 8]);
        let end = contain_each(&mut seen, 3..4, step, faulted);
        assert_eq!(end, ControlFlow::Continue(()));
        assert!(!is_contained());
    }

    #[tokio::test]
    async fn more_jobs_than_there_is_room_for_wait_and_none_is_refused() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        const JOBS: usize = 1_100;
        let workers = Workers::threads(1).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let computed = Arc::new(AtomicUsize::new(0));
        let first = workers.run(move || gate.recv().is_err());
        let others = futures::future::join_all((0..JOBS).map(|n| {
            let computed = Arc::clone(&computed);
            workers.run(move || {
                computed.fetch_add(1, Ordering::SeqCst);
                n
            })
        }));
        let mut all = Box::pin(futures::future::join(first, others));
        // All are handed in while the only thread stands.
        assert!(futures::poll!(&mut all).is_pending());
        assert_eq!(computed.load(Ordering::SeqCst), 0);
        drop(open);
        let (first, others) = all.await;
        assert!(first.unwrap());
        let results: Vec<usize> = others.into_iter().map(|result| result.unwrap()).collect();
        assert_eq!(results, (0..JOBS).collect::<Vec<_>>());
        assert_eq!(computed.load(Ordering::SeqCst), JOBS);
    }

    #[tokio::test]
    async fn a_job_that_is_given_up_before_it_has_room_is_not_computed() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let workers = Workers::threads(1).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let computed = Arc::new(AtomicUsize::new(0));
        let mut first = Box::pin(workers.run(move || gate.recv().is_err()));
        assert!(futures::poll!(&mut first).is_pending());
        for _ in 0..100 {
            let computed = Arc::clone(&computed);
            let mut job = Box::pin(workers.run(move || computed.fetch_add(1, Ordering::SeqCst)));
            assert!(futures::poll!(&mut job).is_pending());
        }
        drop(open);
        assert!(first.await.unwrap());
        workers.run(|| ()).await.unwrap();
        assert!(computed.load(Ordering::SeqCst) <= READY_JOBS);
    }

    #[tokio::test]
    async fn jobs_give_results_and_a_panic_ends_no_thread() {
        for workers in [Workers::threads(1).unwrap(), Workers::Inline] {
            assert_eq!(workers.run(|| 6 * 7).await.unwrap(), 42);
            let error = workers.run(|| -> u8 { panic!("boom") }).await.unwrap_err();
            assert!(error.to_string().contains("boom"));
            let error = workers
                .run(|| -> u8 { panic!("record {}", std::hint::black_box(7)) })
                .await
                .unwrap_err();
            assert!(!error.to_string().contains("record"), "{error}");
            assert_eq!(workers.run(|| 1).await.unwrap(), 1);
        }
    }
}
