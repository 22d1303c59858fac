//! What a ledger promises, on a disk that dies at each of its calls.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hydrant_core::{Budget, Disposition, Random, Shutdown, Workers, clock};
use hydrant_testing::clock::ManualClock;
use hydrant_testing::disk::{Death, Loss, Moment, Op, Rule, SimWorld};

use hydrant_core::shutdown::Phase;

use super::writer::LedgerWriter;
use super::*;
use crate::input::files::file::FileIdentity;
use crate::input::{Digest, PrefixDigest, RecordFormat};

const PATH: &str = "state/ledger.json";

fn context(world: &SimWorld, process: &str) -> Context {
    Context {
        disk: Arc::new(world.process(process)),
        clock: Arc::new(ManualClock::new(0)),
        random: Random::seeded(1),
        workers: Workers::Inline,
        budget: Budget::new(1 << 20),
    }
}

async fn world(seed: u64) -> SimWorld {
    let world = SimWorld::new(seed);
    let disk = context(&world, "setup").disk;
    disk.create_dir_all(Path::new("state")).await.unwrap();
    world
}

fn stream() -> StreamId {
    StreamId::new("raw", "i1")
}

fn fleet(seed: u64) -> InputIdentity {
    InputIdentity::Simulator {
        seed,
        devices: 10,
        fleet: "f".to_owned(),
        key: None,
    }
}

fn records(key: Option<&str>) -> InputIdentity {
    InputIdentity::Records {
        key: key.map(str::to_owned),
        format: RecordFormat::Auto,
    }
}

fn at(index: u64) -> LedgerProgress {
    LedgerProgress {
        index,
        ..LedgerProgress::default()
    }
}

async fn open_as(context: &Context, name: &str, input: InputIdentity) -> Result<ProducerLedger> {
    ProducerLedger::open(context, Path::new(PATH), name, &stream(), input).await
}

async fn open(context: &Context) -> Result<ProducerLedger> {
    open_as(context, "edge", fleet(1)).await
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_the_old_or_the_new_ledger() {
    let deaths = [
        Death::Kill,
        Death::PowerCut(Loss::Everything),
        Death::PowerCut(Loss::Some),
        Death::PowerCut(Loss::Nothing),
    ];
    let (mut old, mut new) = (0, 0);
    for seed in 0..12 {
        for (death, moment) in deaths
            .iter()
            .flat_map(|d| [(*d, Moment::Before), (*d, Moment::After)])
        {
            for nth in 1.. {
                let world = world(seed).await;
                let first = context(&world, "first");
                let mut ledger = open(&first).await.unwrap();
                ledger.advance(&at(10)).await.unwrap();
                let id = ledger.id().to_owned();
                drop(ledger);
                let victim = context(&world, "victim");
                world.die_at("victim", nth, moment, death);
                let work = async {
                    let mut ledger = open(&victim).await.unwrap();
                    ledger.advance(&at(20)).await.unwrap();
                };
                // A call of a dead process never returns.
                let survived = tokio::time::timeout(Duration::from_secs(9), work)
                    .await
                    .is_ok();
                if survived {
                    // The fate that never came must not hit the drop of the lock.
                    world.kill("victim");
                }
                let after = open(&context(&world, "after")).await.unwrap();
                assert_eq!(after.id(), id);
                match after.next_index() {
                    10 if !survived => old += 1,
                    20 => new += 1,
                    other => panic!("{other} after {death:?} {moment:?} call {nth}, seed {seed}"),
                }
                if survived {
                    break;
                }
            }
        }
    }
    assert!(old > 0 && new > 0, "{old} {new}");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_exists_durably_before_anything_is_sent() {
    let world = world(3).await;
    let first = open(&context(&world, "first")).await.unwrap();
    let id = first.id().to_owned();
    drop(first);
    world.power_cut(Loss::Everything);
    assert_eq!(open(&context(&world, "after")).await.unwrap().id(), id);
}

#[tokio::test]
async fn two_producers_never_share_a_ledger_and_a_dead_one_frees_it() {
    let world = world(1).await;
    let first = context(&world, "first");
    let held = open(&first).await.unwrap();
    let second = context(&world, "second");
    let error = open(&second).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Refused);
    assert!(error.to_string().contains("another producer"), "{error}");
    world.kill("first");
    open(&second).await.unwrap();
    drop(held);
}

#[tokio::test]
async fn another_name_stream_or_input_is_refused_and_changes_nothing() {
    let world = world(1).await;
    let context = context(&world, "p");
    let mut ledger = open(&context).await.unwrap();
    ledger.advance(&at(7)).await.unwrap();
    drop(ledger);
    let others = [
        (
            open_as(&context, "other", fleet(1)).await,
            "`edge`, not `other`",
        ),
        (open_as(&context, "edge", fleet(2)).await, "--seed"),
        (
            open_as(&context, "edge", records(None)).await,
            "the simulator, not files",
        ),
    ];
    for (result, words) in others {
        let error = result.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Refused, "{error}");
        let message = error.to_string();
        assert!(
            message.contains(words) && message.contains("--ledger"),
            "{message}"
        );
    }
    let again = StreamId::new("raw", "i2");
    let error = ProducerLedger::open(&context, Path::new(PATH), "edge", &again, fleet(1))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("`raw@i1`, not `raw@i2`"),
        "{error}"
    );
    assert_eq!(open(&context).await.unwrap().next_index(), 7);
}

