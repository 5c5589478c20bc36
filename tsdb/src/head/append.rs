//! Appending to the open chunk of a series, and when to start another.

use chunkenc::{Encoding, HEADER_BYTES, SAMPLE_BYTES_MAX, XorState, encode};
use model::{HistogramValue, Sample, TimeRange, Timestamp};

use super::chunk_lists::ChunkList;
use super::chunk_store::HeadChunk;
use super::open_buffers::{Buffer, OpenBuffers};
use super::open_histogram::OpenHistogram;
use super::{Head, Undo};
use crate::bytes::{Bytes, DecodeError};
use crate::recode::encode_samples;
use crate::wal::record::{self, Marker};

/// Samples that a chunk should have. Prometheus's default.
const SAMPLES_PER_CHUNK: u16 = 120;

/// A chunk with more bytes gets no further sample: 1 KiB less the largest sample.
const CHUNK_BYTES_MAX: usize = 1024 - 19;

/// The chunk that a series is appended to. Its bytes, without the sample count, are in a buffer.
///
/// The last byte is here as well: the next sample begins in it, and fetching it from the buffer would be a cache miss to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenChunk {
    min_time: Timestamp,
    delta: u64,
    buffer_index: u32,
    /// From `min_time` to the time at which the next chunk starts.
    end_offset: u32,
    len: u16,
    count: u16,
    leading: u8,
    trailing: u8,
    last_byte: u8,
    /// Class of the buffer in the upper, free bits of the last byte in the lower half.
    class_and_free_bits: u8,
}

impl OpenChunk {
    /// Of a series without samples.
    pub(crate) const NONE: Self = Self {
        min_time: 0,
        delta: 0,
        buffer_index: 0,
        end_offset: 0,
        len: 0,
        count: 0,
        leading: 0,
        trailing: 0,
        last_byte: 0,
        class_and_free_bits: 0,
    };

    /// Of a series whose open chunk holds histograms and is elsewhere.
    const HISTOGRAM: u8 = 0xf0;

    /// Stands for a chunk of histograms.
    pub(super) const fn of_histograms(min_time: Timestamp) -> Self {
        Self { min_time, count: 1, class_and_free_bits: Self::HISTOGRAM, ..Self::NONE }
    }

    /// Whether the chunk holds histograms, and only its first time is here.
    #[inline]
    pub(crate) const fn is_histogram(&self) -> bool {
        self.class_and_free_bits == Self::HISTOGRAM
    }

    /// Samples in the chunk; of one with histograms 1.
    #[inline]
    pub(crate) const fn count(&self) -> u16 {
        self.count
    }

    pub(crate) const fn min_time(&self) -> Timestamp {
        self.min_time
    }

    #[inline]
    pub(crate) const fn buffer(&self) -> Buffer {
        Buffer { class: self.class_and_free_bits >> 4, index: self.buffer_index }
    }

    pub(crate) const fn payload_bytes(&self) -> usize {
        self.len as usize
    }

    #[inline]
    const fn state(&self) -> XorState {
        XorState {
            delta: self.delta,
            count: self.count,
            leading: self.leading,
            trailing: self.trailing,
            free_bits: self.class_and_free_bits & 0x0f,
        }
    }

    #[inline]
    fn set_state(&mut self, buffer: Buffer, state: XorState) {
        self.buffer_index = buffer.index;
        self.class_and_free_bits = buffer.class << 4 | state.free_bits;
        (self.delta, self.count) = (state.delta, state.count);
        (self.leading, self.trailing) = (state.leading, state.trailing);
    }

    /// Appends everything but where its bytes are.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.min_time.to_be_bytes());
        into.extend_from_slice(&self.delta.to_be_bytes());
        into.extend_from_slice(&self.end_offset.to_be_bytes());
        into.extend_from_slice(&self.count.to_be_bytes());
        into.extend_from_slice(&self.len.to_be_bytes());
        into.extend_from_slice(&[self.leading, self.trailing, self.last_byte]);
        into.push(self.class_and_free_bits & 0x0f);
    }

    /// What [`encode`](Self::encode) wrote, and how many bytes the chunk has.
    pub(super) fn decode(bytes: &mut Bytes<'_>) -> Result<(Self, usize), DecodeError> {
        let min_time = bytes.be64()?.cast_signed();
        let (delta, end_offset) = (bytes.be64()?, bytes.be32()?);
        let (count, len) = (bytes.be16()?, bytes.be16()?);
        let (leading, trailing, last_byte) = (bytes.u8()?, bytes.u8()?, bytes.u8()?);
        let class_and_free_bits = bytes.u8()? & 0x0f;
        if count == 0 || class_and_free_bits > 7 || len == 0 {
            return Err(DecodeError::Invalid("open chunk is malformed"));
        }
        let buffer_index = 0;
        let open = Self {
            min_time,
            delta,
            buffer_index,
            end_offset,
            len,
            count,
            leading,
            trailing,
            last_byte,
            class_and_free_bits,
        };
        Ok((open, usize::from(len)))
    }

    /// Says where the bytes of a decoded chunk are.
    pub(super) fn restore_buffer(&mut self, buffer: Buffer) {
        self.set_state(buffer, self.state());
    }

    fn end(&self) -> Timestamp {
        self.min_time.saturating_add(i64::from(self.end_offset))
    }

    fn set_end(&mut self, end: Timestamp) {
        let offset = end.saturating_sub(self.min_time);
        self.end_offset = u32::try_from(offset).unwrap_or(if offset < 0 { 0 } else { u32::MAX });
    }
}

