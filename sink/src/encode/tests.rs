use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Encoding;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::*;

const ROWS: i64 = 20_000;

fn batch() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        (
            "kind",
            Arc::new(Int64Array::from_iter(
                (0..ROWS).map(|n| (n % 7 > 0).then_some(n % 3)),
            )),
        ),
        (
            "value",
            Arc::new(Float64Array::from_iter_values(
                (0..ROWS).map(|n| (n as f64).sqrt()),
            )),
        ),
        (
            "level",
            Arc::new(Float64Array::from_iter_values(
                (0..ROWS).map(|n| (n % 5) as f64),
            )),
        ),
        (
            "uuid",
            Arc::new(StringArray::from_iter_values(
                (0..ROWS).map(|n| format!("{n:040}")),
            )),
        ),
        (
            "state",
            Arc::new(StringArray::from_iter_values(
                (0..ROWS).map(|n| ["on", "off"][n as usize % 2]),
            )),
        ),
    ];
    let fields = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(
        schema,
        columns.into_iter().map(|(_, array)| array).collect(),
    )
    .unwrap()
}

fn footer(file: &Bytes) -> ParquetMetaData {
    ParquetMetaDataReader::new().parse_and_finish(file).unwrap()
}

fn file(options: &EncodeOptions) -> (u64, Bytes) {
    let batch = batch();
    let metadata = [
        ("b".to_owned(), "2".to_owned()),
        ("a".to_owned(), "1".to_owned()),
    ];
    let mut out = Vec::new();
    let encoded = encode(&batch, options, &metadata, &mut out).unwrap();
    (encoded, Bytes::from(out))
}

/// A file that is taken out piece by piece is the whole one, and no piece is much more than a row group.
#[test]
fn the_pieces_of_a_file_are_the_file() {
    let options = EncodeOptions {
        row_group_bytes: 64 << 10,
        ..EncodeOptions::default()
    };
    let mut whole = Vec::new();
    let encoded = encode(&batch(), &options, &[], &mut whole).unwrap();
    let groups = footer(&Bytes::from(whole.clone())).num_row_groups();
    assert!(groups >= 4, "{groups}");
    let mut encoder = FileEncoder::try_new(&batch(), &options, &[], Vec::new()).unwrap();
    let mut pieces = Vec::new();
    while encoder.write_some().unwrap() {
        if !encoder.output().is_empty() {
            pieces.push(std::mem::take(encoder.output()));
        }
    }
    assert_eq!(encoder.finish().unwrap(), encoded);
    pieces.push(std::mem::take(encoder.output()));
    assert_eq!(pieces.concat(), whole);
    let largest = pieces.iter().map(Vec::len).max().unwrap();
    assert!(largest < whole.len() / 2, "{largest} of {}", whole.len());
}

fn read(file: Bytes) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let reader = builder
        .with_batch_size(usize::try_from(ROWS).unwrap())
        .build()
        .unwrap();
    reader.collect::<Result<_, _>>().unwrap()
}

#[test]
fn every_compression_gives_the_rows_back() {
    for compression in [
        Compression::None,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd(1),
        Compression::Zstd(9),
    ] {
        let (encoded, file) = file(&EncodeOptions {
            compression,
            ..EncodeOptions::default()
        });
        assert_eq!(encoded, ROWS.unsigned_abs());
        let read = read(file);
        assert_eq!(
            read.iter().map(RecordBatch::num_rows).sum::<usize>(),
            20_000
        );
        assert_eq!(
            read[0].columns(),
            batch().slice(0, read[0].num_rows()).columns()
        );
    }
}