#[tokio::test]
async fn other_fleets_keys_and_formats_are_refused() {
    let fleet = |seed, fleet: &str, key: Option<&str>| InputIdentity::Simulator {
        seed,
        devices: 10,
        fleet: fleet.to_owned(),
        key: key.map(str::to_owned),
    };
    let is = fleet(1, "f", None);
    assert_eq!(is.conflict(&is.clone()), None);
    for (other, word) in [
        (fleet(2, "f", None), "--seed"),
        (fleet(1, "g", None), "--late"),
        (fleet(1, "f", Some("k")), "not with `--key k`"),
    ] {
        assert!(is.conflict(&other).unwrap().contains(word));
    }
    let is = records(None);
    assert_eq!(is.conflict(&is.clone()), None);
    assert!(
        is.conflict(&records(Some("k")))
            .unwrap()
            .contains("not with `--key k`")
    );
    let other = InputIdentity::Records {
        key: None,
        format: RecordFormat::Json,
    };
    assert!(is.conflict(&other).unwrap().contains("not `--format json`"));
}

fn entry(number: u32, index: u64) -> FileEntry {
    let id = FileIdentity {
        device: 1,
        inode: 2,
        born: Some(3),
    };
    FileEntry {
        index,
        line: index + 1,
        bytes: 9 * index,
        digest: Digest(u128::from(index) << 100),
        first: Some(PrefixDigest {
            bytes: 9,
            digest: Digest(7),
        }),
        ..FileEntry::new(number, PathBuf::from(format!("/f{number}")), Some(id))
    }
}

#[tokio::test]
async fn each_file_has_a_place_of_its_own() {
    let world = world(1).await;
    let context = context(&world, "p");
    let open = || open_as(&context, "edge", records(None));
    let mut writer = LedgerWriter::new(open().await.unwrap());
    writer.note_file(entry(0, 5));
    writer.note_file(entry(2, 1));
    writer.note_file(entry(0, 6));
    writer.finish(&Shutdown::new()).await.unwrap();
    writer.note_file(FileEntry {
        ended: true,
        ..entry(2, 4)
    });
    writer.finish(&Shutdown::new()).await.unwrap();
    drop(writer);
    let ledger = open().await.unwrap();
    let ended = FileEntry {
        ended: true,
        ..entry(2, 4)
    };
    assert_eq!(
        (ledger.files(), ledger.next_index()),
        (&[entry(0, 6), ended][..], 10)
    );
    // A note that comes late does not bring it back.
    let mut writer = LedgerWriter::new(ledger);
    writer.forget(&[2]);
    writer.note_file(entry(2, 4));
    writer.finish(&Shutdown::new()).await.unwrap();
    drop(writer);
    assert_eq!(open().await.unwrap().files(), [entry(0, 6)]);
}

#[tokio::test]
async fn what_is_no_ledger_is_refused_with_a_remedy() {
    let world = world(1).await;
    let context = context(&world, "p");
    for (text, word) in [
        ("", "EOF"),
        ("[]", "version"),
        ("{\"version\": 9, \"shape\": \"new\"}", "version is 9"),
        ("{\"version\": 2, \"name\": \"edge\"}", "version is 2"),
        ("{\"version\": 3, \"name\": \"edge\"}", "missing field"),
    ] {
        let body = Bytes::from(text);
        disk::replace_file(&*context.disk, Path::new(PATH), body, "t")
            .await
            .unwrap();
        let error = open(&context).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Refused);
        let message = error.to_string();
        assert!(
            message.contains(word) && message.contains(PATH),
            "{message}"
        );
    }
    let nowhere = Path::new("nowhere/ledger.json");
    let absent = ProducerLedger::open(&context, nowhere, "edge", &stream(), fleet(1))
        .await
        .unwrap_err();
    assert!(absent.to_string().contains("create it first"), "{absent}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_written_down_every_quarter_second_and_at_the_end() {
    let world = world(1).await;
    let context = context(&world, "p");
    let mut writer = LedgerWriter::new(open(&context).await.unwrap());
    let start = clock::now();
    let renames = || world.calls("p");
    let quiet = renames();
    let mut index = 0;
    while clock::now() - start < Duration::from_millis(1_010) {
        index += 1;
        writer.note(index);
        tokio::select! {
            biased;
            kept = writer.turn() => kept.unwrap(),
            () = clock::sleep(Duration::from_millis(1)) => {}
        }
    }
    // One replacement is: open, truncate, write, sync, rename, sync of the directory.
    let replacements = (renames() - quiet) as f64 / 6.0;
    assert!((3.0..=5.0).contains(&replacements), "{replacements}");
    writer.finish(&Shutdown::new()).await.unwrap();
    drop(writer);
    assert_eq!(open(&context).await.unwrap().next_index(), index);
}

