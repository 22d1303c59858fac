//! The readers of JSON agree: the producer's keys, the PII walker, the sink's decoder, and a strict parser by others.
//!
//! A difference between what is scanned and what is stored is a leak, and a difference between the key and the record
//! puts records of a device in several shards. So all readers accept and refuse the same bytes, and see the same keys
//! and values. A refusal for another reason (a table's types, repeated keys) is distinct from a refusal as JSON.

use hydrant_fuzz::Target;
use hydrant_pii::testing::seen;
use hydrant_pii::{Engine, Policy, QuarantineReason, ScanVerdict};
use hydrant_producer::key::KeyTemplate;
use hydrant_sink::decode::{self, DecodeOutcome, Decoder, Provenance, RowOrigin};
use hydrant_sink::encode::write_json_row;
use hydrant_sink::schema::{RESCUED_COLUMN, TableSchema};
use hydrant_sink::table::spec::TableRules;

mod tree;

use tree::{Strict, Tree};

const NOW_MICROS: i64 = 1_780_000_000_000_000;

/// The result of the sink for a record.
enum Stored {
    Row(Tree),
    /// Refused because it is not JSON or not UTF-8.
    NotJson,
    TooDeep,
    /// Refused because a table cannot hold it.
    Other,
}

/// Reads a record with a new decoder, and the row back as JSON.
fn stored(record: &[u8]) -> Stored {
    let schema = TableSchema::default();
    let mut decoder = Decoder::try_new(&schema, &TableRules::default(), NOW_MICROS)
        .expect("the default schema has the default layout");
    let origin = RowOrigin {
        stamp_micros: None,
        arrival_micros: NOW_MICROS,
        sequence: "0",
        sub: 0,
    };
    match decoder.append(record, &origin) {
        DecodeOutcome::Row => {}
        DecodeOutcome::Full => panic!("a new decoder is not full"),
        DecodeOutcome::Rejected(reject) => {
            return match reject.reason {
                decode::RejectReason::MALFORMED_JSON | decode::RejectReason::NOT_UTF8 => {
                    Stored::NotJson
                }
                decode::RejectReason::TOO_DEEP => Stored::TooDeep,
                _ => Stored::Other,
            };
        }
    }
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let provenance = Provenance {
        stream: "s",
        shard: "0",
    };
    let rows = decoded
        .conform(&schema, provenance)
        .expect("rows fit their own schema");
    let batch = rows.partitions[0].rows.to_batch().expect("rows are spread");
    let mut row = Vec::new();
    write_json_row(batch.schema().fields(), batch.columns(), 0, &mut row)
        .expect("a table's types are written");
    let read = |json: &[u8]| {
        let (events, refused) = seen(json, usize::MAX);
        assert_eq!(refused, None, "not JSON: {}", json.escape_ascii());
        Tree::of(&events)
    };
    let mut record = read(&row);
    if let Some(Tree::Text(rescued)) = record.take(RESCUED_COLUMN) {
        record.merge(read(rescued.as_bytes()));
    }
    Stored::Row(record)
}

fn key(path: &[&str], record: &[u8]) -> Option<String> {
    let mut template = String::new();
    for (index, name) in path.iter().enumerate() {
        if index > 0 {
            template.push('.');
        }
        for character in name.chars() {
            if matches!(character, '.' | '{' | '}' | '\\') {
                template.push('\\');
            }
            template.push(character);
        }
    }
    let mut out = Vec::new();
    let key = KeyTemplate::parse(&template)
        .expect("every path that is short enough has a template")
        .extract(record, &mut out)?;
    let key = key.bytes(record, &out).to_vec();
    Some(String::from_utf8(key).expect("a key is text"))
}

/// Collects the paths of scalars that lead through objects only, with names that a template can have.
fn paths<'t>(tree: &'t Tree, path: &mut Vec<&'t str>, all: &mut Vec<Vec<&'t str>>) {
    let Tree::Object(members) = tree else {
        all.push(path.clone());
        return;
    };
    for (name, member) in members {
        if !name.is_empty() && name.len() < 64 && path.len() < 8 {
            path.push(name);
            paths(member, path, all);
            path.pop();
        }
    }
}

/// Compares all readers on one record; answers what they made of it.
fn agree(record: &[u8]) -> (Option<QuarantineReason>, u8) {
    let (events, refused) = seen(record, usize::MAX);
    let tree = Tree::of(&events);
    agree_with_the_engine(record, refused);
    agree_with_a_strict_parser(record, &tree, refused);
    let outcome = agree_with_the_sink(record, &tree, refused);
    agree_with_keys(record, &tree, refused);
    (refused, outcome)
}

/// Checks that walker and engine agree; the engine has a lower limit of depth.
fn agree_with_the_engine(record: &[u8], refused: Option<QuarantineReason>) {
    let mut engine = Engine::new(std::sync::Arc::new(Policy::strict()));
    let verdict = engine.process(record, &mut Vec::new());
    let quarantined = match verdict {
        ScanVerdict::Quarantined { reason } => Some(reason),
        _ => None,
    };
    match (refused, quarantined) {
        (
            None,
            None
            | Some(
                QuarantineReason::TooDeep
                | QuarantineReason::NestedTooDeep
                | QuarantineReason::TooManyFindings,
            ),
        ) => {}
        (Some(_), Some(QuarantineReason::TooDeep)) => {}
        (refused, quarantined) => assert_eq!(refused, quarantined, "walker and engine"),
    }
}

