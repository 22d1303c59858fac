//! The rules by which records become rows, and their durable form.
//!
//! Owns the configured rules of a table ([`TableRules`]) and the rules by which an interval was made ([`Spec`]).
//! Promises that an interval that is decoded again by its recorded spec gives the same rows and the same dead letters,
//! whatever the configuration says by then. Refuses specs of a newer version.

use bytes::Bytes;
use hydrant_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::partition::PartitionSpec;
use crate::decode::DecodeOptions;
use crate::encode::EncodeOptions;
use crate::lake::ObjectError;
use crate::lake::{digest, seal_body, unseal_body};
use crate::schema::{ColumnType, TableSchema};

/// The newest version of [`Spec`].
const SPEC_VERSION: u32 = 1;

/// The configured rules of a table.
#[derive(Clone, Debug)]
pub struct TableRules {
    /// The layout's parts: `date`, `hour` or fields.
    pub partition: Vec<String>,
    /// The time zone of days and hours, in minutes east of UTC.
    pub offset_minutes: i32,
    /// The field that holds the event time; `None` for the well-known fields.
    pub event_time: Option<String>,
    /// Whether rows have columns that say where they came from.
    pub provenance: bool,
    /// Columns whose types are fixed.
    pub declared: Vec<(String, ColumnType)>,
    /// Whether only declared columns and columns of the stored schema are accepted.
    pub frozen: bool,
    /// The most columns.
    pub columns_max: usize,
    /// The most partitions of one interval.
    pub partitions_max: usize,
    /// How files are written.
    pub encode: EncodeOptions,
    /// The digest of the transform that records go through in the same process before they reach the sink.
    pub policy: Option<String>,
}

impl Default for TableRules {
    fn default() -> Self {
        let options = DecodeOptions::at(0);
        TableRules {
            partition: vec!["date".to_owned()],
            offset_minutes: 0,
            event_time: None,
            provenance: false,
            declared: Vec::new(),
            frozen: false,
            columns_max: options.columns_max,
            partitions_max: options.partitions_max,
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
        PartitionSpec::try_new(&self.partition, self.offset_minutes)
            .map_err(|e| Error::refused(e.to_string()))
    }

    /// The schema of a table that has no stored schema yet.
    ///
    /// # Errors
    /// Refused when declared columns clash.
    pub fn first_schema(&self) -> Result<TableSchema> {
        TableSchema::declared(self.declared.clone())
            .and_then(|schema| schema.with_provenance(self.provenance))
            .map_err(|error| Error::refused(error.to_string()))
    }

    /// How records of an interval that is opened at `now_micros` become rows.
    ///
    /// # Errors
    /// Refused with what is wrong with the layout.
    pub fn decode_options(&self, now_micros: i64) -> Result<DecodeOptions> {
        Ok(DecodeOptions {
            columns_max: self.columns_max,
            frozen: self.frozen,
            event_time: self.event_time.clone(),
            partition: self.layout()?,
            partitions_max: self.partitions_max,
            now_micros,
        })
    }

    /// The durable form, for an interval whose decoder began with `base` and whose files have schema `schema`.
    pub fn spec(&self, base: &TableSchema, schema: u64) -> Spec {
        Spec {
            version: SPEC_VERSION,
            base: serde_json::from_slice(&base.to_json()).expect("a schema's JSON is JSON"),
            schema,
            partition: self.partition.clone(),
            offset_minutes: self.offset_minutes,
            event_time: self.event_time.clone(),
            frozen: self.frozen,
            columns_max: self.columns_max,
            partitions_max: self.partitions_max,
            policy: self.policy.clone(),
        }
    }
}

/// The rules by which the records of an interval became rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The version of the spec.
    pub version: u32,
    /// The schema that the decoder began with.
    pub base: serde_json::Value,
    /// The number of the schema that the files have; 0 without rows.
    pub schema: u64,
    /// The layout's parts.
    pub partition: Vec<String>,
    /// The time zone, in minutes east of UTC.
    pub offset_minutes: i32,
    /// The field of the event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<String>,
    /// Whether new columns were refused.
    pub frozen: bool,
    /// The most columns.
    pub columns_max: usize,
    /// The most partitions.
    pub partitions_max: usize,
    /// The digest of the transform that records went through in the same process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

impl Spec {
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

    /// The rules for decoding the interval again as it was decoded first. They do not include how files are encoded:
    /// rows are compared, not bytes.
    ///
    /// # Errors
    /// Damaged when the base is not a schema.
    pub fn rules(&self, key: &str) -> Result<(TableRules, TableSchema), ObjectError> {
        let base = TableSchema::from_json(self.base.to_string().as_bytes())
            .map_err(|error| ObjectError::damaged(key, error))?;
        let rules = TableRules {
            partition: self.partition.clone(),
            offset_minutes: self.offset_minutes,
            event_time: self.event_time.clone(),
            provenance: base.provenance(),
            declared: Vec::new(),
            frozen: self.frozen,
            columns_max: self.columns_max,
            partitions_max: self.partitions_max,
            encode: EncodeOptions::default(),
            policy: self.policy.clone(),
        };
        Ok((rules, base))
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
            provenance: true,
            declared: vec![(
                "amount".to_owned(),
                ColumnType::Decimal {
                    precision: 9,
                    scale: 2,
                },
            )],
            frozen: true,
            columns_max: 17,
            partitions_max: 3,
            encode: EncodeOptions::default(),
            policy: Some("p".to_owned()),
        };
        let base = rules.first_schema().unwrap();
        let spec = rules.spec(&base, 4);
        let (digest, body) = spec.to_body();
        assert_eq!(digest.len(), 32);
        assert_eq!(Spec::from_body("k", &body).unwrap(), spec);
        let (again, base_again) = spec.rules("k").unwrap();
        assert_eq!(base_again, base);
        assert_eq!(again.spec(&base_again, 4).to_body(), spec.to_body());
        let options = again.decode_options(5).unwrap();
        assert_eq!(options.event_time.as_deref(), Some("at.time"));
        assert_eq!(options.partition.fields(), ["region"]);
    }
}
