use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn refused(text: &str) -> Problems {
    let mut problems = Problems::new();
    Layers::load(Some(file(text).path()), [], &mut problems);
    assert!(!problems.is_empty());
    problems
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn layers(text: &str, pairs: &[(&str, &str)]) -> Layers {
    let file = file(text);
    let mut problems = Problems::new();
    let layers = Layers::load(Some(file.path()), environment(pairs), &mut problems);
    assert!(problems.is_empty(), "{problems}");
    layers
}

#[test]
fn a_flag_outranks_the_environment_which_outranks_the_file_which_outranks_the_default() {
    let text = "[sink]\nflush-interval = '1s'\nflush_bytes = '1MiB'\nrows = 5\n";
    let layers = layers(
        text,
        &[
            ("HYDRANT_SINK_FLUSH_INTERVAL", "2s"),
            ("HYDRANT_SINK_FLUSH_BYTES", "2MiB"),
            ("HYDRANT_SINK_ROWS", ""),
            ("HYDRANT_TRANSFORM_ROWS", "77"),
        ],
    );
    let flags = Flags::of(&json!({"flush_interval": "3s", "flush_bytes": null}));
    let mut section = layers.section("sink", &flags);
    let second = Duration::from_secs(1);
    assert_eq!(section.duration("flush-interval", 9 * second), 3 * second);
    assert_eq!(
        section.bytes_within("flush-bytes", 9, 0..=u64::MAX),
        2 << 20
    );
    assert_eq!(section.number("rows", 9, 0..=10), 5);
    assert_eq!(section.number("columns", 9, 0..=10), 9);
    let mut problems = Problems::new();
    section.finish(&mut problems);
    let effective = problems.effective()[0].to_string();
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(
        effective,
        "configuration [sink]: flush-interval = 3s (flag), flush-bytes = 2MiB (environment), \
         rows = 5 (file), columns = 9 (default)"
    );
}

#[test]
fn a_line_that_is_not_toml_is_one_problem() {
    let mut problems = Problems::new();
    let mut layers = Layers::default();
    let text = format!("memory = [{}\n= 5\n", "}".repeat(40));
    layers.take_text("f.toml", &text, &mut problems);
    let said = problems.to_string();
    for line in ["`f.toml` line 1: ", "`f.toml` line 2: "] {
        assert_eq!(said.matches(line).count(), 1, "{said}");
    }
}

#[test]
fn all_problems_are_reported_at_once_each_with_its_place() {
    let file = file(
        "memory = 1\n[sink]\nflush-interval = 5\nrows = 11\nflush_bites = 3\nmode = 'fats'\nlake = 7\n",
    );
    let environment = environment(&[
        ("HYDRANT_SINK_PARTS", "many"),
        ("HYDRANT_SINK_LAKES", "x"),
        ("HYDRANT_VERSION", "3"),
    ]);
    let mut problems = Problems::new();
    let layers = Layers::load(Some(file.path()), environment, &mut problems);
    let flags = Flags::of(&json!({"flush_bytes": "1XB", "table": null}));
    let mut section = layers.section("sink", &flags);
    section.duration("flush-interval", Duration::ZERO);
    section.number("rows", 1, 1..=10);
    section.number("parts", 1, 1..=10);
    section.bytes_within("flush-bytes", 1, 0..=u64::MAX);
    section.choice("mode", &[("fast", 1), ("small", 2)], 1);
    section.required("table", "write `table = \"NAME\"`");
    assert_eq!(section.required("lake", "write a URL"), "");
    section.finish(&mut problems);
    let name = file.path().display().to_string();
    let said = problems.to_string();
    let wanted = [
        "9 problems in the configuration".to_owned(),
        format!("`{name}` [sink] flush-interval (line 3): `5` has no unit: write for example `5s`"),
        format!("`{name}` [sink] rows (line 4): `11` is out of range: write `1` to `10`"),
        "environment `HYDRANT_SINK_PARTS`: `many` is not a whole number: write `1` to `10`"
            .to_owned(),
        "flag `--flush-bytes`: `1XB` is not a number of bytes".to_owned(),
        format!("`{name}` [sink] mode (line 6): `fats` is not a valid value: did you mean `fast`?"),
        "[sink] table (flag `--table`, environment `HYDRANT_SINK_TABLE`): is missing: write `table"
            .to_owned(),
        format!("`{name}` [sink] lake (line 7): is a number: write a text in quotes"),
        format!(
            "`{name}` [sink] flush-bites (line 5): unknown key `flush-bites`: did you mean `flush-bytes`?"
        ),
        "environment `HYDRANT_SINK_LAKES`: unknown key `lakes`: did you mean `lake`?".to_owned(),
    ];
    for line in &wanted {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
    assert_eq!(problems.len(), wanted.len() - 1);
    assert!(matches!(
        problems.into_result(),
        Err(hydrant_core::Error::Refused { .. })
    ));
}

#[test]
fn a_missing_key_is_not_listed_beside_the_one_that_was_meant_to_be_it() {
    let file = file("[sink]\ntabel = 'x'\ninptu = 'y'\n");
    let mut problems = Problems::new();
    let layers = Layers::load(Some(file.path()), environment(&[]), &mut problems);
    let mut section = layers.section("sink", &Flags::new());
    section.required("table", "write `table`");
    section.missing(&["simulate", "input"], "no input is given");
    section.required("lake", "write `lake`");
    section.finish(&mut problems);
    let said = problems.to_string();
    for line in [
        "`tabel`: did you mean `table`?",
        "`inptu`: did you mean `input`?",
    ] {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
    assert!(said.contains("is missing: write `lake`"), "{said}");
    assert_eq!(problems.len(), 3, "{said}");
}

#[test]
fn unknown_tables_and_broken_files_are_refused_with_their_lines() {
    let problems = refused("memory = 1\n[snik]\na = 1\n[a.b]\n");
    let said = problems.to_string();
    assert!(
        said.contains("line 2: unknown table `[snik]`: did you mean `[sink]`?"),
        "{said}"
    );
    assert!(
        said.contains("line 4: unknown table `[a]`: known tables are `[consumer]`"),
        "{said}"
    );

    let problems = refused("[sink]\nrows = \n[stream\n");
    assert!(problems.to_string().contains("line 2"), "{problems}");

    let problems = refused("[sink]\nflush-bytes = 1\nflush_bytes = 1\n");
    assert!(problems.to_string().contains("given twice"), "{problems}");

    let absent = std::path::Path::new("/nonexistent/hydrant.toml");
    let mut problems = Problems::new();
    Layers::load(Some(absent), [], &mut problems);
    assert!(
        problems.to_string().contains("cannot be read"),
        "{problems}"
    );
}

#[test]
fn what_may_stand_in_a_file_that_does_not_read_is_not_missed() {
    let absent = std::path::PathBuf::from("/nonexistent/hydrant.toml");
    let broken = file("[sink]\nrows = \n");
    let empty = file("");
    for path in [absent.as_path(), broken.path(), empty.path()] {
        let mut problems = Problems::new();
        let layers = Layers::load(Some(path), [], &mut problems);
        let flags = Flags::of(&json!({"rows": "many"}));
        let mut section = layers.section("sink", &flags);
        section.required("to", "write a URL");
        assert!(section.has_problems(), "the section cannot be used");
        section.number("rows", 1, 1..=10);
        section.finish(&mut problems);
        assert_eq!(problems.len(), 2, "{problems}");
        let is_read = path != absent && path != broken.path();
        assert_eq!(
            problems.to_string().contains("is missing"),
            is_read,
            "{problems}"
        );
    }
}

#[test]
fn empty_values_are_refused_and_nothing_is_read_from_them() {
    let layers = layers("[sink]\nname = ''\nparts = ''\nnone = []\nkey = ''\n", &[]);
    let flags = Flags::of(&json!({
        "path": "", "rows": "", "bytes": "", "wait": "", "share": "", "sync": "", "list": " , ",
    }));
    let mut section = layers.section("sink", &flags);
    assert_eq!(section.text("name"), None);
    assert_eq!(section.path("path"), None);
    assert_eq!(section.text("key"), None);
    assert_eq!(section.optional_number("rows", 0..=9), None);
    assert_eq!(section.optional_bytes("bytes"), None);
    assert_eq!(section.optional_duration("wait"), None);
    assert_eq!(section.fraction("share", 0.5, 0.0..=1.0), 0.5);
    assert!(section.flag("sync", true));
    for key in ["parts", "list", "none"] {
        assert!(section.list(key).is_empty());
    }
    let mut problems = Problems::new();
    section.finish(&mut problems);
    let said = problems.to_string();
    assert_eq!(
        said.matches("is empty: write a value").count(),
        10,
        "{said}"
    );
    assert_eq!(problems.len(), 10, "{said}");
}

#[test]
fn numbers_that_do_not_fit_are_quoted_as_they_were_written_with_the_range() {
    let layers = layers(
        "[sink]\nrows = -3\noffset = 60\nbytes = -1\nfar = -900\nhalf = 0.5\n",
        &[],
    );
    let many = "99999999999999999999999";
    let flags = Flags::of(&json!({
        "parts": many, "many": "-1", "huge": many, "small": "1_0", "none": "0",
    }));
    let mut section = layers.section("sink", &flags);
    assert_eq!(section.integer("offset", 0, -840..=840), 60);
    assert_eq!(section.integer("far", 7, -840..=840), 7);
    section.number("rows", 1, 1..=10);
    section.number("parts", 1, 1..=10);
    section.number("many", 1, 0..=u64::MAX);
    section.number("half", 1, 1..=10);
    section.optional_bytes("bytes");
    section.optional_bytes("huge");
    section.bytes_within("small", 64, 64..=8 << 20);
    section.bytes_within("none", 64, 1 << 10..=3 << 40);
    let mut problems = Problems::new();
    section.finish(&mut problems);
    let said = problems.to_string();
    for line in [
        "rows (line 2): `-3` is out of range: write `1` to `10`",
        "far (line 5): `-900` is out of range: write `-840` to `840`",
        "`--parts`: `99999999999999999999999` is out of range: write `1` to `10`",
        "`--many`: `-1` is out of range: write a number from `0` on",
        "half (line 6): `0.5` is not a whole number: write `1` to `10`",
        "bytes (line 4): `-1` is not a number of bytes",
        "`--huge`: `99999999999999999999999` is too large",
        "`--small`: `1_0` is not a number of bytes",
        "`--none`: `0` is out of range: write `1KiB` to `3TiB`",
    ] {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
    assert_eq!(problems.len(), 9, "{said}");
}

#[test]
fn the_root_warns_of_unknown_variables_and_refuses_unknown_keys() {
    let layers = layers(
        "memory = '1MiB'\nmemroy = 1\n",
        &[
            ("HYDRANT_VERSION", "3"),
            ("HYDRANT_MEMORY", "2MiB"),
            ("OTHER", "x"),
        ],
    );
    let mut section = layers.section(ROOT, &Flags::new());
    assert_eq!(section.bytes_within("memory", 0, 0..=u64::MAX), 2 << 20);
    let mut problems = Problems::new();
    section.finish(&mut problems);
    assert_eq!(
        problems.effective()[0].unknown_variables,
        ["HYDRANT_VERSION"]
    );
    assert_eq!(problems.len(), 1);
    assert!(
        problems.to_string().contains("did you mean `memory`?"),
        "{problems}"
    );
}

#[test]
fn lists_tables_switches_and_fractions_are_read_from_every_layer() {
    let layers = layers(
        "[local]\nbrokers = ['a', 'b']\nsync = true\nshare = 1\n[local.kafka]\n'linger.ms' = 5\nacks = 'all'\n",
        &[
            ("HYDRANT_LOCAL_TOPICS", "x, y,"),
            ("HYDRANT_LOCAL_FOLLOW", "off"),
        ],
    );
    let flags = Flags::of(&json!({"files": ["p,q", "r"], "none": [], "loud": true}));
    let mut section = layers.section("local", &flags);
    assert_eq!(section.list("brokers"), ["a", "b"]);
    assert_eq!(section.list("topics"), ["x", "y"]);
    assert_eq!(section.list("files"), ["p,q", "r"]);
    assert!(section.list("none").is_empty());
    assert!(section.flag("loud", false));
    assert!(section.flag("sync", false) && !section.flag("follow", true));
    assert_eq!(section.fraction("share", 0.5, 0.0..=1.0), 1.0);
    let kafka: Vec<_> = section.table("kafka").into_iter().collect();
    let wanted = [("acks", "all"), ("linger.ms", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(kafka, wanted);
    assert_eq!(section.parsed("from", str::parse::<u64>), None);
    let mut problems = Problems::new();
    section.finish(&mut problems);
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn an_entry_of_a_table_has_its_own_line() {
    let file = file("[sink]\n[sink.columns]\na = 'X'\nmeta.at = 'Y'\nlist = [1]\n");
    let mut problems = Problems::new();
    let layers = Layers::load(Some(file.path()), environment(&[]), &mut problems);
    let mut section = layers.section("sink", &Flags::new());
    let columns: Vec<_> = section.table("columns").into_keys().collect();
    assert_eq!(columns, ["a"]);
    section.problem_in("columns", "a", "is wrong");
    section.finish(&mut problems);
    let said = problems.to_string();
    for line in [
        "[sink] columns (line 3): is wrong",
        "[sink] columns (line 4): `meta.at` is read as tables",
        "`\"meta.at\" = ..`",
        "[sink] columns (line 5): `list` is not a text",
    ] {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
    assert_eq!(problems.len(), 3, "{said}");
}

#[test]
fn a_text_that_a_comma_may_cut_is_refused_and_a_list_is_not() {
    let layers = layers(
        "[sink]\na = '%d, %m'\nb = ['%d, %m', '%Y']\nc = '%d'\n",
        &[],
    );
    let flags = Flags::of(&json!({"d": ["%d, %m"]}));
    let mut section = layers.section("sink", &flags);
    assert!(section.list_with_commas("a").is_empty());
    assert_eq!(section.list_with_commas("b"), ["%d, %m", "%Y"]);
    assert_eq!(section.list_with_commas("c"), ["%d"]);
    assert_eq!(section.list_with_commas("d"), ["%d, %m"]);
    let mut problems = Problems::new();
    section.finish(&mut problems);
    let said = problems.to_string();
    assert_eq!(problems.len(), 1, "{said}");
    assert!(said.contains("`[\"%d, %m\"]`"), "{said}");
}

#[test]
fn a_path_begins_with_no_tilde() {
    let layers = layers("[sink]\na = '~/x'\nb = './~/x'\nc = '~'\n", &[]);
    let mut section = layers.section("sink", &Flags::new());
    assert_eq!(section.path("a"), None);
    assert_eq!(section.path("b"), Some("./~/x".into()));
    assert_eq!(section.path("c"), None);
    let mut problems = Problems::new();
    section.finish(&mut problems);
    let said = problems.to_string();
    assert_eq!(said.matches("which only shells read").count(), 2, "{said}");
    assert!(said.contains("`$HOME/x`"), "{said}");
}

#[test]
fn what_a_message_says_to_write_is_in_the_range() {
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    for (text, range, said) in [
        ("90", day..=36_525 * day, "`90d`"),
        ("30", day / 24..=36_525 * day, "`30h` or `30d`"),
        ("5", Duration::ZERO..=second * 10, "`5s`"),
        ("soon", day..=36_525 * day, "`30d`"),
        ("7", second / 100..=second, "`250ms`"),
        ("7", second * 2..=second * 3, "`2s`"),
        ("1s", day..=36_525 * day, "`1day` to `100years`"),
        ("5000years", day..=36_525 * day, "`1day` to `100years`"),
        (
            "5000years",
            Duration::ZERO..=Duration::MAX,
            "at most `100years`",
        ),
    ] {
        let refused = parse_duration_within(text, &range).unwrap_err().to_string();
        assert!(refused.ends_with(said), "{text}: {refused}");
    }
    assert_eq!(
        parse_duration_within("90d", &(day..=91 * day)),
        Ok(90 * day)
    );
}

#[test]
fn secrets_are_never_printed() {
    let layers = layers(
        "[pii]\nother = 42424242\n[pii.keys]\na = 'sesame'\n[pii.more]\nb = [31337]\n",
        &[],
    );
    let mut section = layers.section("pii", &Flags::new());
    let secrets = section.secret_table("keys");
    assert_eq!(secrets["a"].expose(), "sesame");
    assert!(section.secret_table("other").is_empty());
    assert!(section.secret_table("more").is_empty());
    let mut problems = Problems::new();
    section.finish(&mut problems);
    let effective = &problems.effective()[0];
    let printed = format!("{secrets:?} {effective} {problems}");
    assert_eq!(problems.len(), 2);
    for hidden in ["sesame", "42424242", "31337"] {
        assert!(!printed.contains(hidden), "{printed}");
    }
}

proptest! {
    #[test]
    fn durations_give_themselves_back(millis in 0u64..1 << 41) {
        let wanted = Duration::from_millis(millis);
        let text = humantime::format_duration(wanted).to_string();
        prop_assert_eq!(parse_duration(&text).unwrap(), wanted);
        prop_assert_eq!(parse_duration(&format!("{millis}ms")).unwrap(), wanted);
    }

    #[test]
    fn byte_counts_give_themselves_back(bytes in any::<u64>(), mib in 0u64..1 << 43) {
        prop_assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes));
        prop_assert_eq!(parse_bytes(&format!("{mib}MiB")), Ok(mib << 20));
        prop_assert_eq!(parse_bytes(&format!(" {mib} mb ")), Ok(mib * 1_000_000));
    }

    #[test]
    fn a_bare_number_is_not_a_duration(number in any::<u64>()) {
        prop_assume!(number != 0);
        prop_assert!(parse_duration(&number.to_string()).is_err());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,16}", number in "[0-9.]{0,24}[a-zA-Z]{0,4}") {
        for text in [&text, &number] {
            drop(parse_duration(text));
            drop(parse_bytes(text));
            let path = file(text);
            let mut problems = Problems::new();
            Layers::load(Some(path.path()), [], &mut problems);
        }
    }
}
