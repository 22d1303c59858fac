//! The formats of records outside of a stream.
//!
//! - `ndjson`: the payload and a line feed. In a JSON payload line breaks become spaces, which does not change its
//!   value, because JSON has no raw line break inside of a string. A line break at the very end of a payload is
//!   dropped. Other text with line breaks, and bytes that are not UTF-8, cannot be written as a line: they are
//!   poison.
//! - `json`: one object a line with `stream`, `shard`, `sequence` (text, because it may have 56 digits), `sub`, `key`
//!   (or `key_base64`; null without a key), `stamp` (microseconds since 1970; null if the producer gave none),
//!   `origin` (null, or `writer`, `shard`, `sequence`, `sub`, `index`) and the payload: as `payload` if it is JSON,
//!   else as `payload_text` if it is UTF-8, else as `payload_base64`. Every record can be written in this format.
//! - `raw`: the bytes of the payload and nothing else.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use hydrant_core::batch::{Batch, Entry};
use hydrant_core::origin::{Origin, OriginEntry};
use hydrant_core::shard::{ShardId, StreamId};
use hydrant_core::workers::{INTERNAL_FAULT, contain_each};
use hydrant_json as json;

/// A format of records outside of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// One payload a line.
    Ndjson,
    /// One object a line, with everything that is known about the record.
    Json,
    /// The payloads' bytes.
    Raw,
}

impl CopyFormat {
    /// The formats by name.
    pub const CHOICES: &[(&str, CopyFormat)] = &[
        ("ndjson", CopyFormat::Ndjson),
        ("json", CopyFormat::Json),
        ("raw", CopyFormat::Raw),
    ];
}

/// The reason why a record cannot be copied, as dead letters name it.
pub type PoisonReason = &'static str;

pub(crate) const NOT_UTF8: PoisonReason = "not_utf8";
pub(crate) const LINE_BREAK: PoisonReason = "line_break";

/// The stream and the shard that a format writes beside a record.
#[derive(Clone, Copy, Debug)]
pub struct ShardLabel<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The shard.
    pub shard: &'a ShardId,
}

impl CopyFormat {
    /// Appends the records of `batch` with the indexes `picks`; returns those that cannot be written in this format.
    pub fn write(
        self,
        batch: &Batch,
        picks: &[u32],
        place: ShardLabel<'_>,
        out: &mut Vec<u8>,
    ) -> Vec<(u32, PoisonReason)> {
        let origins = match self {
            CopyFormat::Json => origins(batch),
            CopyFormat::Ndjson | CopyFormat::Raw => Vec::new(),
        };
        let mut written = FormattedText {
            start: out.len(),
            out,
            refused: Vec::new(),
        };
        let step = |written: &mut FormattedText<'_>, at: usize| {
            let index = picks[at] as usize;
            let entry = &batch.records[index];
            written.start = written.out.len();
            match self {
                CopyFormat::Raw => written.out.extend_from_slice(batch.payload(entry)),
                CopyFormat::Ndjson => {
                    if let Err(reason) = write_line(batch.payload(entry), written.out) {
                        written.refused.push((picks[at], reason));
                    }
                }
                CopyFormat::Json => {
                    let origin = origins.get(index).and_then(Option::as_ref);
                    write_object(batch, index, entry, origin, place, written.out);
                }
            }
            #[cfg(test)]
            super::tests::panic_if_asked("fault:format", batch.payload(entry));
            ControlFlow::<()>::Continue(())
        };
        let faulted = |written: &mut FormattedText<'_>, at: usize| {
            written.out.truncate(written.start);
            written.refused.push((picks[at], INTERNAL_FAULT));
        };
        let _all = contain_each(&mut written, 0..picks.len(), step, faulted);
        written.refused
    }
}

/// The text of the records written so far.
struct FormattedText<'a> {
    out: &'a mut Vec<u8>,
    /// Where the text of the current record begins.
    start: usize,
    refused: Vec<(u32, PoisonReason)>,
}

fn write_line(payload: &[u8], out: &mut Vec<u8>) -> Result<(), PoisonReason> {
    let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
    let payload = payload.strip_suffix(b"\r").unwrap_or(payload);
    if std::str::from_utf8(payload).is_err() {
        return Err(NOT_UTF8);
    }
    if is_broken(payload) && !is_json(payload) {
        return Err(LINE_BREAK);
    }
    write_unbroken(payload, out);
    out.push(b'\n');
    Ok(())
}

