//! Waits for a stream that does not exist yet.

use std::time::Duration;

use crate::url::StreamUrl;
use hydrant_core::error::{Error, Result};
use hydrant_core::stream::SharedStream;
use hydrant_core::{Shutdown, clock};

/// How soon an absent stream is opened again. A look at a directory costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The pause between two looks at a stream that is not in this file system grows to this: a whole account shares the calls
/// that its service takes.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(2);

/// Opens a stream, and waits up to `wait` for it to appear.
///
/// # Errors
///
/// Those of `open`, which for an absent stream names the command that creates it, and [`Error::Stopped`] when the
/// process is asked to end while it waits.
pub(super) async fn wait_for<A>(
    url: &str,
    wait: Duration,
    shutdown: &Shutdown,
    mut open: impl FnMut() -> A,
) -> Result<SharedStream>
where
    A: Future<Output = Result<SharedStream>>,
{
    let deadline = clock::now() + wait;
    let mut has_said = false;
    let is_here = StreamUrl::parse(url).is_ok_and(|url| url.directory().is_some());
    let most = if is_here { LOOK_EVERY } else { LOOK_EVERY_MAX };
    let mut pause = LOOK_EVERY;
    loop {
        match open().await {
            Err(Error::NotFound { message }) => {
                if wait.is_zero() {
                    return Err(Error::NotFound { message });
                }
                if clock::now() >= deadline {
                    let waited = wait.as_secs_f64();
                    return Err(Error::refused(format!(
                        "`{url}` did not appear within {waited} s: {message}"
                    )));
                }
                if !std::mem::replace(&mut has_said, true) {
                    tracing::info!("waiting up to {wait:?} for `{url}` to appear");
                }
            }
            answer => return answer,
        }
        tokio::select! {
            biased;
            () = shutdown.draining() => {
                return Err(Error::Stopped {
                    message: format!("stopped before `{url}` appeared"),
                });
            }
            () = clock::sleep(pause) => {}
        }
        pause = (pause * 2).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often an absent stream is looked at within ten seconds.
    async fn looks_at(url: &str) -> u32 {
        let mut looks = 0;
        let open = || {
            looks += 1;
            std::future::ready(Err(Error::NotFound {
                message: "it is not there".to_owned(),
            }))
        };
        let wait = Duration::from_secs(10);
        let missed = wait_for(url, wait, &Shutdown::new(), open).await;
        assert!(matches!(missed, Err(Error::Refused { .. })));
        looks
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_asked_less_and_less_often() {
        assert!(looks_at("local:data/raw").await >= 100);
        let looks = looks_at("kinesis://raw?region=eu-west-1").await;
        assert!((8..=10).contains(&looks), "{looks}");
    }
}
