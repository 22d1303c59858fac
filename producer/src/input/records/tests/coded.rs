//! Compressions and encodings as the tools write them, and as they should not be written.

use super::*;

fn lines(count: u64) -> Vec<u8> {
    (0..count)
        .flat_map(|n| format!("{{\"n\":{}}}\n", n * 7_919 % 100_003).into_bytes())
        .collect()
}

fn skippable(bytes: &[u8]) -> Vec<u8> {
    let mut frame = b"\x5A\x2A\x4D\x18".to_vec();
    frame.extend((bytes.len() as u32).to_le_bytes());
    frame.extend(bytes);
    frame
}

/// The records and the failure, if any.
fn read(source: &[u8]) -> (usize, Option<String>) {
    let text = |failure: InputError| {
        let cause = std::error::Error::source(&failure).map(ToString::to_string);
        format!("{failure}: {}", cause.unwrap_or_default())
    };
    match read_as(
        RecordFormat::Auto,
        Dribble::new(source.to_vec(), vec![1_000, 3, 70_000]),
    ) {
        Ok(seen) => (seen.0.len(), None),
        Err(failed) => (failed.0.0.len(), Some(text(failed.1))),
    }
}

#[test]
fn members_frames_and_what_may_stand_between_them_are_read_to_the_end() {
    let (a, b) = (lines(1_000), lines(300));
    for source in [
        [gzip(&a), gzip(&b)].concat(),
        [gzip(&a), vec![0; 100], gzip(&b), vec![0; 70_000]].concat(),
        [gzip(b""), gzip(&a), gzip(&b), gzip(b"")].concat(),
        [zstd(&a), zstd(&b)].concat(),
        [
            skippable(b"\x1D\0\0\0"),
            zstd(&a),
            skippable(b""),
            zstd(&b),
            skippable(&[7; 9_000]),
        ]
        .concat(),
        [zstd(b""), zstd(&a), zstd(&b)].concat(),
    ] {
        assert_eq!(read(&source), (1_300, None));
    }
    assert_eq!(read(&skippable(b"only")), (0, None));
}

#[test]
fn what_is_damaged_is_refused_with_its_place_and_what_came_before_is_kept() {
    let (a, b) = (lines(1_000), lines(50_000));
    let behind = gzip(&a).len();
    let (garbage, letter) = (b"garbage\n".to_vec(), b"x".to_vec());
    for (source, least, words) in [
        (
            [gzip(&a), garbage.clone()].concat(),
            1_000,
            vec![format!("at byte {behind}"), "gzip member".to_owned()],
        ),
        (
            [gzip(&a), letter].concat(),
            1_000,
            vec![format!("at byte {behind}")],
        ),
        (
            [zstd(&a), garbage].concat(),
            1_000,
            vec!["zstd frame".to_owned()],
        ),
        (
            [gzip(&a), a.clone()].concat(),
            1_000,
            vec![format!("at byte {behind}")],
        ),
        (
            gzip(&b)[..gzip(&b).len() / 2].to_vec(),
            1_000,
            vec!["was cut".to_owned(), "in line".to_owned()],
        ),
        (
            zstd(&b)[..zstd(&b).len() - 5].to_vec(),
            1_000,
            vec!["was cut".to_owned()],
        ),
        (
            [gzip(&a), gzip(&b)[..5].to_vec()].concat(),
            1_000,
            vec!["was cut".to_owned()],
        ),
        (
            [gzip(&a)[..behind - 8].to_vec(), vec![1; 8]].concat(),
            0,
            vec!["near byte".to_owned()],
        ),
    ] {
        let (taken, failure) = read(&source);
        let failure = failure.expect("it is damaged");
        assert!(taken >= least, "{taken} {failure}");
        for word in words {
            assert!(failure.contains(&word), "`{word}` is not in {failure}");
        }
    }
}

