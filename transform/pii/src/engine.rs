//! The walk over a record: from bytes to a verdict.
//!
//! Owns the order of the work: limits, UTF-8, the walker, keys, scalars, JSON inside strings,
//! overlapping hits, edits, and the second scan of what was redacted. Promises: a verdict other
//! than `Clean` never comes with the input; `out` grows only for `Redacted`; a clean record
//! allocates nothing once the scratch has grown. Refuses to catch panics.

use std::ops::Range;
use std::sync::Arc;

use crate::action::{self, Action, Outcome, PARTITION_KEY};
use crate::audit::{Class, Finding, Report};
use crate::classes::{self, Classes, DIGIT, ESCAPE, HIGH};
use crate::detect::{self, BY_RULE, Hit, Hits, Kind, TABLE, Text};
use crate::edit::Edits;
use crate::fold::{OffsetMap, Shadow, Writing};
use crate::json::{Event, JsonError, Token, Walker};
use crate::keys::{self, Evidence, KeyCache, Known};
use crate::policy::{Child, Effect, Policy};
use crate::trail::{Member, Segment, Trail};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// All of it was scanned and nothing has to change: the caller passes its own bytes on.
    Clean,
    /// All of it was scanned; the redacted bytes were appended to `out`.
    Redacted,
    /// It could not be processed and must not go on.
    Quarantined {
        /// Why.
        reason: Reason,
    },
    /// A rule of the policy drops such records.
    Dropped {
        /// The rule, for [`Policy::rule_name`].
        rule: u16,
    },
}

/// Why a record could not be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Longer than the limit.
    TooLarge,
    /// No UTF-8.
    InvalidUtf8,
    /// No JSON, or cut off.
    Malformed,
    /// It holds half of a surrogate pair, which no text can be made of.
    LoneSurrogate,
    /// More containers inside each other than the limit.
    TooDeep,
    /// More strings with JSON inside each other than the limit.
    NestedTooDeep,
    /// More findings than the limit.
    TooManyFindings,
    /// What was redacted still held findings when it was scanned again.
    Residual,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::TooLarge,
        Self::InvalidUtf8,
        Self::Malformed,
        Self::LoneSurrogate,
        Self::TooDeep,
        Self::NestedTooDeep,
        Self::TooManyFindings,
        Self::Residual,
    ];

    /// The code in dead letters and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "pii-too-large",
            Self::InvalidUtf8 => "pii-invalid-utf8",
            Self::Malformed => "pii-malformed",
            Self::LoneSurrogate => "pii-lone-surrogate",
            Self::TooDeep => "pii-too-deep",
            Self::NestedTooDeep => "pii-nested-too-deep",
            Self::TooManyFindings => "pii-too-many-findings",
            Self::Residual => "pii-residual",
        }
    }
}

impl From<JsonError> for Reason {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Malformed => Self::Malformed,
            JsonError::TooDeep => Self::TooDeep,
            JsonError::LoneSurrogate => Self::LoneSurrogate,
        }
    }
}

/// What ends a walk early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Quarantine(Reason),
    Drop(u16),
}

impl From<JsonError> for Stop {
    fn from(error: JsonError) -> Self {
        Self::Quarantine(error.into())
    }
}

impl From<Stop> for Verdict {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Quarantine(reason) => Self::Quarantined { reason },
            Stop::Drop(rule) => Self::Dropped { rule },
        }
    }
}

/// Scans after which a record that still has findings is quarantined.
const SCANS_MAX: usize = 3;
/// Scratch that is kept between records.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Processes records one after the other; one engine per thread, with scratch that is reused.
pub struct Engine {
    policy: Arc<Policy>,
    keys: KeyCache,
    trail: Trail,
    edits: Edits,
    findings: Vec<Finding>,
    pointers: Vec<u8>,
    hits: Hits,
    shadow: Shadow,
    decoded_key: Shadow,
    second: Vec<u8>,
    stacks: Vec<Vec<bool>>,
    texts: Vec<Vec<u8>>,
    /// From the text at each nested level to the one around it.
    maps: Vec<OffsetMap>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("policy", &self.policy.name())
            .finish_non_exhaustive()
    }
}

