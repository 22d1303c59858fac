//! The walker, the engine and policies, fuzzed: see `docs/fuzzing.md`.

use std::sync::Arc;

use hydrant_fuzz::Target;

use crate::testing::seen;
use crate::text::json::{JsonEvent, Walker};
use crate::{Engine, Policy, QuarantineReason, STRICT, ScanVerdict, TokenKeys};

/// A walk ends behind what it read, also where the text is cut off or something else follows it.
#[test]
fn walks_end_within_their_text() {
    let tokens = [
        "\\u",
        "\\ud83d\\ude00",
        "null",
        "true",
        "{\"a\":",
        "[",
        "]}",
        "\\\"",
    ];
    let target = Target::new("pii-walker")
        .made_by(&hydrant_fuzz::json)
        .tokens(&tokens);
    target.run(|input| {
        let text = std::str::from_utf8(input).ok()?;
        let (events, refused) = seen(input, 64);
        for at in text.char_indices().map(|(at, _)| at).take(16) {
            let mut walker = Walker::within(input, at, 64, Vec::new());
            let mut depth = 0_i32;
            let ended = loop {
                match walker.advance() {
                    Ok(JsonEvent::Object(_) | JsonEvent::Array(_)) => depth += 1,
                    Ok(JsonEvent::End(_)) => depth -= 1,
                    Ok(JsonEvent::Done) => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error),
                }
            };
            assert!((at..=input.len()).contains(&walker.event_end));
            assert!(text.is_char_boundary(walker.event_end));
            assert!(ended.is_some() || depth == 0);
            assert!(ended != Some(QuarantineReason::TooDeep) || depth >= 64);
        }
        Some((refused, events.len().min(8)))
    });
}

/// A verdict for every record, and what was redacted is JSON and clean.
#[test]
fn records_get_a_verdict_and_what_is_redacted_is_clean() {
    let tokens = [
        "\"ssn\":\"536-90-4399\"",
        "jane@example.org",
        "4111111111111111",
        "203.0.113.77",
        "\\u0040",
        "%40",
        "+14155550123",
        "\"email\":",
        "{\\\"ip\\\":\\\"203.0.113.77\\\"}",
    ];
    let target = Target::new("pii-engine")
        .made_by(&hydrant_fuzz::json)
        .tokens(&tokens);
    let mut engine = Engine::new(Arc::new(Policy::strict()));
    target.memory(8 << 20, 1_024).run(|input| {
        let mut out = Vec::new();
        let verdict = engine.process(input, &mut out);
        assert_eq!(out.is_empty(), verdict != ScanVerdict::Redacted);
        if verdict == ScanVerdict::Redacted {
            assert_eq!(
                seen(&out, 1_024).1,
                None,
                "it is JSON: {}",
                out.escape_ascii()
            );
            // A label that a producer wrote would be evidence, as any word is; the engine knows its own.
            assert!(!engine.finds_in_its_own(&out), "{}", out.escape_ascii());
        }
        match verdict {
            ScanVerdict::Clean => 0,
            ScanVerdict::Redacted => 1,
            ScanVerdict::Quarantined { reason } => 2 + reason as u8,
            ScanVerdict::Dropped { .. } => 99,
        }
    });
}

/// A policy is refused with a place and a remedy, or it works.
#[test]
fn policies_are_refused_with_place_and_remedy_or_work() {
    let tokens = [
        "[[rule]]",
        "[[allow]]",
        "[limits]",
        "class = \"email\"",
        "path = \"$.a[*]..b\"",
        "key = \"name\"",
        "action = \"mask\"",
        "action = \"drop_record\"",
        "action = \"null\"",
        "depth = 1024",
        "= 99999999999",
        "['x']",
        "rescan = false",
    ];
    let make = |random: &mut hydrant_fuzz::FuzzRandom| {
        let lines: Vec<&str> = STRICT.lines().collect();
        let from = random.usize(0..lines.len());
        let mut text = lines[..from.min(8)].join("\n");
        text.push('\n');
        text.push_str(&lines[from..(from + 12).min(lines.len())].join("\n"));
        text.into_bytes()
    };
    let target = Target::new("pii-policies").made_by(&make).tokens(&tokens);
    target.bytes_max(3_000).memory(4 << 20, 8_192).run(|input| {
        let text = String::from_utf8_lossy(input);
        match Policy::from_toml(&text, &TokenKeys::none()) {
            Ok(policy) => {
                let again =
                    Policy::from_toml(&text, &TokenKeys::none()).expect("it was read before");
                assert_eq!(policy.digest(), again.digest());
                let record = br#"{"a":[{"b":"jane@example.org"}],"name":"x","ip":"203.0.113.77"}"#;
                let mut out = Vec::new();
                let _verdict = Engine::new(Arc::new(policy)).process(record, &mut out);
                String::new()
            }
            Err(problems) => {
                assert!(!problems.0.is_empty());
                for problem in &problems.0 {
                    let all = [&problem.place, &problem.problem, &problem.remedy];
                    assert!(all.iter().all(|part| !part.is_empty()), "{problem}");
                }
                let problems = problems.to_string();
                problems
                    .chars()
                    .filter(|c| c.is_alphabetic())
                    .take(80)
                    .collect()
            }
        }
    });
}