#[test]
fn a_window_is_accepted_as_far_as_memory_allows() {
    let text = lines(1_000);
    let coded = |window_log: u32| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap()
    };
    for (window_log, memory_bytes, fits) in [
        (27, 1 << 20, true),
        (28, 1 << 28, false),
        (28, 1 << 29, true),
        (30, 1 << 29, false),
    ] {
        let reading = ReadOptions {
            memory_bytes,
            ..ReadOptions::lines(1_000)
        };
        let source = coded(window_log);
        let seen = read_all(&mut LineReader::new("t", &source[..], reading));
        match (fits, seen) {
            (true, seen) => assert_eq!(seen.unwrap().0.len(), 1_000),
            (false, seen) => {
                let message = seen.unwrap_err().1.to_string();
                assert!(
                    message.contains("--memory") && message.contains("--long=31"),
                    "{message}"
                );
            }
        }
    }
}

pub(super) fn coded(text: &str, width: usize, big: bool, mark: bool) -> Vec<u8> {
    let text = if mark {
        format!("\u{FEFF}{text}")
    } else {
        text.to_owned()
    };
    let order = |mut bytes: Vec<u8>| {
        if big {
            bytes.reverse();
        }
        bytes
    };
    match width {
        2 => text
            .encode_utf16()
            .flat_map(|unit| order(unit.to_le_bytes().to_vec()))
            .collect(),
        _ => text
            .chars()
            .flat_map(|one| order((one as u32).to_le_bytes().to_vec()))
            .collect(),
    }
}

#[test]
fn other_encodings_are_decoded_with_and_without_a_byte_order_mark() {
    let text = "{\"s\":\"Ä 😀 \u{20AC}\"}\r\n{\"n\":2}\n[1]\n";
    let wanted = read_bytes(text.as_bytes()).0;
    for width in [2, 4] {
        for (big, mark) in [(false, false), (false, true), (true, false), (true, true)] {
            let source = coded(text, width, big, mark);
            for source in [source.clone(), gzip(&source)] {
                for sizes in [vec![1], vec![3, 5], vec![1 << 20]] {
                    let source = Dribble::new(source.clone(), sizes);
                    let mut reader = reader(source, 1_000);
                    assert_eq!(
                        read_all(&mut reader).unwrap().0,
                        wanted,
                        "{width} {big} {mark}"
                    );
                    let name = reader.found().unwrap().1.unwrap();
                    assert!(name.starts_with(if width == 2 { "UTF-16" } else { "UTF-32" }));
                    assert!(name.ends_with(if big { "BE" } else { "LE" }), "{name}");
                }
            }
        }
    }
    let long = "{\"s\":\"Ä😀\"}\n".repeat(50_000);
    assert_eq!(
        read_bytes(&coded(&long, 2, false, true)),
        read_bytes(long.as_bytes())
    );
}

#[test]
fn a_unit_that_is_no_character_spoils_its_own_record() {
    let mut source = coded("{\"n\":1}\n{\"s\":\"", 2, false, true);
    source.extend(0xD800u16.to_le_bytes());
    source.extend(coded("\"}\n{\"n\":3}\n", 2, false, false));
    let seen = read_bytes(&source).0;
    assert_eq!(seen.len(), 3);
    assert_eq!(
        (&seen[0].1[..], &seen[2].1[..]),
        (&b"{\"n\":1}"[..], &b"{\"n\":3}"[..])
    );
    assert!(std::str::from_utf8(&seen[1].1).is_err());
}

/// Bytes that begin like text, like binary data, or like both.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"{\"n\":1}\n".to_vec()),
        Just(b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR".to_vec()),
        Just(b"{\"name\":\"M\xFCller\"}\n".to_vec()),
        Just(vec![0; 20]),
        proptest::collection::vec(0u8..=255, 0..40),
        proptest::collection::vec(0u8..=32, 0..40),
        proptest::collection::vec(b'a'..=b'z', 0..400),
    ];
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

