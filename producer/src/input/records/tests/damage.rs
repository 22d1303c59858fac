//! What a document costs that is damaged or too long: itself, and no part of it is a record.

use super::*;

/// The records and the refusals, however the text is cut.
fn seen(format: RecordFormat, text: &str, long: usize) -> (Vec<String>, Vec<RefusedLine>) {
    let reading = ReadOptions {
        format,
        ..ReadOptions::lines(long)
    };
    let mut all = [vec![1 << 20], vec![1], vec![7, 100]].map(|sizes| {
        let source = Dribble::new(text.as_bytes().to_vec(), sizes);
        read_all(&mut LineReader::new("t", source, reading)).unwrap()
    });
    assert_eq!(all[0], all[1], "{text}");
    assert_eq!(all[0], all[2], "{text}");
    let (lines, refused, _) = std::mem::take(&mut all[0]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (lines.into_iter().map(|one| text(one.1)).collect(), refused)
}

/// The records that are objects.
fn objects(records: &[String]) -> Vec<&str> {
    let is_object = |one: &&String| {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(one).is_ok()
    };
    records
        .iter()
        .filter(is_object)
        .map(|one| &one[..])
        .collect()
}

/// Documents of five patients, in the styles of those who write them.
fn styles() -> Vec<Vec<String>> {
    let lines = |text: &str| text.lines().map(|line| format!("{line}\n")).collect();
    let patient = |n: u32| format!("{{\"id\":{n},\"note\":\"x{n}\"}}");
    let patients: Vec<String> = (0..5).map(patient).collect();
    let value = serde_json::json!({
        "ward": "w",
        "patients": patients
            .iter()
            .map(|one| serde_json::from_str::<serde_json::Value>(one).unwrap())
            .collect::<Vec<_>>(),
        "end": true
    });
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    let flush: String = pretty
        .lines()
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect();
    [
        format!("{{\"patients\":[\n{}\n]}}", patients.join(",\n")),
        format!("{{\n\"patients\": [\n{}\n]\n}}", patients.join(",\n")),
        format!(
            "{{\n  \"patients\": [\n    {}\n  ]\n}}",
            patients.join(",\n    ")
        ),
        format!("{{\"patients\":[\n {}]}}", patients.join(",\n ")),
        format!("{{\"patients\":\n[{}\n]}}", patients.join("\n,")),
        pretty.replace("},\n    {", "}, {"),
        pretty.replace("  ", "\t"),
        pretty,
        flush,
    ]
    .iter()
    .map(|text| lines(text))
    .collect()
}

#[test]
fn no_part_of_a_document_that_lacks_a_comma_is_a_record() {
    for lines in styles() {
        for (n, line) in lines.iter().enumerate() {
            for (place, _) in line.match_indices(',') {
                let mut broken = lines.clone();
                broken[n].remove(place);
                is_nothing_but_itself(&broken.concat());
            }
        }
    }
}

#[test]
fn no_part_of_a_document_with_a_line_end_in_a_string_is_a_record() {
    for lines in styles() {
        for (n, line) in lines.iter().enumerate() {
            if let Some(place) = line.find("\"x") {
                let mut broken = lines.clone();
                broken[n].insert(place + 2, '\n');
                is_nothing_but_itself(&broken.concat());
            }
        }
    }
}

#[test]
fn no_part_of_a_document_with_a_damaged_byte_is_a_record() {
    for lines in styles() {
        let text = lines.concat();
        for (place, old) in text.bytes().enumerate().skip(1) {
            for byte in ["\"", "{", "}", "]", "[", "x y", "\n"] {
                let mut broken = text.clone();
                broken.replace_range(place..=place, byte);
                let is_whole = serde_json::from_str::<serde_json::Value>(&broken).is_ok();
                // A line in braces is a record, and a space says how far a line is moved in.
                let is_record = broken
                    .lines()
                    .next()
                    .is_some_and(|line| line.ends_with('}'));
                if !is_whole && !is_record && !b" \t".contains(&old) {
                    has_no_patients(&broken);
                }
            }
        }
    }
}

/// That no patient of it is a record, and the document behind it is one.
fn is_nothing_but_itself(broken: &str) {
    let next = "{\n  \"n\": 7\n}\n";
    for format in [RecordFormat::Auto, RecordFormat::Json] {
        let text = format!("{broken}{next}{{\"n\":8}}\n");
        let (records, _) = seen(format, &text, 1 << 20);
        let whole = objects(&records);
        assert!(
            whole.ends_with(&["{\"n\":7}", "{\"n\":8}"]),
            "{text}: {records:?}"
        );
        assert_eq!(whole.len(), 2, "{text}: {records:?}");
    }
}

fn has_no_patients(broken: &str) {
    for format in [RecordFormat::Auto, RecordFormat::Json] {
        let (records, _) = seen(format, broken, 1 << 20);
        for one in objects(&records) {
            let value: serde_json::Value = serde_json::from_str(one).unwrap();
            assert!(value.get("note").is_none(), "{broken}: {records:?}");
        }
    }
}

#[test]
fn a_document_that_is_too_long_costs_itself() {
    for lines in styles() {
        let text = lines.concat();
        for (begin, end) in [
            ("", ""),
            ("[", ",{\"n\":1}]\n"),
            ("[\n", ",\n{\"n\":1}\n]\n"),
        ] {
            let whole = format!("{begin}{}{end}{{\"n\":2}}\n", text.trim_end());
            for format in [RecordFormat::Auto, RecordFormat::Json] {
                let (records, refused) = seen(format, &whole, 40);
                let wanted = match end {
                    "" => vec!["{\"n\":2}"],
                    _ => vec!["{\"n\":1}", "{\"n\":2}"],
                };
                assert_eq!(records, wanted, "{whole}");
                let line = 1 + u64::from(begin == "[\n");
                let length = text.trim_end().len() as u64;
                let seen: Vec<_> = refused.iter().map(|one| (one.number, one.length)).collect();
                assert_eq!(seen, [(line, length)], "{whole}");
            }
        }
    }
}

#[test]
fn what_is_behind_a_record_that_is_too_long_on_its_line_is_taken() {
    let long = format!("{{\"i\":2,\"big\":\"{}\"}}", "y".repeat(5_000));
    for format in [RecordFormat::Auto, RecordFormat::Json] {
        for text in [
            format!("[{{\"i\":0}}, {{\"i\":1}}, {long}, {{\"i\":3}}, {{\"i\":4}}]\n"),
            format!("{{\"i\":0}} {{\"i\":1}} {long} {{\"i\":3}} {{\"i\":4}}\n"),
        ] {
            let (records, refused) = seen(format, &text, 1_000);
            let wanted = ["{\"i\":0}", "{\"i\":1}", "{\"i\":3}", "{\"i\":4}"];
            assert_eq!(records, wanted);
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].length, long.len() as u64);
        }
        let text = format!("[{{}},\"{}\",{{\"i\":3}}]\n", "y,]{".repeat(1_000));
        let (records, refused) = seen(format, &text, 1_000);
        assert_eq!(records, ["{}", "{\"i\":3}"]);
        assert_eq!((refused.len(), refused[0].length), (1, 4_002));
    }
}

