//! What the footers of files tell.

use hydrant_core::stage::Flush;
use hydrant_core::stream::Read;
use parquet::file::metadata::ParquetMetaDataReader;

use super::support::*;

/// Who reads a footer finds no part of a record that was refused, and of rows what the rows hold.
#[tokio::test]
async fn footers_of_dead_letters_hold_nothing_of_records() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let records = [
        "{\"n\":1}",
        "\"secret\"",
        "{\"secret\":",
        "{\"secret\":1,\"secret\":2}",
    ];
    let records = records.map(str::to_owned);
    shard.push(Read::Batch(batch(0, &records))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let lake = looker(&world).await;
    let mut looked_at = 0;
    for object in lake.list(&names().dead_letters()).await.unwrap() {
        let body = lake.get(&object.key).await.unwrap().unwrap();
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(&body)
            .unwrap();
        for group in metadata.row_groups() {
            let columns = group.columns().iter();
            let end = columns
                .map(|column| column.byte_range())
                .map(|(start, bytes)| start + bytes);
            let footer = String::from_utf8_lossy(&body[end.max().unwrap() as usize..]).into_owned();
            assert!(!footer.contains("secret"), "{footer}");
            assert!(
                footer.contains("not_an_object"),
                "the reason has a minimum: {footer}"
            );
            for column in group.columns() {
                let path = column.column_path().string();
                let is_told = column
                    .statistics()
                    .is_some_and(|known| known.min_bytes_opt().is_some());
                let is_kept = ["key", "detail", "payload"].contains(&path.as_str());
                assert_eq!(is_told, !is_kept, "{path}");
            }
        }
        looked_at += 1;
    }
    assert_eq!(looked_at, 1);
}
