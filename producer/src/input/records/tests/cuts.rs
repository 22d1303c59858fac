//! The same bytes are the same records, refusals and places, however they are cut into reads.

use std::num::NonZeroUsize;

use super::*;

/// What is offered to each read: little, since that is zeroed.
const READ_BYTES: Option<NonZeroUsize> = NonZeroUsize::new(1 << 10);

/// Records and refusals with their places, how many of each there were, and why reading ended.
type WholeFile = (
    Vec<(u64, u64, Vec<u8>)>,
    Vec<RefusedLine>,
    LineCounts,
    Option<String>,
);

fn whole<R: Read>(reader: &mut LineReader<R>) -> WholeFile {
    let (mut records, mut refused) = (Vec::new(), Vec::new());
    loop {
        let failure = match reader.next_block() {
            Ok(Some(block)) => {
                records.extend(block.lines.iter().map(|line| {
                    let bytes = block.bytes[line.range.clone()].to_vec();
                    (line.index, line.number, bytes)
                }));
                refused.extend(block.refused);
                continue;
            }
            Ok(None) => None,
            Err(failure) => Some(failure.to_string()),
        };
        let counts = counts(reader, records.len(), refused.len());
        return (records, refused, counts, failure);
    }
}

fn describe((records, refused, counts, failure): &WholeFile) -> String {
    let shown =
        |record: &(u64, u64, Vec<u8>)| (record.0, record.1, record.2.escape_ascii().to_string());
    let records: Vec<_> = records.iter().map(shown).collect();
    format!("{records:?} {refused:?} {counts:?} {failure:?}")
}

/// Lengths near the limits.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..6_usize, 4 => 28..46_usize, 1 => 60..150_usize]
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let blank =
        proptest::sample::select(vec![" ", "\t", "\r", "\0", "\x1E", "\u{FEFF}", " \n", "\n"]);
    let token = proptest::sample::select(vec![
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
        "{\"a\":",
        "{\"n\":1}\n",
        "{\"n\":1}",
        "[{\"n\":1},",
        "},\n",
        "\n  ",
        "\n  {\"i\":1},",
        "{\n",
        "}\n",
        "1\n2",
        "true",
        "no json\n",
        "{}{}",
        "\u{1F600}",
        "\"s\"",
    ]);
    prop_oneof![
        3 => (blank, length()).prop_map(|(blank, n)| blank.repeat(n).into_bytes()),
        6 => token.prop_map(|token| token.as_bytes().to_vec()),
        2 => length().prop_map(|n| format!("{{\"s\":\"{}\"}}", "x".repeat(n)).into_bytes()),
        1 => length().prop_map(|n| "y".repeat(n).into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 1..6),
    ]
}

fn source() -> impl Strategy<Value = Vec<u8>> {
    let text = proptest::collection::vec(piece(), 1..24).prop_map(|pieces| pieces.concat());
    (text, 0..9_usize, any::<bool>()).prop_map(|(text, kind, mark)| {
        let as_text = || String::from_utf8_lossy(&text).into_owned();
        match kind {
            0 => coded::coded(&as_text(), 2, false, mark),
            1 => coded::coded(&as_text(), 2, true, mark),
            2 => coded::coded(&as_text(), 4, mark, true),
            3 => gzip(&text),
            _ => text,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_same_bytes_are_the_same_however_they_are_cut(
        source in source(),
        sizes in proptest::collection::vec(prop_oneof![3 => 1..5_usize, 1 => 5..90_usize], 1..6),
        long in 30..40_usize,
        format in proptest::sample::select(vec![RecordFormat::Auto, RecordFormat::Json, RecordFormat::Ndjson]),
        at_end in proptest::sample::select(vec![AtEnd::Wait, AtEnd::Send]),
    ) {
        let reading = ReadOptions { format, at_end, read_bytes: READ_BYTES, ..ReadOptions::lines(long) };
        let all = whole(&mut LineReader::new("t", &source[..], reading));
        for sizes in [sizes, vec![1]] {
            let cut = Dribble::new(source.clone(), sizes.clone());
            let cut = whole(&mut LineReader::new("t", cut, reading));
            let text = source.escape_ascii().to_string();
            prop_assert!(cut == all, "{text}\n{sizes:?}\n{}\n{}", describe(&cut), describe(&all));
        }
    }
}
