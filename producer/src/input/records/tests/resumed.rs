//! A place in a source, and the way back to it.

use super::*;

fn remembering(format: RecordFormat, at_end: AtEnd) -> ReadOptions {
    ReadOptions {
        format,
        at_end,
        remembers: true,
        ..ReadOptions::lines(60)
    }
}

type NumberedRecord = (u64, u64, Vec<u8>);

fn records(block: &LineBlock) -> Vec<NumberedRecord> {
    let line = |line: &RecordRange| {
        (
            line.index,
            line.number,
            block.bytes[line.range.clone()].to_vec(),
        )
    };
    let mut seen: Vec<NumberedRecord> = block.lines.iter().map(line).collect();
    seen.extend(
        block
            .refused
            .iter()
            .map(|line| (line.index, line.number, Vec::new())),
    );
    seen.sort();
    seen
}

/// Every record and the places between blocks, with what came before each.
fn run<R: Read>(reader: &mut LineReader<R>) -> (Vec<NumberedRecord>, Vec<(usize, InputPosition)>) {
    let mut seen = Vec::new();
    let mut places = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        seen.extend(records(&block));
        places.extend(reader.position().map(|place| (seen.len(), place)));
    }
    (seen, places)
}

fn text() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "{\"n\":1}\n",
        "{\"n\":22}",
        "\n",
        "[",
        "]",
        ",",
        "{\n \"a\":\n1}\n",
        "no json\n",
        "{\"cut\":\"x\n",
        " ",
        "\r\n",
        "{\"long\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}\n",
    ]);
    proptest::collection::vec(piece, 1..30).prop_map(|pieces| format!("{{}}\n{}", pieces.concat()))
}

/// What looks like a damaged line now may be the beginning of a document when more is there.
#[test]
fn when_a_source_pauses_does_not_matter() {
    let reading = remembering(RecordFormat::Auto, AtEnd::Wait);
    for text in [
        "{}\n[no json\n]\n{\"n\":1}\n",
        "{}\n{\"a\":1\n,\"b\":2}\n{\"n\":1}\n",
    ] {
        let whole = run(&mut LineReader::new("t", text.as_bytes(), reading)).0;
        for cut in 0..text.len() {
            let mut first = LineReader::new("t", &text.as_bytes()[..cut], reading);
            let mut seen = run(&mut first).0;
            let Some(place) = first.position() else {
                continue;
            };
            let mut second = LineReader::new("t", text.as_bytes(), reading);
            assert!(second.resume(&place, None).unwrap());
            seen.extend(run(&mut second).0);
            assert_eq!(seen, whole, "cut at {cut}");
        }
    }
}

/// What lies in front of a place may have been decided by what lies behind it.
#[test]
fn a_resume_behind_damage_looks_at_what_follows() {
    for (format, text, behind) in [
        (
            RecordFormat::Json,
            "{}\nno json\n{\"n\":22},{\n \"a\":\n1}\n",
            20,
        ),
        (
            RecordFormat::Auto,
            "{}\n[[{\"n\":1}\n{\n \"a\":\n1}\n]{\"cut\":\"x\n{\n \"a\":\n1}\n",
            35,
        ),
    ] {
        let reading = remembering(format, AtEnd::Wait);
        let read = |size| {
            let source = Dribble::new(text.as_bytes().to_vec(), vec![size]);
            LineReader::new("t", source, reading)
        };
        let (seen, places) = run(&mut read(1));
        assert_eq!(seen.last().unwrap().2, b"{\"a\":1}");
        assert!(places.iter().any(|(_, place)| place.bytes == behind));
        for (before, place) in places {
            for size in [1, 2, 7, 100] {
                let mut again = read(size);
                assert!(again.resume(&place, None).unwrap());
                assert_eq!(run(&mut again).0, seen[before..], "{size} {place:?}");
            }
        }
    }
}

