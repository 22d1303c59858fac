//! Scans the bytes of one record: the trait that the scan of a batch calls, and the engine behind it.

use std::sync::Arc;

use hydrant_pii::{Engine, Policy, ScanVerdict};

/// The outcome of a payload or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScanOutcome {
    /// It is as it was.
    Clean,
    /// The new bytes were appended.
    Redacted,
    /// It must not be passed on, for this reason.
    Quarantined(&'static str),
    /// This rule drops it.
    Dropped(Arc<str>),
}

/// Scans one record after the other.
pub(crate) trait Scanner: Send {
    /// Processes a payload; appends to `out` only for [`ScanOutcome::Redacted`].
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> ScanOutcome;
    /// Processes a partition key, by the same rule.
    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanOutcome;
    /// Processes the partition key of the payload of the last call, if something that was found there lies in it too;
    /// otherwise it is [`ScanOutcome::Clean`], and has to be processed by itself. Its findings join those of the payload.
    fn key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanOutcome;
    /// The detector and the action of one finding of the last call, counted from 0; `None` behind the last one.
    fn finding(&self, index: usize) -> Option<(&'static str, &'static str)>;
}

/// The engine with the names of the rules that dropped something.
pub(super) struct PiiScanner {
    engine: Engine,
    rules: Vec<(u16, Arc<str>)>,
}

impl PiiScanner {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        PiiScanner {
            engine: Engine::new(policy),
            rules: Vec::new(),
        }
    }

    fn fate(&mut self, verdict: ScanVerdict) -> ScanOutcome {
        match verdict {
            ScanVerdict::Clean => ScanOutcome::Clean,
            ScanVerdict::Redacted => ScanOutcome::Redacted,
            ScanVerdict::Quarantined { reason } => ScanOutcome::Quarantined(reason.code()),
            ScanVerdict::Dropped { rule } => {
                if let Some((_, name)) = self.rules.iter().find(|(known, _)| *known == rule) {
                    return ScanOutcome::Dropped(Arc::clone(name));
                }
                let name: Arc<str> = self.engine.policy().rule_name(rule).into();
                self.rules.push((rule, Arc::clone(&name)));
                ScanOutcome::Dropped(name)
            }
        }
    }
}

impl Scanner for PiiScanner {
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> ScanOutcome {
        let verdict = self.engine.process(payload, out);
        self.fate(verdict)
    }

    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanOutcome {
        let verdict = self.engine.process_key(key, out);
        self.fate(verdict)
    }

    fn key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanOutcome {
        let verdict = self.engine.process_key_beside(key, out);
        self.fate(verdict)
    }

    fn finding(&self, index: usize) -> Option<(&'static str, &'static str)> {
        let finding = self.engine.findings().get(index)?;
        Some((finding.detector(), finding.action))
    }
}
