//! Whether the keys of an object are data: ids, addresses, dates, numbers.
//!
//! Owns the evidence that the records of an interval give. Promises that the answer depends on those records only, so that
//! a rebuild of the interval decides the same. An object whose keys are data becomes a map, if its values are of one kind;
//! otherwise such keys become no columns.

use std::collections::HashMap;
use std::net::IpAddr;

use super::column::{Field, Fields, Values};
use crate::schema::{Column, ColumnType, TableSchema};

/// An object with so many keys is looked at as soon as it has them, then whenever they have doubled.
pub(super) const KEYS_MANY: usize = 64;

/// The most fields of an object whose names are numbered, such as `sensor-0412`, of which not most objects have each.
const NUMBERED_MAX: usize = 32;

/// Of fewer objects nobody says which keys most of them have.
const OBJECTS_MANY: usize = 8;

/// How many letters of a token stand for its value.
const TOKEN_LETTERS: usize = 32;

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
    let is_marker = base.starts_with('[') && base.ends_with(']') || is_token(base);
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

/// Whether a key is a token, such as `tok_email_2026a_` and 32 letters.
fn is_token(key: &str) -> bool {
    let value = key.rsplit('_').next().unwrap_or_default();
    let is_letter = |byte: u8| (b'a'..=b'p').contains(&byte);
    key.starts_with("tok_") && value.len() == TOKEN_LETTERS && value.bytes().all(is_letter)
}

/// Whether a key is data, and no name of a field.
pub(super) fn is_data(key: &str) -> bool {
    form_of(key) == KeyForm::Identifier
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
    let in_form = |form: KeyForm| {
        let fields = typed.iter();
        fields.filter(move |(field, _)| form_of(&field.name) >= form)
    };
    let present: usize = typed.iter().map(|(_, present)| present).sum();
    let identified = in_form(KeyForm::Identifier).map(|(_, present)| present);
    // A key is in that part of the objects, on average, in hundredths.
    let share = (present * 100).checked_div(keys * objects)?;
    let holds_objects =
        |(field, _): &(&Field, usize)| matches!(field.node.values, Values::Struct(_));
    let why = if identified.sum::<usize>() * 2 >= present {
        "identifiers or what stands for personal data"
    } else if in_form(KeyForm::Numbered).count() == keys
        && (typed.iter().all(holds_objects) || (keys >= 4 && share <= 50))
    {
        "numbered names"
    } else if keys >= KEYS_MANY && share < 10 {
        "many, and each is rare"
    } else {
        return None;
    };
    let value = main_type(&typed)?;
    let keys = counted(keys, "key");
    let objects = counted(objects, "object");
    Some((value, format!("{keys} in {objects}: {why}")))
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// The type that most of the values of the fields have, if more than half are of one kind. What it does not take is
/// rescued.
fn main_type(fields: &[(&Field, usize)]) -> Option<ColumnType> {
    let mut kinds: Vec<(std::mem::Discriminant<ColumnType>, usize)> = Vec::new();
    let kind_of = |field: &Field| match field.node.kind() {
        ColumnType::Bigint => ColumnType::Double,
        kind => kind,
    };
    let typed = || fields.iter().filter(|(field, _)| field.node.has_type());
    for (field, present) in typed() {
        let kind = std::mem::discriminant(&kind_of(field));
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += present,
            None => kinds.push((kind, *present)),
        }
    }
    let all: usize = kinds.iter().map(|(_, count)| count).sum();
    let (main, count) = kinds.into_iter().rev().max_by_key(|(_, count)| *count)?;
    if count * 2 <= all {
        return None;
    }
    // Nested values of the types that most entries have are taken, those of others where they fit.
    let mut types: Vec<(Column, usize)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (field, present) in typed() {
        if std::mem::discriminant(&kind_of(field)) == main {
            let column = field.node.column("value");
            let at = *known.entry(column.kind.to_string()).or_insert(types.len());
            match types.get_mut(at) {
                Some((_, count)) => *count += present,
                None => types.push((column, *present)),
            }
        }
    }
    types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut joined = TableSchema::default();
    for (column, _) in types {
        let one = TableSchema {
            columns: vec![column],
            ..TableSchema::default()
        };
        joined = joined.join(&one, usize::MAX).schema;
    }
    joined.columns.pop().map(|column: Column| column.kind)
}

/// Which fields that records of this interval brought become no columns, by their index. `objects` is how many there were.
pub(super) fn no_columns(fields: &Fields, objects: usize) -> Vec<bool> {
    let fields = &fields.fields;
    let is_new = |field: &Field| field.born_in > 0;
    let is_rare = |field: &Field| is_new(field) && field.node.valid.ones() <= 2;
    // A key that most objects have is a field, whatever it looks like.
    let is_usual = |field: &Field| objects >= OBJECTS_MANY && field.node.valid.ones() * 2 > objects;
    let new = fields.iter().filter(|field| is_new(field)).count();
    let rare = fields.iter().filter(|field| is_rare(field)).count();
    let rare_are_data = objects >= KEYS_MANY && rare >= KEYS_MANY && rare * 2 > new;
    let mut numbered = 0;
    let refused = fields.iter().map(|field| {
        let form = form_of(&field.name);
        let is_usual = is_usual(field);
        numbered += usize::from(form == KeyForm::Numbered && !is_usual);
        is_new(field)
            && !is_usual
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
                    "tok_email_a_abcdefghijklmnopabcdefghijklmnop",
                    "tok_email_a_abcdefghijklmnopabcdefghijklmnop#2",
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
                    "tok_in",
                    "tok_email_x_1",
                ],
            ),
        ] {
            for key in keys {
                assert_eq!(form_of(key), form, "{key}");
            }
        }
    }
}
