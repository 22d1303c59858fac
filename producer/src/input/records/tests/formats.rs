//! What a record is: lines, documents, arrays, and what is neither.

use super::*;

/// The records, each with its line.
fn records(format: RecordFormat, text: &str) -> Vec<(u64, String)> {
    let (lines, refused, _) = read_as(format, text.as_bytes()).unwrap();
    assert_eq!(refused, [], "{text}");
    lines
        .into_iter()
        .map(|(line, bytes)| (line, String::from_utf8(bytes).unwrap()))
        .collect()
}

fn payloads(format: RecordFormat, text: &str) -> Vec<String> {
    records(format, text).into_iter().map(|one| one.1).collect()
}

#[test]
fn whatever_holds_documents_gives_each_of_them() {
    let whole = [
        "{\"n\":1}",
        "{\"n\":{\"a\":[{},{}]}}",
        "{\"s\":\"}{ \\\\\\\" ] ,\"}",
    ];
    for (separator, begin, end) in [
        ("\n", "", "\n"),
        ("\n", "", ""),
        ("\r\n", "", "\r\n"),
        ("\r", "", "\r"),
        ("", "", ""),
        ("", "", "\n"),
        (" ", "", ""),
        (" \t ", "", " \n"),
        ("\n\n\n", "\n \n", "\n\n"),
        (",\n", "", ",\n"),
        (",", "[", "]"),
        (",\n  ", "[\n  ", "\n]\n"),
        (", ", "\u{FEFF} [ ", " ] "),
        ("\n", "\u{FEFF}", ""),
        ("]\n[", "[", "]"),
        ("][", "[", "]"),
        (",\r\n", "\r\n[\r\n", ",\r\n]"),
    ] {
        let text = format!("{begin}{}{end}", whole.join(separator));
        assert_eq!(payloads(RecordFormat::Auto, &text), whole, "{text:?}");
        assert_eq!(payloads(RecordFormat::Json, &text), whole, "{text:?}");
    }
}

#[test]
fn a_document_over_lines_becomes_one_line_and_others_keep_their_bytes() {
    let pretty = "{\n  \"n\" : 1.50,\n  \"s\": \"a  b\",\r\n\t\"l\": [\n    1,\n    2 ]\n}\n";
    let compact = "{\"n\":1.50,\"s\":\"a  b\",\"l\":[1,2]}";
    let one_line = "{ \"n\" : 1.50 ,  \"l\":[ 1, 2 ] }";
    let text = format!("{pretty}{pretty}{one_line}\n");
    for format in [RecordFormat::Auto, RecordFormat::Json] {
        assert_eq!(
            records(format, &text),
            [
                (1, compact.into()),
                (8, compact.into()),
                (15, one_line.into())
            ]
        );
        let array = format!("[\n{one_line},\n{}]", pretty.trim_end());
        assert_eq!(
            records(format, &array),
            [(2, one_line.into()), (3, compact.into())]
        );
    }
}

#[test]
fn one_damaged_line_costs_itself() {
    let good = ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"];
    for damaged in [
        "{\"a\":1,\"b\":\"cut",
        "{\"a\":1,",
        "{\"a\":[1,",
        "{\"a\":[1,{\"b\":2},",
        "{\"a\":[",
        "{\"a\":[{",
        "{\"a\":{\"b\":1}",
        "{\"a\":[1}",
        "{\"a\":1}}",
        "{\"a\":1} and more",
        "no json",
        "{\"a\":1}{\"b\":",
        "]",
        "\"text",
        "[1,2]",
        "null",
        "{\"a\":\u{1}\"}",
    ] {
        let text = format!("{}\n{damaged}\n{}\n{}\n", good[0], good[1], good[2]);
        let seen = payloads(RecordFormat::Auto, &text);
        for record in good {
            assert!(
                seen.iter().any(|one| one == record),
                "{record} of {text:?}: {seen:?}"
            );
        }
        let rest: String = seen
            .iter()
            .filter(|one| !good.contains(&one.as_str()))
            .cloned()
            .collect();
        assert_eq!(rest, damaged, "{seen:?}");
        assert_eq!(
            payloads(RecordFormat::Ndjson, &text),
            [good[0], damaged, good[1], good[2]]
        );
    }
    // So it does as the last line but one, and beside others that are cut like it.
    for damaged in ["{\"a\":[1,", "{\"a\":1,", "{\"a\":[1,\n{\"b\":[2,"] {
        let seen = payloads(RecordFormat::Auto, &format!("{damaged}\n{}\n", good[0]));
        assert_eq!(seen, [&damaged.replace('\n', ""), good[0]]);
        let seen = payloads(
            RecordFormat::Auto,
            &format!("{}\n{damaged}\n{}", good[0], good[1]),
        );
        assert_eq!(seen, [good[0], &damaged.replace('\n', ""), good[1]]);
    }
    // A value that is missing takes the next record with it, and no more than that.
    let text = "{\"n\":1}\n{\"a\":\n{\"n\":2}\n{\"n\":3}\n";
    let seen = payloads(RecordFormat::Auto, text);
    assert_eq!(seen, ["{\"n\":1}", "{\"a\":", "{\"n\":2}", "{\"n\":3}"]);
}

