//! Runs work with many disk calls in a row, without a change of threads between them.
//!
//! A call costs less than handing it to a blocking thread and its answer back. So work of many calls is *polled* on a
//! blocking thread, where each call is made in place. Work that waits for something else, such as a lock, a timer or a
//! worker, leaves the thread and continues later. Each poll takes room for one call of its place ([`Room`]).

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
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread makes calls in place.
pub(super) fn is_here() -> bool {
    IN_PLACE.get()
}

/// Makes this thread make calls in place until it is dropped.
struct Here {
    before: bool,
}

impl Here {
    fn enter() -> Self {
        let before = IN_PLACE.replace(true);
        debug_assert!(!before, "a blocking thread polls one work at a time");
        Here { before }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        IN_PLACE.set(self.before);
    }
}

type PolledWork = BoxFuture<'static, ()>;

/// Work that is polled on blocking threads. When it is dropped during a poll, the work continues up to its next wait.
pub(super) struct AtOnce {
    state: WorkState,
    woken: Arc<Woken>,
    room: Arc<Room>,
}

enum WorkState {
    Waiting(PolledWork),
    /// Waits for room for a call.
    Entering(PolledWork, BoxFuture<'static, Taken>),
    /// A blocking thread polls it, and hands it back unless it has finished.
    Polled(JoinHandle<Option<PolledWork>>),
    Finished,
}

/// Whether the work was woken, which may happen while it is polled.
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
    pub(super) fn new(work: PolledWork, room: Arc<Room>) -> Self {
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
fn poll_elsewhere(
    mut work: PolledWork,
    woken: &Arc<Woken>,
    taken: Taken,
) -> JoinHandle<Option<PolledWork>> {
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
                        // The runtime is shutting down.
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

    #[tokio::test]
    async fn the_message_of_a_call_that_panics_is_withheld() {
        let means = RealDisk::new().means;
        let record = r#"{"name":"Zoë"}"#;
        let call = move || -> std::io::Result<()> { panic!("cannot write {record}") };
        let error = means.blocking(call).await.expect_err("a panic").to_string();
        assert!(
            error.contains("panicked") && !error.contains("Zoë"),
            "{error}"
        );
    }

    #[test]
    fn calls_are_made_in_place_and_answer() {
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
            assert_eq!(polls, 1, "the work waited for its calls");
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
            let (open, opened) = oneshot::channel::<()>();
            let (calls, place) = (disk.clone(), path.clone());
            let work = async move {
                let lock = calls.lock(&place, LockKind::Exclusive).await.unwrap();
                opened.await.unwrap();
                drop(lock);
                calls.stat(&place).await.unwrap().is_some()
            };
            let mut work = Box::pin(at_once(&disk, work));
            assert!(futures::poll!(&mut work).is_pending());
            // The only thread stays free for other calls, so that the lock can be released.
            for _ in 0..20 {
                assert!(disk.stat(&path).await.unwrap().is_some());
                assert!(futures::poll!(&mut work).is_pending());
            }
            drop(held);
            let waker = async {
                disk.stat(&path).await.unwrap();
                open.send(()).unwrap();
            };
            let (there, ()) = futures::join!(work, waker);
            assert!(there);
        });
    }

    #[test]
    fn a_panic_of_the_work_reaches_its_waiter() {
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
