//! Which settings a stream gets, and which mistakes are found before it is opened.

use hydrant_process::config::{Layers, Problems, SECTIONS};
use hydrant_testing::disk::SimWorld;

use super::*;
use crate::local::Codec;

/// Streams with these variables in the environment.
fn streams(variables: &[(&str, &str)]) -> (Streams, Vec<String>) {
    let variables = variables.iter();
    let owned = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut problems = Problems::new();
    let layers = Layers::load(None, owned, &mut problems);
    let (streams, readings) = Streams::read(Arc::new(layers));
    let found = readings.into_iter().flat_map(|reading| reading.problems);
    let found = found.map(|problem| format!("{}: {}", problem.place, problem.message));
    (streams, found.collect())
}

fn options(streams: &Streams, url: &str, flags: &[OutrankingValue]) -> Result<CreateOptions> {
    let KindSettings::Local(options) = streams.settings_of(&StreamUrl::parse(url)?, flags)?;
    Ok(options)
}

#[test]
fn every_kind_has_a_table_that_all_binaries_know() {
    for kind in StreamKind::ALL {
        assert!(SECTIONS.contains(&kind.scheme()), "{kind:?}");
    }
}

#[test]
fn a_flag_outranks_the_url_which_outranks_the_table() {
    let table = [
        ("HYDRANT_LOCAL_CODEC", "none"),
        ("HYDRANT_LOCAL_RETENTION", "7d"),
        ("HYDRANT_LOCAL_RETENTION_BYTES", "1GiB"),
    ];
    let (streams, problems) = streams(&table);
    assert_eq!(problems, Vec::<String>::new());
    let flag = OutrankingValue {
        key: "codec".to_owned(),
        value: "lz4".to_owned(),
        place: "flag `--codec`".to_owned(),
    };
    let url = "local:x?codec=zstd&retention_bytes=2GiB";
    let of_url = options(&streams, url, &[]).unwrap();
    assert_eq!(of_url.codec, Codec::Zstd);
    assert_eq!(of_url.retention_bytes, Some(2 << 30));
    assert_eq!(of_url.retention_time.unwrap().as_secs(), 7 * 86_400);
    assert_eq!(options(&streams, url, &[flag]).unwrap().codec, Codec::Lz4);
    assert_eq!(
        options(&streams, "local:x", &[]).unwrap().codec,
        Codec::None
    );
}

#[test]
fn what_a_kind_does_not_know_is_refused_by_name_where_it_was_written() {
    let (_, problems) = streams(&[
        ("HYDRANT_LOCAL_CODEK", "zstd"),
        ("HYDRANT_LOCAL_RETENTION", "0s"),
    ]);
    let problems = problems.join("\n");
    for part in [
        "`HYDRANT_LOCAL_CODEK`: unknown key `codek`: did you mean `codec`?",
        "`HYDRANT_LOCAL_RETENTION`: is too short",
    ] {
        assert!(problems.contains(part), "{part} in {problems}");
    }
    let (streams, _) = streams(&[]);
    let url = "local:x?codec=gzip&shard=2";
    let refusal = streams.check(url).unwrap_err().to_string();
    for part in [
        "`gzip` is not a codec",
        "`shard` in `local:x",
        "unknown key",
    ] {
        assert!(refusal.contains(part), "{part} in {refusal}");
    }
    let flag = OutrankingValue {
        key: "replication".to_owned(),
        value: "3".to_owned(),
        place: "flag `--replication`".to_owned(),
    };
    let refusal = options(&streams, "local:x", &[flag]).unwrap_err();
    let refusal = refusal.to_string();
    assert!(
        refusal.contains("flag `--replication`: unknown key `replication`"),
        "{refusal}"
    );
}

/// A table that does not read is reported once, not once more for each URL.
#[test]
fn a_mistake_in_a_table_is_not_one_of_the_url() {
    let (streams, problems) = streams(&[("HYDRANT_LOCAL_CODEC", "gzip")]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    streams.check("local:x").unwrap();
    streams.check("local:").unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_a_url_are_those_of_the_stream_that_is_made() {
    let world = SimWorld::new(1);
    let mut ctx = Context::system(64 << 20).unwrap();
    ctx.disk = Arc::new(world.process("a"));
    let (streams, _) = streams(&[]);
    let url = "local:/data/x?retention-bytes=4MiB&codec=zstd";
    let made = streams.open_or_create(url, 2, &ctx).await.unwrap();
    assert_eq!(made.shards().await.unwrap().open().count(), 2);
    let manifest = hydrant_core::disk::read_file(&*ctx.disk, "/data/x/manifest.json".as_ref());
    let manifest = manifest.await.unwrap().unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["settings"]["codec"], "zstd");
    assert_eq!(manifest["settings"]["retention_bytes"], 4 << 20);
    // It is the stream of the directory, whatever its URL asks for.
    let same = streams.open("local:/data/x", &ctx).await.unwrap();
    assert_eq!(same.id(), made.id());
    let twice = streams.create("local:/data/x", 1, &[], &ctx).await;
    assert!(twice.unwrap_err().to_string().contains("exists already"));
    // A flag outranks a setting of the URL and does not excuse it.
    let flag = OutrankingValue {
        key: "retention".to_owned(),
        value: "7d".to_owned(),
        place: "flag `--retention`".to_owned(),
    };
    let other = "local:/data/other";
    let wrong = format!("{other}?retention=soon");
    let refused = streams.create(&wrong, 1, &[flag], &ctx).await.unwrap_err();
    assert!(refused.to_string().contains("`soon`"), "{refused}");
    let absent = streams.open(other, &ctx).await.unwrap_err();
    assert!(matches!(absent, Error::NotFound { .. }), "{absent}");
    streams.delete(url, &ctx).await.unwrap();
    let gone = streams.open("local:/data/x", &ctx).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}
