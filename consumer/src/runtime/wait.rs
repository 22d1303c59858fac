//! Waiting for a stream that is not there yet.

use std::time::Duration;

use hydrant_core::clock;
use hydrant_core::error::{Error, Result};
use hydrant_core::stream::SharedStream;

/// How often an absent stream is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Opens a stream, waiting up to `wait` for it to appear; then refuses with what `open` says, which
/// names the command that makes it.
pub async fn wait_for(
    url: &str,
    wait: Duration,
    mut open: impl AsyncFnMut() -> Result<SharedStream>,
) -> Result<SharedStream> {
    let deadline = clock::now() + wait;
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
                clock::sleep(LOOK_EVERY).await;
            }
            answer => return answer,
        }
    }
}