/// The end, exclusive, of the block range of `width` that contains `t`.
pub(crate) fn range_end(t: Timestamp, width: i64) -> Timestamp {
    t.div_euclid(width).saturating_mul(width).saturating_add(width)
}

/// Where to end a chunk that is a part full, so that the rest of its range is divided evenly; `ratio` times as much makes it full.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "Prometheus computes in doubles, and chunks shall be cut where it cuts them"
)]
pub(super) fn even_end(start: Timestamp, last: Timestamp, end: Timestamp, ratio: f64) -> Timestamp {
    let span = end.saturating_sub(start) as f64;
    let chunks = span / ((last.saturating_sub(start) as f64 + 1.0) * ratio);
    if chunks <= 1.0 { end } else { (start as f64 + span / chunks.floor()) as Timestamp }
}

impl Head {
    /// Fetches what appending to a series will need from memory. Calls for several series wait for it together, where appending to them one after
    /// another would wait each time; the sum must be used, lest the compiler leave it out.
    #[inline]
    pub(crate) fn touch(&self, slot: u32) -> u64 {
        let open = &self.open[slot as usize];
        if open.count == 0 || open.is_histogram() {
            return 0;
        }
        let byte = self.buffers.get(open.buffer()).get(open.payload_bytes()).copied();
        u64::from(byte.unwrap_or(0)) ^ self.last[slot as usize].t.cast_unsigned()
    }

    /// Appends a sample that is newer than the last one of its series. `epoch` is the newest open view, if any is open.
    #[inline]
    pub(crate) fn append(&mut self, slot: u32, t: Timestamp, v: f64, epoch: Option<u32>) {
        let at = slot as usize;
        let last = self.last[at];
        if let Some(epoch) = epoch {
            self.remember(at, epoch, last.t);
        }
        let open = &mut self.open[at];
        if open.count == 0 {
            self.start_chunk(at, t);
        } else if open.is_histogram() {
            self.close_histogram(at, last.t);
            self.start_chunk(at, t);
        } else if is_full(open, last.t, t) {
            self.close_chunk(at, last.t);
            self.start_chunk(at, t);
        }
        push(&mut self.open[at], &mut self.buffers, last, t, v);
        self.note(at, Sample { t, v });
    }

    /// Appends a histogram that is newer than the last sample of its series.
    pub(crate) fn append_histogram(
        &mut self,
        slot: u32,
        t: Timestamp,
        histogram: &HistogramValue,
        epoch: Option<u32>,
    ) {
        let at = slot as usize;
        let last = self.last[at];
        if let Some(epoch) = epoch {
            self.remember(at, epoch, last.t);
        }
        let range_end = range_end(t, self.chunk_range);
        let open = self.open[at];
        if open.count > 0 && !open.is_histogram() {
            self.close_chunk(at, last.t);
        }
        if !open.is_histogram() {
            let started = Box::new(OpenHistogram::start(t, range_end, histogram));
            self.histograms.insert(self.refs[at], started);
            self.open[at] = OpenChunk::of_histograms(t);
            self.chunk_count += 1;
        } else if let Some(open) = self.histograms.get_mut(&self.refs[at])
            && let Some(closed) = open.append(t, range_end, histogram)
        {
            self.keep_histogram(at, last.t, &closed);
            self.open[at] = OpenChunk::of_histograms(t);
            self.chunk_count += 1;
        }
        self.note(at, Sample { t, v: histogram.sum() });
    }

    fn note(&mut self, at: usize, sample: Sample) {
        self.last[at] = sample;
        self.min_time = self.min_time.min(sample.t);
        self.max_time = self.max_time.max(sample.t);
    }

