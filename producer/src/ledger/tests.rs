//! What a ledger promises, on a disk that dies at each of its calls.

use std::io::ErrorKind;
use std::sync::Arc;

use hydrant_core::testing::clock::ManualClock;
use hydrant_core::testing::disk::{Death, Loss, Moment, Op, Rule, SimWorld};
use hydrant_core::{Budget, Random, Workers};

use super::*;

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

fn stdin(first_line: Option<&str>) -> InputIdentity {
    InputIdentity::Stdin {
        first_line: first_line.map(str::to_owned),
        key: None,
    }
}

async fn open_as(context: &Context, name: &str, input: InputIdentity) -> Result<Ledger> {
    let claim = Claim::take(context, Path::new(PATH)).await?;
    claim.open(context, name, &stream(), input).await
}

async fn open(context: &Context) -> Result<Ledger> {
    open_as(context, "edge", stdin(Some("a"))).await
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
                ledger.advance(10).await.unwrap();
                let id = ledger.id().to_owned();
                drop(ledger);
                let victim = context(&world, "victim");
                world.die_at("victim", nth, moment, death);
                let work = async {
                    let mut ledger = open(&victim).await.unwrap();
                    ledger.advance(20).await.unwrap();
                };
                // A call of a dead process never returns.
                let survived = tokio::time::timeout(Duration::from_secs(9), work)
                    .await
                    .is_ok();
                if survived {
                    // The fate that never came must not befall the drop of the lock.
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
    ledger.advance(7).await.unwrap();
    drop(ledger);
    let others = [
        (
            open_as(&context, "other", stdin(Some("a"))).await,
            "`edge`, not `other`",
        ),
        (
            open_as(&context, "edge", stdin(Some("b"))).await,
            "another line",
        ),
        (open_as(&context, "edge", stdin(None)).await, "another line"),
        (
            open_as(
                &context,
                "edge",
                InputIdentity::Stdin {
                    first_line: Some("a".to_owned()),
                    key: Some("id".to_owned()),
                },
            )
            .await,
            "not `--key id`",
        ),
        (
            open_as(
                &context,
                "edge",
                InputIdentity::File {
                    path: "in".into(),
                    first_line: Some("a".to_owned()),
                    key: None,
                },
            )
            .await,
            "standard input, not a file",
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
    let claim = Claim::take(&context, Path::new(PATH)).await.unwrap();
    let again = StreamId::new("raw", "i2");
    let error = claim
        .open(&context, "edge", &again, stdin(Some("a")))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("`raw@i1`, not `raw@i2`"),
        "{error}"
    );
    assert_eq!(open(&context).await.unwrap().next_index(), 7);
}

#[tokio::test]
async fn other_fleets_and_files_are_refused() {
    let fleet = |seed, fleet: &str, key: Option<&str>| InputIdentity::Simulator {
        seed,
        devices: 10,
        fleet: fleet.to_owned(),
        key: key.map(str::to_owned),
    };
    let file = |path: &str, first_line: Option<&str>| InputIdentity::File {
        path: path.into(),
        first_line: first_line.map(str::to_owned),
        key: None,
    };
    let is = fleet(1, "f", None);
    assert_eq!(is.conflict(&is.clone()), None);
    assert!(
        is.conflict(&fleet(2, "f", None))
            .unwrap()
            .contains("--seed")
    );
    assert!(
        is.conflict(&fleet(1, "g", None))
            .unwrap()
            .contains("--late")
    );
    assert!(
        is.conflict(&fleet(1, "f", Some("k")))
            .unwrap()
            .contains("--key")
    );
    let is = file("a", Some("x"));
    assert_eq!(is.conflict(&is.clone()), None);
    assert!(
        is.conflict(&file("b", Some("x")))
            .unwrap()
            .contains("`a`, not `b`")
    );
    assert!(
        is.conflict(&file("a", Some("y")))
            .unwrap()
            .contains("another line")
    );
    assert_eq!(file("a", None).conflict(&is), None);
}

#[tokio::test]
async fn an_empty_input_is_known_by_the_first_line_it_gets() {
    let world = world(1).await;
    let context = context(&world, "p");
    for (first_line, fits) in [
        (None, true),
        (Some("a"), true),
        (Some("b"), false),
        (None, false),
    ] {
        let opened = open_as(&context, "edge", stdin(first_line)).await;
        assert_eq!(opened.is_ok(), fits, "{first_line:?}");
    }
}

#[tokio::test]
async fn what_is_no_ledger_is_refused_with_a_remedy() {
    let world = world(1).await;
    let context = context(&world, "p");
    for (text, word) in [
        ("", "EOF"),
        ("[]", "version"),
        ("{\"version\": 9, \"shape\": \"new\"}", "version is 9"),
        ("{\"version\": 1, \"name\": \"edge\"}", "missing field"),
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
    let absent = Claim::take(&context, Path::new("nowhere/ledger.json"))
        .await
        .unwrap_err();
    assert!(absent.to_string().contains("make it first"), "{absent}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_written_down_every_quarter_second_and_at_the_end() {
    let world = world(1).await;
    let context = context(&world, "p");
    let mut keeper = Keeper::new(open(&context).await.unwrap());
    let start = clock::now();
    let renames = || world.calls("p");
    let quiet = renames();
    let mut index = 0;
    while clock::now() - start < Duration::from_millis(1_010) {
        index += 1;
        keeper.note(index);
        tokio::select! {
            biased;
            kept = keeper.turn() => kept.unwrap(),
            () = clock::sleep(Duration::from_millis(1)) => {}
        }
    }
    // One replacement is: open, truncate, write, sync, rename, sync of the directory.
    let replacements = (renames() - quiet) as f64 / 6.0;
    assert!((3.0..=5.0).contains(&replacements), "{replacements}");
    keeper.finish().await.unwrap();
    drop(keeper);
    assert_eq!(open(&context).await.unwrap().next_index(), index);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_delays_the_ledger_and_another_failure_ends_it() {
    let world = world(1).await;
    let context = context(&world, "p");
    let mut keeper = Keeper::new(open(&context).await.unwrap());
    world.fail(Rule {
        kind: ErrorKind::StorageFull,
        times: Some(3),
        ..Rule::once(Op::WriteAt, "ledger")
    });
    keeper.note(5);
    keeper.turn().await.unwrap();
    keeper.finish().await.unwrap();
    world.fail(Rule::always(Op::Rename, "ledger"));
    keeper.note(6);
    assert!(keeper.finish().await.is_err());
    world.heal();
    drop(keeper);
    assert_eq!(open(&context).await.unwrap().next_index(), 5);
}

#[test]
fn ledgers_are_refused_or_come_back() {
    let tokens = [
        "\"version\":1",
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
                    let told = error.to_string();
                    assert!(
                        told.contains("`ledger.json`") && told.contains("`--ledger`"),
                        "{told}"
                    );
                    told.chars()
                        .filter(|c| c.is_alphabetic())
                        .take(120)
                        .collect()
                }
            }
        });
}
