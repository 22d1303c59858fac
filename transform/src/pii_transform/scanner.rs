//! Scans the bytes of one record: the trait that the scan of a batch calls, and the engine behind it.

use hydrant_pii::{Engine, ScanVerdict};

/// Scans one record after the other.
pub(crate) trait Scanner: Send {
    /// Processes a payload; appends to `out` only for [`ScanVerdict::Redacted`].
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> ScanVerdict;
    /// Processes a partition key, by the same rule.
    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanVerdict;
    /// Processes the partition key of the payload of the last call, if something that was found there lies in it too;
    /// otherwise it is [`ScanVerdict::Clean`], and has to be processed by itself. Its findings join those of the payload.
    fn key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanVerdict;
    /// The detector and the action of one finding of the last call, counted from 0; `None` behind the last one.
    fn finding(&self, index: usize) -> Option<(&'static str, &'static str)>;
}

impl Scanner for Engine {
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.process(payload, out)
    }

    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.process_key(key, out)
    }

    fn key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.process_key_beside(key, out)
    }

    fn finding(&self, index: usize) -> Option<(&'static str, &'static str)> {
        let finding = self.findings().get(index)?;
        Some((finding.detector(), finding.action))
    }
}
