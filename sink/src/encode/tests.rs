use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelector,
};
use parquet::basic::{CompressionCodec, Encoding};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::*;
use crate::decode::{DecodeOutcome, Decoder, Provenance, RowOrigin};
use crate::schema::TableSchema;
use crate::table::spec::TableRules;

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
    let encoded = encode(&FileRows::from(batch.clone()), options, &metadata, &mut out).unwrap();
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
    let encoded = encode(&FileRows::from(batch()), &options, &[], &mut whole).unwrap();
    let groups = footer(&Bytes::from(whole.clone())).num_row_groups();
    assert!(groups >= 4, "{groups}");
    let mut encoder = FileEncoder::try_new(&batch().into(), &options, &[], Vec::new()).unwrap();
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
        let encoded = encode(&FileRows::from(batch()), &options, &[], Vec::new());
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
    // `APPLICATION version VERSION (build HASH)`, which is all that parquet-mr takes.
    let program = footer.created_by().unwrap();
    let (application, rest) = program.split_once(" version ").unwrap();
    let (version, build) = rest.split_once(" (build ").unwrap();
    assert_eq!(
        (application, version),
        ("hydrant", env!("CARGO_PKG_VERSION"))
    );
    assert!(build.ends_with(')') && !build[..build.len() - 1].contains([')', '(']));
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

/// The first rows of a group are not taken unseen: some thousand large ones would be many times its bytes.
#[test]
fn large_rows_end_a_group_at_its_bytes_too() {
    let texts = (0..64_u64).map(|n| {
        (0..2_000)
            .map(|at| format!("{:08x}", n * 7919 + at * n))
            .collect::<String>()
    });
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let batch = RecordBatch::try_from_iter([("text", texts)]).unwrap();
    let options = EncodeOptions {
        row_group_bytes: 64 << 10,
        compression: Compression::None,
        ..EncodeOptions::default()
    };
    let mut file = Vec::new();
    encode(&FileRows::from(batch), &options, &[], &mut file).unwrap();
    let footer = footer(&Bytes::from(file));
    let sizes = footer
        .row_groups()
        .iter()
        .map(|group| group.compressed_size());
    let sizes: Vec<i64> = sizes.collect();
    assert!(sizes.iter().all(|size| *size <= 96 << 10), "{sizes:?}");
}

#[test]
fn encodings_follow_the_values_and_the_profile() {
    use Encoding::{
        BYTE_STREAM_SPLIT, DELTA_BINARY_PACKED, PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY,
    };
    for profile in [ParquetProfile::Compatible, ParquetProfile::Modern] {
        let (_, file) = file(&EncodeOptions {
            profile,
            ..EncodeOptions::default()
        });
        let footer = footer(&file);
        let group = footer.row_group(0);
        let columns = group.columns().iter();
        let dictionary = columns.map(|column| column.dictionary_page_offset().is_some());
        let dictionary: Vec<bool> = dictionary.collect();
        assert_eq!(dictionary, [false, true, false, true, false, true]);
        let has = |column: usize, encoding| group.column(column).encodings().any(|e| e == encoding);
        let is_modern = profile == ParquetProfile::Modern;
        assert_eq!(has(0, DELTA_BINARY_PACKED), is_modern);
        assert_eq!(has(2, BYTE_STREAM_SPLIT), is_modern);
        if !is_modern {
            let mut encodings = group.columns().iter().flat_map(|column| column.encodings());
            let of_old = [PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY, Encoding::RLE];
            assert!(encodings.all(|encoding| of_old.contains(&encoding)));
        }
        assert!(group.columns().iter().all(|column| {
            column.column_index_offset().is_some() && column.offset_index_offset().is_some()
        }));
        assert_eq!(
            read(file)[0].columns(),
            batch().slice(0, ROWS as usize).columns()
        );
    }
}

