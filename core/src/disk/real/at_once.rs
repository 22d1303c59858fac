//! Work whose disk calls follow one another, without a change of threads between them.
//!
//! A call costs less than handing it to a blocking thread and its answer back. So work that consists of many calls is
//! *polled* on a blocking thread, where each call is made on the spot. Work that waits for something else, such as a
//! lock, a timer or a worker, comes back and goes on later: it holds no thread meanwhile. Each time it takes room for a
//! call of its place ([`Room`]).

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::task::JoinHandle;

use super::rooms::{Room, Taken};

thread_local! {
    static ON_THE_SPOT: Cell<bool> = const { Cell::new(false) };
}

/// Whether calls are made on this thread.
pub(super) fn is_here() -> bool {
    ON_THE_SPOT.get()
}

/// Calls are made on this thread as long as it lives.
struct Here {
    before: bool,
}

impl Here {
    fn enter() -> Self {
        Here {
            before: ON_THE_SPOT.replace(true),
        }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        ON_THE_SPOT.set(self.before);
    }
}

type Work = BoxFuture<'static, ()>;

/// Work that is polled on blocking threads. What was begun when it is dropped goes on up to where it waits.
pub(super) struct AtOnce {
    state: WorkState,
    woken: Arc<Woken>,
    room: Arc<Room>,
}

enum WorkState {
    Waiting(Work),
    /// There is no room for another call.
    Entering(Work, BoxFuture<'static, Taken>),
    /// On a blocking thread, which gives back what is not finished.
    Polled(JoinHandle<Option<Work>>),
    Finished,
}

/// Whether the work may go on, which may be said while it is polled.
struct Woken {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

impl AtOnce {
    pub(super) fn new(work: Work, room: Arc<Room>) -> Self {
        AtOnce {
            room,
            state: WorkState::Waiting(work),
            woken: Arc::new(Woken {
                woken: AtomicBool::new(true),
                task: AtomicWaker::new(),
            }),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the other door to blocking file calls"
)]
fn poll_elsewhere(mut work: Work, woken: &Arc<Woken>, taken: Taken) -> JoinHandle<Option<Work>> {
    let waker = Waker::from(Arc::clone(woken));
    tokio::task::spawn_blocking(move || {
        let _taken = taken;
        let _here = Here::enter();
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(work),
        }
    })
}

impl Future for AtOnce {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let AtOnce { state, woken, room } = self.get_mut();
        woken.task.register(context.waker());
        loop {
            *state = match std::mem::replace(state, WorkState::Finished) {
                WorkState::Waiting(work) if woken.woken.swap(false, Ordering::SeqCst) => {
                    match room.try_enter() {
                        Some(taken) => WorkState::Polled(poll_elsewhere(work, woken, taken)),
                        None => WorkState::Entering(work, Box::pin(Arc::clone(room).enter())),
                    }
                }
                WorkState::Entering(work, mut entering) => match entering.as_mut().poll(context) {
                    Poll::Ready(taken) => WorkState::Polled(poll_elsewhere(work, woken, taken)),
                    Poll::Pending => {
                        *state = WorkState::Entering(work, entering);
                        return Poll::Pending;
                    }
                },
                WorkState::Polled(mut answer) => match Pin::new(&mut answer).poll(context) {
                    Poll::Ready(Ok(Some(work))) => WorkState::Waiting(work),
                    Poll::Ready(Ok(None)) => return Poll::Ready(()),
                    Poll::Ready(Err(ended)) => match ended.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // The runtime ends, and this with it.
                        Err(_) => return Poll::Pending,
                    },
                    Poll::Pending => {
                        *state = WorkState::Polled(answer);
                        return Poll::Pending;
                    }
                },
                waiting => {
                    *state = waiting;
                    return Poll::Pending;
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use crate::disk::real::RealDisk;
    use crate::disk::{Disk, LockKind, Open, at_once};

    use super::*;

    fn with_one_blocking_thread<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let patience = Duration::from_secs(60);
            tokio::time::timeout(patience, test).await.unwrap()
        })
    }

    #[test]
    fn calls_are_made_on_the_spot_and_their_answers_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        with_one_blocking_thread(async {
            let disk = RealDisk::new();
            let (calls, place) = (disk.clone(), path.clone());
            let mut row = Box::pin(async move {
                let file = calls.open(&place, Open::Create).await.unwrap();
                file.write_at(
                    0,
                    vec![Bytes::from_static(b"some"), Bytes::from_static(b"thing")],
                )
                .await
                .unwrap();
                file.sync().await.unwrap();
                file.read_at(2, 100).await.unwrap()
            });
            let mut polls = 0;
            let work = std::future::poll_fn(move |context| {
                polls += 1;
                row.as_mut().poll(context).map(|read| (polls, read))
            });
            let (polls, read) = at_once(&disk, work).await;
            assert_eq!(read, "mething");
            assert_eq!(polls, 1, "it waited for its calls");
            assert!(!is_here());
        });
        assert_eq!(std::fs::read(path).unwrap(), b"something");
    }

    #[test]
    fn work_that_waits_holds_no_thread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        with_one_blocking_thread(async {
            let disk = RealDisk::new();
            let held = disk.lock(&path, LockKind::Exclusive).await.unwrap();
            let (go, gone) = oneshot::channel::<()>();
            let (calls, place) = (disk.clone(), path.clone());
            let work = async move {
                let lock = calls.lock(&place, LockKind::Exclusive).await.unwrap();
                gone.await.unwrap();
                drop(lock);
                calls.stat(&place).await.unwrap().is_some()
            };
            let mut work = Box::pin(at_once(&disk, work));
            assert!(futures::poll!(&mut work).is_pending());
            // The only thread is free for others, which is what lets the lock go.
            for _ in 0..20 {
                assert!(disk.stat(&path).await.unwrap().is_some());
                assert!(futures::poll!(&mut work).is_pending());
            }
            drop(held);
            let waker = async {
                disk.stat(&path).await.unwrap();
                go.send(()).unwrap();
            };
            let (there, ()) = futures::join!(work, waker);
            assert!(there);
        });
    }

    #[test]
    fn a_panic_of_the_work_is_that_of_whoever_waits_for_it() {
        with_one_blocking_thread(async {
            let disk = RealDisk::new();
            let waiting = tokio::spawn(async move {
                let work = async { assert!(std::hint::black_box(false), "boom") };
                at_once(&disk, work).await;
            });
            assert!(waiting.await.unwrap_err().is_panic());
            assert!(at_once(&RealDisk::new(), async { true }).await);
        });
    }
}
