//! The driver finds panics and costs, and makes their inputs small.

use super::*;

fn failure(target: &Target<'_>, check: impl Fn(&[u8])) -> String {
    let failed = catch_unwind(AssertUnwindSafe(|| target.run(|input| check(input))));
    *failed.unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn a_panic_is_found_and_made_small() {
    let target = Target::new("of-the-driver").tokens(&["needle"]);
    let said = failure(&target, |input| {
        assert!(!input.windows(6).any(|part| part == b"needle"), "found it");
    });
    assert!(said.contains("panicked: found it"), "{said}");
    assert!(said.ends_with("of-the-driver.txt:\nneedle\n"), "{said}");
}

#[test]
fn what_holds_more_memory_than_its_length_allows_is_found() {
    let said = failure(&Target::new("of-the-driver").memory(1_000, 1), |input| {
        if input.starts_with(b"\xff") {
            std::hint::black_box(vec![1_u8; 5_000]);
        }
    });
    assert!(
        said.contains("held 5") && said.contains("\n\\xff\n"),
        "{said}"
    );
}

#[test]
fn what_takes_more_time_than_its_length_allows_is_found() {
    let target = Target::new("of-the-driver").time(Duration::from_millis(5), Duration::ZERO);
    let said = failure(&target, |input| {
        let steps = (input.len() as u64).pow(3).min(100_000_000);
        std::hint::black_box((0..steps).map(std::hint::black_box).sum::<u64>());
    });
    assert!(said.contains("took"), "{said}");
}

#[test]
fn a_short_run_is_the_same_each_time() {
    let inputs = || {
        let mut inputs = Vec::new();
        Target::new("of-the-driver")
            .made_by(&crate::json)
            .run(|input| {
                if inputs.len() < 50 {
                    inputs.push(input.to_vec());
                }
                input.first().copied()
            });
        inputs
    };
    assert_eq!(inputs(), inputs());
}
