//! The pages of column chunks on their way into a file.
//!
//! Owns their compression by zstd and the form of a chunk that holds nothing but nulls. A column writer of the Parquet
//! library makes a compression context of its own, which costs several times what it costs to compress a small page.
//! So column writers make plain pages, and one context compresses the pages of all columns of a file. Promises that the
//! footer says of a chunk what is in the file. Refuses pages whose headers are not as the library writes them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page_store::{PageKey, PageStore, PageStoreArgs, PageStoreFactory};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

/// A chunk of so few bytes is not compressed: it would hardly get smaller, and its compression would cost more than
/// everything else of it.
const PLAIN_BYTES_MAX: usize = 256;

/// A page of fewer bytes is copied into as many.
const SMALL_PAGE_BYTES: usize = 4 << 10;

/// Where column writers put their pages.
#[derive(Debug)]
pub(super) struct ChunkStores {
    zstd: Option<ZstdContext>,
    chunks: Mutex<Vec<Arc<Mutex<ChunkPages>>>>,
}

/// A compression context of a file.
#[derive(Clone)]
struct ZstdContext {
    level: i32,
    compressor: Arc<Mutex<Compressor<'static>>>,
}

impl fmt::Debug for ZstdContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ZstdContext").field(&self.level).finish()
    }
}

