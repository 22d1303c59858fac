//! Layouts as settings write them.
//!
//! Owns what is said when the layout of a table is not the one that is asked for. Refuses parts that are probably meant
//! otherwise, because a table keeps its layout for ever.

use hydrant_core::{Error, Result};

use crate::schema::PartitionColumn;

/// The layout by nothing, as settings name it.
pub(crate) const NO_PARTITION: &str = "none";

/// Refuses a part of a layout that is probably meant otherwise: the layout of a table stays for ever.
pub(super) fn check_part(part: &str) -> Result<()> {
    let (source, _) = part.split_once('=').unwrap_or((part, ""));
    let why = if part.trim() != part {
        format!("it has blanks around its name: write `{}`", part.trim())
    } else if part.contains(';') {
        format!(
            "parts are separated by commas: write `{}`",
            part.replace(';', ",")
        )
    } else if part.matches('=').count() > 1 {
        "a name follows one `=`: write for example `date=event_date`".to_owned()
    } else if part.chars().any(char::is_whitespace) && part.contains('=') {
        format!(
            "it has blanks in it: write `{}`",
            part.replace(char::is_whitespace, "")
        )
    } else if source == "day" {
        "the day of the event time is `date`: write that".to_owned()
    } else if source == NO_PARTITION {
        format!("`{NO_PARTITION}` stands alone")
    } else if source.contains('.') && !source.starts_with('.') {
        "only fields of the record itself name directories, none of an object in it: have a field at top level".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::refused(format!("partition `{part}`: {why}")))
}

/// What is said of a table with the columns `theirs` that is to be laid out by `ours`.
pub(super) fn otherwise_laid_out(theirs: &[PartitionColumn], ours: &[PartitionColumn]) -> String {
    let (their_layout, their_offset) = layout_text(theirs);
    let (our_layout, our_offset) = layout_text(ours);
    match (their_offset, our_offset) {
        (Some(theirs), Some(ours)) if theirs != ours && their_layout == our_layout => format!(
            "has the days and hours of `utc-offset-minutes = {theirs}`, not {ours}: set that in [sink], or name another \
             `--table`"
        ),
        (Some(theirs), _) if theirs != 0 => format!(
            "is laid out by `--partition {their_layout}` with `utc-offset-minutes = {theirs}` in [sink], not by \
             `{our_layout}`: start with that, or name another `--table`"
        ),
        _ => format!(
            "is laid out by `--partition {their_layout}`, not by `{our_layout}`: start with that, or name another \
             `--table`"
        ),
    }
}

/// A layout as `--partition` says it, and the offset of its days in minutes where it has any.
fn layout_text(columns: &[PartitionColumn]) -> (String, Option<i32>) {
    let (mut parts, mut offset) = (Vec::new(), None);
    let has_hour = columns
        .iter()
        .any(|column| column.source.starts_with("hour"));
    for PartitionColumn { source, name, .. } in columns {
        if let Some(field) = source.strip_prefix("field:") {
            parts.push(field.to_owned());
            continue;
        }
        let (time, minutes) = source.split_once('@').unwrap_or((source, "0"));
        offset = minutes.parse().ok();
        match time == name {
            true if time == "date" && has_hour => {}
            true => parts.push(time.to_owned()),
            false => parts.push(format!("{time}={name}")),
        }
    }
    if parts.is_empty() {
        parts.push(NO_PARTITION.to_owned());
    }
    (parts.join(","), offset)
}

#[cfg(test)]
mod tests {
    use super::super::partition::PartitionSpec;
    use crate::schema::TableSchema;

    #[test]
    fn another_layout_is_refused_in_the_words_of_the_settings() {
        for (had, asked, said) in [
            (
                (&["date", "region"][..], 0),
                (&["date"][..], 0),
                "by `--partition date,region`, not by `date`",
            ),
            (
                (&["date"], 0),
                (&["date", "region"], 0),
                "by `--partition date`, not by `date,region`",
            ),
            (
                (&[], 0),
                (&["date"], 0),
                "by `--partition none`, not by `date`",
            ),
            (
                (&["hour"], 0),
                (&[], 0),
                "by `--partition hour`, not by `none`",
            ),
            ((&["hour=h", "date=d"], 0), (&["hour"], 0), ""),
            (
                (&["hour"], 0),
                (&["hour=h", "date=d"], 0),
                "by `--partition hour`, not by `date=d,hour=h`",
            ),
            (
                (&["date"], 60),
                (&["date"], 0),
                "`utc-offset-minutes = 60`, not 0",
            ),
            (
                (&["date"], 0),
                (&["date"], -90),
                "`utc-offset-minutes = 0`, not -90",
            ),
            (
                (&["date"], 60),
                (&["a"], 0),
                "`--partition date` with `utc-offset-minutes = 60`",
            ),
        ] {
            let columns = PartitionSpec::try_new(had.0, had.1).unwrap();
            let stored = TableSchema {
                number: 1,
                partition_columns: columns.columns_for(&TableSchema::default()).unwrap(),
                ..TableSchema::default()
            };
            let spec = PartitionSpec::try_new(asked.0, asked.1).unwrap();
            match spec.columns_for(&stored) {
                Ok(_) => assert_eq!(said, ""),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!said.is_empty() && error.contains(said), "{error}");
                    assert!(!error.contains("field:") && !error.contains('@'), "{error}");
                }
            }
        }
    }
}
