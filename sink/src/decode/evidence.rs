//! Whether the keys of an object are data: ids, addresses, dates, numbers.
//!
//! Owns the evidence that the records of an interval give. Promises that the answer depends on those records only, so that
//! a rebuild of the interval decides the same. An object whose keys are data becomes a map, if its values are of one kind;
//! otherwise such keys become no columns.

use std::net::IpAddr;

use super::column::{Field, Fields, NEW_FIELDS_MAX, Values};
use crate::schema::{Column, ColumnType, TableSchema, fold_name};

/// An object with so many keys is looked at as soon as it has them, then whenever they have doubled.
pub(super) const KEYS_MANY: usize = 64;

/// The most fields of an object whose names are numbered, such as `sensor-0412`.
const NUMBERED_MAX: usize = 32;

/// How a key looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeyForm {
    /// Like the name of a field.
    Name,
    /// A name with a number of three digits or more in it.
    Numbered,
    /// An id, an address, a date, or what stands for personal data.
    Identifier,
}

fn form_of(key: &str) -> KeyForm {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let digits = key.bytes().filter(|byte| is_digit(*byte)).count();
    // What stands for personal data: `[EMAIL]`, `[EMAIL]#2` and `tok_email_..`.
    let base = key.rsplit_once('#').map_or(key, |(base, _)| base);
    let is_marker = base.starts_with('[') && base.ends_with(']') || key.starts_with("tok_");
    let address = base.split_once('/').map_or(base, |(address, _)| address);
    let is_email = key
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    let is_date = matches!(
        key.as_bytes(),
        [a, b, c, d, b'-' | b'/', e, f, rest @ ..]
            if [a, b, c, d, e, f].into_iter().all(|byte| is_digit(*byte))
                && (rest.is_empty() || !rest[0].is_ascii_alphanumeric())
    );
    // Ids in hexadecimal, also with the separators of a UUID or of a hardware address.
    let hex = || {
        key.bytes()
            .filter(|byte| !matches!(byte, b'-' | b':' | b'.'))
    };
    let is_hex = hex().all(|byte| byte.is_ascii_hexdigit()) && hex().count() >= 12 && digits > 0;
    let is_number = digits >= 6
        && key
            .bytes()
            .all(|byte| is_digit(byte) || b"+- .".contains(&byte));
    if is_marker || is_email || is_date || is_hex || is_number || address.parse::<IpAddr>().is_ok()
    {
        return KeyForm::Identifier;
    }
    let longest = key.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    match longest {
        Some(3..) => KeyForm::Numbered,
        _ => KeyForm::Name,
    }
}

/// The type of the values and the reason, if an object that no schema knows yet is a map. `objects` is how many there were.
pub(super) fn as_map(fields: &Fields, objects: usize) -> Option<(ColumnType, String)> {
    let typed: Vec<(&Field, usize)> = fields
        .fields
        .iter()
        .map(|field| (field, field.node.valid.ones()))
        .filter(|(_, present)| *present > 0)
        .collect();
    let keys = typed.len();
    let of_form = |form: KeyForm| {
        let forms = typed
            .iter()
            .filter(|(field, _)| form_of(&field.name) >= form);
        forms.count()
    };
    let present: usize = typed.iter().map(|(_, present)| present).sum();
    // A key is in that part of the objects, on average, in hundredths.
    let share = (present * 100).checked_div(keys * objects)?;
    let holds_objects =
        |(field, _): &(&Field, usize)| matches!(field.node.values, Values::Struct(_));
    let why = if of_form(KeyForm::Identifier) * 2 >= keys {
        "identifiers or what stands for personal data"
    } else if of_form(KeyForm::Numbered) == keys
        && (typed.iter().all(holds_objects) || (keys >= 4 && share <= 50))
    {
        "numbered names"
    } else if keys >= KEYS_MANY && share < 10 {
        "many, and each is rare"
    } else {
        return None;
    };
    let value = one_type(&typed)?;
    let keys = if keys == 1 {
        "1 key".to_owned()
    } else {
        format!("{keys} keys")
    };
    let objects = if objects == 1 {
        "1 object".to_owned()
    } else {
        format!("{objects} objects")
    };
    Some((value, format!("{keys} in {objects}: {why}")))
}

