//! The state of the head as bytes, and back.
//!
//! Format: `docs/formats/head_snapshot.md`. It is taken piece by piece while appends go on: label tables only grow, and a series that was appended
//! to after the place in the log to which the snapshot is bound has just a longer chunk, which the replay from that place finds to be so. Full
//! chunks are named, not copied. What is rare (late samples) is not in it: its own log has it.

use chunkenc::Encoding;
use model::{Labels, Metadata, Sample, TimeRange, Timestamp};

use super::append::OpenChunk;
use super::chunk_lists::ChunkList;
use super::open_histogram::{OpenHistogram, OpenHistogramState};
use super::series_labels::SeriesLabels;
use super::{Head, lean::LeanPush};
use crate::bytes::{Bytes, DecodeError, put_str, put_uvarint};

/// Series that are taken at a time; the head is locked for reading meanwhile.
pub(crate) const SERIES_PER_SLICE: u32 = 2048;

/// How much of the head a snapshot covers: what was there when it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) series: u32,
    pub(crate) symbols: u32,
    pub(crate) pairs: u32,
    pub(crate) next_ref: u64,
    pub(crate) min_valid: Timestamp,
}

/// Kinds of open chunks.
const NO_CHUNK: u8 = 0;
const FLOATS: u8 = 1;
const HISTOGRAMS: u8 = 2;

