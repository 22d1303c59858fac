//! Columns whose values change their type.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};

use crate::test_dir::TestDir;

#[test]
fn integers_then_fractions_make_a_double_column() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put("local:raw", &[r#"{"v":1}"#, r#"{"v":9007199254740992}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(place.integers("lake", "v"), [1, 9_007_199_254_740_992]);
    place.put("local:raw", &[r#"{"v":22.6}"#, r#"{"v":3}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);

    let schema = place.run("hydrant", &["lake", "schema", "file:lake", "--json"]);
    let schema = schema.expect(0, &["DOUBLE"]);
    assert!(!schema.out.contains("BIGINT"), "{schema:?}");
    let (mut integers, mut doubles) = (Vec::new(), Vec::new());
    for batch in place.rows("lake") {
        let column = batch.column_by_name("v").expect("the column");
        match column.as_primitive_opt::<Int64Type>() {
            Some(column) => integers.extend(column.iter().flatten()),
            None => doubles.extend(column.as_primitive::<Float64Type>().iter().flatten()),
        }
    }
    assert_eq!(
        (integers, doubles),
        (vec![1, 9_007_199_254_740_992], vec![22.6, 3.0])
    );
    let verified = place.sound("file:lake");
    assert_eq!(
        (&verified["rows"], &verified["dead_letters"]),
        (&4.into(), &0.into())
    );
    // Files of the older schema can be read together with newer ones, as the command shows.
    assert_eq!(verified["files_of_older_schemas"], 1, "{verified}");
}

#[test]
fn a_fraction_after_an_integer_that_no_double_holds_is_a_dead_letter() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put("local:raw", &[r#"{"v":9007199254740993}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place.put("local:raw", &[r#"{"v":22.6}"#, r#"{"v":5}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(place.integers("lake", "v"), [5, 9_007_199_254_740_993]);
    let dead_letters = place.dead_letters("lake");
    assert_eq!(dead_letters.len(), 1, "{dead_letters:?}");
    assert_eq!(dead_letters[0].reason, "type_conflict");
    assert_eq!(dead_letters[0].sequence, 1);
    assert_eq!(
        dead_letters[0].payload.as_deref(),
        Some(br#"{"v":22.6}"#.as_slice())
    );
    for word in ["`v`", "BIGINT", "fraction"] {
        assert!(dead_letters[0].detail.contains(word), "{dead_letters:?}");
    }
    place.sound("file:lake");
}

/// Two columns of one name, types that never join, and the name of a partition column.
#[test]
fn kinds_that_do_not_join_are_dead_letters_and_name_the_column() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put("local:raw", &[r#"{"a":{"b":true},"l":[1],"s":"x"}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let bad = [
        (r#"{"a":{"b":1}}"#, "`a.b`", "BOOLEAN"),
        (r#"{"a":[1]}"#, "`a`", "STRUCT"),
        (r#"{"l":["x"]}"#, "`l[]`", "BIGINT"),
        (r#"{"s":5}"#, "`s`", "VARCHAR"),
    ];
    let lines: Vec<&str> = bad.iter().map(|(line, ..)| *line).collect();
    place.put("local:raw", &lines);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let dead_letters = place.dead_letters("lake");
    assert_eq!(dead_letters.len(), bad.len(), "{dead_letters:?}");
    for (letter, (line, column, wanted)) in dead_letters.iter().zip(bad) {
        assert_eq!(letter.reason, "type_conflict", "{letter:?}");
        assert!(letter.detail.contains(column), "{letter:?}");
        assert!(letter.detail.contains(wanted), "{letter:?}");
        assert_eq!(letter.payload.as_deref(), Some(line.as_bytes()));
    }
    assert_eq!(place.sound("file:lake")["rows"], 1);
}