/// Lists and maps leave no trace in the paths by which bloom filters are declared.
#[test]
fn bloom_filters_are_of_the_declared_columns_and_of_the_size_of_the_rows() {
    let text =
        |n: i64| format!("{{\"id\":\"{n}\",\"at\":{{\"id\":\"{n}\",\"tags\":[{{\"id\":{n}}}]}}}}");
    let lines: Vec<String> = (0..500).map(text).collect();
    let batch = decoded(&lines);
    let options = |columns: &[&str]| EncodeOptions {
        bloom_filters: columns.iter().map(|column| (*column).to_owned()).collect(),
        ..EncodeOptions::default()
    };
    let size_of = |columns: &[&str]| {
        let mut out = Vec::new();
        encode(
            &FileRows::from(batch.clone()),
            &options(columns),
            &[],
            &mut out,
        )
        .unwrap();
        let footer = footer(&out.clone().into());
        let columns = footer.row_group(0).columns().iter();
        let filtered = columns.filter(|column| column.bloom_filter_offset().is_some());
        let filtered = filtered.map(|column| column.column_path().string());
        (out.len(), filtered.collect::<Vec<_>>())
    };
    let (plain, none) = size_of(&["at", "tags"]);
    assert!(none.is_empty(), "{none:?}");
    let (filtered, some) = size_of(&["id", "at.id", "at.tags.id"]);
    assert_eq!(some, ["id", "at.id", "at.tags.list.element.id"]);
    assert!(filtered - plain < 3 * 2_048, "{filtered} of {plain}");
}

/// The rows of lines of JSON, as a table has them.
fn decoded(lines: &[String]) -> RecordBatch {
    let schema = TableSchema::default();
    let rules = TableRules::default();
    let mut decoder = Decoder::try_new(&schema, &rules, 1_780_000_000_000_000).unwrap();
    let origin = RowOrigin {
        stamp_micros: None,
        arrival_micros: 1_780_000_000_000_000,
        sequence: "0",
        sub: 0,
    };
    for line in lines {
        assert_eq!(
            decoder.append(line.as_bytes(), &origin),
            DecodeOutcome::Row,
            "{line}"
        );
    }
    let rows = decoder.finish();
    let schema = rows.schema().clone();
    let provenance = Provenance {
        stream: "s",
        shard: "0",
    };
    let conformed = rows.conform(&schema, provenance).unwrap();
    conformed.partitions[0].rows.to_batch().unwrap()
}

/// Columns of every kind without a value, in rows of which the column with values has as many as there are rows.
fn hollow(rows: usize) -> RecordBatch {
    let item = Arc::new(Field::new("element", DataType::Float64, true));
    let fields = Fields::from(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::List(Arc::clone(&item)), true),
    ]);
    let mut kinds = vec![
        DataType::Int64,
        DataType::Float64,
        DataType::Boolean,
        DataType::Date32,
        DataType::Utf8,
        DataType::Decimal128(9, 2),
        DataType::Decimal128(38, 2),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::List(item),
        DataType::Struct(fields.clone()),
        DataType::List(Arc::new(Field::new(
            "element",
            DataType::Struct(fields),
            true,
        ))),
    ];
    kinds.extend(kinds.clone());
    let nulls = (0..).zip(&kinds).map(|(n, kind)| {
        let field = Field::new(format!("null{n}"), kind.clone(), true);
        (field, new_null_array(kind, rows))
    });
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let values = (Field::new("value", DataType::Int64, true), values);
    let (mut fields, mut arrays): (Vec<_>, Vec<_>) = nulls.unzip();
    let middle = fields.len() / 2;
    fields.insert(middle, values.0);
    arrays.insert(middle, values.1);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

#[test]
fn columns_without_values_are_read_as_nulls_and_cost_little() {
    for rows in [1, 7, 5_000, 70_000] {
        let batch = hollow(rows);
        let options = EncodeOptions {
            row_group_bytes: 100 << 10,
            ..EncodeOptions::default()
        };
        let mut out = Vec::new();
        encode(&FileRows::from(batch.clone()), &options, &[], &mut out).unwrap();
        let file = Bytes::from(out);
        let footer = footer(&file);
        assert_eq!(footer.num_row_groups() > 1, rows == 70_000);
        for group in footer.row_groups() {
            for column in group.columns() {
                let path = column.column_path().string();
                let nulls = column.statistics().unwrap().null_count_opt();
                let is_null = path != "value";
                assert_eq!(nulls == Some(group.num_rows() as u64), is_null, "{path}");
                assert!(!is_null || column.compressed_size() < 64, "{path}");
                assert!(column.column_index_offset().is_some(), "{path}");
                assert!(column.offset_index_offset().is_some(), "{path}");
            }
        }
        let mut at = 0;
        for part in read(file) {
            assert_eq!(part.columns(), batch.slice(at, part.num_rows()).columns());
            at += part.num_rows();
        }
        assert_eq!(at, rows);
    }
}

