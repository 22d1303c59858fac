use bytes::Bytes;

use super::*;
use crate::encode::{EncodeOptions, encode, head};
use crate::schema::TableSchema;
use crate::table::spec::{OnConflict, TableRules};

mod conforming;
mod declared;
mod majority;
mod maps;
mod properties;
mod records;
mod rescue;
mod routing;
mod sparse;
mod whole_numbers;

/// 2026-11-21T00:00:00Z.
pub(super) const NOW_MICROS: i64 = 1_795_219_200_000_000;

pub(super) const ORIGIN: RowOrigin<'static> = RowOrigin {
    stamp_micros: Some(NOW_MICROS),
    arrival_micros: NOW_MICROS,
    sequence: "49590338271490256608559692538361571095921575989136588898",
    sub: 0,
};

pub(super) const PROVENANCE: Provenance<'static> = Provenance {
    stream: "telemetry",
    shard: "shard-0",
};

pub(super) fn decoder(schema: &TableSchema) -> Decoder {
    Decoder::try_new(schema, &TableRules::default(), NOW_MICROS).unwrap()
}

/// A decoder that refuses records with a value that no column takes.
pub(super) fn refusing(schema: &TableSchema) -> Decoder {
    let rules = TableRules {
        on_conflict: OnConflict::DeadLetter,
        ..TableRules::default()
    };
    Decoder::try_new(schema, &rules, NOW_MICROS).unwrap()
}

/// Decodes records that must all be taken.
pub(super) fn decode(schema: &TableSchema, records: &[&str]) -> DecodedRows {
    let mut decoder = decoder(schema);
    for record in records {
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row,
            "{record}"
        );
    }
    decoder.finish()
}

/// The reject of the last of the records where nothing is rescued; those before it must be taken.
pub(super) fn reject_of(schema: &TableSchema, records: &[&str]) -> Reject {
    let (last, before) = records.split_last().unwrap();
    let mut decoder = refusing(schema);
    for record in before {
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row,
            "{record}"
        );
    }
    match decoder.append(last.as_bytes(), &ORIGIN) {
        DecodeOutcome::Rejected(reject) => return *reject,
        outcome => assert_eq!(outcome, DecodeOutcome::Row, "{last}"),
    }
    let decoded = decoder.finish();
    let target = schema.join(decoded.schema(), 2_000).schema;
    let mut rejects = decoded.conform(&target, PROVENANCE).unwrap().rejects;
    let reject = rejects.pop().expect(last);
    assert_eq!(rejects, [], "{last}");
    assert_eq!(reject.record as usize, before.len(), "{last}");
    assert_eq!(reject.row, last.as_bytes());
    reject.reject
}

/// The rows of all partitions as JSON, by way of Parquet.
pub(super) fn rows_of(conformed: &Conformed) -> Vec<String> {
    let mut rows = Vec::new();
    for partition in &conformed.partitions {
        let mut file = Vec::new();
        encode(&partition.rows, &EncodeOptions::default(), &[], &mut file).unwrap();
        for line in head(Bytes::from(file), usize::MAX).unwrap() {
            rows.push(String::from_utf8(line).unwrap());
        }
    }
    rows
}

/// A schema as it is read from the lake.
pub(super) fn stored(schema: &TableSchema) -> TableSchema {
    serde_json::from_slice(&serde_json::to_vec(schema).unwrap()).unwrap()
}

/// The rows of records under the schema that they bring.
pub(super) fn rows(records: &[&str]) -> Vec<String> {
    let decoded = decode(&TableSchema::default(), records);
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    assert_eq!(conformed.rejects, []);
    rows_of(&conformed)
}

/// What a row, written as JSON, has in `_rescued`.
pub(super) fn rescued_of(row: &str) -> String {
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    row["_rescued"].as_str().unwrap_or_default().to_owned()
}
