//! The decoder of one interval: takes records one by one, owns the columns, and gives each record a row or a reject.

use hydrant_core::Result;

use super::column::{ColumnNode, ColumnRole, Fields, NEW_FIELDS_MAX, Size};
use super::decide::{decide, proposed};
use super::finish::{DecodedRows, RefusedRow, finish_columns, finish_texts};
use super::majority::choose_kinds;
use super::provenance::{ProvenanceColumns, RowOrigin};
use super::reject::{Reject, RejectReason};
use super::rescue::RescueColumn;
use super::route::{PartitionRouter, Routed};
use super::row::{Captures, RecordReader, RecordRules, RecordState};
use crate::lake::TimeRange;
use crate::schema::TableSchema;
use crate::table::event_time::UntimedReason;
use crate::table::spec::{OnConflict, TableRules};

/// The most payload bytes, or bytes of sequence numbers, one decoder takes: Arrow's offsets have 31 bits.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// How many times as long as its record a rescued text may be: `1,` of a list becomes `null,`.
const RESCUED_GROWTH: usize = 3;

/// What a column takes beside its values, from the first record on: names, type, and the first capacity of its arrays.
const COLUMN_BYTES: u64 = 768;

/// What a column of a file takes beside its values, from when the files are planned until the last one is uploaded.
const FILE_COLUMN_BYTES: u64 = 176;

/// The outcome of appending a record.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Whether a decision about columns has begun and not ended.
    deciding: bool,
    router: PartitionRouter,
    rescue: RescueColumn,
    /// The rows that are refused at the end, unless their columns take their values by then.
    refusals: Vec<(u32, RefusedRow)>,
    provenance: ProvenanceColumns,
    partitions: Vec<u32>,
    records: Vec<u32>,
    /// The rows without an event time that names a partition.
    untimed: Vec<(u32, UntimedReason)>,
    rows_max: usize,
    pub(crate) at: DecoderMark,
}

/// Where a decoder stands between two records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DecoderMark {
    rows: usize,
    payload_bytes: usize,
    /// How many partitions there are; kept in marks only.
    partitions: usize,
    /// How many kinds of rescued values there are.
    kinds: usize,
    /// How many records were refused.
    pub(crate) rejected: u64,
    /// The range of the event times that name a partition.
    pub(crate) event_times: Option<TimeRange>,
    /// How many records are done with: rows and refused ones.
    pub(crate) done: u64,
}

impl Decoder {
    /// A decoder for a table with this schema; for a new table, the default one or the declared columns. `now_micros` is
    /// the time of the interval, in microseconds since 1970: event times more than a day later are not believed. A
    /// rebuild of the interval passes the same time again.
    ///
    /// # Errors
    /// Refused when the layout or a format is invalid, or the layout differs from that of the table.
    pub fn try_new(schema: &TableSchema, rules: &TableRules, now_micros: i64) -> Result<Self> {
        let layout = rules.layout()?;
        let mut schema = schema.clone();
        schema.partition_columns = layout.columns_for(&schema)?;
        let rows_max = rules.rows_max;
        let lateness_max = rules.lateness_max_micros;
        let times = rules.time_reader(now_micros)?;
        let event_time_path = rules.event_time.iter().flat_map(|path| path.split('.'));
        let rules = RecordRules {
            schema,
            columns_max: rules.columns_max,
            frozen: rules.frozen,
            refuses: rules.on_conflict == OnConflict::DeadLetter,
            event_time: rules.event_time.clone(),
            event_time_path: event_time_path.map(str::to_owned).collect(),
            partition_fields: layout.fields().to_vec(),
            times: times.clone(),
            partition_bytes_max: (0..layout.fields().len())
                .map(|slot| layout.value_bytes_max(slot))
                .collect(),
        };
        let root_role = ColumnRole {
            path_depth: Some(0),
            ..ColumnRole::default()
        };
        let mut root = Fields::new(root_role);
        for column in &rules.schema.columns {
            let role = rules.role(root_role, true, &column.name);
            let nested = |parent, name: &str| rules.role(parent, false, name);
            root.add(&column.name, ColumnNode::of(column, role, &nested), role, 0);
        }
        for name in &rules.partition_fields {
            let role = rules.role(root_role, true, name);
            root.add(name, ColumnNode::default(), role, 0);
        }
        root.fields_max = match rules.schema.number {
            0 => usize::MAX,
            _ => root.fields.len() + NEW_FIELDS_MAX,
        };
        let captures = Captures {
            fields: vec![None; rules.partition_fields.len()],
            ..Captures::default()
        };
        let state = RecordState {
            captures,
            width: root.width(),
            ..RecordState::default()
        };
        Ok(Self {
            router: PartitionRouter::new(layout, times, lateness_max),
            rules,
            root,
            state,
            deciding: false,
            rescue: RescueColumn::default(),
            refusals: Vec::new(),
            provenance: ProvenanceColumns::default(),
            partitions: Vec::new(),
            records: Vec::new(),
            untimed: Vec::new(),
            rows_max,
            at: DecoderMark::default(),
        })
    }

