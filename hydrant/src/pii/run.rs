//! Strips personal data from lines, in order.
//!
//! A line that cannot be processed is not written: only the report and the summary mention it. Nothing leaves
//! unscanned. A panic costs only the line at which it happens. The lines of one read are written out before the next
//! read, so that a slow input holds nothing back and a signal loses nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use hydrant_core::workers::{INTERNAL_FAULT, contain};
use hydrant_core::{Error, Result, Shutdown};
use hydrant_pii::{Engine, FindingCounts, Policy, ScanVerdict};
use hydrant_producer::input::LineBlock;
use serde::Serialize;

use super::{input, write_error};
use crate::output::{count_text, counted};

/// Counts of what happened to the lines.
#[derive(Debug, Default, Serialize)]
pub(super) struct LineSummary {
    lines: u64,
    clean: u64,
    redacted: u64,
    quarantined: u64,
    dropped: u64,
    findings: BTreeMap<&'static str, u64>,
}

impl LineSummary {
    /// One line for people.
    pub(super) fn text(&self) -> String {
        let findings: Vec<String> = self
            .findings
            .iter()
            .map(|(detector, count)| format!("{detector} {}", count_text(*count)))
            .collect();
        format!(
            "{}: {} clean, {} redacted, {} quarantined, {} dropped; findings: {}",
            counted(self.lines, "line"),
            count_text(self.clean),
            count_text(self.redacted),
            count_text(self.quarantined),
            count_text(self.dropped),
            if findings.is_empty() {
                "none".to_owned()
            } else {
                findings.join(", ")
            }
        )
    }
}

#[derive(Serialize)]
struct ReportLine<T> {
    line: u64,
    #[serde(flatten)]
    about: T,
}

/// What became of a line that is not written.
#[derive(Serialize)]
struct LineOutcome<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    length: u64,
}

fn quarantined(reason: &'static str, length: u64) -> LineOutcome<'static> {
    LineOutcome {
        action: "quarantine",
        reason: Some(reason),
        rule: None,
        length,
    }
}

/// Strips the lines of standard input onto standard output until the input ends, the output is closed, or the process
/// drains.
pub(super) fn strip(
    policy: Arc<Policy>,
    report: Option<&Path>,
    shutdown: &Shutdown,
) -> Result<LineSummary> {
    let report = report.map(|path| File::create(path).map_err(|error| uncreated(path, error)));
    let report = report.transpose()?.map(BufWriter::new);
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut stripper = LineStripper::new(policy, out, report);
    let mut input = input::open(shutdown.clone());
    loop {
        let block = match input.next_block() {
            Ok(Some(block)) => block,
            Err(_) if shutdown.is_draining() => break,
            ended => {
                ended?;
                return Ok(stripper.summary());
            }
        };
        if !stripper.strip(&block)? {
            return Ok(stripper.summary());
        }
    }
    if let Some((line, _)) = input.unfinished() {
        tracing::warn!("line {line} is not written: its end had not come before the signal");
    }
    Ok(stripper.summary())
}

/// The engine between its input and its outputs.
struct LineStripper<O, R> {
    policy: Arc<Policy>,
    engine: Engine,
    tally: FindingCounts,
    /// Lines that the engine gave no verdict on.
    refused: u64,
    /// The line that the engine changed last.
    stripped: Vec<u8>,
    out: O,
    report: Option<R>,
}

impl<O: Write, R: Write> LineStripper<O, R> {
    fn new(policy: Arc<Policy>, out: O, report: Option<R>) -> Self {
        LineStripper {
            engine: Engine::new(Arc::clone(&policy)),
            policy,
            tally: FindingCounts::default(),
            refused: 0,
            stripped: Vec::new(),
            out,
            report,
        }
    }

    /// Strips a block of lines, and writes out all that there is to write about it. `false` when the reader of the
    /// output is gone.
    fn strip(&mut self, block: &LineBlock) -> Result<bool> {
        debug_assert!(
            block.lines.is_sorted_by(|a, b| a.number < b.number),
            "lines come in order"
        );
        for line in &block.lines {
            if !self.line(line.number, &block.bytes[line.range.clone()])? {
                return Ok(false);
            }
        }
        for line in &block.refused {
            self.refused += 1;
            let outcome = quarantined("line-too-long", line.length);
            report_line(&mut self.report, line.number, outcome)?;
        }
        if let Some(report) = &mut self.report {
            let flushed = report.flush();
            flushed.map_err(|error| write_error("the report", &error))?;
        }
        is_written(self.out.flush())
    }

    fn line(&mut self, number: u64, payload: &[u8]) -> Result<bool> {
        let length = payload.len() as u64;
        self.stripped.clear();
        let processed = contain(|| process(&mut self.engine, payload, &mut self.stripped));
        if let Some(verdict) = processed {
            self.tally.add(verdict, self.engine.findings());
        }
        let kept = match processed {
            Some(ScanVerdict::Clean) => Ok(payload),
            Some(ScanVerdict::Redacted) => Ok(self.stripped.as_slice()),
            Some(ScanVerdict::Quarantined { reason }) => Err(quarantined(reason.code(), length)),
            Some(ScanVerdict::Dropped { rule }) => Err(LineOutcome {
                action: "drop",
                reason: None,
                rule: Some(self.policy.rule_name(rule)),
                length,
            }),
            None => {
                // The panic may have left the engine half done: start with a new one.
                self.engine = Engine::new(Arc::clone(&self.policy));
                self.refused += 1;
                Err(quarantined(INTERNAL_FAULT, length))
            }
        };
        match kept {
            Ok(kept) => {
                let written = self.out.write_all(kept);
                if !is_written(written.and_then(|()| self.out.write_all(b"\n")))? {
                    return Ok(false);
                }
                if self.report.is_some() {
                    for finding in self.engine.reports() {
                        report_line(&mut self.report, number, finding)?;
                    }
                }
            }
            Err(outcome) => report_line(&mut self.report, number, outcome)?,
        }
        Ok(true)
    }

    fn summary(&self) -> LineSummary {
        let (tally, refused) = (&self.tally, self.refused);
        LineSummary {
            lines: tally.clean + tally.redacted + tally.quarantined + tally.dropped + refused,
            clean: tally.clean,
            redacted: tally.redacted,
            quarantined: tally.quarantined + refused,
            dropped: tally.dropped,
            findings: tally.findings().collect(),
        }
    }
}

fn process(engine: &mut Engine, payload: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
    #[cfg(test)]
    assert!(payload != tests::FAULT, "a panic that a test asked for");
    engine.process(payload, out)
}

/// The error of a report that cannot be created; a refusal where its path is wrong.
fn uncreated(path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => Error::refused(format!(
            "the directory of the report `{shown}` does not exist: create it first"
        )),
        io::ErrorKind::IsADirectory => Error::refused(format!(
            "the report `{shown}` is a directory: name a file in it"
        )),
        _ => Error::io("create", path, error),
    }
}

