//! `hydrant run` as its `[run]` table has it.

use crate::place::Place;

fn filled() -> Place {
    let place = Place::new();
    place.create("local:raw", 2);
    place.simulate("local:raw", 300, 1);
    place
}

/// What the streams hold is all there is, and it all goes to the lake.
#[test]
fn a_run_without_a_producer_ends_where_the_streams_end() {
    let place = filled();
    place.write(
        "run.toml",
        "[run]\ndir = \".\"\nexit-at-end = true\nstages = [\"transform\", \"sink\"]\n",
    );
    let done = place.run("hydrant", &["run", "run.toml"]).expect(0, &[]);
    for stage in ["transform", "sink"] {
        assert!(done.out.contains(stage), "{done:?}");
    }
    let sound = place.sound("file:lake");
    let (rows, letters) = (sound["rows"].as_u64(), sound["dead_letters"].as_u64());
    assert_eq!(rows.unwrap() + letters.unwrap(), 300);
}

/// A stage that its own table lets end ends the run, and what it did is told.
#[test]
fn a_stage_that_ends_by_itself_is_summed_up() {
    let place = filled();
    place.write(
        "run.toml",
        "[run]\ndir = \".\"\nstages = [\"transform\"]\n[transform]\nexit-at-end = true\n",
    );
    let done = place.run("hydrant", &["run", "run.toml"]).expect(0, &[]);
    assert!(done.out.contains("300"), "{done:?}");
}