impl ZstdContext {
    fn compress(&self, page: &mut StoredPage) -> Result<()> {
        let body = lock(&self.compressor).compress(&page.body)?;
        let header = with_compressed_bytes(&page.header, body.len())?;
        page.header = header.into_boxed_slice().into();
        page.body = body.into_boxed_slice().into();
        Ok(())
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChunkStores {
    /// Compresses by zstd at this level, or leaves the pages as they come.
    pub(super) fn try_new(zstd_level: Option<i32>) -> Result<Self> {
        let context = |level| -> Result<ZstdContext> {
            let compressor = Arc::new(Mutex::new(Compressor::new(level)?));
            Ok(ZstdContext { level, compressor })
        };
        Ok(ChunkStores {
            zstd: zstd_level.map(context).transpose()?,
            chunks: Mutex::default(),
        })
    }

    /// The stores of the column writers that were made since, in their order.
    pub(super) fn take(&self) -> Vec<SharedChunk> {
        let chunks = std::mem::take(&mut *lock(&self.chunks));
        chunks.into_iter().map(SharedChunk).collect()
    }
}

impl PageStoreFactory for ChunkStores {
    fn create(&self, _: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        let chunk = Arc::new(Mutex::new(ChunkPages {
            zstd: self.zstd.clone(),
            ..ChunkPages::default()
        }));
        lock(&self.chunks).push(Arc::clone(&chunk));
        Ok(Box::new(ChunkStore(chunk)))
    }
}

/// The pages of a chunk so far.
#[derive(Debug, Default)]
struct ChunkPages {
    zstd: Option<ZstdContext>,
    /// A header whose page is not there yet.
    header: Option<Bytes>,
    dictionary: Option<StoredPage>,
    data: Vec<StoredPage>,
    /// The bytes that came, and those that are kept.
    came: usize,
    kept: usize,
    /// Whether the pages are compressed, here.
    is_compressed: bool,
}

#[derive(Debug)]
struct StoredPage {
    header: Bytes,
    body: Bytes,
    /// The bytes of the body before it was compressed here.
    plain: usize,
}

impl StoredPage {
    fn len(&self) -> usize {
        self.header.len() + self.body.len()
    }
}

impl ChunkPages {
    fn pages_mut(&mut self) -> impl Iterator<Item = &mut StoredPage> {
        self.dictionary.iter_mut().chain(&mut self.data)
    }

    fn put(&mut self, value: Bytes) -> Result<()> {
        self.came += value.len();
        let Some(header) = self.header.take() else {
            self.header = Some(value);
            return Ok(());
        };
        let is_dictionary = HeaderStart::read(&header)?.kind == DICTIONARY_PAGE;
        // What comes may have room for far more bytes than it has.
        let mut page = StoredPage {
            header: Bytes::copy_from_slice(&header),
            plain: value.len(),
            body: match value.len() {
                0..SMALL_PAGE_BYTES => Bytes::copy_from_slice(&value),
                _ => value,
            },
        };
        if self.is_compressed
            && let Some(zstd) = &self.zstd
        {
            zstd.compress(&mut page)?;
        }
        self.kept += page.len();
        match is_dictionary {
            true => self.dictionary = Some(page),
            false => self.data.push(page),
        }
        if !self.is_compressed
            && self.kept > PLAIN_BYTES_MAX
            && let Some(zstd) = self.zstd.clone()
        {
            self.is_compressed = true;
            self.pages_mut().try_for_each(|page| zstd.compress(page))?;
            self.kept = self.pages_mut().map(|page| page.len()).sum();
        }
        Ok(())
    }
}

/// What a column writer puts its pages into.
struct ChunkStore(Arc<Mutex<ChunkPages>>);

impl PageStore for ChunkStore {
    fn put(&mut self, value: Bytes) -> Result<PageKey> {
        lock(&self.0).put(value)?;
        Ok(PageKey::new(0))
    }

    fn take(&mut self, _: PageKey) -> Result<Bytes> {
        Err(malformed("the pages of a chunk are taken together"))
    }

    fn memory_size(&self) -> usize {
        lock(&self.0).kept
    }
}

/// The pages of a chunk that is being written.
#[derive(Debug)]
pub(super) struct SharedChunk(Arc<Mutex<ChunkPages>>);

impl SharedChunk {
    /// How many bytes fewer are kept than came.
    pub(super) fn saved_bytes(&self) -> usize {
        let pages = lock(&self.0);
        pages.came.saturating_sub(pages.kept)
    }

    /// The bytes of the chunk and what the footer says of them, when its writer has closed it.
    pub(super) fn finish(self, close: &ColumnCloseResult) -> Result<Chunk> {
        let mut pages = std::mem::take(&mut *lock(&self.0));
        let mut bytes = Vec::with_capacity(pages.kept);
        let mut plain = 0;
        let mut locations = Vec::with_capacity(pages.data.len());
        for page in pages.pages_mut() {
            locations.push((bytes.len() as i64, page.len()));
            bytes.extend_from_slice(&page.header);
            bytes.extend_from_slice(&page.body);
            plain += page.header.len() + page.plain;
        }
        let dictionary = pages.dictionary.map(|page| page.len());
        let mut builder = close.metadata.clone().into_builder();
        if pages.zstd.is_some() {
            let codec = match pages.is_compressed {
                // The level is not stored.
                true => Compression::ZSTD(Default::default()),
                false => Compression::UNCOMPRESSED,
            };
            builder = builder
                .set_compression(codec)
                .set_total_uncompressed_size(plain as i64);
        }
        let metadata = builder
            .set_total_compressed_size(bytes.len() as i64)
            .set_dictionary_page_offset(dictionary.map(|_| 0))
            .set_data_page_offset(dictionary.unwrap_or(0) as i64)
            .build()?;
        let mut close = ColumnCloseResult {
            metadata,
            bytes_written: bytes.len() as u64,
            ..close.clone()
        };
        if let Some(index) = &mut close.offset_index {
            let data = locations.iter().skip(usize::from(dictionary.is_some()));
            if index.page_locations.len() != pages.data.len() {
                return Err(malformed("the offset index has another number of pages"));
            }
            for (location, (offset, size)) in index.page_locations.iter_mut().zip(data) {
                location.offset = *offset;
                location.compressed_page_size = i32::try_from(*size)?;
            }
        }
        Ok(Chunk {
            bytes: bytes.into(),
            close,
        })
    }
}

/// A column chunk that can be appended to a row group.
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) close: ColumnCloseResult,
}