fn put_u32(into: &mut Vec<u8>, value: u32) {
    into.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(into: &mut Vec<u8>, value: u64) {
    into.extend_from_slice(&value.to_be_bytes());
}

fn put_i64(into: &mut Vec<u8>, value: i64) {
    put_u64(into, value.cast_unsigned());
}

impl Head {
    /// What there is now.
    pub(crate) fn extent(&self) -> Extent {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Extent {
            series: count(self.len()),
            symbols: count(self.labels.symbols.len()),
            pairs: count(self.labels.pairs.len()),
            next_ref: self.next_ref,
            min_valid: self.min_valid,
        }
    }

    /// Appends symbols from number `from` on, about `bytes_max` of them, up to the extent; the next number.
    pub(crate) fn put_symbols(
        &self,
        extent: Extent,
        from: u32,
        bytes_max: usize,
        into: &mut Vec<u8>,
    ) -> u32 {
        let mut symbol = from;
        while symbol < extent.symbols && into.len() < bytes_max {
            put_str(into, self.labels.symbols.get(symbol));
            symbol += 1;
        }
        symbol
    }

    /// As [`put_symbols`](Self::put_symbols), for pairs.
    pub(crate) fn put_pairs(
        &self,
        extent: Extent,
        from: u32,
        bytes_max: usize,
        into: &mut Vec<u8>,
    ) -> u32 {
        let mut id = from;
        while id < extent.pairs && into.len() < bytes_max {
            let pair = self.labels.pairs.get(id);
            put_u32(into, pair.name);
            put_u32(into, pair.value);
            id += 1;
        }
        id
    }

    /// Appends the series in the slots from `from` on, a slice of them; the next slot.
    pub(crate) fn put_series(&self, extent: Extent, from: u32, into: &mut Vec<u8>) -> u32 {
        let end = from.saturating_add(SERIES_PER_SLICE).min(extent.series);
        for slot in from..end {
            let at = slot as usize;
            put_u64(into, self.refs[at]);
            let ids = self.labels.pair_ids(slot);
            put_uvarint(into, ids.len() as u64);
            for &id in ids {
                put_u32(into, id);
            }
            put_i64(into, self.last[at].t);
            put_u64(into, self.last[at].v.to_bits());
            let closed = self.closed_chunks(at);
            put_uvarint(into, closed.len() as u64);
            for &chunk in closed {
                put_u64(into, chunk);
            }
            self.put_open(at, into);
        }
        end
    }

    fn put_open(&self, at: usize, into: &mut Vec<u8>) {
        let open = &self.open[at];
        if open.count() == 0 {
            return into.push(NO_CHUNK);
        }
        if open.is_histogram() {
            let Some(histogram) = self.histograms.get(&self.refs[at]) else {
                return into.push(NO_CHUNK);
            };
            into.push(HISTOGRAMS);
            let OpenHistogramState { min_time, max_time, range_end, next_at, has_even_end } =
                histogram.state();
            for time in [min_time, max_time, range_end, next_at] {
                put_i64(into, time);
            }
            into.push(u8::from(has_even_end));
            let (encoding, bytes) = histogram.chunk();
            into.push(encoding.number());
            put_uvarint(into, bytes.len() as u64);
            into.extend_from_slice(bytes);
            return;
        }
        into.push(FLOATS);
        open.encode(into);
        into.extend_from_slice(&self.buffers.get(open.buffer())[..open.payload_bytes()]);
    }

    /// Appends what is beside the series: deletions, exemplars, metadata.
    pub(crate) fn put_rest(&self, into: &mut Vec<u8>) {
        put_uvarint(into, self.deletions.iter().count() as u64);
        for (series, spans) in self.deletions.iter() {
            put_u64(into, series);
            put_uvarint(into, spans.len() as u64);
            for span in spans {
                put_i64(into, span.min);
                put_i64(into, span.max);
            }
        }
        put_uvarint(into, self.exemplars.iter().count() as u64);
        for (series, _, exemplars) in self.exemplars.iter() {
            let exemplars: Vec<_> = exemplars.collect();
            put_u64(into, series);
            put_uvarint(into, exemplars.len() as u64);
            for exemplar in exemplars {
                put_i64(into, exemplar.t);
                put_u64(into, exemplar.v.to_bits());
                put_uvarint(into, exemplar.labels.len() as u64);
                for label in exemplar.labels.iter() {
                    put_str(into, label.name);
                    put_str(into, label.value);
                }
            }
        }
        put_uvarint(into, self.metadata.len() as u64);
        for (series, Metadata { kind, unit, help }) in &self.metadata {
            put_u64(into, *series);
            for text in [kind, unit, help] {
                put_str(into, text);
            }
        }
    }

    /// Fills an empty head from what the functions above wrote, in their order. Chunks of files before `first_file` are gone: blocks have them.
    pub(crate) fn restore(
        &mut self,
        extent: Extent,
        bytes: &mut Bytes<'_>,
        first_file: u32,
    ) -> Result<(), DecodeError> {
        self.labels = SeriesLabels::restore_tables(extent.symbols, extent.pairs, bytes)?;
        let mut ids = Vec::new();
        for _ in 0..extent.series {
            self.restore_series(bytes, &mut ids, first_file)?;
        }
        self.labels.finish_restoring()?;
        self.next_ref = self.next_ref.max(extent.next_ref);
        self.restore_rest(bytes)?;
        for (last, open) in self.last.iter().zip(&self.open) {
            if open.count() > 0 {
                self.max_time = self.max_time.max(last.t);
            }
        }
        self.set_min_valid(extent.min_valid);
        Ok(())
    }

    fn restore_series(
        &mut self,
        bytes: &mut Bytes<'_>,
        ids: &mut Vec<u32>,
        first_file: u32,
    ) -> Result<(), DecodeError> {
        let series = bytes.be64()?;
        ids.clear();
        for _ in 0..bounded_len(bytes, 4)? {
            ids.push(bytes.be32()?);
        }
        let slot = self.labels.restore_series(ids)?;
        self.refs.lean_push(series);
        self.slots.insert(series, slot);
        let t = bytes.be64()?.cast_signed();
        self.last.lean_push(Sample { t, v: f64::from_bits(bytes.be64()?) });
        self.touched.lean_push(0);
        let mut list = ChunkList::EMPTY;
        for _ in 0..bounded_len(bytes, 8)? {
            let chunk = bytes.be64()?;
            if super::chunk_store::file_of(chunk) >= first_file {
                list = self.lists.push(list, chunk);
            }
        }
        self.closed.lean_push(list);
        let open = self.restore_open(series, bytes)?;
        self.chunk_count += u64::from(open.count() > 0) + list.len() as u64;
        self.open.lean_push(open);
        self.reserve_ref(series);
        Ok(())
    }

    fn restore_open(
        &mut self,
        series: u64,
        bytes: &mut Bytes<'_>,
    ) -> Result<OpenChunk, DecodeError> {
        match bytes.u8()? {
            NO_CHUNK => Ok(OpenChunk::NONE),
            FLOATS => {
                let (mut open, len) = OpenChunk::decode(bytes)?;
                let payload = bytes.take(len)?;
                let buffer = self.buffers.allocate_for(len).ok_or(DecodeError::Range)?;
                self.buffers.get_mut(buffer)[..len].copy_from_slice(payload);
                open.restore_buffer(buffer);
                Ok(open)
            }
            HISTOGRAMS => {
                let mut time = || Ok(bytes.be64()?.cast_signed());
                let (min_time, max_time, range_end, next_at) = (time()?, time()?, time()?, time()?);
                let has_even_end = bytes.u8()? != 0;
                let state =
                    OpenHistogramState { min_time, max_time, range_end, next_at, has_even_end };
                let encoding = Encoding::from_number(bytes.u8()?)
                    .map_err(|_| DecodeError::Invalid("chunk encoding is unknown"))?;
                let len = bytes.uvarint_len()?;
                let chunk = bytes.take(len)?;
                let open = OpenHistogram::restore(state, encoding, chunk)
                    .ok_or(DecodeError::Invalid("open chunk is malformed"))?;
                self.histograms.insert(series, Box::new(open));
                Ok(OpenChunk::of_histograms(min_time))
            }
            _ => Err(DecodeError::Invalid("kind of open chunk is unknown")),
        }
    }

    fn restore_rest(&mut self, bytes: &mut Bytes<'_>) -> Result<(), DecodeError> {
        for _ in 0..bytes.uvarint_len()? {
            let series = bytes.be64()?;
            for _ in 0..bytes.uvarint_len()? {
                let (min, max) = (bytes.be64()?.cast_signed(), bytes.be64()?.cast_signed());
                self.deletions.add(series, TimeRange::new(min, max));
            }
        }
        for _ in 0..bytes.uvarint_len()? {
            let series = bytes.be64()?;
            for _ in 0..bytes.uvarint_len()? {
                let (t, v) = (bytes.be64()?.cast_signed(), f64::from_bits(bytes.be64()?));
                let mut pairs = Vec::new();
                for _ in 0..bytes.uvarint_len()? {
                    pairs.push((bytes.str()?, bytes.str()?));
                }
                let labels = Labels::from_pairs(pairs)
                    .map_err(|_| DecodeError::Invalid("label name is not unique"))?;
                let exemplar = model::Exemplar { labels, t, v };
                if let Some(slot) = self.slot(series) {
                    let labels = &self.labels;
                    self.exemplars.add(series, || labels.labels(slot), exemplar);
                }
            }
        }
        for _ in 0..bytes.uvarint_len()? {
            let series = bytes.be64()?;
            let metadata = Metadata {
                kind: bytes.str()?.into(),
                unit: bytes.str()?.into(),
                help: bytes.str()?.into(),
            };
            self.metadata.insert(series, metadata);
        }
        Ok(())
    }
}

/// A count of items of `bytes_each`, which the bytes that are left must hold.
fn bounded_len(bytes: &mut Bytes<'_>, bytes_each: usize) -> Result<usize, DecodeError> {
    let count = bytes.uvarint_len()?;
    if count > bytes.len() / bytes_each {
        return Err(DecodeError::End);
    }
    Ok(count)
}