/// A run over thousands of small files replaces the ledger once for as many of them as came since the last time.
#[tokio::test(start_paused = true)]
async fn files_are_written_down_together_before_they_are_sent() {
    let world = world(1).await;
    let context = context(&world, "p");
    let open = || open_as(&context, "edge", records(None));
    let mut writer = LedgerWriter::new(open().await.unwrap());
    let start = clock::now();
    let before = world.calls("p");
    let early: Vec<u64> = (0..100).map(|n| writer.open_file(entry(n, 0))).collect();
    assert!(!early.iter().any(|opened| writer.has_written(*opened)));
    writer.hurry(early[0]);
    // It is being written when others come.
    assert!(writer.turn().now_or_never().is_none());
    let late: Vec<u64> = (100..200).map(|n| writer.open_file(entry(n, 0))).collect();
    writer.hurry(early[99]);
    writer.turn().await.unwrap();
    assert!(early.iter().all(|opened| writer.has_written(*opened)));
    assert!(!late.iter().any(|opened| writer.has_written(*opened)));
    writer.hurry(late[0]);
    writer.turn().await.unwrap();
    assert!(late.iter().all(|opened| writer.has_written(*opened)));
    assert!(start.elapsed() < CADENCE / 10, "{:?}", start.elapsed());
    // Two replacements of six calls each.
    assert!(world.calls("p") - before <= 12);
    // What failed is not written, and is when there is room again.
    world.fail(Rule {
        kind: ErrorKind::StorageFull,
        times: Some(1),
        ..Rule::once(Op::WriteAt, "ledger")
    });
    let opened = writer.open_file(entry(200, 0));
    writer.hurry(opened);
    writer.turn().await.unwrap();
    assert!(!writer.has_written(opened));
    let next = writer.open_file(entry(201, 0));
    while !writer.has_written(next) {
        writer.hurry(next);
        writer.turn().await.unwrap();
    }
    drop(writer);
    assert_eq!(open().await.unwrap().files().len(), 202);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_delays_the_ledger_and_another_failure_ends_it() {
    let world = world(1).await;
    let context = context(&world, "p");
    let mut writer = LedgerWriter::new(open(&context).await.unwrap());
    world.fail(Rule {
        kind: ErrorKind::StorageFull,
        times: Some(3),
        ..Rule::once(Op::WriteAt, "ledger")
    });
    writer.note(5);
    writer.turn().await.unwrap();
    writer.finish(&Shutdown::new()).await.unwrap();
    world.fail(Rule::always(Op::Rename, "ledger"));
    writer.note(6);
    assert!(writer.finish(&Shutdown::new()).await.is_err());
    world.heal();
    drop(writer);
    assert_eq!(open(&context).await.unwrap().next_index(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_holds_the_end_up_for_a_while_and_says_what_to_do() {
    let world = world(1).await;
    let context = context(&world, "p");
    let mut writer = LedgerWriter::new(open(&context).await.unwrap());
    writer.note(5);
    writer.finish(&Shutdown::new()).await.unwrap();
    world.fail(Rule {
        kind: ErrorKind::StorageFull,
        times: None,
        ..Rule::once(Op::WriteAt, "ledger")
    });
    writer.note(6);
    let shutdown = Shutdown::new();
    let signal = async {
        // Until then it waits for room.
        clock::sleep(Duration::from_secs(600)).await;
        shutdown.advance(Phase::Draining);
        clock::now()
    };
    let end = async { tokio::join!(writer.finish(&shutdown), signal) };
    let ended = tokio::time::timeout(Duration::from_secs(3600), end).await;
    let (finished, since) = ended.expect("it waits for room without end");
    let said = finished.unwrap_err().report();
    for words in [PATH, "make room and start again", "stores nothing twice"] {
        assert!(said.contains(words), "`{words}` is not in {said}");
    }
    assert!(since.elapsed() < Duration::from_secs(6));
    world.heal();
    drop(writer);
    assert_eq!(open(&context).await.unwrap().next_index(), 5);
}

#[test]
fn ledgers_are_refused_or_come_back() {
    let tokens = [
        "\"version\":3",
        "\"kind\":\"file\"",
        "\"kind\":\"stdin\"",
        "\"kind\":\"simulator\"",
        "\"next_index\":",
        "null",
        "\"path\":",
    ];
    hydrant_fuzz::Target::new("producer-ledgers")
        .tokens(&tokens)
        .run(|input| {
            let path = Path::new("ledger.json");
            match parse(path, input) {
                Ok(body) => {
                    let written = serde_json::to_vec_pretty(&body).unwrap();
                    assert_eq!(parse(path, &written).unwrap(), body);
                    String::new()
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.contains("`ledger.json`") && message.contains("`--ledger`"),
                        "{message}"
                    );
                    message
                        .chars()
                        .filter(|c| c.is_alphabetic())
                        .take(120)
                        .collect()
                }
            }
        });
}