/// What was sent of a source that ended within a character is what it begins with when the other half has come.
#[test]
fn half_a_character_is_taken_with_its_other_half() {
    let text = "{\"n\":1}\n{\"s\":\"x\u{1F600}y\"}\n{\"n\":3}\n";
    for (width, big) in [(2, false), (2, true), (4, false), (4, true)] {
        let source = coded::coded(text, width, big, true);
        for cut in 0..source.len() {
            let reading = remembering(RecordFormat::Auto, AtEnd::Send);
            let mut first = LineReader::new("t", &source[..cut], reading);
            let mut seen = run(&mut first).0;
            let place = first.position().unwrap();
            let mut second = LineReader::new("t", &source[..], reading);
            assert!(second.resume(&place, None).unwrap(), "{width} cut at {cut}");
            seen.extend(run(&mut second).0);
            let all: String = seen
                .iter()
                .map(|one| String::from_utf8_lossy(&one.2))
                .collect();
            assert_eq!(all, text.replace('\n', ""), "{width} cut at {cut}");
        }
    }
    // Where nothing is remembered, a record that ends like this is damaged.
    let source = coded::coded(text, 2, false, true);
    let whole = coded::coded("{\"n\":1}\n{\"s\":\"x", 2, false, true).len();
    for cut in [whole + 1, whole + 2, whole + 3] {
        let seen = read_bytes(&source[..cut]).0;
        assert!(seen[1].1.ends_with(b"x\xFF"), "{seen:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn from_every_place_the_same_records_follow_with_the_same_indexes(
        text in text(),
        sizes in proptest::collection::vec(1usize..30, 1..6),
        other in proptest::collection::vec(1usize..30, 1..6),
        format in proptest::sample::select(vec![RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json]),
        packed: bool,
    ) {
        let text = text.into_bytes();
        let coded = if packed { gzip(&text) } else { text.clone() };
        let reading = remembering(format, AtEnd::Wait);
        let mut reader = LineReader::new("t", Dribble::new(coded.clone(), sizes), reading);
        let (seen, places) = run(&mut reader);
        for (before, place) in places {
            let mut again = LineReader::new("t", Dribble::new(coded.clone(), other.clone()), reading);
            prop_assert!(again.resume(&place, None).unwrap());
            prop_assert_eq!(&run(&mut again).0[..], &seen[before..], "{:?}", place);
            if place.bytes > 0 {
                let mut changed = text.clone();
                changed[place.bytes as usize / 2] ^= 1;
                let mut other = LineReader::new("t", &changed[..], reading);
                prop_assert!(!other.resume(&place, None).unwrap_or(false));
                let mut shorter = LineReader::new("t", &text[..place.bytes as usize - 1], reading);
                prop_assert!(!shorter.resume(&place, None).unwrap());
            }
        }
    }

    #[test]
    fn a_source_that_grows_gives_what_it_gives_as_a_whole(
        text in text(),
        cut in 0usize..400,
        at_end in proptest::sample::select(vec![AtEnd::Wait, AtEnd::Send]),
    ) {
        // Lines only: what is sent unfinished is the caller's wish.
        let text = text.as_bytes();
        let cut = cut.min(text.len());
        let reading = remembering(RecordFormat::Auto, at_end);
        let whole = run(&mut LineReader::new("t", text, remembering(RecordFormat::Auto, AtEnd::Wait))).0;
        let mut first = LineReader::new("t", &text[..cut], reading);
        let (mut seen, places) = run(&mut first);
        let mut place = places.last().map(|last| last.1);
        if let Some(last) = first.position() {
            place = Some(last);
        }
        let mut second = LineReader::new("t", text, remembering(RecordFormat::Auto, AtEnd::Wait));
        if let Some(place) = place {
            prop_assert!(second.resume(&place, None).unwrap());
            seen.extend(run(&mut second).0);
            if at_end == AtEnd::Wait {
                let bytes = |records: &[NumberedRecord]| records.iter().flat_map(|one| one.2.clone()).collect::<Vec<_>>();
                prop_assert_eq!(bytes(&seen), bytes(&whole));
            }
        }
        let indexes: Vec<u64> = seen.iter().map(|one| one.0).collect();
        prop_assert!(indexes.windows(2).all(|two| two[0] < two[1]), "{:?}", indexes);
    }
}

#[test]
fn an_unfinished_record_waits_or_is_sent() {
    for (text, waiting) in [
        ("{\"n\":1}\n{\"n\":2,\"s\":\"hal", Some((2, 15))),
        ("{\"n\":1}\n{\"n\":2}", Some((2, 7))),
        ("{\"n\":1}\n  ", None),
        ("[{\"n\":1},{\"n\":", Some((1, 5))),
        ("{\"n\":1}\n{\n\"n\":2", Some((2, 7))),
    ] {
        let mut reader = LineReader::new(
            "t",
            text.as_bytes(),
            remembering(RecordFormat::Auto, AtEnd::Wait),
        );
        assert_eq!(run(&mut reader).0.len(), 1, "{text}");
        assert_eq!(reader.unfinished(), waiting, "{text}");
        let sent = run(&mut LineReader::new(
            "t",
            text.as_bytes(),
            remembering(RecordFormat::Auto, AtEnd::Send),
        ))
        .0;
        assert_eq!(sent.len(), 1 + usize::from(waiting.is_some()), "{text}");
    }
}
