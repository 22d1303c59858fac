//! The decoder of one interval.

use super::column::{COLUMNS_MAX, ColumnNode, ColumnRole, Fields, Size};
use super::finish::{Columns, DecodedRows};
use super::provenance::ProvenanceColumns;
use super::reject::{Reject, RejectReason};
use super::route::{PartitionRouter, Routed};
use super::row::{Captures, RecordReader, RecordRules, RecordState};
use crate::schema::{SchemaError, TableSchema};
use crate::table::partition::PartitionSpec;

/// The most payload bytes, or bytes of sequence numbers, one decoder takes: Arrow's offsets have 31 bits.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// The most rows one decoder takes.
const ROWS_MAX: usize = i32::MAX as usize;

/// How records become rows.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// The most columns of the table, nested ones and their containers included.
    /// Default: 2,000.
    pub columns_max: usize,
    /// Whether keys that the schema lacks are refused instead of becoming columns.
    /// Default: no.
    pub frozen: bool,
    /// The dotted path of the field that holds the event time. Default: the first well-known one that a record has.
    pub event_time: Option<String>,
    /// The layout. Default: by date in UTC.
    pub partition: PartitionSpec,
    /// The most partitions of one interval; one more makes the decoder full.
    /// Default: 1,024.
    pub partitions_max: usize,
    /// The time of the interval, in microseconds since 1970: event times more than a day later
    /// are not believed. A rebuild of the interval passes the same time again.
    pub now_micros: i64,
}

impl DecodeOptions {
    /// The defaults, for an interval at this time.
    #[must_use]
    pub fn at(now_micros: i64) -> Self {
        Self {
            columns_max: COLUMNS_MAX,
            frozen: false,
            event_time: None,
            partition: PartitionSpec::default(),
            partitions_max: 1_024,
            now_micros,
        }
    }
}

/// The facts about a record that are not in its payload.
#[derive(Clone, Copy, Debug)]
pub struct RowOrigin<'a> {
    /// The producer's stamp, in microseconds since 1970.
    pub stamp_micros: Option<i64>,
    /// When the stream took the record, in microseconds since 1970.
    pub arrival_micros: i64,
    /// The sequence number as decimal text; looked at with provenance on only.
    pub sequence: &'a str,
    /// The sub-sequence number.
    pub sub: i64,
}

/// The outcome of appending a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum DecodeOutcome {
    /// The record is a row.
    Row,
    /// The record was refused; the decoder is as before.
    Rejected(Box<Reject>),
    /// The decoder takes no more: finish it, and append the record to the next one. A new decoder
    /// never returns this.
    Full,
}

/// Decodes the records of one interval of one shard, in order.
#[derive(Debug)]
pub struct Decoder {
    rules: RecordRules,
    root: Fields,
    state: RecordState,
    router: PartitionRouter,
    provenance: ProvenanceColumns,
    rows: usize,
    payload_bytes: usize,
    partitions: Vec<u32>,
    records: Vec<u32>,
    rejected: u64,
    /// The rows without an event time that names a partition.
    untimed: Vec<u32>,
    /// The earliest and the latest event time that names a partition.
    event_times: Option<(i64, i64)>,
    /// How many records are done with: rows and refused ones.
    done: u64,
}

/// Where a decoder stands between two records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecoderMark {
    rows: usize,
    payload_bytes: usize,
    partitions: usize,
    rejected: u64,
    untimed: usize,
    event_times: Option<(i64, i64)>,
    done: u64,
}