    /// Appends one record. After a panic in here, [`Decoder::give_up`] makes the decoder as it was before.
    pub fn append(&mut self, payload: &[u8], origin: &RowOrigin<'_>) -> DecodeOutcome {
        let full = self.at.rows > 0
            && (self.at.payload_bytes.saturating_add(payload.len()) > PAYLOAD_BYTES_MAX
                || self.rescue.texts.bytes.len() + payload.len() * RESCUED_GROWTH
                    > PAYLOAD_BYTES_MAX
                || self.provenance.sequences.len() >= PAYLOAD_BYTES_MAX
                || self.at.rows >= self.rows_max);
        if full || self.at.done >= u64::from(u32::MAX) {
            return DecodeOutcome::Full;
        }
        self.state.ordinal = self.at.done + 1;
        self.state.captures.times = Default::default();
        self.state.captures.fields.fill(None);
        self.state.rescued.clear();
        self.state.other_keys.clear();
        self.state.refusal = None;
        let grown = self.state.grown;
        if let Err(reject) = self.read(payload) {
            self.give_up();
            self.state.grown = grown;
            return DecodeOutcome::Rejected(reject);
        }
        let routed = self.router.route(payload, &self.state.captures, origin);
        self.commit(payload.len(), routed, origin);
        DecodeOutcome::Row
    }