impl Chunk {
    /// A chunk of nulls only. `has_index` says whether it gets a column index.
    pub(super) fn of_nulls(column: &ColumnDescPtr, rows: usize, has_index: bool) -> Result<Self> {
        let count = i32::try_from(rows)?;
        let mut run = Vec::with_capacity(8);
        put_varint(&mut run, rows as u64 * 2);
        run.push(0);
        let mut body = Vec::with_capacity(32);
        for levels in [column.max_rep_level(), column.max_def_level()] {
            if levels > 0 {
                body.extend_from_slice(&(run.len() as u32).to_le_bytes());
                body.extend_from_slice(&run);
            }
        }
        let mut bytes = Vec::with_capacity(64);
        put_integer(&mut bytes, DATA_PAGE);
        put_integer(&mut bytes, body.len() as i32);
        put_integer(&mut bytes, body.len() as i32);
        bytes.push(DATA_PAGE_HEADER_FIELD);
        for value in [count, Encoding::PLAIN as i32, RLE, RLE] {
            put_integer(&mut bytes, value);
        }
        bytes.extend_from_slice(&[STOP, STOP]);
        bytes.extend_from_slice(&body);
        let nulls = Some(rows as u64);
        let kind = column.physical_type();
        let statistics = match kind {
            Type::BOOLEAN => Statistics::boolean(None, None, None, nulls, false),
            Type::INT32 => Statistics::int32(None, None, None, nulls, false),
            Type::INT64 => Statistics::int64(None, None, None, nulls, false),
            Type::INT96 => Statistics::int96(None, None, None, nulls, false),
            Type::FLOAT => Statistics::float(None, None, None, nulls, false),
            Type::DOUBLE => Statistics::double(None, None, None, nulls, false),
            Type::BYTE_ARRAY => Statistics::byte_array(None, None, None, nulls, false),
            Type::FIXED_LEN_BYTE_ARRAY => {
                Statistics::fixed_len_byte_array(None, None, None, nulls, false)
            }
        };
        let metadata = ColumnChunkMetaData::builder(Arc::clone(column))
            .set_compression(Compression::UNCOMPRESSED)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_num_values(i64::from(count))
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(bytes.len() as i64)
            .set_data_page_offset(0)
            .set_statistics(statistics)
            .build()?;
        let mut offsets = OffsetIndexBuilder::new();
        offsets.append_row_count(i64::from(count));
        offsets.append_offset_and_size(0, i32::try_from(bytes.len())?);
        let column_index = has_index.then(|| {
            let mut index = ColumnIndexBuilder::new(kind);
            let not_numbers = matches!(kind, Type::FLOAT | Type::DOUBLE).then_some(0);
            index.append(true, vec![], vec![], i64::from(count), not_numbers);
            index.build()
        });
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: column_index.transpose()?,
            offset_index: Some(offsets.build()),
        };
        let bytes = bytes.into();
        Ok(Chunk { bytes, close })
    }
}

fn malformed(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

// The headers of pages: structs of Thrift's compact protocol, which begin with the kind of the page, its bytes before
// compression and its bytes in the file.

/// A field with the next number, of an integer.
const INTEGER_FIELD: u8 = 0x15;
/// The field of the header of a data page, two numbers after that of the bytes in the file.
const DATA_PAGE_HEADER_FIELD: u8 = 0x2c;
/// The end of a struct.
const STOP: u8 = 0;
const DATA_PAGE: i32 = 0;
const DICTIONARY_PAGE: i32 = 2;
/// The number of the encoding of levels.
const RLE: i32 = 3;

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the next field, an integer.
fn put_integer(out: &mut Vec<u8>, value: i32) {
    out.push(INTEGER_FIELD);
    put_varint(
        out,
        u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()),
    );
}

/// The beginning of the header of a page.
struct HeaderStart {
    kind: i32,
    /// Where the field of the bytes in the file begins and ends.
    compressed: std::ops::Range<usize>,
}

impl HeaderStart {
    fn read(header: &[u8]) -> Result<Self> {
        let mut at = 0;
        let mut integer = || {
            let mut value = 0;
            if header.get(at) != Some(&INTEGER_FIELD) {
                return None;
            }
            for shift in (0..35).step_by(7) {
                at += 1;
                let byte = *header.get(at)?;
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    at += 1;
                    let value = value as u32;
                    return Some(((value >> 1) as i32 ^ -((value & 1) as i32), at));
                }
            }
            None
        };
        let mut read = || {
            let (kind, _) = integer()?;
            let (_, start) = integer()?;
            let (_, end) = integer()?;
            Some(HeaderStart {
                kind,
                compressed: start..end,
            })
        };
        read().ok_or_else(|| malformed("the header of a page has another form"))
    }
}

/// The header of a page that has become `bytes` long in the file.
fn with_compressed_bytes(header: &[u8], bytes: usize) -> Result<Vec<u8>> {
    let HeaderStart { compressed, .. } = HeaderStart::read(header)?;
    let mut out = Vec::with_capacity(header.len());
    out.extend_from_slice(&header[..compressed.start]);
    put_integer(&mut out, i32::try_from(bytes)?);
    out.extend_from_slice(&header[compressed.end..]);
    Ok(out)
}