#[test]
fn rows_of_nulls_only_are_rows() {
    let batch = hollow(9).project(&[0, 4, 9]).unwrap();
    let mut out = Vec::new();
    assert_eq!(
        encode(
            &FileRows::from(batch.clone()),
            &EncodeOptions::default(),
            &[],
            &mut out
        )
        .unwrap(),
        9
    );
    assert_eq!(read(out.into())[0], batch);
}

/// What a reader skips by the page index is found by it: the offsets are those of the pages as they lie in the file.
#[test]
fn the_index_of_pages_finds_every_page() {
    let schema = batch().schema();
    let rows = arrow_select::concat::concat_batches(&schema, &[batch(), batch(), batch()]).unwrap();
    let mut out = Vec::new();
    encode(
        &FileRows::from(rows.clone()),
        &EncodeOptions::default(),
        &[],
        &mut out,
    )
    .unwrap();
    let file = Bytes::from(out);
    let indexed = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let (mut at, mut pages) = (0, 0);
    let step = 1_997;
    while at + 3 < rows.num_rows() {
        let builder =
            ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), indexed.clone());
        let builder = builder.unwrap();
        let index = builder.metadata().page_index_for_row_group(0);
        pages = (0..6)
            .filter_map(|column| index.num_data_pages(column))
            .max()
            .unwrap();
        let selection = vec![RowSelector::skip(at), RowSelector::select(3)];
        let mut reader = builder
            .with_row_selection(selection.into())
            .build()
            .unwrap();
        let found = reader.next().unwrap().unwrap();
        assert_eq!(found.columns(), rows.slice(at, found.num_rows()).columns());
        at += step;
    }
    assert!(pages > 1, "{pages}");
}

/// Chunks of any size are what they were, whatever compresses them, and the footer says how many bytes they take.
#[test]
fn chunks_of_all_sizes_come_back() {
    let all = batch();
    for compression in [Compression::Zstd(1), Compression::Snappy, Compression::None] {
        for rows in [1, 2, 5, 20, 40, 80, 300, 4_097] {
            let part = all.slice(13, rows);
            let options = EncodeOptions {
                compression,
                ..EncodeOptions::default()
            };
            let mut out = Vec::new();
            encode(&part.clone().into(), &options, &[], &mut out).unwrap();
            let footer = footer(&out.clone().into());
            let mut end = 4;
            for column in footer.row_group(0).columns() {
                let (start, bytes) = column.byte_range();
                assert_eq!(start, end);
                end += bytes;
                let codec = column.compression_codec();
                let is_less = column.compressed_size() < column.uncompressed_size();
                assert!(
                    !is_less || codec != CompressionCodec::UNCOMPRESSED,
                    "{codec:?}"
                );
            }
            assert_eq!(read(out.into())[0].columns(), part.columns());
        }
    }
}

#[test]
fn rescued_values_and_what_is_kept_out_leave_nothing_in_the_footer() {
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..9).map(|n| format!("secret {n}")),
    ));
    let names = ["_rescued", "kept"];
    let batch = RecordBatch::try_from_iter(names.map(|name| (name, Arc::clone(&text)))).unwrap();
    let without: [(&'static [&'static str], usize); 2] =
        [(&["_rescued"], 2), (&["_rescued", "kept"], 0)];
    for (out_of_footer, wanted) in without {
        let options = EncodeOptions {
            compression: Compression::None,
            without_statistics: out_of_footer,
            ..EncodeOptions::default()
        };
        let mut out = Vec::new();
        encode(&FileRows::from(batch.clone()), &options, &[], &mut out).unwrap();
        let footer = footer(&out.clone().into());
        let columns = footer.row_group(0).columns().iter();
        let data_ends = columns
            .map(|column| column.byte_range())
            .map(|(start, bytes)| start + bytes);
        let behind = &out[data_ends.max().unwrap() as usize..];
        let found = behind
            .windows(6)
            .filter(|window| window == b"secret")
            .count();
        // Minimum and maximum, each in the statistics of the chunk and in the index.
        assert_eq!(found, wanted * 2);
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
    let encoded = encode(
        &FileRows::from(batch.clone()),
        &EncodeOptions::default(),
        &[],
        &mut out,
    )
    .unwrap();
    assert_eq!((encoded, head(Bytes::from(out), 10).unwrap().len()), (0, 0));
}