/// The records, and why they end.
fn outcome(reader: &mut LineReader<impl Read>) -> (Vec<Vec<u8>>, Option<String>) {
    let payloads = |seen: ReadRecords| seen.0.into_iter().map(|line| line.1).collect();
    match read_all(reader) {
        Ok(seen) => (payloads(seen), None),
        Err(failed) => (payloads(failed.0), Some(failed.1.to_string())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_a_source_is_does_not_depend_on_how_it_is_cut(
        source in bytes(),
        sizes in proptest::collection::vec(1usize..60, 1..8),
    ) {
        let whole = outcome(&mut reader(&source[..], 1_000));
        let cut = outcome(&mut reader(Dribble::new(source, sizes), 1_000));
        prop_assert_eq!(&cut.1, &whole.1);
        if whole.1.is_none() {
            prop_assert_eq!(cut.0, whole.0);
        }
    }
}

#[test]
fn a_source_that_grows_is_what_it_is_as_a_whole_and_a_line_of_text_does_not_wait() {
    let mut picture =
        b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xE0\x08\x06\0\0\0".to_vec();
    picture.extend((0..=255).cycle().skip(128).take(900));
    let reading = ReadOptions {
        grows: true,
        remembers: true,
        ..ReadOptions::lines(1_000)
    };
    for cut in 1..picture.len() {
        let pieces = [&picture[..cut], &[], &picture[cut..]].map(<[u8]>::to_vec);
        let mut reader = LineReader::new("t", GrowingSource(pieces.to_vec()), reading);
        let failure = (0..4).find_map(|_| reader.next_block().err()).unwrap();
        assert!(
            failure.to_string().contains("binary data"),
            "cut at {cut}: {failure}"
        );
    }
    let lines = [&b"{\"n\":1}\n"[..], &[], &[7; 900]].map(<[u8]>::to_vec);
    let mut reader = LineReader::new("t", GrowingSource(lines.to_vec()), reading);
    assert_eq!(reader.next_block().unwrap().unwrap().lines.len(), 1);
    // A few bytes that nothing follows are a record, whatever they are.
    let mut short = LineReader::new("t", GrowingSource(vec![b"M\xFCller\n".to_vec()]), reading);
    assert!(short.next_block().unwrap().is_none() && short.is_cut());
    assert_eq!(short.finish().unwrap().unwrap().lines.len(), 1);
}

/// Runs a tool on standard input; `None` where it is not installed.
fn tool(command: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    use std::process::{Command, Stdio};
    let spawned = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("skipped: `{}` is not installed", command[0]);
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(&input).is_ok());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}");
    Some(output.stdout)
}

#[test]
fn files_that_the_real_tools_make_are_read() {
    let text = lines(200_000);
    for command in [
        &["gzip", "-c"][..],
        &["gzip", "-1", "-c"],
        &["pigz", "-c", "-p", "4"],
        &["bgzip", "-c"],
        &["zstd", "-q", "-c"],
        &["zstd", "-q", "-c", "--long=27"],
        &["zstd", "-q", "-c", "--long=31", "-T1"],
        &["zstd", "-q", "-c", "--adapt", "--check"],
        &["pzstd", "-q", "-c", "-p", "4"],
    ] {
        let Some(coded) = tool(command, &text) else {
            continue;
        };
        let reading = ReadOptions {
            memory_bytes: 5 << 30,
            ..ReadOptions::lines(1_000)
        };
        let twice = [&coded[..], &coded[..]].concat();
        for (source, count) in [(&coded, 200_000), (&twice, 400_000)] {
            let mut reader = LineReader::new("t", &source[..], reading);
            assert_eq!(read_all(&mut reader).unwrap().0.len(), count, "{command:?}");
        }
    }
    for (command, word) in [
        (&["bzip2", "-c"], "bzip2"),
        (&["xz", "-c"], "xz"),
        (&["lz4", "-c"], "lz4"),
    ] {
        if let Some(coded) = tool(command, &text) {
            assert!(read(&coded).1.unwrap().contains(word));
        }
    }
}