impl Decoder {
    /// A decoder for a table with this schema; for a new table, the default one or the declared
    /// columns.
    ///
    /// # Errors
    /// The layout differs from that of the table.
    pub fn try_new(schema: &TableSchema, options: DecodeOptions) -> Result<Self, SchemaError> {
        options.partition.columns_for(schema)?;
        let event_time_path = options.event_time.iter();
        let event_time_path = event_time_path
            .flat_map(|path| path.split('.'))
            .map(str::to_owned)
            .collect();
        let partition_fields = options.partition.fields().to_vec();
        let rules = RecordRules {
            schema: schema.clone(),
            columns_max: options.columns_max,
            frozen: options.frozen,
            event_time: options.event_time,
            event_time_path,
            partition_fields,
        };
        let root_role = ColumnRole {
            path_depth: Some(0),
            ..ColumnRole::default()
        };
        let mut root = Fields::new(root_role);
        for column in schema.columns() {
            let role = rules.role(root_role, true, &column.name);
            let nested = |parent, name: &str| rules.role(parent, false, name);
            root.add(&column.name, ColumnNode::of(column, role, &nested), role, 0);
        }
        let captures = Captures {
            time: None,
            fields: vec![None; rules.partition_fields.len()],
        };
        let state = RecordState {
            captures,
            width: root.width(),
            ..RecordState::default()
        };
        Ok(Self {
            router: PartitionRouter::new(
                options.partition,
                options.now_micros,
                options.partitions_max,
            ),
            rules,
            root,
            state,
            provenance: ProvenanceColumns::default(),
            rows: 0,
            payload_bytes: 0,
            partitions: Vec::new(),
            records: Vec::new(),
            rejected: 0,
            untimed: Vec::new(),
            event_times: None,
            done: 0,
        })
    }

    /// Appends one record. After a panic in here, [`Decoder::give_up`] makes the decoder as it was before.
    pub fn append(&mut self, payload: &[u8], origin: &RowOrigin<'_>) -> DecodeOutcome {
        let full = self.rows > 0
            && (self.payload_bytes.saturating_add(payload.len()) > PAYLOAD_BYTES_MAX
                || self.provenance.sequences.len() >= PAYLOAD_BYTES_MAX
                || self.rows >= ROWS_MAX);
        if full || self.state.ordinal >= u64::from(u32::MAX) {
            return DecodeOutcome::Full;
        }
        self.state.ordinal += 1;
        self.state.captures.time = None;
        self.state.captures.fields.fill(None);
        let reject = match self.read(payload) {
            Ok(()) => {
                let fallback = origin.stamp_micros.unwrap_or(origin.arrival_micros);
                match self.router.route(payload, &self.state.captures, fallback) {
                    Some(routed) => {
                        self.commit(payload.len(), routed, origin);
                        return DecodeOutcome::Row;
                    }
                    None => None,
                }
            }
            Err(reject) => Some(reject),
        };
        self.undo();
        match reject {
            Some(reject) => {
                self.rejected += 1;
                self.done = self.state.ordinal;
                DecodeOutcome::Rejected(reject)
            }
            None => {
                self.state.ordinal -= 1;
                DecodeOutcome::Full
            }
        }
    }

