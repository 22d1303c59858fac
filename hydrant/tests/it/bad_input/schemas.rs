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
fn a_fraction_after_an_integer_that_no_double_holds_is_rescued() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put("local:raw", &[r#"{"v":9007199254740993}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place.put(
        "local:raw",
        &[r#"{"v":22.6}"#, r#"{"v":5}"#, r#"{"v":6.0}"#],
    );
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(place.integers("lake", "v"), [5, 6, 9_007_199_254_740_993]);
    assert_eq!(place.rescued("lake"), [r#"{"v":22.6}"#]);
    place.sound("file:lake");
}

/// Kinds that do not join: the value is rescued under its path, the rest of the record stays.
#[test]
fn kinds_that_do_not_join_are_rescued_where_they_were() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put("local:raw", &[r#"{"n":0,"a":{"b":true},"l":[1],"s":"x"}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let odd = [
        (r#"{"n":1,"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
        (r#"{"n":2,"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"{"n":3,"l":[7,"x"]}"#, r#"{"l":[null,"x"]}"#),
        (r#"{"n":4,"s":5}"#, r#"{"s":5}"#),
    ];
    let lines: Vec<&str> = odd.iter().map(|(line, _)| *line).collect();
    place.put("local:raw", &lines);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let rescued: Vec<&str> = odd.iter().map(|(_, rescued)| *rescued).collect();
    assert_eq!(place.rescued("lake"), rescued);
    assert_eq!(place.integers("lake", "n"), [0, 1, 2, 3, 4]);
    assert_eq!(place.sound("file:lake")["rows"], 5);
}
