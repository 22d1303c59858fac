//! When an interval is sealed.

use std::time::Duration;

/// The default of [`FlushRules::bytes`].
pub const FLUSH_BYTES: u64 = 128 << 20;

/// The default of [`FlushRules::interval`].
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(60);

/// When intervals are sealed and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushRules {
    /// Payload bytes after which an interval is sealed. Default: 128 MiB. Raise it for larger files. Cost: memory.
    pub bytes: u64,
    /// The age at which an interval is sealed. Default: 60 s. Raise it for fewer files. Cost: rows appear later.
    pub interval: Duration,
}

impl Default for FlushRules {
    fn default() -> Self {
        FlushRules {
            bytes: FLUSH_BYTES,
            interval: FLUSH_INTERVAL,
        }
    }
}