    fn read(&mut self, payload: &[u8]) -> Result<(), Box<Reject>> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(
                Reject::new(RejectReason::TOO_LARGE, "payload", PAYLOAD_BYTES_MAX)
                    .wanting(format!("at most {PAYLOAD_BYTES_MAX} bytes")),
            );
        }
        let input = std::str::from_utf8(payload)
            .map_err(|error| Reject::new(RejectReason::NOT_UTF8, "", error.valid_up_to()))?;
        let mut row = RecordReader {
            input,
            at: 0,
            rules: &self.rules,
            state: &mut self.state,
        };
        row.read(&mut self.root, self.at.rows)?;
        if self.state.rescued.is_empty() {
            return Ok(());
        }
        let rescued = &self.state.rescued;
        let before = self.rescue.values.len();
        self.rescue.push(self.at.rows, payload, rescued)?;
        if let Some(mut reject) = self.state.refusal.take()
            && let Some(first) = rescued.iter().position(|value| value.reason.is_conflict())
        {
            let (row, kind) = self.rescue.values[before + first];
            reject.column.clone_from(&self.rescue.kinds.get(kind).path);
            let payload = payload.into();
            self.refusals.push((row, RefusedRow { reject, payload }));
        }
        Ok(())
    }

    /// Removes whatever lies behind the rows.
    fn undo(&mut self) {
        let rows = self.at.rows;
        self.root.truncate(rows, self.at.done + 1);
        self.state.width = self.root.width();
        self.partitions.truncate(rows);
        self.records.truncate(rows);
        let untimed = self
            .untimed
            .partition_point(|(row, _)| (*row as usize) < rows);
        self.untimed.truncate(untimed);
        self.rescue.truncate(rows, self.at.kinds);
        let refusals = self
            .refusals
            .partition_point(|(row, _)| (*row as usize) < rows);
        self.refusals.truncate(refusals);
        self.provenance.truncate(rows);
    }

    /// Refuses the next record unread, or the one whose appending failed or panicked; the decoder is as before it.
    pub fn give_up(&mut self) {
        self.undo();
        self.at.done += 1;
        self.at.rejected += 1;
    }

    /// Where the decoder stands, between two records.
    pub(crate) fn mark(&self) -> DecoderMark {
        DecoderMark {
            partitions: self.router.len(),
            ..self.at
        }
    }

    /// The numbers, from 0, of the records since `mark` that became rows.
    pub(crate) fn row_records(&self, mark: DecoderMark) -> &[u32] {
        &self.records[mark.rows..]
    }

    /// Forgets every record since `mark`: the decoder is as it was there, and ends there.
    pub(crate) fn rewind(&mut self, mark: DecoderMark) {
        debug_assert!(mark.rows <= self.at.rows && mark.done <= self.at.done);
        self.at = mark;
        self.router.truncate(mark.partitions);
        self.undo();
        // It was looked at before the mark was taken.
        self.state.grown = false;
    }

    /// Takes the record that was read as a row. Nothing here depends on what the record holds.
    fn commit(&mut self, payload_bytes: usize, routed: Routed, origin: &RowOrigin<'_>) {
        self.partitions.push(routed.partition);
        let record = u32::try_from(self.at.done).unwrap_or(u32::MAX);
        self.records.push(record);
        if self.rules.schema.provenance {
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
            Ok(time) => {
                self.at.event_times = Some(TimeRange::with(self.at.event_times, time));
            }
            Err(reason) => {
                let row = u32::try_from(self.at.rows).unwrap_or(u32::MAX);
                self.untimed.push((row, reason));
            }
        }
        self.at.payload_bytes += payload_bytes;
        self.at.kinds = self.rescue.kinds.len();
        self.at.rows += 1;
        self.at.done += 1;
    }

    /// Looks at objects that have gained many keys. To be called between two records with different sequence numbers.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.state.grown) {
            self.decide(false);
        }
    }

    fn choose_kinds(&mut self) {
        self.deciding = true;
        let with = (&self.rules, &mut self.state);
        choose_kinds(&mut self.root, self.at.rows, with, &mut self.rescue);
        self.deciding = false;
    }

    fn decide(&mut self, ends: bool) {
        // A panic in there leaves columns that are neither, which finishing them refuses.
        self.deciding = true;
        let with = (&self.rules, &mut self.state);
        decide(&mut self.root, self.at.rows, with, &mut self.rescue, ends);
        self.deciding = false;
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.at.rows
    }

    /// The bytes that the rows take. Costs a walk over the columns: ask per batch.
    pub fn size(&self) -> Size {
        let provenance = &self.provenance;
        let beside = self.at.rows * 8
            + provenance.sequences.len()
            + provenance.subs.len() * 20
            + self.untimed.len() * 8
            + self.rescue.texts.bytes.len()
            + self.rescue.values.len() * 8
            + self
                .refusals
                .iter()
                .map(|(_, refusal)| refusal.payload.len())
                .sum::<usize>()
            + self.at.rows * 4;
        self.root.columns_size(self.at.rows).and(Size {
            arrays: beside,
            present: beside,
        })
    }

    /// The bytes of the largest column, which is there twice while the rows are split into partitions.
    pub(crate) fn copy_bytes(&self) -> usize {
        match self.router.len() {
            0 | 1 => 0,
            _ => self.root.largest(self.at.rows),
        }
    }

    /// The bytes that the columns take beside the rows, with what planning a file for each partition will take.
    pub(crate) fn column_bytes(&self) -> u64 {
        let files = self.router.len() as u64;
        let columns = self.state.width as u64 * (COLUMN_BYTES + files * FILE_COLUMN_BYTES);
        columns + self.router.bytes()
    }

    /// Ends the interval.
    pub fn finish(mut self) -> DecodedRows {
        assert!(!self.deciding, "a decision about columns was not finished");
        self.decide(false);
        self.choose_kinds();
        self.decide(true);
        let proposed = proposed(&self.root, self.at.rows);
        let (keys, spec) = self.router.keys();
        let (columns, arrays) = finish_columns(self.root, self.at.rows);
        let rescue = self.rescue;
        let row_records = &self.records;
        let values = rescue.values.into_iter();
        let rescued_values = values.map(|(row, kind)| (row_records[row as usize], kind));
        let rescued_values = rescued_values.collect();
        let rescued = finish_texts(rescue.texts, rescue.valid, self.at.rows);
        let refusals = self.refusals.into_iter();
        let refusals = refusals.map(|(row, refusal)| (row_records[row as usize], refusal));
        let refusals = self.rules.refuses.then(|| refusals.collect());
        let mut schema = self.rules.schema;
        schema.columns = proposed;
        schema.partition_columns = spec.decided(schema.partition_columns, &keys);
        let provenance = schema.provenance.then(|| self.provenance.finish());
        let decoded = DecodedRows {
            schema,
            columns,
            arrays,
            provenance: provenance.unwrap_or_default(),
            rescued,
            rescued_values,
            rescue_kinds: rescue.kinds,
            refusals,
            spec,
            keys,
            partitions: self.partitions,
            records: self.records,
            untimed: self.untimed,
        };
        decoded.grouped()
    }
}