    fn read(&mut self, payload: &[u8]) -> Result<(), Box<Reject>> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(
                Reject::new(RejectReason::TooLarge, "payload", PAYLOAD_BYTES_MAX)
                    .wanting(format!("at most {PAYLOAD_BYTES_MAX} bytes")),
            );
        }
        let input = std::str::from_utf8(payload)
            .map_err(|error| Reject::new(RejectReason::NotUtf8, "", error.valid_up_to()))?;
        let mut row = RecordReader {
            input,
            at: 0,
            rules: &self.rules,
            state: &mut self.state,
        };
        row.read(&mut self.root, self.rows)
    }

    /// Removes whatever of the last record lies behind the rows.
    fn undo(&mut self) {
        self.root.truncate(self.rows, self.state.ordinal);
        self.state.width = self.root.width();
    }

    /// Refuses the next record unread, or the one whose appending panicked; the decoder is as before it.
    pub fn give_up(&mut self) {
        self.done += 1;
        self.state.ordinal = self.done;
        self.undo();
        self.partitions.truncate(self.rows);
        self.records.truncate(self.rows);
        let rows = u32::try_from(self.rows).unwrap_or(u32::MAX);
        self.untimed
            .truncate(self.untimed.partition_point(|row| *row < rows));
        self.provenance.truncate(self.rows);
        self.rejected += 1;
    }

    /// Where the decoder stands, between two records.
    pub(crate) fn mark(&self) -> DecoderMark {
        DecoderMark {
            rows: self.rows,
            payload_bytes: self.payload_bytes,
            partitions: self.router.len(),
            rejected: self.rejected,
            untimed: self.untimed.len(),
            event_times: self.event_times,
            done: self.done,
        }
    }

    /// The numbers, from 0, of the records since `mark` that became rows.
    pub(crate) fn row_records(&self, mark: DecoderMark) -> &[u32] {
        &self.records[mark.rows..]
    }

    /// Forgets every record since `mark`: the decoder is as it was there, and ends there.
    pub(crate) fn rewind(&mut self, mark: DecoderMark) {
        debug_assert!(mark.rows <= self.rows && mark.done <= self.done);
        self.rows = mark.rows;
        self.done = mark.done;
        self.root.truncate(mark.rows, mark.done + 1);
        self.state.ordinal = mark.done;
        self.state.width = self.root.width();
        self.router.truncate(mark.partitions);
        self.partitions.truncate(mark.rows);
        self.records.truncate(mark.rows);
        self.untimed.truncate(mark.untimed);
        self.provenance.truncate(mark.rows);
        self.payload_bytes = mark.payload_bytes;
        self.rejected = mark.rejected;
        self.event_times = mark.event_times;
    }

    /// Takes the record that was read as a row. Nothing here depends on what the record holds.
    fn commit(&mut self, payload_bytes: usize, routed: Routed, origin: &RowOrigin<'_>) {
        self.partitions.push(routed.partition);
        // The first record's number is 1, its index 0.
        self.records
            .push(u32::try_from(self.state.ordinal - 1).unwrap_or(u32::MAX));
        if self.rules.schema.provenance() {
            let columns = &mut self.provenance;
            columns.sequences.push_str(origin.sequence);
            columns
                .sequence_ends
                .push(i32::try_from(columns.sequences.len()).unwrap_or(i32::MAX));
            columns.subs.push(origin.sub);
            columns
                .stamps
                .push(origin.stamp_micros.unwrap_or(origin.arrival_micros));
        }
        match routed.time {
            Some(time) => {
                let (min, max) = self.event_times.unwrap_or((time, time));
                self.event_times = Some((min.min(time), max.max(time)));
            }
            None => self
                .untimed
                .push(u32::try_from(self.rows).unwrap_or(u32::MAX)),
        }
        self.payload_bytes += payload_bytes;
        self.rows += 1;
        self.done = self.state.ordinal;
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many records were appended: rows and refused ones.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.done
    }

    /// How many records were refused.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// How many rows lie in the default partition for want of a believable event time.
    #[must_use]
    pub fn untimed_rows(&self) -> u64 {
        self.untimed.len() as u64
    }

    /// The earliest and the latest event time of the rows that have a believable one, in
    /// microseconds since 1970.
    #[must_use]
    pub fn event_times(&self) -> Option<(i64, i64)> {
        self.event_times
    }

    /// The bytes that the rows take. Costs a walk over the columns: ask per batch. Splitting into partitions takes up
    /// to the arrays again while it lasts.
    #[must_use]
    pub fn size(&self) -> Size {
        let provenance = &self.provenance;
        let beside = self.rows * 8
            + provenance.sequences.len()
            + provenance.subs.len() * 20
            + self.untimed.len() * 4;
        self.root.size(self.rows).and(Size {
            arrays: beside,
            present: beside,
        })
    }

    /// Ends the interval.
    #[must_use]
    pub fn finish(self) -> DecodedRows {
        let (keys, spec) = self.router.keys();
        DecodedRows::new(
            self.rules.schema,
            Columns {
                root: self.root,
                rows: self.rows,
                provenance: self.provenance,
                untimed: self.untimed,
            },
            spec,
            keys,
            self.partitions,
            self.records,
        )
    }
}