#[test]
fn a_damaged_element_costs_itself() {
    for (text, wanted) in [
        (
            "[{\"n\":1},{\"a\":[1},{\"n\":2}]",
            vec!["{\"n\":1}", "{\"n\":2}"],
        ),
        (
            "[\n{\"n\":1},\n{\"a\":\"cut\n{\"n\":2}\n]",
            vec!["{\"n\":1}", "{\"n\":2}"],
        ),
        (
            "[{\"n\":1} {\"n\":2},,3,\"x,]\",{\"n\":4}]",
            vec!["{\"n\":1}", "{\"n\":2}", "3", "\"x,]\"", "{\"n\":4}"],
        ),
        ("[{\"n\":1},{\"n\":", vec!["{\"n\":1}", "{\"n\":"]),
        ("[]", vec![]),
        ("[]\n{\"n\":1}\n", vec!["{\"n\":1}"]),
        (
            "[{\"n\":1}]\n{\"n\":2}\n{\"n\":3}\n",
            vec!["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"],
        ),
    ] {
        let (lines, ..) = read_as(RecordFormat::Auto, text.as_bytes()).unwrap();
        let string = |bytes| String::from_utf8(bytes).unwrap();
        let seen: Vec<String> = lines.into_iter().map(|one| string(one.1)).collect();
        for record in &wanted {
            assert!(
                seen.iter().any(|one| one == record),
                "{record} of {text:?}: {seen:?}"
            );
        }
        assert!(seen.len() <= wanted.len() + 2, "{seen:?}");
    }
}

#[test]
fn lists_that_are_lines_stay_records_and_blank_space_is_none() {
    assert_eq!(
        payloads(RecordFormat::Auto, "[1,2]\n[3,{}]\n"),
        ["[1,2]", "[3,{}]"]
    );
    assert_eq!(
        payloads(RecordFormat::Json, "[[1,2],[3,{}],4]"),
        ["[1,2]", "[3,{}]", "4"]
    );
    for text in [
        "",
        "\n",
        " ",
        "\n\r\n \t\n",
        "\u{FEFF}",
        "\0\0\0\0",
        "\u{1E}\n\u{1E}",
        "[]",
        "[ \n ]\n",
    ] {
        for format in [RecordFormat::Auto, RecordFormat::Json] {
            assert!(payloads(format, text).is_empty(), "{text:?}");
        }
    }
}

#[test]
fn a_hole_that_a_truncation_left_is_passed_over_and_needs_no_memory() {
    let mut text = vec![0; 9 << 20];
    text.extend_from_slice(b"{\"n\":1}\n");
    text.extend(vec![0; 3 << 20]);
    text.extend_from_slice(b"{\"n\":2}\n");
    for format in [RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json] {
        let (lines, refused, _) = read_as(format, &text[..]).unwrap();
        assert_eq!(refused, []);
        let payloads: Vec<_> = lines.into_iter().map(|one| one.1).collect();
        assert_eq!(payloads, [b"{\"n\":1}", b"{\"n\":2}"]);
    }
}

