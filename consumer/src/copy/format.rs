//! The formats of records outside of a stream.
//!
//! - `ndjson`: the payload and a line feed. In a JSON payload line breaks become spaces, which does not change its
//!   value, because JSON has no raw line break inside of a string. A line break at the very end of a payload is
//!   dropped. Other text with line breaks, bytes that are not UTF-8, and a tombstone cannot be written as a line: they
//!   are poison. Keys, headers and everything else stay behind.
//! - `json`: one object a line with `stream`, `shard`, `sequence` (text, because it may have 56 digits), `sub`, `key`
//!   (or `key_base64`; null without a key), `stamp` (microseconds since 1970; null if the producer gave none),
//!   `origin` (null, or `writer`, `shard`, `sequence`, `sub`, `index`), `headers` if there are any (an array in their
//!   order of `name` and `value`, or `value_base64` if that is not UTF-8; null for null) and the payload: as `payload` if
//!   it is JSON, else as `payload_text` if it is UTF-8, else as `payload_base64`; or `tombstone`, which is true, without
//!   one. Every record can be written in this format.
//! - `raw`: the bytes of the payload and nothing else; of a tombstone nothing.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use hydrant_core::batch::{Batch, Entry};
use hydrant_core::headers::read_headers;
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
pub(crate) const TOMBSTONE: PoisonReason = "tombstone";
pub(crate) const LINE_BREAK: PoisonReason = "line_break";

impl CopyFormat {
    /// Appends the records of `batch` with the indexes `record_indexes`, from this stream and shard; returns those that cannot be
    /// written in this format.
    pub fn write(
        self,
        batch: &Batch,
        record_indexes: &[u32],
        place: (&StreamId, &ShardId),
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
            let index = record_indexes[at] as usize;
            let entry = &batch.records[index];
            written.start = written.out.len();
            match self {
                CopyFormat::Raw => written.out.extend_from_slice(batch.payload(entry)),
                CopyFormat::Ndjson if batch.is_tombstone(index) => {
                    written.refused.push((record_indexes[at], TOMBSTONE));
                }
                CopyFormat::Ndjson => {
                    if let Err(reason) = write_line(batch.payload(entry), written.out) {
                        written.refused.push((record_indexes[at], reason));
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
            written.refused.push((record_indexes[at], INTERNAL_FAULT));
        };
        let _all = contain_each(&mut written, 0..record_indexes.len(), step, faulted);
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
    (stream, shard): (&StreamId, &ShardId),
    out: &mut Vec<u8>,
) {
    let (sequence, sub) = batch.position(index);
    out.extend_from_slice(b"{\"stream\":");
    write_text(&stream.name, out);
    out.extend_from_slice(b",\"shard\":");
    write_text(shard.as_str(), out);
    write_fmt(
        out,
        format_args!(",\"sequence\":\"{sequence}\",\"sub\":{sub},"),
    );
    write_bytes("key", batch.key(entry), out);
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
    let headers = batch.headers(index);
    if !headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        write_headers(headers, out);
    }
    let payload = batch.payload(entry);
    if batch.is_tombstone(index) {
        out.extend_from_slice(b",\"tombstone\":true");
    } else if is_json(payload) {
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

/// Writes a member with text as it is, other bytes in base64 under a name of their own, and null for none.
fn write_bytes(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes.map(std::str::from_utf8) {
        None => write_fmt(out, format_args!("\"{name}\":null")),
        Some(Ok(text)) => {
            write_fmt(out, format_args!("\"{name}\":"));
            write_text(text, out);
        }
        Some(Err(_)) => {
            write_fmt(out, format_args!("\"{name}_base64\":"));
            write_base64(bytes.unwrap_or_default(), out);
        }
    }
}

fn write_headers(block: &[u8], out: &mut Vec<u8>) {
    let mut separator = b'[';
    // A stream hands on whole blocks only.
    for header in read_headers(block).map_while(Result::ok) {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(b"{\"name\":");
        write_text(header.name, out);
        out.push(b',');
        write_bytes("value", header.value, out);
        out.push(b'}');
    }
    out.push(b']');
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
    use hydrant_core::batch::Span;
    use hydrant_core::headers::put_header;

    use super::super::tests::{batch, pick_all};
    use super::*;

    fn written(
        format: CopyFormat,
        records: &[(Option<&[u8]>, &[u8])],
    ) -> (String, Vec<(u32, PoisonReason)>) {
        let batch = batch(7, records);
        let stream = StreamId::new("s\"", "1");
        let place = (&stream, &"a".into());
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

    #[test]
    fn headers_and_tombstones_show_in_objects_only() {
        let mut batch = batch(7, &[(Some(b"k"), b"{}"), (Some(b"k"), b""), (None, b"")]);
        let mut segment = batch.segments[0].to_vec();
        let start = segment.len() as u32;
        put_header(&mut segment, "trace", Some(b"a\"b"));
        put_header(&mut segment, "trace", None);
        put_header(&mut segment, "raw", Some(b"\xff"));
        let len = segment.len() as u32 - start;
        batch.segments = [segment.into()].into();
        batch.headers = vec![Span::new(start, len), Span::default(), Span::default()];
        batch.tombstones = vec![1];
        assert!(batch.is_aligned());
        let stream = StreamId::new("s", "1");
        let write = |format: CopyFormat| {
            let place = (&stream, &"a".into());
            let mut out = Vec::new();
            let refused = format.write(&batch, &pick_all(&batch), place, &mut out);
            (String::from_utf8(out).unwrap(), refused)
        };
        let (text, refused) = write(CopyFormat::Json);
        let ends: Vec<_> = text
            .lines()
            .map(|line| line.split_once("\"origin\":null").unwrap().1)
            .collect();
        assert_eq!(
            ends,
            [
                ",\"headers\":[{\"name\":\"trace\",\"value\":\"a\\\"b\"},{\"name\":\"trace\",\"value\":null},\
                 {\"name\":\"raw\",\"value_base64\":\"/w==\"}],\"payload\":{}}",
                ",\"tombstone\":true}",
                ",\"payload_text\":\"\"}",
            ]
        );
        assert!(refused.is_empty());
        let lines = write(CopyFormat::Ndjson);
        assert_eq!(lines, ("{}\n\n".to_owned(), vec![(1, TOMBSTONE)]));
        assert_eq!(write(CopyFormat::Raw), ("{}".to_owned(), Vec::new()));
    }
}
