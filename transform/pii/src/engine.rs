//! Scans and redacts one record: from bytes to a verdict.
//!
//! Owns the order of the work: limits, UTF-8, the walker, keys, scalars, JSON inside strings,
//! overlapping hits, edits, and the second scan of what was redacted. Promises: a verdict other
//! than `Clean` never comes with the input; `out` grows only for `Redacted`; a clean record
//! allocates nothing once the scratch has grown. Refuses to catch panics.

use std::sync::Arc;

use crate::action::PARTITION_KEY;
use crate::audit::{Finding, FindingReport, narrow};
use crate::detect::{Hits, TextKind};
use crate::edit::Edits;
use crate::keys::KeyCache;
use crate::policy::{PathChild, PathEffect, Policy};
use crate::text::fold::{Notation, Shadow};
use crate::text::json::Token;
use crate::trail::{Member, WalkTrail};
use crate::verdict::{QuarantineReason, ScanVerdict, Stop};

mod beside;
mod found_values;
mod made_keys;
mod nested;
mod partition_key;
mod resolve;
mod walk;

use found_values::FoundValues;
use made_keys::MadeKeys;

/// Scans after which a record that still has findings is quarantined.
const SCANS_MAX: usize = 3;
/// Scratch that is kept between records.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Processes records one after the other; one engine per thread, with scratch that is reused.
pub struct Engine {
    policy: Arc<Policy>,
    keys: KeyCache,
    /// Names of keys that stand in values and texts, which are never taken for keys.
    labels: KeyCache,
    trail: WalkTrail,
    edits: Edits,
    findings: Vec<Finding>,
    pointers: Vec<u8>,
    hits: Hits,
    /// Those in the value of one pair.
    pair_hits: Hits,
    shadow: Shadow,
    decoded_key: Shadow,
    second: Vec<u8>,
    /// What was found in the payload, for its partition key.
    found: FoundValues,
    made_keys: MadeKeys,
    stacks: Vec<Vec<bool>>,
    /// The text at each nested level, and the way back to the one around it.
    levels: Vec<Shadow>,
    /// Whether what the edits make has to be scanned as a whole: a key or the structure changed, or
    /// a value that changed has findings again.
    needs_rescan: bool,
    /// Whether the engine may have written a part of what is scanned.
    edited: bool,
    /// Whether a value is looked at again because of what stands beside it.
    revisits: bool,
    /// Nothing is passed over, and everything is scanned again.
    #[cfg(test)]
    thorough: bool,
    /// Bytes of scalars that were looked at.
    #[cfg(test)]
    scanned: usize,
}

/// A scalar or key on its way through the detectors.
#[derive(Clone, Copy)]
struct Scalar<'a> {
    bytes: &'a [u8],
    level: usize,
    token: Token,
    kind: TextKind,
    /// Whether it is a part of a text, beside JSON.
    part: bool,
}

impl<'a> Scalar<'a> {
    /// One that is no part of another.
    fn new(bytes: &'a [u8], level: usize, token: Token, kind: TextKind) -> Self {
        Scalar {
            bytes,
            level,
            token,
            kind,
            part: false,
        }
    }
}