fn agree_with_a_strict_parser(record: &[u8], tree: &Tree, refused: Option<QuarantineReason>) {
    match tree::strict(record) {
        Strict::Tree(strict) => {
            assert_eq!(refused, None, "the strict parser reads {strict:?}");
            assert!(
                strict.same_as(tree),
                "the strict parser reads {strict:?}, the walker {tree:?}"
            );
        }
        Strict::Refused(why) => {
            assert!(refused.is_some(), "the strict parser refuses it: {why}");
        }
        // The strict parser refuses numbers beyond its range, and has its own limit of depth.
        Strict::Beyond { json: true } => {
            // When it skips values, it checks neither depth nor characters.
            assert!(
                refused != Some(QuarantineReason::Malformed),
                "the strict parser accepts it as JSON"
            );
        }
        Strict::Beyond { json: false } => {
            assert!(refused.is_some(), "not JSON for the strict parser")
        }
    }
}

fn agree_with_the_sink(record: &[u8], tree: &Tree, refused: Option<QuarantineReason>) -> u8 {
    match stored(record) {
        Stored::Row(row) => {
            assert_eq!(refused, None, "the sink stores {row:?}");
            let scanned = tree.clone().without_nothing();
            let row = row.without_nothing();
            assert!(
                row.equals(&scanned),
                "stored is {row:?}, scanned was {scanned:?}"
            );
            0
        }
        Stored::NotJson => {
            assert!(refused.is_some(), "only the sink refuses it as JSON");
            1
        }
        Stored::TooDeep => {
            assert!(tree.depth() > 1_024, "only the sink finds it too deep");
            2
        }
        Stored::Other => 3,
    }
}

fn agree_with_keys(record: &[u8], tree: &Tree, refused: Option<QuarantineReason>) {
    // The value after a key does not matter.
    let valid = match std::str::from_utf8(record) {
        Ok(_) => record.len(),
        Err(error) => error.valid_up_to(),
    };
    let before = Tree::of(&seen(&record[..valid], usize::MAX).0);
    let tree = if valid == record.len() { tree } else { &before };
    let mut all = Vec::new();
    paths(tree, &mut Vec::new(), &mut all);
    // Only what stands before a fault may give a key.
    for path in [&["id"][..], &["a", "id"], &["d"], &["é"]] {
        all.push(path.to_vec());
    }
    all.truncate(24);
    for path in all.iter().filter(|path| !path.is_empty()) {
        let wanted = tree.key_at(path);
        let found = key(path, record);
        let cut = (refused.is_some() || tree.depth() > 1_024) && found.is_none();
        assert!(
            found == wanted || cut,
            "the key at {path:?} is {found:?}, not {wanted:?}"
        );
    }
}

#[test]
fn all_readers_of_json_agree() {
    Target::new("json")
        .made_by(&hydrant_fuzz::json)
        .tokens(&[
            "\\u",
            "\\ud83d\\ude00",
            "null",
            "true",
            "false",
            "{\"a\":",
            "[",
            "]}",
            "\"id\":",
        ])
        // This test walks and drops its trees by recursion.
        .bytes_max(2_048)
        .memory(16 << 20, 4_096)
        .run(agree);
}

/// Records as devices send them, and each trick once, by hand.
#[test]
fn all_readers_agree_on_what_is_known_to_divide_parsers() {
    for record in [
        &b"{\"id\":\"a\",\"id\":\"b\"}"[..],
        b"{\"a\":1,\"\\u0061\":2}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\\ud83d\\ude00\",\"b\":\"\\uD83D\\uDE00\"}",
        b"{\"a\":\"\\udc00\\ud800\"}",
        b"{\"a\":\"\\u0000\"}",
        b"{\"a\":\"\0\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\xc0\xaf\"}",
        b"\xef\xbb\xbf{\"a\":1}",
        b"{\"a\":1}\0",
        b"{\"a\":1}\x0c",
        b"{\"a\":1}{\"a\":2}",
        b"{\"a\":1,}",
        b"{\"a\":1}//",
        b"{\"a\":01}",
        b"{\"a\":-}",
        b"{\"a\":1.}",
        b"{\"a\":1e}",
        b"{\"a\":-0}",
        b"{\"a\":-0.0}",
        b"{\"a\":1e400}",
        b"{\"a\":1.5e-99999999999999999999}",
        b"{\"a\":1E+00000000000000000000000000000000000001}",
        b"{\"a\":9223372036854775808}",
        b"{\"a\":NaN}",
        b"{\"a\":'x'}",
        b"{\"a\":[1,]}",
        b"{\"a\":[}",
        b"{\"a\":[1}]",
        b"{a:1}",
        b"[]",
        b"\"x\"",
        b"1",
        b"",
        b" ",
        b"{\"a\":tru}",
        b"{\"a\":truee}",
        b"{\"a\":nullnull}",
        b"{\"x\":[1 2],\"id\":3}",
        b"{\"x\":\"\\x\",\"id\":3}",
        b"{\"x\":\"\xff\",\"id\":3}",
        b"{\"id\":12",
    ] {
        agree(record);
    }
    for depth in [
        62, 63, 64, 65, 126, 127, 128, 129, 1_022, 1_023, 1_024, 1_025,
    ] {
        for (open, close) in [("{\"a\":", "}"), ("[", "]")] {
            agree(
                format!(
                    "{{\"d\":{}1{},\"id\":2}}",
                    open.repeat(depth),
                    close.repeat(depth)
                )
                .as_bytes(),
            );
        }
    }
}
