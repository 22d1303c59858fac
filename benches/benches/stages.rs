//! One benchmark per stage, in bytes and records per second: simulate, log (append, read), pii, decode, encode.
//!
//! `cargo bench -p hydrant-benches`. Numbers of one machine: `BASELINE.md`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should say so at once"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use hydrant_benches::{INPUTS, Input, Records};
use hydrant_core::stream::{Append, OpenAt, Read};
use hydrant_core::{Context, Position, hash};
use hydrant_pii::{Engine, Policy};
use hydrant_producer::simulate::{Fleet, FleetSpec};
use hydrant_sink::decode::{Decoder, Provenance, RowOrigin};
use hydrant_sink::encode::{EncodeOptions, encode};
use hydrant_sink::schema::TableSchema;
use hydrant_sink::table::spec::TableRules;
use hydrant_stream::Streams;

const RECORDS: u64 = 20_000;
/// A day in 2026, near the simulated event times.
const NOW_MICROS: i64 = 1_780_000_000_000_000;

fn throughput(group: &mut BenchmarkGroup<'_, WallTime>, records: &Records) {
    group.throughput(Throughput::BytesDecimal(records.bytes.len() as u64));
    group.sample_size(20);
}

fn simulate(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulate");
    let records = Records::simulate(INPUTS[1], RECORDS).unwrap();
    throughput(&mut group, &records);
    let fleet = Fleet::try_new(&FleetSpec::default()).unwrap();
    let mut out = Vec::with_capacity(records.bytes.len() * 2);
    group.bench_function("records", |b| {
        b.iter(|| {
            out.clear();
            for index in 0..RECORDS {
                black_box(fleet.record(index, &mut out));
            }
        });
    });
}

fn pii(c: &mut Criterion) {
    let mut group = c.benchmark_group("pii");
    for input in INPUTS {
        let records = Records::simulate(*input, RECORDS).unwrap();
        throughput(&mut group, &records);
        let mut engine = Engine::new(Arc::new(Policy::strict()));
        let mut out = Vec::new();
        group.bench_function(input.name, |b| {
            b.iter(|| {
                for payload in records.payloads() {
                    out.clear();
                    let _verdict = black_box(engine.process(payload, &mut out));
                }
            });
        });
    }
}

fn decoder() -> Decoder {
    Decoder::try_new(&TableSchema::default(), &TableRules::default(), NOW_MICROS).unwrap()
}

fn fill(decoder: &mut Decoder, records: &Records) {
    let origin = RowOrigin {
        stamp_micros: None,
        arrival_micros: NOW_MICROS,
        sequence: "0",
        sub: 0,
    };
    for payload in records.payloads() {
        let _row = decoder.append(payload, &origin);
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let records = Records::simulate(INPUTS[0], RECORDS).unwrap();
    throughput(&mut group, &records);
    group.bench_function("json to arrow", |b| {
        b.iter(|| {
            let mut decoder = decoder();
            fill(&mut decoder, &records);
            black_box(decoder.rows())
        });
    });
}

fn encode_rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let records = Records::simulate(INPUTS[0], RECORDS).unwrap();
    throughput(&mut group, &records);
    let mut decoder = decoder();
    fill(&mut decoder, &records);
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let rows = decoded
        .conform(
            &schema,
            Provenance {
                stream: "s",
                shard: "0",
            },
        )
        .unwrap();
    let partition = rows
        .partitions
        .iter()
        .max_by_key(|rows| rows.rows.num_rows())
        .unwrap();
    let share = partition.rows.num_rows() as u64 * records.bytes.len() as u64 / RECORDS;
    group.throughput(Throughput::BytesDecimal(share));
    group.bench_function("arrow to parquet zstd-1, in json bytes", |b| {
        b.iter(|| {
            let mut out = Vec::new();
            encode(&partition.rows, &EncodeOptions::default(), &[], &mut out).unwrap();
            black_box(out.len())
        });
    });
}

fn log(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut group = c.benchmark_group("log");
    let records = Records::simulate(
        Input {
            name: "log",
            pii: true,
        },
        RECORDS,
    )
    .unwrap();
    throughput(&mut group, &records);
    let batch = Arc::new(records.batch());
    let routes: Vec<u128> = batch
        .records
        .iter()
        .map(|r| hash::route_of_key(batch.key(r).unwrap()))
        .collect();
    let context = Context::system(1 << 30).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("local:{}", dir.path().join("s").display());
    let writer = runtime.block_on(async {
        let stream = Streams::default()
            .create(&url, 1, &[], &context)
            .await
            .unwrap();
        stream.writer().await.unwrap()
    });
    let shard = runtime.block_on(async {
        let stream = Streams::default().open(&url, &context).await.unwrap();
        stream.shards().await.unwrap().all()[0].id.clone()
    });
    let appends = || -> Vec<Append> {
        let all: Vec<u32> = (0..RECORDS as u32).collect();
        let piece = all.len().div_ceil(24);
        all.chunks(piece)
            .map(|record_indexes| Append {
                batch: Arc::clone(&batch),
                record_indexes: record_indexes.into(),
                routes: record_indexes
                    .iter()
                    .map(|pick| routes[*pick as usize])
                    .collect(),
                explicit: false,
                ..Append::default()
            })
            .collect()
    };
    group.bench_function("append, one shard, synced", |b| {
        b.iter_batched(
            appends,
            |appends| {
                runtime.block_on(async {
                    let mut tickets = Vec::new();
                    for append in appends {
                        tickets.push(writer.submit(&shard, append).await.unwrap());
                    }
                    for ticket in tickets {
                        ticket.await.unwrap();
                    }
                });
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("read, one shard, cached", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let stream = Streams::default().open(&url, &context).await.unwrap();
                let at = OpenAt::after(Position::Begin);
                let mut reader = stream.reader(&shard, at, &context.budget).await.unwrap();
                let mut seen = 0;
                while seen < RECORDS as usize {
                    if let Read::Batch(batch) = reader.next().await.unwrap() {
                        seen += batch.len();
                    }
                }
            });
        });
    });
}

criterion_group!(stages, simulate, log, pii, decode, encode_rows);
criterion_main!(stages);