impl Engine {
    /// An engine for this policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        let levels = policy.limits().nested_json + 1;
        Self {
            policy,
            keys: KeyCache::new(),
            labels: KeyCache::new(),
            trail: WalkTrail::default(),
            edits: Edits::default(),
            findings: Vec::new(),
            pointers: Vec::new(),
            hits: Hits::default(),
            pair_hits: Hits::default(),
            shadow: Shadow::default(),
            decoded_key: Shadow::default(),
            second: Vec::new(),
            found: FoundValues::default(),
            made_keys: MadeKeys::default(),
            stacks: (0..levels).map(|_| Vec::new()).collect(),
            levels: (0..levels).map(|_| Shadow::default()).collect(),
            needs_rescan: false,
            edited: false,
            revisits: false,
            #[cfg(test)]
            thorough: false,
            #[cfg(test)]
            scanned: 0,
        }
    }

    /// Processes a record, which has to be one JSON value. Only for [`ScanVerdict::Redacted`] bytes
    /// are appended to `out`.
    pub fn process(&mut self, payload: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.reset();
        self.conclude(payload, out, Self::redact)
    }

    /// Processes a partition key: any bytes. JSON is scanned as JSON, everything else as text;
    /// bytes that are not UTF-8 separate its parts. If the policy has a key, a partition key with
    /// a finding becomes one token as a whole, so that equal keys stay equal and others differ.
    pub fn process_key(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        self.reset();
        self.conclude(key, out, Self::redact_key)
    }

    /// Has a record or key redacted, if it is not too long. All that this appended to `out` goes unless it was redacted.
    fn conclude(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        redact: impl FnOnce(&mut Self, &[u8], &mut Vec<u8>) -> Result<ScanVerdict, Stop>,
    ) -> ScanVerdict {
        let start = out.len();
        let redacted = if input.len() > self.policy.limits().record_bytes {
            Err(QuarantineReason::TooLarge.into())
        } else {
            redact(self, input, out)
        };
        let verdict = redacted.unwrap_or_else(|stop| {
            out.truncate(start);
            stop.into()
        });
        debug_assert!(verdict == ScanVerdict::Redacted || out.len() == start);
        self.shrink();
        verdict
    }

    /// The findings in the last record, in the order of the walk. Of a quarantined record there
    /// may be some.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The RFC 6901 pointer of a finding in the last record.
    pub fn pointer(&self, finding: &Finding) -> &str {
        let (from, to) = finding.pointer;
        let pointer = self
            .pointers
            .get(from as usize..to as usize)
            .unwrap_or_default();
        std::str::from_utf8(pointer).unwrap_or("")
    }

    /// The findings in the last record, ready for a report.
    pub fn reports(&self) -> impl Iterator<Item = FindingReport<'_>> {
        self.findings.iter().map(|finding| FindingReport {
            pointer: self.pointer(finding),
            place: finding.in_key.then_some("key"),
            detector: finding.detector(),
            class: finding.class,
            action: finding.action,
            rule: self.policy.rule_name(finding.rule),
            offset: finding.offset,
            length: finding.length,
        })
    }

    fn reset(&mut self) {
        self.edited = false;
        self.findings.clear();
        self.pointers.clear();
        self.found.clear(SCRATCH_BYTES_MAX);
        self.restart();
    }

    /// Whether a scan that knows of the engine's own labels finds something to act on in what it made.
    #[cfg(test)]
    pub(crate) fn finds_in_its_own(&mut self, made: &[u8]) -> bool {
        self.reset();
        self.edited = true;
        self.scan_json(made).is_err() || !self.edits.is_empty()
    }

    /// Whether what cannot hold a finding is passed over. Always, except where a test compares.
    fn skips(&self) -> bool {
        #[cfg(test)]
        return !self.thorough;
        #[cfg(not(test))]
        true
    }

    fn restart(&mut self) {
        self.needs_rescan = false;
        self.revisits = false;
        self.edits.clear();
        self.made_keys.clear();
        self.trail.clear();
    }

    /// Gives memory back that only an unusual record needed.
    fn shrink(&mut self) {
        for shadow in self.levels.iter_mut().chain([&mut self.shadow]) {
            if shadow.text.capacity() > SCRATCH_BYTES_MAX {
                shadow.shrink(SCRATCH_BYTES_MAX);
            }
        }
        if self.second.capacity() > SCRATCH_BYTES_MAX {
            self.second = Vec::new();
        }
        self.trail.shrink(SCRATCH_BYTES_MAX);
    }

    fn redact(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<ScanVerdict, Stop> {
        if std::str::from_utf8(payload).is_err() {
            return Err(Stop::Quarantine(QuarantineReason::InvalidUtf8));
        }
        self.scan_json(payload)?;
        self.rewrite(payload, out, Self::scan_json)
    }

    fn redact_key(&mut self, key: &[u8], out: &mut Vec<u8>) -> Result<ScanVerdict, Stop> {
        self.scan_key(key)?;
        self.needs_rescan = true;
        if self.edits.is_empty() {
            return Ok(ScanVerdict::Clean);
        }
        let policy = Arc::clone(&self.policy);
        if let Some(token_key) = policy.key.as_ref() {
            token_key.write(PARTITION_KEY, key, out);
            return Ok(ScanVerdict::Redacted);
        }
        self.rewrite(key, out, Self::scan_key)
    }

    /// Applies the edits of a scan, and scans again what that makes.
    fn rewrite(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        scan: fn(&mut Self, &[u8]) -> Result<(), Stop>,
    ) -> Result<ScanVerdict, Stop> {
        if self.edits.is_empty() {
            return Ok(ScanVerdict::Clean);
        }
        let start = out.len();
        self.edits.apply(input, out);
        if !self.policy.rescan || !self.needs_rescan && self.skips() {
            return Ok(ScanVerdict::Redacted);
        }
        let mut findings = std::mem::take(&mut self.findings);
        let mut scans = 1;
        let verdict = loop {
            self.restart();
            self.edited = true;
            self.findings.clear();
            if let Err(stop) = scan(self, &out[start..]) {
                break Err(stop);
            }
            scans += 1;
            if self.edits.is_empty() {
                break Ok(ScanVerdict::Redacted);
            }
            if scans > SCANS_MAX {
                break Err(Stop::Quarantine(QuarantineReason::Residual));
            }
            findings.extend(self.findings.drain(..).filter(Finding::acted));
            let mut second = std::mem::take(&mut self.second);
            second.clear();
            self.edits.apply(&out[start..], &mut second);
            out.truncate(start);
            out.extend_from_slice(&second);
            self.second = second;
        };
        self.findings = findings;
        verdict
    }

    fn root(&mut self) -> Member {
        let mut member = Member::default();
        let paths = &self.policy.paths;
        if !paths.is_empty() {
            let mut effect = PathEffect::NONE;
            for &path in paths.roots() {
                self.policy.join(&mut effect, path);
            }
            member.rule = effect.values;
            self.trail.states.extend_from_slice(paths.starts());
            member.waiting = (0, narrow(self.trail.states.len()));
            member.effect = self.trail.keep_effect(effect);
        }
        member
    }

    /// Lets the paths of the policy see `child`, which is `member` of `parent`.
    fn descend(&mut self, member: &mut Member, parent: &Member, child: PathChild<'_>) {
        let mut effect = *self.trail.effect(parent);
        let policy = &self.policy;
        let mut named = false;
        member.waiting =
            policy
                .paths
                .descend(&mut self.trail.states, parent.waiting, child, |path| {
                    policy.join(&mut effect, path);
                    named = true;
                });
        if named {
            member.rule = effect.values;
            member.effect = self.trail.keep_effect(effect);
        }
    }

    fn scan_json(&mut self, payload: &[u8]) -> Result<(), Stop> {
        let root = self.root();
        self.walk(payload, 0, root)
    }

    fn scan_key(&mut self, key: &[u8]) -> Result<(), Stop> {
        if let Some(b'{' | b'[' | b'"') = key.iter().find(|byte| !byte.is_ascii_whitespace())
            && std::str::from_utf8(key).is_ok()
        {
            match self.scan_json(key) {
                Err(Stop::Quarantine(QuarantineReason::Malformed)) => {
                    self.findings.clear();
                    self.pointers.clear();
                    self.restart();
                }
                scanned => return scanned,
            }
        }
        let member = self.root();
        let scalar = Scalar::new(key, 0, Token::of(key, 0..key.len()), TextKind::Key);
        if self.nested(scalar, Notation::Plain, &member)?.is_none() {
            self.detect(scalar, Notation::Plain, &member)?;
        }
        for finding in &mut self.findings {
            finding.pointer = (0, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
