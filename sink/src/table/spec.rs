//! The rules by which records become rows, and their durable form.
//!
//! Owns the configured rules of a table ([`TableRules`]) and the rules by which an interval was made ([`Spec`]).
//! Promises that an interval that is decoded again by its recorded spec gives the same rows and the same dead letters,
//! whatever the configuration says by then. Refuses specs of a newer version.

use bytes::Bytes;
use hydrant_core::lake::SharedLake;
use hydrant_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::event_time::TimeReader;
use super::partition::PartitionSpec;
use super::zone::Zone;
use crate::encode::{EncodeOptions, ParquetProfile};
use crate::lake::{ObjectError, TableNames, digest, seal_body, unseal_body};
use crate::schema::declared::declared_schema;
use crate::schema::{ColumnType, TableSchema};

/// The newest version of [`Spec`].
const SPEC_VERSION: u32 = 1;

/// What becomes of a value that its column does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// It goes into the column `_rescued`, and the rest of its record into the columns.
    #[default]
    Rescue,
    /// Its record becomes a dead letter.
    DeadLetter,
}

/// The configured rules of a table. Those by which records become rows are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRules {
    /// The layout's parts: `date`, `hour` or fields.
    pub partition: Vec<String>,
    /// The time zone of days and hours, in minutes east of UTC.
    pub offset_minutes: i32,
    /// The dotted path of the field that holds the event time; `None` for the first well-known one that a record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<String>,
    /// The zone of event times that are written without one.
    #[serde(default)]
    pub time_zone: Zone,
    /// The forms of event times beside the known ones, as of `strftime`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_time_formats: Vec<String>,
    /// Whether rows have columns that say where they came from. Decides a table's first schema only.
    #[serde(skip)]
    pub provenance: bool,
    /// The paths of columns whose types are fixed.
    #[serde(skip)]
    pub declared: Vec<(String, ColumnType)>,
    /// Whether only declared columns and columns of the stored schema are accepted.
    pub frozen: bool,
    /// What becomes of a value that its column does not take.
    pub on_conflict: OnConflict,
    /// The most columns, nested ones and their containers included.
    pub columns_max: usize,
    /// Rows whose event times lie further back from their arrival in the stream, in microseconds, share a partition for each
    /// month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness_max_micros: Option<i64>,
    /// The most rows of one interval: as many as Arrow's offsets count. Tests set it lower.
    pub rows_max: usize,
    /// How files are written. Rows are compared when a file is made again, not bytes.
    #[serde(skip)]
    pub encode: EncodeOptions,
    /// The digest of the transform that records go through in the same process before they reach the sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

impl Default for TableRules {
    fn default() -> Self {
        TableRules {
            partition: vec!["date".to_owned()],
            offset_minutes: 0,
            event_time: None,
            time_zone: Zone::default(),
            event_time_formats: Vec::new(),
            provenance: false,
            declared: Vec::new(),
            frozen: false,
            on_conflict: OnConflict::Rescue,
            columns_max: 2_000,
            lateness_max_micros: None,
            rows_max: i32::MAX as usize,
            encode: EncodeOptions::default(),
            policy: None,
        }
    }
}

impl TableRules {
    /// The layout.
    ///
    /// # Errors
    /// Refused with what is wrong with the layout.
    pub fn layout(&self) -> Result<PartitionSpec> {
        PartitionSpec::try_new(&self.partition, self.offset_minutes)?.with_declared(&self.declared)
    }

    /// What reads the event times of an interval that was opened at `now_micros`.
    ///
    /// # Errors
    /// Refused with what is wrong with a format.
    pub(crate) fn time_reader(&self, now_micros: i64) -> Result<TimeReader> {
        let times = TimeReader::try_new(self.time_zone, &self.event_time_formats, now_micros)?;
        Ok(times.with_days_of(self.offset_minutes))
    }