/// The one type that the values of all fields have, if there is one.
fn one_type(fields: &[(&Field, usize)]) -> Option<ColumnType> {
    let mut all = TableSchema::default();
    // Twice: what has no type yet, such as `{}`, must fit the type that others give.
    for (field, _) in fields.iter().chain(fields) {
        let one = TableSchema {
            columns: vec![field.node.column("value")],
            ..TableSchema::default()
        };
        let joined = all.join(&one, usize::MAX);
        if !joined.conflicts.is_empty() {
            return None;
        }
        all = joined.schema;
    }
    let mut laid = ColumnType::Unknown;
    let fits = |(field, _): &(&Field, usize)| lay(&mut laid, &field.node.kind());
    if !fields.iter().all(fits) {
        return None;
    }
    all.columns.pop().map(|column: Column| column.kind)
}

/// Whether values of the type `other` go where those of `base` do, also those that have no type yet; `base` then has
/// room for both.
fn lay(base: &mut ColumnType, other: &ColumnType) -> bool {
    use ColumnType as T;
    match (base, other) {
        (_, T::Unknown) => true,
        (base @ T::Unknown, other) => {
            *base = other.clone();
            true
        }
        (T::Struct(fields), T::Struct(others)) => {
            for other in others {
                let folded = fold_name(&other.name);
                match fields
                    .iter_mut()
                    .find(|field| fold_name(&field.name) == folded)
                {
                    Some(field) if field.name == other.name => {
                        if !lay(&mut field.kind, &other.kind) {
                            return false;
                        }
                    }
                    Some(_) => return false,
                    None => fields.push(other.clone()),
                }
            }
            fields.len() <= NEW_FIELDS_MAX
        }
        (T::List(item), T::List(other)) | (T::Map(item), T::Map(other)) => {
            lay(&mut item.kind, &other.kind)
        }
        (T::Bigint | T::Double, T::Bigint | T::Double) => true,
        (base, other) => base == other,
    }
}

/// Which fields that records of this interval brought become no columns, by their index. `objects` is how many there were.
pub(super) fn no_columns(fields: &Fields, objects: usize) -> Vec<bool> {
    let fields = &fields.fields;
    let is_new = |field: &Field| field.born_in > 0;
    let is_rare = |field: &Field| is_new(field) && field.node.valid.ones() <= 2;
    let new = fields.iter().filter(|field| is_new(field)).count();
    let rare = fields.iter().filter(|field| is_rare(field)).count();
    let rare_are_data = objects >= KEYS_MANY && rare >= KEYS_MANY && rare * 2 > new;
    let mut numbered = 0;
    let refused = fields.iter().map(|field| {
        let form = form_of(&field.name);
        numbered += usize::from(form == KeyForm::Numbered);
        is_new(field)
            && match form {
                KeyForm::Identifier => true,
                KeyForm::Numbered if numbered > NUMBERED_MAX => true,
                _ => rare_are_data && is_rare(field),
            }
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_their_looks() {
        for (form, keys) in [
            (
                KeyForm::Identifier,
                &[
                    "a.b@example.com",
                    "[EMAIL]",
                    "[EMAIL]#12",
                    "10.1.2.0/24",
                    "10.1.2.0/24#2",
                    "tok_email_a_kQ3",
                    "550e8400-e29b-41d4-a716-446655440000",
                    "aa:bb:cc:dd:ee:01",
                    "AABBCCDDEE01",
                    "2026-01-31",
                    "2026/01/31 10:00",
                    "2026-01",
                    "10.1.2.3",
                    "fe80::1",
                    "+49 171 1234567",
                    "1700000000",
                ][..],
            ),
            (
                KeyForm::Numbered,
                &[
                    "dev0001",
                    "sensor-0412",
                    "2026",
                    "40001",
                    "node_123_temp",
                    "rfc3339",
                ],
            ),
            (
                KeyForm::Name,
                &[
                    "temp",
                    "temp1",
                    "pm25",
                    "pm2.5",
                    "PM10",
                    "co2",
                    "@timestamp",
                    "a@b",
                    "[",
                    "",
                    "é",
                    "deadbeefcafe",
                    "facade",
                    "x86_64",
                    "größe",
                ],
            ),
        ] {
            for key in keys {
                assert_eq!(form_of(key), form, "{key}");
            }
        }
    }
}