#[test]
fn a_zstd_level_out_of_range_is_refused() {
    for level in [0, 23, -5] {
        let options = EncodeOptions {
            compression: Compression::Zstd(level),
            ..EncodeOptions::default()
        };
        let encoded = encode(&batch(), &options, &[], Vec::new());
        assert!(matches!(encoded, Err(EncodeError::ZstdLevel(found)) if found == level));
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    assert_eq!(
        file(&EncodeOptions::default()),
        file(&EncodeOptions::default())
    );
}

#[test]
fn the_footer_tells_the_program_and_the_metadata_in_order() {
    let (encoded, file) = file(&EncodeOptions::default());
    assert_eq!(count_rows(&file, file.len() as u64).unwrap(), Ok(encoded));
    let footer = footer(&file);
    let footer = footer.file_metadata();
    assert_eq!(footer.num_rows().unsigned_abs(), encoded);
    let program = format!("hydrant {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(footer.created_by(), Some(program.as_str()));
    let entries = footer.key_value_metadata().unwrap().iter();
    let entries: Vec<(&str, &str)> = entries
        .map(|entry| (entry.key.as_str(), entry.value.as_deref().unwrap()))
        .collect();
    assert_eq!(entries, [("b", "2"), ("a", "1")]);
    assert_eq!(read(file)[0].schema().fields(), batch().schema().fields());
}

#[test]
fn row_groups_end_at_their_bytes() {
    let (encoded, file) = file(&EncodeOptions {
        row_group_bytes: 16 << 10,
        ..EncodeOptions::default()
    });
    let footer = footer(&file);
    let groups: Vec<i64> = footer
        .row_groups()
        .iter()
        .map(|group| group.num_rows())
        .collect();
    assert!(groups.len() > 3, "{groups:?}");
    assert_eq!(groups.iter().sum::<i64>(), ROWS);
    let rows: usize = read(file).iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows as u64, encoded);
}

#[test]
fn encodings_follow_the_values_and_the_options() {
    let filtered = EncodeOptions {
        bloom_filters: vec!["uuid".to_owned()],
        ..EncodeOptions::default()
    };
    for options in [EncodeOptions::default(), filtered] {
        let (_, file) = file(&options);
        let footer = ParquetMetaDataReader::new()
            .parse_and_finish(&file)
            .unwrap();
        let group = footer.row_group(0);
        let dictionary: Vec<bool> = group
            .columns()
            .iter()
            .map(|column| column.dictionary_page_offset().is_some())
            .collect();
        assert_eq!(dictionary, [false, true, false, true, false, true]);
        let has = |column: usize, encoding| group.column(column).encodings().any(|e| e == encoding);
        assert!(has(0, Encoding::DELTA_BINARY_PACKED) && has(2, Encoding::BYTE_STREAM_SPLIT));
        let bloom: Vec<bool> = group
            .columns()
            .iter()
            .map(|column| column.bloom_filter_offset().is_some())
            .collect();
        assert_eq!(
            bloom,
            [0, 1, 2, 3, 4, 5].map(|column| column == 4 && !options.bloom_filters.is_empty())
        );
    }
}

#[test]
fn statistics_hold_the_beginnings_of_texts_only() {
    let (_, file) = file(&EncodeOptions::default());
    let footer = ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .unwrap();
    let statistics = footer.row_group(0).column(4).statistics().unwrap();
    assert_eq!(statistics.min_bytes_opt().unwrap().len(), 32);
    assert_eq!(statistics.max_bytes_opt().unwrap().len(), 32);
}

#[test]
fn head_reads_the_first_rows_only() {
    let (_, file) = file(&EncodeOptions::default());
    let lines = head(file.clone(), 2).unwrap();
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            r#"{"id":0,"value":0.0,"level":0.0,"uuid":"0000000000000000000000000000000000000000","state":"on"}"#,
            r#"{"id":1,"kind":1,"value":1.0,"level":1.0,"uuid":"0000000000000000000000000000000000000001","state":"off"}"#,
        ]
    );
    assert_eq!(head(file, 0).unwrap().len(), 0);
}

#[test]
fn bytes_that_are_no_parquet_are_an_error() {
    for bytes in [&b""[..], b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1"] {
        assert!(count_rows(&Bytes::from_static(bytes), bytes.len() as u64).is_err());
        assert!(head(Bytes::from_static(bytes), 1).is_err());
    }
}

#[test]
fn no_rows_make_a_readable_file() {
    let batch = batch().slice(0, 0);
    let mut out = Vec::new();
    let encoded = encode(&batch, &EncodeOptions::default(), &[], &mut out).unwrap();
    assert_eq!((encoded, head(Bytes::from(out), 10).unwrap().len()), (0, 0));
}