    /// The schema of a table that has no stored schema yet.
    ///
    /// # Errors
    /// Refused when declared columns clash with each other or with the layout.
    pub fn first_schema(&self) -> Result<TableSchema> {
        self.first_schema_in(&self.layout()?)
            .map_err(|(_, why)| Error::refused(why))
    }

    /// As [`TableRules::first_schema`] with this layout. The path says which declared column is wrong, where it is one.
    pub(crate) fn first_schema_in(
        &self,
        layout: &PartitionSpec,
    ) -> Result<TableSchema, (Option<String>, String)> {
        // The column of a partition lies in the path only.
        let is_in_file = |(name, _): &&(String, ColumnType)| !layout.fields().contains(name);
        let declared: Vec<_> = self.declared.iter().filter(is_in_file).cloned().collect();
        let of_none = |error: Error| (None, error.to_string());
        let schema = declared_schema(&declared)?;
        let schema = schema.with_provenance(self.provenance).map_err(of_none)?;
        layout.columns_for(&schema).map_err(of_none)?;
        Ok(schema)
    }

    /// The durable form, for an interval whose decoder began with `base` and whose files have schema `schema`.
    pub fn spec(&self, base: &TableSchema, schema: u64) -> Spec {
        Spec {
            version: SPEC_VERSION,
            base: base.clone(),
            schema,
            modern: self.encode.profile == ParquetProfile::Modern,
            rules: self.clone(),
        }
    }
}

/// The rules by which the records of an interval became rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The version of the spec.
    pub version: u32,
    /// The schema that the decoder began with.
    pub base: TableSchema,
    /// The number of the schema that the files have; 0 without rows.
    pub schema: u64,
    /// Whether the files may have encodings that Spark refuses, see [`ParquetProfile::Modern`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub modern: bool,
    /// The rules for decoding the interval again as it was decoded first.
    #[serde(flatten)]
    pub rules: TableRules,
}

impl Spec {
    /// Whether any file of a table may have encodings that Spark refuses.
    ///
    /// # Errors
    /// Those of the lake; fatal when a spec is damaged.
    pub async fn any_modern(lake: &SharedLake, names: &TableNames) -> Result<bool> {
        for object in lake.list(&names.specs()).await? {
            if let Some(body) = lake.get(&object.key).await?
                && Spec::from_body(&object.key, &body)?.modern
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The stored form and the digest that names it.
    pub fn to_body(&self) -> (String, Bytes) {
        let body = seal_body(self);
        (digest(&body), body)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Damaged bytes or a newer version.
    pub fn from_body(key: &str, body: &[u8]) -> Result<Self, ObjectError> {
        unseal_body(key, body, SPEC_VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_gives_the_rules_back() {
        let rules = TableRules {
            partition: vec!["date".to_owned(), "region".to_owned()],
            offset_minutes: 60,
            event_time: Some("at.time".to_owned()),
            time_zone: "Europe/Berlin".parse().unwrap(),
            event_time_formats: vec!["%d.%m.%Y".to_owned()],
            provenance: true,
            declared: vec![(
                "amount".to_owned(),
                ColumnType::Decimal {
                    precision: 9,
                    scale: 2,
                },
            )],
            frozen: true,
            on_conflict: OnConflict::DeadLetter,
            columns_max: 17,
            lateness_max_micros: Some(5),
            rows_max: 3,
            encode: EncodeOptions::default(),
            policy: Some("p".to_owned()),
        };
        let base = rules.first_schema().unwrap();
        let spec = rules.spec(&base, 4);
        let (digest, body) = spec.to_body();
        assert_eq!(digest.len(), 32);
        let again = Spec::from_body("k", &body).unwrap();
        assert_eq!(again.base, base);
        assert_eq!(again.to_body(), spec.to_body());
        let unstored = TableRules {
            provenance: false,
            declared: Vec::new(),
            ..rules
        };
        assert_eq!(again.rules, unstored);
        assert_eq!(again.rules.layout().unwrap().fields(), ["region"]);
    }
}