    /// Ends the open chunk of histograms.
    fn close_histogram(&mut self, at: usize, last_t: Timestamp) {
        if let Some(open) = self.histograms.remove(&self.refs[at]) {
            self.keep_histogram(at, last_t, &open.into_chunk());
        }
    }

    fn keep_histogram(
        &mut self,
        at: usize,
        last_t: Timestamp,
        (encoding, bytes): &(Encoding, Vec<u8>),
    ) {
        let min_time = self.open[at].min_time;
        let chunk = HeadChunk {
            series: self.refs[at],
            range: TimeRange::new(min_time, last_t),
            encoding: encoding.number(),
            is_out_of_order: false,
            bytes,
        };
        let reference = self.chunks.push(range_end(min_time, self.chunk_range), &chunk, &[]);
        self.closed[at] = self.lists.push(self.closed[at], reference);
    }

    fn remember(&mut self, at: usize, epoch: u32, last_t: Timestamp) {
        if self.touched[at] != epoch {
            self.touched[at] = epoch;
            self.undo.push_back(Undo { epoch, series: self.refs[at], last_t });
        }
    }

    fn start_chunk(&mut self, at: usize, t: Timestamp) {
        self.chunk_count += 1;
        let mut open = OpenChunk { min_time: t, ..OpenChunk::NONE };
        open.set_state(self.buffers.allocate(), XorState::EMPTY);
        open.set_end(range_end(t, self.chunk_range));
        self.open[at] = open;
    }

    fn close_chunk(&mut self, at: usize, last_t: Timestamp) {
        let open = &self.open[at];
        let header = open.count.to_be_bytes();
        let chunk = HeadChunk {
            series: self.refs[at],
            range: TimeRange::new(open.min_time, last_t),
            encoding: Encoding::Xor.number(),
            is_out_of_order: false,
            bytes: &self.buffers.get(open.buffer())[..open.payload_bytes()],
        };
        let end = range_end(open.min_time, self.chunk_range);
        let reference = self.chunks.push(end, &chunk, &header);
        self.closed[at] = self.lists.push(self.closed[at], reference);
        self.buffers.free(open.buffer());
    }

    /// Makes chunks of the late samples of series that have enough; the record that says so.
    pub(crate) fn write_late_chunks(&mut self) -> Vec<u8> {
        let mut markers = Vec::new();
        let width = self.chunk_range;
        let Self { late, chunks, .. } = self;
        for (series, late) in late.full() {
            let samples = std::mem::take(&mut late.samples);
            // No chunk crosses the end of a block range.
            for part in samples.chunk_by(|a, b| range_end(a.t, width) == range_end(b.t, width)) {
                let values = part.iter().map(|sample| (sample.t, &sample.value));
                encode_samples(values, |range, encoding, bytes| {
                    let encoding = encoding.number();
                    let chunk = HeadChunk { series, range, encoding, is_out_of_order: true, bytes };
                    let reference = chunks.push(range_end(range.max, width), &chunk, &[]);
                    late.chunks.push((reference, range));
                    record::put_marker(&mut markers, Marker { series, chunk: reference });
                });
            }
        }
        markers
    }

    /// The full chunks of a series, oldest first.
    pub(super) fn closed_chunks(&self, at: usize) -> &[u64] {
        self.lists.get(self.closed[at])
    }

    /// Drops what a series has beside its labels.
    pub(super) fn forget_chunks(&mut self, at: usize) {
        let open = &self.open[at];
        if open.is_histogram() {
            self.histograms.remove(&self.refs[at]);
        } else if open.count > 0 {
            self.buffers.free(open.buffer());
        }
        let closed: ChunkList = self.closed[at];
        self.lists.free(closed);
    }
}

/// Prometheus's rules, so that the same samples make the same chunks.
#[inline]
fn is_full(open: &mut OpenChunk, last_t: Timestamp, t: Timestamp) -> bool {
    if open.payload_bytes() + HEADER_BYTES > CHUNK_BYTES_MAX {
        return true;
    }
    if open.count == SAMPLES_PER_CHUNK / 4 {
        open.set_end(even_end(open.min_time, last_t, open.end(), 4.0));
    }
    t >= open.end() || open.count >= SAMPLES_PER_CHUNK * 2
}

