//! Fuzzes settings and configuration files: see `docs/fuzzing.md`.

use hydrant_fuzz::Target;

use crate::config::{Flags, Layers, Problems, ROOT, parse_bytes, parse_duration};

/// The message without the parts that differ between inputs.
fn kind(message: &str) -> String {
    assert!(!message.is_empty());
    message
        .chars()
        .filter(|c| c.is_alphabetic())
        .take(60)
        .collect()
}

#[test]
fn values_of_settings_are_refused_with_a_remedy() {
    Target::new("process-values")
        .tokens(&[
            "5s",
            "250ms",
            "1h 30m",
            "MiB",
            "GB",
            "years",
            "18446744073709551615",
            "1e30",
            "-1",
            ".5",
            "∞",
        ])
        .bytes_max(200)
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let duration = parse_duration(&text).map(|duration| {
                let shown = humantime::format_duration(duration).to_string();
                assert_eq!(parse_duration(&shown), Ok(duration), "{shown}");
            });
            let bytes = parse_bytes(&text).map(|bytes| {
                assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes));
            });
            [duration, bytes].map(|read| match read {
                Ok(()) => String::new(),
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.contains("write") || message.contains("too large"),
                        "{message}"
                    );
                    kind(&message.replace(&*text, ""))
                }
            })
        });
}

/// Reads files as users write them: each problem names its place, and a message is about as long as the text that it is
/// about.
#[test]
fn configuration_files_are_read_or_refused_with_their_place() {
    Target::new("process-config")
        .tokens(&[
            "[sink]",
            "[pii.keys]",
            "flush-interval",
            "flush_bytes",
            "= '1s'",
            "\"\"\"",
            "[[",
            "]]",
            "memory = ",
            "2026-01-01T00:00:00Z",
            "{ a = 1 }",
            "inf",
            "0x",
            "#",
            "'''",
        ])
        .bytes_max(4_000)
        .memory(4 << 20, 1_024)
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let mut problems = Problems::new();
            let mut layers = Layers::default();
            layers.take_text("f.toml", &text, &mut problems);
            let report = problems.to_string();
            assert!(
                problems.is_empty() || report.contains("`f.toml` line "),
                "{report}"
            );
            assert!(report.len() < 1_000 + 100 * text.len(), "{report}");
            let mut section = layers.section("sink", &Flags::new());
            let _read = section.duration("flush-interval", std::time::Duration::ZERO);
            let _read = section.bytes_within("flush-bytes", 9, 0..=u64::MAX);
            section.finish(&mut problems);
            layers.section(ROOT, &Flags::new()).finish(&mut problems);
            problems
                .to_string()
                .chars()
                .filter(|c| c.is_alphabetic())
                .take(60)
                .collect::<String>()
        });
}
