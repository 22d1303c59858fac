//! A table of any size is verified a piece at a time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::lake::{Lake, Object, Put, Reveal, Sealed, SharedLake, Upload};
use hydrant_core::{Position, Result};

use super::support::*;
use crate::lake::{
    ChainNames, Commit, CommitCounts, CommitFile, FileKind, Genesis, ShardInterval, seal_body,
};
use crate::verify::{Depth, verify};

/// The records of the one chain.
const RECORDS: u64 = 4_000;

/// A lake that invents its objects on request and records the requests.
#[derive(Debug)]
struct EndlessLake {
    chain: ChainNames,
    asked_at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl EndlessLake {
    fn file(&self, slot: u64) -> CommitFile {
        let (from, to) = interval(slot);
        CommitFile {
            kind: FileKind::Rows,
            sealed: Sealed {
                key: self.chain.rows("date=2026-11-20", from, to, 0),
                upload: format!("upload-{slot}"),
                parts: Vec::new(),
                size: 7,
                crc: 0,
            },
            rows: 10,
            position_hash: String::new(),
        }
    }

    fn record(&self, slot: u64) -> Commit {
        let (from, to) = interval(slot);
        Commit {
            version: crate::lake::COMMIT_VERSION,
            slot,
            stream: stream_id(),
            intervals: [ShardInterval {
                shard: shard("000000").id,
                from,
                to,
            }],
            nonce: String::new(),
            end: false,
            files: vec![self.file(slot)],
            counts: CommitCounts {
                input: 10,
                rows: 10,
                ..CommitCounts::default()
            },
            rescued: Vec::new(),
            origins: Vec::new(),
            gaps: Vec::new(),
            faults: Vec::new(),
            spec: "none".to_owned(),
            schema: 0,
            marks: Vec::new(),
            event_times: None,
            stamps: None,
            opened: 0,
            made: 0,
            product: String::new(),
        }
    }

    async fn asked(&self) {
        let now = self.asked_at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(now, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.asked_at_once.fetch_sub(1, Ordering::Relaxed);
    }
}

fn interval(slot: u64) -> (Position, Position) {
    let end = |slot: u64| match slot {
        0 => Position::Begin,
        slot => Position::offset(slot * 10),
    };
    (end(slot - 1), end(slot))
}

#[async_trait]
impl Lake for EndlessLake {
    fn url(&self) -> &str {
        "endless:"
    }
    async fn put_new(&self, _: &str, _: Bytes) -> Result<Put> {
        unreachable!("verification changes nothing")
    }
    async fn upload(&self, _: &str) -> Result<Box<dyn Upload>> {
        unreachable!("verification changes nothing")
    }
    async fn reveal(&self, _: &Sealed) -> Result<Reveal> {
        unreachable!("verification changes nothing")
    }
    async fn discard(&self, _: &str) -> Result<()> {
        unreachable!("verification changes nothing")
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.asked().await;
        if key == self.chain.genesis() {
            return Ok(Some(seal_body(&Genesis {
                version: 1,
                stream: stream_id(),
                shard: shard("000000").id,
                start: Position::Begin,
                began: None,
                key_format: 1,
                product: String::new(),
            })));
        }
        let slot = self.chain.slot(key);
        Ok(slot.map(|slot| self.record(slot).to_body()))
    }
    async fn get_range(&self, _: &str, _: Range<u64>) -> Result<Option<Bytes>> {
        unreachable!("no contents are compared")
    }
    async fn head(&self, key: &str) -> Result<Option<Object>> {
        self.asked().await;
        let (key, size) = (key.to_owned(), 7);
        Ok(key.starts_with("devices/").then_some(Object { key, size }))
    }
    async fn visit(&self, prefix: &str, seen: &mut (dyn FnMut(Object) + Send)) -> Result<()> {
        for slot in (1..=RECORDS).rev() {
            let key = match prefix {
                "devices/" => self.file(slot).sealed.key,
                prefix if prefix == self.chain.records() => self.chain.record(slot),
                _ => return Ok(()),
            };
            seen(Object { key, size: 7 });
        }
        Ok(())
    }
    async fn page(&self, _: &str, _: &str, _: usize) -> Result<Vec<Object>> {
        Ok(Vec::new())
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        assert_ne!(prefix, "devices/", "a list of all files");
        assert_ne!(prefix, self.chain.records(), "a list of all records");
        Ok(Vec::new())
    }
    async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>> {
        let dirs = self.chain.dir.strip_prefix(prefix);
        let dir = dirs.and_then(|dirs| dirs.split('/').next());
        Ok(dir.into_iter().map(str::to_owned).collect())
    }
    async fn list_uploads(&self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }
    async fn tidy(&self, _: &str) -> Result<()> {
        unreachable!("verification changes nothing")
    }
    async fn delete_many(&self, _: &[String]) -> Result<()> {
        unreachable!("verification changes nothing")
    }
}

#[tokio::test]
async fn records_and_files_are_read_some_at_a_time_and_never_listed_whole() {
    let chain = names().chain(&stream_id(), &shard("000000").id);
    let endless = Arc::new(EndlessLake {
        chain,
        asked_at_once: AtomicUsize::new(0),
        most_at_once: AtomicUsize::new(0),
    });
    let lake: SharedLake = Arc::clone(&endless) as SharedLake;
    let quick = Depth {
        contents: false,
        now: None,
    };
    let report = verify(&lake, &names(), quick).await.unwrap();
    assert_eq!((report.units.rows, report.files), (10 * RECORDS, RECORDS));
    // Only the spec that the records name is missing.
    assert_eq!(report.problem_count(), 1, "{:?}", report.problems);
    let most = endless.most_at_once.load(Ordering::Relaxed);
    assert!((8..=32).contains(&most), "{most} at once");
}