fn is_broken(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

fn is_json(payload: &[u8]) -> bool {
    let end = || json::value(payload, json::skip_space(payload, 0));
    std::str::from_utf8(payload).is_ok()
        && end().is_ok_and(|end| json::skip_space(payload, end) == payload.len())
}

fn write_unbroken(json: &[u8], out: &mut Vec<u8>) {
    out.extend(json.iter().map(|byte| {
        if matches!(byte, b'\n' | b'\r') {
            b' '
        } else {
            *byte
        }
    }));
}

/// Returns the origin of each record, in one pass over the entries.
fn origins(batch: &Batch) -> Vec<Option<(Arc<OriginEntry>, Origin)>> {
    let mut all = vec![None; batch.len()];
    for span in &batch.origins {
        let origins = span.entry.origins.iter().skip(span.skip as usize);
        for (index, origin) in span.records.clone().zip(origins) {
            if let Some(slot) = all.get_mut(index as usize) {
                *slot = Some((Arc::clone(&span.entry), origin));
            }
        }
    }
    all
}

fn write_object(
    batch: &Batch,
    index: usize,
    entry: &Entry,
    origin: Option<&(Arc<OriginEntry>, Origin)>,
    place: ShardLabel<'_>,
    out: &mut Vec<u8>,
) {
    let (sequence, sub) = batch.position(index);
    out.extend_from_slice(b"{\"stream\":");
    write_text(&place.stream.name, out);
    out.extend_from_slice(b",\"shard\":");
    write_text(place.shard.as_str(), out);
    write_fmt(
        out,
        format_args!(",\"sequence\":\"{sequence}\",\"sub\":{sub},"),
    );
    match batch.key(entry) {
        None => out.extend_from_slice(b"\"key\":null"),
        Some(key) => match std::str::from_utf8(key) {
            Ok(key) => {
                out.extend_from_slice(b"\"key\":");
                write_text(key, out);
            }
            Err(_) => {
                out.extend_from_slice(b"\"key_base64\":");
                write_base64(key, out);
            }
        },
    }
    match entry.stamp {
        0 => out.extend_from_slice(b",\"stamp\":null,\"origin\":"),
        stamp => write_fmt(out, format_args!(",\"stamp\":{stamp},\"origin\":")),
    }
    match origin {
        None => out.extend_from_slice(b"null"),
        Some((from, origin)) => {
            write_fmt(
                out,
                format_args!("{{\"writer\":\"{}\",\"shard\":", from.writer),
            );
            write_text(from.shard.as_str(), out);
            let Origin {
                sequence,
                sub,
                index,
            } = origin;
            write_fmt(
                out,
                format_args!(",\"sequence\":\"{sequence}\",\"sub\":{sub},\"index\":{index}}}"),
            );
        }
    }
    let payload = batch.payload(entry);
    if is_json(payload) {
        out.extend_from_slice(b",\"payload\":");
        write_unbroken(payload, out);
    } else if let Ok(text) = std::str::from_utf8(payload) {
        out.extend_from_slice(b",\"payload_text\":");
        write_text(text, out);
    } else {
        out.extend_from_slice(b",\"payload_base64\":");
        write_base64(payload, out);
    }
    out.extend_from_slice(b"}\n");
}

fn write_fmt(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is JSON and a vector takes every byte");
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for chunk in bytes.chunks(3) {
        let part = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n)) as usize & 63];
            out.push(if n <= chunk.len() { digit } else { b'=' });
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, pick_all};
    use super::*;

    fn written(
        format: CopyFormat,
        records: &[(Option<&[u8]>, &[u8])],
    ) -> (String, Vec<(u32, PoisonReason)>) {
        let batch = batch(7, records);
        let stream = StreamId::new("s\"", "1");
        let place = ShardLabel {
            stream: &stream,
            shard: &"a".into(),
        };
        let mut out = Vec::new();
        let refused = format.write(&batch, &pick_all(&batch), place, &mut out);
        (String::from_utf8(out).unwrap(), refused)
    }

    #[test]
    fn a_line_is_one_line() {
        let (text, refused) = written(
            CopyFormat::Ndjson,
            &[
                (None, b"{\"a\":1}"),
                (None, b"{\n \"a\": \"x\\n\"\r\n}\n"),
                (None, b"plain\n"),
                (None, b"two\nlines"),
                (None, b"\xff"),
            ],
        );
        assert_eq!(text, "{\"a\":1}\n{  \"a\": \"x\\n\"  }\nplain\n");
        assert_eq!(refused, [(3, LINE_BREAK), (4, NOT_UTF8)]);
    }

    #[test]
    fn raw_is_the_bytes() {
        let (text, refused) = written(CopyFormat::Raw, &[(None, b"a\n"), (None, b"b")]);
        assert_eq!((text.as_str(), refused.len()), ("a\nb", 0));
    }

    #[test]
    fn an_object_holds_everything_of_any_record() {
        let (text, refused) = written(
            CopyFormat::Json,
            &[
                (Some(b"k\n"), b"{\n\"a\":1e400}"),
                (None, b"two\nlines"),
                (Some(b"\xfe"), b"\xff\xfe\xfd\xfc"),
            ],
        );
        assert!(refused.is_empty());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "{\"stream\":\"s\\\"\",\"shard\":\"a\",\"sequence\":\"7\",\"sub\":0,\"key\":\"k\\n\",\"stamp\":null,\
             \"origin\":null,\"payload\":{ \"a\":1e400}}"
        );
        let second: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(second["payload_text"], "two\nlines");
        assert_eq!(second["key"], serde_json::Value::Null);
        let third: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
        assert_eq!(
            (&third["key_base64"], &third["payload_base64"]),
            (&"/g==".into(), &"//79/A==".into())
        );
        assert_eq!(third["sequence"], "9");
    }
}
