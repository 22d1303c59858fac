//! Inputs of any bytes, fuzzed: see `docs/fuzzing.md`.

use hydrant_fuzz::Target;

use super::*;

/// Reading ends, and gives the same records and refusals, wherever reads are cut.
#[test]
fn inputs_are_the_same_records_however_they_are_cut() {
    let tokens = [
        "{\"a\":",
        "{\"n\":1}\n",
        "},\n",
        "\n  ",
        "]\n",
        "[\n",
        "{\n",
        "}\n",
        "\"",
        "\\\"",
        ",",
        ":",
        "1\n2",
        "\r\n",
        "\u{feff}",
        "\t}",
        "{}{}",
        "true",
        "[1,2]",
    ];
    let target = Target::new("producer-records")
        .tokens(&tokens)
        .bytes_max(600);
    target.memory(8 << 20, 4_096).run(|input| {
        [RecordFormat::Auto, RecordFormat::Json, RecordFormat::Ndjson].map(|format| {
            let read = |long: usize, sizes: &[usize]| {
                let reading = ReadOptions {
                    format,
                    ..ReadOptions::lines(long)
                };
                let source = Dribble::new(input.to_vec(), sizes.to_vec());
                read_all(&mut LineReader::new("t", source, reading))
                    .map_err(|failed| failed.1.to_string())
            };
            let mut kinds = (0, 0, 0);
            for long in [40, 1 << 20] {
                let whole = read(long, &[1 << 20]);
                for sizes in [&[1][..], &[7, 100], &[3]] {
                    let cut = read(long, sizes);
                    assert_eq!(whole, cut, "{format:?}, {long}, {sizes:?}");
                }
                match whole {
                    Ok((lines, refused, _)) => {
                        assert!(lines.iter().all(|line| line.1.len() <= long));
                        kinds.0 = lines.len().min(4);
                        kinds.1 = refused.len().min(4);
                    }
                    Err(_) => kinds.2 += 1,
                }
            }
            kinds
        })
    });
}