/// Writes a sample into the buffer. Nothing is read from there, and nothing narrow is written and then read wide: a sample would wait
/// for the memory behind it.
#[inline]
fn push(open: &mut OpenChunk, buffers: &mut OpenBuffers, last: Sample, t: Timestamp, v: f64) {
    let (mut state, mut buffer) = (open.state(), open.buffer());
    let start = usize::from(open.len) - usize::from(state.free_bits > 0);
    let room = &mut buffers.get_mut(buffer)[start..];
    let (len, last_byte) = if room.len() >= SAMPLE_BYTES_MAX {
        encode(&mut state, last, open.last_byte, t, v, room)
    } else {
        let mut bytes = [0; SAMPLE_BYTES_MAX];
        let encoded = encode(&mut state, last, open.last_byte, t, v, &mut bytes);
        let end = start + encoded.0;
        if end > OpenBuffers::len(buffer) {
            buffer = buffers.grow(buffer, end);
        }
        buffers.get_mut(buffer)[start..end].copy_from_slice(&bytes[..encoded.0]);
        encoded
    };
    open.len = u16::try_from(start + len).expect("chunks are about a kilobyte");
    open.last_byte = last_byte;
    open.set_state(buffer, state);
}

#[cfg(test)]
mod tests {
    use super::*;
    use chunkenc::XorChunk;

    const RANGE: i64 = 7_200_000;

    fn head_with(times: &[i64], value: impl Fn(i64) -> f64) -> Head {
        let mut head = crate::testing::head(RANGE);
        let slot = head.add_series(1, [("__name__", "m")].into_iter()).unwrap();
        for &t in times {
            head.append(slot, t, value(t), None);
        }
        head
    }

    /// Time of the first sample and bytes of each full chunk.
    fn closed(head: &Head) -> Vec<(i64, Vec<u8>)> {
        let table = head.chunks.table();
        let read = |&reference| {
            let mut buffer = vec![];
            let chunk = table.read(reference, &mut buffer).unwrap().unwrap();
            (chunk.range.min, chunk.bytes.to_vec())
        };
        head.closed_chunks(0).iter().map(read).collect()
    }

    /// Times of the first sample of each chunk.
    fn starts(head: &Head) -> Vec<i64> {
        let mut starts: Vec<i64> = closed(head).into_iter().map(|(start, _)| start).collect();
        starts.push(head.open[0].min_time);
        starts
    }

    #[test]
    fn a_range_is_divided_evenly() {
        // 480 samples every 15 s fill two hours. After 30 samples, 435 s in, four times (435 s + 1 ms) goes 4.1 times into
        // the range: four chunks of 30 minutes.
        let times: Vec<i64> = (0..481).map(|i| i * 15_000).collect();
        let head = head_with(&times, |_| 1.0);
        assert_eq!(starts(&head), [0, 1_800_000, 3_600_000, 5_400_000, 7_200_000]);
        assert_eq!(head.chunk_count(), 5);
    }

    #[test]
    fn chunks_do_not_cross_ranges() {
        let head = head_with(&[RANGE - 2, RANGE - 1, RANGE, RANGE + 1], |_| 0.0);
        assert_eq!(starts(&head), [RANGE - 2, RANGE]);
        let head = head_with(&[-2, -1, 0], |_| 0.0);
        assert_eq!(starts(&head), [-2, 0]);
    }

    #[test]
    fn a_faster_rate_cuts_at_240_samples() {
        // The first 30 samples promise one chunk for the range; then they come every millisecond. The chunks after the first know the
        // rate, and have 120.
        let mut times: Vec<i64> = (0..30).map(|i| i * 200_000).collect();
        times.extend((0..500).map(|i| 29 * 200_000 + 1 + i));
        let head = head_with(&times, |_| 0.0);
        assert_eq!(starts(&head), [0, times[240], times[360], times[480]]);
    }

    #[test]
    fn large_chunks_are_cut_by_bytes() {
        let noise = |t: i64| f64::from_bits((t as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let times: Vec<i64> = (0..400).map(|i| i * 1_000 + i * i % 700).collect();
        let head = head_with(&times, noise);
        for (_, bytes) in closed(&head) {
            assert!((1006..1025).contains(&bytes.len()), "{}", bytes.len());
        }
    }

    #[test]
    fn chunks_are_those_of_the_codec() {
        let times: Vec<i64> = (0..700).map(|i| 1_700_000_000_000 + i * 15_000 + i % 7).collect();
        let head = head_with(&times, |t| (t % 1000) as f64 / 8.0);
        let bytes: Vec<Vec<u8>> = closed(&head).into_iter().map(|(_, bytes)| bytes).collect();
        let starts = starts(&head);
        for (bytes, bounds) in bytes.iter().zip(starts.windows(2)) {
            let mut chunk = XorChunk::new();
            for &t in times.iter().filter(|&&t| bounds[0] <= t && t < bounds[1]) {
                chunk.push(t, (t % 1000) as f64 / 8.0);
            }
            assert_eq!(bytes, chunk.as_bytes());
        }
    }
}