/// A scalar or key on its way through the detectors.
#[derive(Clone, Copy)]
struct Scalar<'a> {
    bytes: &'a [u8],
    level: usize,
    token: Token,
    kind: Kind,
}

impl Engine {
    /// An engine for this policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        let levels = policy.limits().nested_json + 1;
        Self {
            policy,
            keys: KeyCache::new(),
            trail: Trail::default(),
            edits: Edits::default(),
            findings: Vec::new(),
            pointers: Vec::new(),
            hits: Hits::default(),
            shadow: Shadow::default(),
            decoded_key: Shadow::default(),
            second: Vec::new(),
            stacks: (0..levels).map(|_| Vec::new()).collect(),
            texts: (0..levels).map(|_| Vec::new()).collect(),
            maps: (0..levels).map(|_| OffsetMap::default()).collect(),
        }
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Processes a record, which has to be one JSON value. Only for [`Verdict::Redacted`] bytes
    /// are appended to `out`.
    pub fn process(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Verdict {
        self.reset();
        let start = out.len();
        let verdict = self.redact(payload, out).unwrap_or_else(|stop| {
            out.truncate(start);
            stop.into()
        });
        self.shrink();
        verdict
    }

    /// Processes a partition key: any bytes. JSON is scanned as JSON, everything else as text;
    /// bytes that are no UTF-8 separate its parts. If the policy has a key, a partition key with
    /// a finding becomes one token as a whole, so that equal keys stay equal and others differ.
    pub fn process_key(&mut self, key: &[u8], out: &mut Vec<u8>) -> Verdict {
        self.reset();
        let start = out.len();
        let verdict = self.redact_key(key, out).unwrap_or_else(|stop| {
            out.truncate(start);
            stop.into()
        });
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
    pub fn reports(&self) -> impl Iterator<Item = Report<'_>> {
        self.findings.iter().map(|finding| Report {
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
        self.findings.clear();
        self.pointers.clear();
        self.restart();
    }

    fn restart(&mut self) {
        self.edits.clear();
        self.trail.clear();
    }

    /// Gives memory back that only an unusual record needed.
    fn shrink(&mut self) {
        if self.shadow.text.capacity() > SCRATCH_BYTES_MAX {
            self.shadow.shrink(SCRATCH_BYTES_MAX);
        }
        if self.second.capacity() > SCRATCH_BYTES_MAX {
            self.second = Vec::new();
        }
        for (text, map) in self.texts.iter_mut().zip(&mut self.maps) {
            if text.capacity() > SCRATCH_BYTES_MAX {
                let mut shadow = Shadow::from_parts(std::mem::take(text), std::mem::take(map));
                shadow.shrink(SCRATCH_BYTES_MAX);
                (*text, *map) = shadow.into_parts();
            }
        }
    }

    fn redact(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Verdict, Stop> {
        if payload.len() > self.policy.limits().record_bytes {
            return Err(Stop::Quarantine(Reason::TooLarge));
        }
        if std::str::from_utf8(payload).is_err() {
            return Err(Stop::Quarantine(Reason::InvalidUtf8));
        }
        self.scan_json(payload)?;
        self.rewrite(payload, out, Self::scan_json)
    }

    fn redact_key(&mut self, key: &[u8], out: &mut Vec<u8>) -> Result<Verdict, Stop> {
        if key.len() > self.policy.limits().record_bytes {
            return Err(Stop::Quarantine(Reason::TooLarge));
        }
        self.scan_key(key)?;
        if self.edits.is_empty() {
            return Ok(Verdict::Clean);
        }
        let policy = Arc::clone(&self.policy);
        if let Some(token_key) = policy.key() {
            token_key.write(PARTITION_KEY, key, out);
            return Ok(Verdict::Redacted);
        }
        self.rewrite(key, out, Self::scan_key)
    }

    /// Applies the edits of a scan, and scans again what that makes.
    fn rewrite(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        scan: fn(&mut Self, &[u8]) -> Result<(), Stop>,
    ) -> Result<Verdict, Stop> {
        if self.edits.is_empty() {
            return Ok(Verdict::Clean);
        }
        let start = out.len();
        self.edits.apply(input, out);
        if !self.policy.rescans() {
            return Ok(Verdict::Redacted);
        }
        for _ in 1..SCANS_MAX {
            self.restart();
            let told = self.findings.len();
            scan(self, &out[start..])?;
            if self.edits.is_empty() {
                self.findings.truncate(told);
                return Ok(Verdict::Redacted);
            }
            let mut second = std::mem::take(&mut self.second);
            second.clear();
            self.edits.apply(&out[start..], &mut second);
            out.truncate(start);
            out.extend_from_slice(&second);
            self.second = second;
        }
        self.restart();
        scan(self, &out[start..])?;
        if self.edits.is_empty() {
            Ok(Verdict::Redacted)
        } else {
            Err(Stop::Quarantine(Reason::Residual))
        }
    }

    fn root(&mut self) -> Member {
        let mut member = Member {
            segment: Segment::Root,
            evidence: Evidence::NONE,
            key: Evidence::NONE,
            effect: 0,
            rule: None,
            waiting: (0, 0),
            start: 0,
            comma: None,
        };
        let paths = self.policy.paths();
        if !paths.is_empty() {
            let mut effect = Effect::NONE;
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
    fn descend(&mut self, member: &mut Member, parent: &Member, child: Child<'_>) {
        let mut effect = *self.trail.effect(parent);
        let policy = &self.policy;
        let mut named = false;
        member.waiting =
            policy
                .paths()
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
                Err(Stop::Quarantine(Reason::Malformed)) => self.reset(),
                scanned => return scanned,
            }
        }
        let member = self.root();
        let classes = classes::of(key);
        let token = Token {
            start: 0,
            end: key.len(),
            classes,
        };
        let scalar = Scalar {
            bytes: key,
            level: 0,
            token,
            kind: Kind::Key,
        };
        self.detect(scalar, Writing::Plain, &member)?;
        for finding in &mut self.findings {
            finding.pointer = (0, 0);
        }
        Ok(())
    }

    /// Walks one JSON text, whose only value is `root`.
    fn walk(&mut self, bytes: &[u8], level: usize, root: Member) -> Result<(), Stop> {
        let stack = std::mem::take(&mut self.stacks[level]);
        let mut walker = Walker::new(bytes, self.policy.limits().depth, stack);
        let walked = self.events(&mut walker, bytes, level, root);
        self.stacks[level] = walker.into_stack();
        walked
    }

    fn events(
        &mut self,
        walker: &mut Walker<'_>,
        bytes: &[u8],
        level: usize,
        root: Member,
    ) -> Result<(), Stop> {
        let floor = self.trail.frames.len();
        let mut member = root;
        loop {
            let event = walker.advance()?;
            let at = match event {
                Event::Key(token) => {
                    member = self.key(bytes, level, token, walker.comma_before())?;
                    continue;
                }
                Event::End(end) => {
                    if let Some(frame) = self.trail.close() {
                        member = frame.member;
                        let contained = self.trail.frames.len() > floor;
                        if !frame.removed {
                            self.keep();
                        } else if !(contained && self.removed()) {
                            self.remove(walker, level, &member, end, contained);
                        }
                    }
                    continue;
                }
                Event::Done => return Ok(()),
                Event::Object(at) | Event::Array(at) => at,
                Event::Text(token) => token.start - 1,
                Event::Number(token) | Event::Literal(token) => token.start,
            };
            let contained = self.trail.frames.len() > floor;
            if contained {
                member = self.element(member, at, walker.comma_before());
            } else {
                member.start = at;
            }
            let removed = self.removed();
            match event {
                Event::Object(_) | Event::Array(_) => {
                    let drops = removed || self.drops_member(&member, bytes)?;
                    self.trail
                        .open(matches!(event, Event::Object(_)), member, drops, bytes);
                }
                _ if removed => {}
                Event::Text(token) | Event::Number(token) | Event::Literal(token) => {
                    let (kind, end) = match event {
                        Event::Text(_) => (Kind::Text, token.end + 1),
                        _ => (Kind::Number, token.end),
                    };
                    let scalar = Scalar {
                        bytes,
                        level,
                        token,
                        kind,
                    };
                    let gone = match event {
                        Event::Literal(_) => self.literal(scalar, &member)?,
                        _ => self.scalar(scalar, &member)?,
                    };
                    if gone {
                        self.remove(walker, level, &member, end, contained);
                    } else {
                        self.keep();
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the innermost container is removed as a whole.
    fn removed(&self) -> bool {
        self.trail.frames.last().is_some_and(|frame| frame.removed)
    }

    fn keep(&mut self) {
        if let Some(frame) = self.trail.frames.last_mut() {
            frame.kept = true;
        }
    }

    /// Whether a rule removes the whole member, whatever it is.
    fn drops_member(&mut self, member: &Member, bytes: &[u8]) -> Result<bool, Stop> {
        let Some(rule) = member.rule else {
            return Ok(false);
        };
        match self.policy.rule(rule).action {
            Action::DropRecord => Err(Stop::Drop(rule)),
            Action::DropField => {
                self.tell(BY_RULE, rule, member.segment, bytes, false, 0..0)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Removes a member of an object with its comma; an element of an array, and what no container
    /// contains, becomes `null`.
    fn remove(
        &mut self,
        walker: &Walker<'_>,
        level: usize,
        member: &Member,
        end: usize,
        contained: bool,
    ) {
        let container = self.trail.frames.last().filter(|_| contained);
        let (object, kept) = container.map_or((false, false), |frame| (frame.object, frame.kept));
        let range = match (object, kept, member.comma, walker.comma_after()) {
            (false, ..) => {
                let range = self.in_record(level, member.start..end);
                self.edits.add(range, |out| out.extend_from_slice(b"null"));
                self.keep();
                return;
            }
            (true, true, Some(comma), _) => comma..end,
            (true, _, _, Some(after)) => member.start..after,
            (true, ..) => member.start..end,
        };
        let range = self.in_record(level, range);
        self.edits.add(range, |_| {});
    }

    /// A range of the text at `level` as a range of the record.
    fn in_record(&self, level: usize, range: Range<usize>) -> Range<usize> {
        (1..=level)
            .rev()
            .fold(range, |range, level| self.maps[level].source(range))
    }

    /// The member that starts at a key.
    fn key(
        &mut self,
        bytes: &[u8],
        level: usize,
        token: Token,
        comma: Option<usize>,
    ) -> Result<Member, Stop> {
        self.trail.next_member();
        let Some(&frame) = self.trail.frames.last() else {
            return Err(Stop::Quarantine(Reason::Malformed));
        };
        let written = &bytes[token.start..token.end];
        let member = Member {
            segment: Segment::Root,
            start: token.start - 1,
            comma,
            ..frame.member
        };
        if frame.removed {
            return Ok(member);
        }
        let known = self.keys.get(written);
        let (segment, known) = match known {
            Some(known) => (written_segment(token), known),
            None => self.unknown_key(bytes, level, token, &member)?,
        };
        let above = frame.member.evidence.for_members(frame.member.key);
        let mut member = Member {
            segment,
            evidence: known.evidence.beneath(above),
            key: known.evidence,
            ..member
        };
        let inherited = frame.member.rule;
        member.rule = None;
        if !self.policy.paths().is_empty() {
            member.rule = self.trail.effect(&frame.member).values;
            if token.classes & ESCAPE == 0 {
                self.descend(&mut member, &frame.member, Child::Name(written));
            } else {
                let mut decoded = std::mem::take(&mut self.decoded_key);
                decoded.cast(written, 0, Writing::Escaped, false);
                self.descend(&mut member, &frame.member, Child::Name(&decoded.text));
                self.decoded_key = decoded;
            }
        }
        member.rule = member.rule.or(known.rule).or(inherited);
        Ok(member)
    }

    /// Looks at a key that the cache does not hold: its evidence, and findings in it.
    fn unknown_key(
        &mut self,
        bytes: &[u8],
        level: usize,
        token: Token,
        member: &Member,
    ) -> Result<(Segment, Known), Stop> {
        let written = &bytes[token.start..token.end];
        let mut decoded = std::mem::take(&mut self.decoded_key);
        let folds = token.classes & (ESCAPE | HIGH) != 0;
        let name = if folds {
            decoded.cast(written, 0, Writing::Escaped, true);
            &decoded.text
        } else {
            written
        };
        let known = Known {
            evidence: keys::evidence(name),
            rule: self
                .policy
                .names_keys()
                .then(|| self.policy.rule_for_key(&keys::normal_form(name)))
                .flatten(),
        };
        let told = self.findings.len();
        let scalar = Scalar {
            bytes,
            level,
            token,
            kind: Kind::Key,
        };
        // A key is judged by itself: what stands above it only says that versions are no addresses.
        let member = Member {
            evidence: member.evidence & Evidence::VERSION,
            rule: None,
            ..*member
        };
        let shown = self.detect(scalar, Writing::Escaped, &member)?;
        let segment = match shown {
            Some(segment) => segment,
            None => {
                if folds {
                    decoded.cast(written, 0, Writing::Escaped, false);
                    self.trail.name(&decoded.text)
                } else {
                    if self.findings.len() == told
                        && !member.evidence.has(Evidence::VERSION)
                        && member.effect == 0
                    {
                        self.keys.put(written, known);
                    }
                    written_segment(token)
                }
            }
        };
        self.decoded_key = decoded;
        Ok((segment, known))
    }

    /// The member for a value: in an object its key has made it, in an array it is made here.
    fn element(&mut self, member: Member, at: usize, comma: Option<usize>) -> Member {
        let Some(frame) = self.trail.frames.last_mut() else {
            return member;
        };
        if frame.object {
            return member;
        }
        let index = frame.index;
        frame.index = index.saturating_add(1);
        let frame = *frame;
        let mut member = Member {
            segment: Segment::Index(index),
            start: at,
            comma,
            ..frame.member
        };
        if !frame.removed && !self.policy.paths().is_empty() {
            self.trail.next_member();
            self.descend(&mut member, &frame.member, Child::Index(index));
            member.rule = member.rule.or(frame.member.rule);
        }
        member
    }

    /// `true`, `false` and `null`: only a rule for the whole value touches them. Returns whether
    /// the member is to be removed.
    fn literal(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<bool, Stop> {
        let Some(rule) = member.rule else {
            return Ok(false);
        };
        if self.drops_member(member, scalar.bytes)? {
            return Ok(true);
        }
        let written = scalar.token.start..scalar.token.end;
        if &scalar.bytes[written.clone()] != b"null" {
            self.tell(
                BY_RULE,
                rule,
                member.segment,
                scalar.bytes,
                false,
                0..written.len(),
            )?;
            let range = self.in_record(scalar.level, written);
            self.edits.add(range, |out| out.extend_from_slice(b"null"));
        }
        Ok(false)
    }

    /// Scans a text or number. Returns whether the member is to be removed.
    fn scalar(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<bool, Stop> {
        let Token {
            start,
            end,
            classes,
        } = scalar.token;
        if scalar.kind == Kind::Text {
            let whole = Evidence::NAME | Evidence::STREET | Evidence::BIRTH_DATE;
            let first = scalar.bytes.get(start).copied();
            if let Some(b'{' | b'[' | b'\\' | b' ') = first
                && member.rule.is_none()
                && !member.evidence.has(whole)
                && self.nested(scalar, member)?
            {
                return Ok(false);
            }
        } else if member.rule.is_none() && detect::number_is_short(end - start, member.evidence) {
            return Ok(false);
        }
        if member.rule.is_none() && !detect::worth_a_look(classes, end - start, member.evidence) {
            return Ok(false);
        }
        if self.drops_member(member, scalar.bytes)? {
            return Ok(true);
        }
        let told = self.findings.len();
        self.detect(scalar, Writing::Escaped, member)?;
        Ok(self.findings[told..]
            .iter()
            .any(|finding| finding.action == Action::DropField.name()))
    }

    /// Scans a string that holds JSON as JSON. Returns whether it does.
    fn nested(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<bool, Stop> {
        let Token { start, end, .. } = scalar.token;
        let written = &scalar.bytes[start..end];
        let level = scalar.level + 1;
        let limit = self.policy.limits().nested_json;
        if level > limit {
            let mut shadow = std::mem::take(&mut self.shadow);
            shadow.cast(written, 0, Writing::Escaped, false);
            let holds =
                frames_json(&shadow.text) && is_json(&shadow.text, self.policy.limits().depth);
            self.shadow = shadow;
            return if holds {
                Err(Stop::Quarantine(Reason::NestedTooDeep))
            } else {
                Ok(false)
            };
        }
        let text = std::mem::take(&mut self.texts[level]);
        let map = std::mem::take(&mut self.maps[level]);
        let mut shadow = Shadow::from_parts(text, map);
        shadow.cast(written, start, Writing::Escaped, false);
        let (text, map) = shadow.into_parts();
        self.maps[level] = map;
        let scanned = if frames_json(&text) {
            self.inside(&text, scalar.bytes, level, member)
        } else {
            Ok(false)
        };
        self.texts[level] = text;
        scanned
    }

    fn inside(
        &mut self,
        text: &[u8],
        around: &[u8],
        level: usize,
        member: &Member,
    ) -> Result<bool, Stop> {
        let mark = self.trail.mark();
        let (edits, findings, pointers) =
            (self.edits.len(), self.findings.len(), self.pointers.len());
        self.trail.enter(member.segment, around);
        let root = Member {
            segment: Segment::Root,
            ..*member
        };
        let walked = self.walk(text, level, root);
        self.trail.back_to(mark);
        match walked {
            Ok(()) => Ok(true),
            Err(Stop::Quarantine(Reason::Malformed)) => {
                self.edits.truncate(edits);
                self.findings.truncate(findings);
                self.pointers.truncate(pointers);
                Ok(false)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Runs the detectors over one scalar or key and acts on what they find. Returns how a key
    /// with findings is shown in pointers.
    fn detect(
        &mut self,
        scalar: Scalar<'_>,
        writing: Writing,
        member: &Member,
    ) -> Result<Option<Segment>, Stop> {
        let Token {
            start,
            end,
            classes,
        } = scalar.token;
        let written = &scalar.bytes[start..end];
        let mut shadow = std::mem::take(&mut self.shadow);
        let folds =
            classes & (ESCAPE | HIGH) != 0 || writing == Writing::Plain && written.contains(&0);
        let classes = if folds {
            shadow.cast(written, start, writing, true);
            classes::of(&shadow.text)
        } else {
            classes
        };
        let text = Text {
            bytes: if folds { &shadow.text } else { written },
            evidence: member.evidence,
            kind: scalar.kind,
        };
        let mut hits = std::mem::take(&mut self.hits);
        hits.list.clear();
        detect::scan(
            &text,
            classes | number_classes(scalar.kind),
            self.policy.enabled(),
            &mut hits,
        );
        if member.rule.is_some() && !text.bytes.is_empty() {
            hits.claim(0..text.bytes.len(), BY_RULE);
        }
        let mut shown = Ok(None);
        if !hits.list.is_empty() {
            let map = folds.then(|| shadow.map());
            shown = self.settle(scalar, &text, map, member, &mut hits.list);
        }
        self.hits = hits;
        self.shadow = shadow;
        shown
    }

    /// Joins overlapping hits and acts once on each union.
    fn settle(
        &mut self,
        scalar: Scalar<'_>,
        text: &Text<'_>,
        map: Option<&OffsetMap>,
        member: &Member,
        hits: &mut Vec<Hit>,
    ) -> Result<Option<Segment>, Stop> {
        let policy = Arc::clone(&self.policy);
        let effect = *self.trail.effect(member);
        let rule_of = |hit: &Hit| match hit.detector {
            BY_RULE => member.rule,
            detector => policy.rule_for(class_of(detector), &effect),
        };
        hits.retain(|hit| {
            let class = class_of(hit.detector);
            let found = &text.bytes[hit.start..hit.end];
            let row = &TABLE[usize::from(hit.detector)];
            rule_of(hit).is_some_and(|rule| {
                let exempt = !class.must_redact()
                    && hit.detector != BY_RULE
                    && (effect.allow.has(class) || policy.exempts(class, found));
                !(exempt || row.takes_whole_values() && policy.is_replacement(rule, found))
            })
        });
        hits.sort_unstable_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end), hit.detector));
        let mut shown = Vec::new();
        let mut copied = 0;
        let mut index = 0;
        while let Some(first) = hits.get(index) {
            let mut union = first.start..first.end;
            let mut winner = (weight(first, &policy, rule_of(first)), *first);
            index += 1;
            while let Some(next) = hits.get(index).filter(|next| next.start < union.end) {
                union.end = union.end.max(next.end);
                let weight = weight(next, &policy, rule_of(next));
                if weight > winner.0 {
                    winner = (weight, *next);
                }
                index += 1;
            }
            let winner = winner.1;
            let Some(rule) = rule_of(&winner) else {
                continue;
            };
            if scalar.kind == Kind::Key {
                shown.extend_from_slice(&text.bytes[copied..union.start]);
                shown.extend_from_slice(class_of(winner.detector).label().as_bytes());
                copied = union.end;
            }
            let exact = union == (winner.start..winner.end);
            self.act(
                scalar,
                text,
                map,
                member,
                winner.detector,
                rule,
                union,
                exact,
            )?;
        }
        if scalar.kind != Kind::Key || copied == 0 {
            return Ok(None);
        }
        shown.extend_from_slice(&text.bytes[copied..]);
        let segment = self.trail.name(&shown);
        // The findings of a key were told before its form in pointers was known.
        self.point(segment, scalar.bytes);
        Ok(Some(segment))
    }

    /// Acts on one union of hits.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, and each is a thing of its own"
    )]
    fn act(
        &mut self,
        scalar: Scalar<'_>,
        text: &Text<'_>,
        map: Option<&OffsetMap>,
        member: &Member,
        detector: u8,
        rule: u16,
        union: Range<usize>,
        exact: bool,
    ) -> Result<(), Stop> {
        let policy = Arc::clone(&self.policy);
        let action = &policy.rule(rule).action;
        let class = class_of(detector);
        let (written, decoded) = match map {
            Some(map) => (map.source(union.clone()), map.decoded(union.clone())),
            None => {
                let start = scalar.token.start;
                (start + union.start..start + union.end, union.clone())
            }
        };
        self.tell(
            detector,
            rule,
            member.segment,
            scalar.bytes,
            scalar.kind == Kind::Key,
            decoded,
        )?;
        let found = &text.bytes[union];
        let label = Action::Label(None);
        let whole = match scalar.kind {
            Kind::Text => scalar.token.start - 1..scalar.token.end + 1,
            _ => scalar.token.start..scalar.token.end,
        };
        let action = match (action, scalar.kind) {
            (Action::DropRecord, _) => return Err(Stop::Drop(rule)),
            (Action::Keep, _) => return Ok(()),
            (Action::DropField, Kind::Text | Kind::Number) => return Ok(()),
            (Action::DropField | Action::Null | Action::Round { .. } | Action::Year, Kind::Key) => {
                &label
            }
            (Action::Round { .. } | Action::Year, Kind::Number) => action,
            (_, Kind::Number) => &Action::Null,
            // A union that reaches beyond the winner may hold more than its action hides.
            (action, _) if !exact && action.reveals() => &label,
            (action, _) => action,
        };
        let is_year = scalar.kind == Kind::Number
            && *action == Action::Year
            && detect::year_of(found).is_none();
        let range = if *action == Action::Null || is_year {
            whole
        } else {
            written
        };
        let range = self.in_record(scalar.level, range);
        self.edits.add(range, |out| {
            let null = is_year
                || action::replace(action, class, found, policy.key(), out) == Outcome::Null;
            if null {
                out.extend_from_slice(b"null");
            }
        });
        Ok(())
    }

    /// Records a finding.
    fn tell(
        &mut self,
        detector: u8,
        rule: u16,
        segment: Segment,
        bytes: &[u8],
        in_key: bool,
        decoded: Range<usize>,
    ) -> Result<(), Stop> {
        if self.findings.len() >= self.policy.limits().findings {
            return Err(Stop::Quarantine(Reason::TooManyFindings));
        }
        let from = self.pointers.len();
        if !in_key {
            self.trail.render(segment, bytes, &mut self.pointers);
        }
        self.findings.push(Finding {
            detector,
            class: class_of(detector),
            action: self.policy.rule(rule).action.name(),
            rule,
            in_key,
            offset: narrow(decoded.start),
            length: narrow(decoded.len()),
            pointer: (narrow(from), narrow(self.pointers.len())),
        });
        Ok(())
    }

    /// Gives the last findings, which lie in one key, their pointer.
    fn point(&mut self, segment: Segment, bytes: &[u8]) {
        let from = self.pointers.len();
        self.trail.render(segment, bytes, &mut self.pointers);
        let pointer = (narrow(from), narrow(self.pointers.len()));
        let open =
            |finding: &&mut Finding| finding.in_key && finding.pointer.0 == finding.pointer.1;
        for finding in self.findings.iter_mut().rev().take_while(open) {
            finding.pointer = pointer;
        }
    }
}

fn written_segment(token: Token) -> Segment {
    Segment::Written(narrow(token.start), narrow(token.end))
}

fn class_of(detector: u8) -> Class {
    TABLE[usize::from(detector)].info.class
}

/// Which of overlapping hits decides: what must be redacted before other classes, a rule that hides
/// all before one that shows some, the longer, the earlier in the table.
fn weight(hit: &Hit, policy: &Policy, rule: Option<u16>) -> (bool, bool, usize, u8) {
    let action = rule.map(|rule| &policy.rule(rule).action);
    let hides = action.is_some_and(|action| !action.reveals());
    let must = class_of(hit.detector).must_redact() || hit.detector == BY_RULE && hides;
    let acts = action.is_some_and(|action| *action != Action::Keep);
    (must, acts, hit.end - hit.start, u8::MAX - hit.detector)
}

fn number_classes(kind: Kind) -> Classes {
    if kind == Kind::Number { DIGIT } else { 0 }
}

/// Whether a text starts and ends as JSON that holds texts does.
fn frames_json(text: &[u8]) -> bool {
    let trimmed = text.trim_ascii();
    matches!(
        (trimmed.first(), trimmed.last()),
        (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) | (Some(b'"'), Some(b'"'))
    )
}

fn is_json(text: &[u8], depth_max: usize) -> bool {
    let mut walker = Walker::new(text, depth_max, Vec::new());
    loop {
        match walker.advance() {
            Ok(Event::Done) | Err(JsonError::TooDeep | JsonError::LoneSurrogate) => return true,
            Ok(_) => {}
            Err(JsonError::Malformed) => return false,
        }
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