/// Whether the write succeeded; `false` when the reader of standard output is gone.
fn is_written(written: io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(write_error("to standard output", &error)),
    }
}

/// Adds what there is to say about a line to the report, if one is written.
fn report_line(report: &mut Option<impl Write>, line: u64, about: impl Serialize) -> Result<()> {
    let Some(report) = report else {
        return Ok(());
    };
    serde_json::to_writer(&mut *report, &ReportLine { line, about })
        .map_err(io::Error::from)
        .and_then(|()| report.write_all(b"\n"))
        .map_err(|error| write_error("the report", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydrant_producer::input::{LineReader, ReadOptions};

    pub(super) const FAULT: &[u8] = br#"{"fault":1}"#;

    #[test]
    fn a_panic_costs_its_line_alone() {
        let text = b"{\"a\":1}\n{\"fault\":1}\n{\"ip\":\"198.51.100.23\"}\n";
        let mut input = LineReader::new("lines", &text[..], ReadOptions::lines(1024));
        let (mut out, mut report) = (Vec::new(), Vec::new());
        let policy = Arc::new(Policy::strict());
        let mut stripper = LineStripper::new(policy, &mut out, Some(&mut report));
        while let Some(block) = input.next_block().unwrap() {
            assert!(stripper.strip(&block).unwrap());
        }
        let summary = stripper.summary();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, "{\"a\":1}\n{\"ip\":\"198.51.100.0/24\"}\n");
        let LineSummary {
            lines,
            clean,
            redacted,
            quarantined,
            ..
        } = summary;
        assert_eq!((lines, clean, redacted, quarantined), (3, 1, 1, 1));
        let report = String::from_utf8(report).unwrap();
        let first = report.lines().next().unwrap();
        assert!(
            first.contains("\"line\":2") && first.contains("internal_fault"),
            "{report}"
        );
    }
}