#[test]
fn a_hole_among_the_first_bytes_is_no_sign_of_binary_data() {
    for length in [16, 100, 500, 4_096] {
        let hole = "\0".repeat(length);
        let text = format!("{{\"n\":1}}\n{hole}{{\"n\":2}}\n{hole}{{\"n\":3}}\n");
        for format in [RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json] {
            let wanted = [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#];
            assert_eq!(payloads(format, &text), wanted, "{length}");
        }
    }
}

#[test]
fn record_separators_are_blank_space() {
    let wanted = [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#];
    for text in [
        "\u{1E}{\"n\":1}\n\u{1E}{\"n\":2}\n\u{1E}{\"n\":3}\n",
        "\u{1E}{\"n\":1}\u{1E}{\"n\":2}\u{1E}{\"n\":3}",
        "\u{1E}\n{\"n\":1} \u{1E} {\"n\":2}\n\u{1E}\u{1E}{\"n\":3}\u{1E}\n",
        "\u{1E}{\n\"n\":1}\n\u{1E}{\"n\"\n:2}\n\u{1E}{\"n\":3}\n",
    ] {
        for format in [RecordFormat::Auto, RecordFormat::Json] {
            assert_eq!(payloads(format, text), wanted, "{text:?}");
        }
    }
    // Enough of them to be taken for binary data.
    let text = "\u{1E}{}\n".repeat(400);
    for format in [RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json] {
        assert_eq!(payloads(format, &text).len(), 400);
    }
}

#[test]
fn a_document_that_is_too_long_is_refused_and_the_next_one_is_taken() {
    let long = "x".repeat(2_000);
    for text in [
        format!("{{\"a\":\"{long}\"}}\n{{\"n\":2}}\n"),
        format!("{{\n\"a\":\"{long}\"}}\n{{\"n\":2}}\n"),
        format!("[{{\"a\":\"{long}\"}},\n{{\"n\":2}}]\n"),
    ] {
        for sizes in [vec![7], vec![1 << 20]] {
            let reading = ReadOptions {
                format: RecordFormat::Auto,
                ..ReadOptions::lines(1_000)
            };
            let source = Dribble::new(text.clone().into_bytes(), sizes);
            let mut reader = LineReader::new("t", source, reading);
            let (lines, refused, _) = read_all(&mut reader).unwrap();
            assert_eq!(refused.len(), 1, "{lines:?}");
            assert_eq!(refused[0].number, 1);
            assert_eq!(lines.last().unwrap().1, b"{\"n\":2}");
        }
    }
}

#[test]
fn an_array_of_any_length_needs_the_memory_of_a_block() {
    struct EndlessArray(u64);
    impl Read for EndlessArray {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let part: &[u8] = match self.0 {
                0 => b"[",
                300_000.. => b"",
                _ => b"{\"device\":1234567,\"value\":20.5},",
            };
            self.0 += 1;
            into[..part.len()].copy_from_slice(part);
            Ok(part.len())
        }
    }
    let reading = ReadOptions {
        format: RecordFormat::Auto,
        ..ReadOptions::lines(1 << 20)
    };
    let mut reader = LineReader::new("t", io::BufReader::new(EndlessArray(0)), reading);
    let mut count = 0;
    while let Some(block) = reader.next_block().unwrap() {
        count += block.lines.len();
        assert!(block.bytes.len() < 1 << 20);
    }
    assert_eq!(count, 299_999);
    assert!(reader.is_in_array());
}

#[test]
fn what_was_found_is_reported() {
    for (text, word) in [
        ("{\"n\":1}\n", "NDJSON"),
        ("no json\n", "NDJSON"),
        ("[{\"n\":1}]", "array"),
        ("{\n\"n\":1}", "over several lines"),
        ("{}{}", "without line ends"),
    ] {
        let reading = ReadOptions {
            format: RecordFormat::Auto,
            ..ReadOptions::lines(100)
        };
        let mut reader = LineReader::new("t", text.as_bytes(), reading);
        read_all(&mut reader).unwrap();
        let (found, encoding) = reader.found().unwrap();
        assert!(
            found.contains(word) && encoding.is_none(),
            "{text}: {found}"
        );
    }
}

/// Pieces of JSON, whole and damaged, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        "\r\n",
        " ",
        "a",
        "1",
        "\u{FEFF}",
        "{\"n\":1}",
        "{\"n\":1}\n",
        "{\"a\":{\"b\":[]}}",
        "\"x\"",
        "\"a\":",
        "{\n",
        "\n}",
        "},{",
        "}{",
        "[{",
        "}]\n",
        "\"cut\n",
        "{}\n{}\n",
    ]);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| format!("{{}}{}", pieces.concat()))
}

type Indexed = Vec<(u64, u64, Vec<u8>)>;

fn indexed<R: Read>(reader: &mut LineReader<R>) -> Indexed {
    let mut seen = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        let line = |line: &RecordRange| {
            (
                line.index,
                line.number,
                block.bytes[line.range.clone()].to_vec(),
            )
        };
        seen.extend(block.lines.iter().map(line));
        let refused = |line: &RefusedLine| (line.index, line.number, Vec::new());
        seen.extend(block.refused.iter().map(refused));
    }
    seen.sort();
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn records_do_not_depend_on_how_the_source_is_cut(
        text in pieces(),
        sizes in proptest::collection::vec(1usize..40, 1..8),
        format in proptest::sample::select(vec![RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json]),
        long in 20usize..200,
    ) {
        let reading = ReadOptions { format, ..ReadOptions::lines(long) };
        let whole = indexed(&mut LineReader::new("t", text.as_bytes(), reading));
        let cut = indexed(&mut LineReader::new("t", Dribble::new(text.into_bytes(), sizes), reading));
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn nothing_but_space_commas_and_brackets_of_arrays_is_left_out(text in pieces()) {
        for format in [RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json] {
            let left_out = |byte: &&u8| !matches!(**byte, b' ' | b'\n' | b'\r' | b'\t' | 0 | b',' | b'[' | b']' | 0xEF | 0xBB | 0xBF);
            let (lines, refused, _) = read_as(format, text.as_bytes()).unwrap();
            let seen: Vec<u8> = lines.iter().flat_map(|line| &line.1).filter(left_out).copied().collect();
            let wanted: Vec<u8> = text.as_bytes().iter().filter(left_out).copied().collect();
            let gone: u64 = refused.iter().map(|one| one.length).sum();
            if gone == 0 {
                prop_assert_eq!(seen, wanted);
            } else {
                prop_assert!(format != RecordFormat::Ndjson && refused.iter().all(|one| one.is_damaged));
                let (seen, wanted) = (seen.len() as u64, wanted.len() as u64);
                prop_assert!(seen <= wanted && wanted <= seen + gone, "{} {} {}", seen, wanted, gone);
            }
        }
    }
}