#[test]
fn a_line_that_only_begins_like_a_document_costs_no_line_behind_it() {
    for damaged in ["[WARN unclosed", "{\"a\":\"cut", "{\"a\":[1,", "[", "{"] {
        let plain: Vec<String> = (0..3_000).map(|n| format!("line {n} is text")).collect();
        let text = format!("{damaged}\n{}\n", plain.join("\n"));
        let (records, refused) = seen(RecordFormat::Auto, &text, 1_000);
        assert_eq!(refused, [], "{damaged}");
        assert!(records.len() >= plain.len(), "{damaged}: {}", records.len());
    }
}

/// A stack trace or other text behind a cut line costs nothing, nor does a cut line where all are moved in.
#[test]
fn a_cut_line_costs_itself_whatever_is_around_it() {
    for (text, wanted) in [
        ("{\"n\":1\n  at foo(bar)\n{\"n\":2}\n", 1),
        (" {\"n\":1}\n {\"a\":\"cut\n {\"n\":2}\n {\"n\":3}\n", 3),
        ("{\"n\":1},\n{\"a\":\"cut\n{\"n\":2},\n{\"n\":3},\n", 3),
        ("{\"a\":[1,\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}\n", 3),
        (
            "{\"a\":{\"b\":[\n{\"a\":{\"b\":[\n{\"n\":3}\n{\"n\":4}\n",
            2,
        ),
        ("[\n{\"n\":1},\n{\"a\":\"cut\n{\"n\":2},\n{\"n\":3}\n]\n", 3),
    ] {
        for format in [RecordFormat::Auto, RecordFormat::Json] {
            let (records, _) = seen(format, text, 1_000);
            assert_eq!(objects(&records).len(), wanted, "{text}: {records:?}");
        }
    }
}

/// Without care each of these lines is looked at to the end.
#[test]
fn lines_that_only_open_are_looked_at_once() {
    for line in [
        "{\"a\":",
        "[",
        "{\"a\":1\n,\"b\":",
        "{\"a\":[1,",
        "{\"a\":[{\"b\":2},",
    ] {
        for end in ["]", "}", "", "\"", "{\"n\":1}\n{\"n\":2}\n"] {
            let text = format!("{}{end}\n", format!("{line}\n").repeat(40_000));
            for format in [RecordFormat::Auto, RecordFormat::Json] {
                let reading = ReadOptions {
                    format,
                    ..ReadOptions::lines(8 << 20)
                };
                read_all(&mut LineReader::new("t", text.as_bytes(), reading)).unwrap();
            }
        }
    }
}

/// Blank space of any length, and record separators, within and behind damage.
#[test]
fn what_stands_behind_damage_and_blank_space_is_read() {
    let blank = " ".repeat(3_000);
    for text in [
        format!("{{\"a\":\"cut\n  {{\"b\":1}},\n{blank}\n{blank}\n{{\"n\":1}}\n"),
        format!("{{\n\"a\":1\n}}\n{blank}\n{{\"n\":1}}\n"),
        format!(
            "{{\"a\":\"cut\n  {{\"b\":1}},\n{}\n{{\"n\":1}}",
            "\0".repeat(3_000)
        ),
        "[{\"a\":[1}\u{1E}x\u{1E}{\"b\":1}\n,{\"n\":1}]\n".to_owned(),
    ] {
        for format in [RecordFormat::Auto, RecordFormat::Json] {
            let (records, _) = seen(format, &text, 1_000);
            assert_eq!(
                records.last().map(|one| &one[..]),
                Some("{\"n\":1}"),
                "{text}"
            );
        }
    }
}
