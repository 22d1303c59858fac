//! Waits for a stream that does not exist yet.

use std::time::Duration;

use hydrant_core::error::{Error, Result};
use hydrant_core::stream::SharedStream;
use hydrant_core::{Shutdown, clock};

/// How often an absent stream is opened again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Opens a stream, and waits up to `wait` for it to appear.
///
/// # Errors
///
/// Those of `open`, which for an absent stream names the command that creates it, and [`Error::Stopped`] when the
/// process is asked to end while it waits.
pub async fn wait_for(
    url: &str,
    wait: Duration,
    shutdown: &Shutdown,
    mut open: impl AsyncFnMut() -> Result<SharedStream>,
) -> Result<SharedStream> {
    let deadline = clock::now() + wait;
    let mut has_said = false;
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
            () = clock::sleep(LOOK_EVERY) => {}
        }
    }
}
