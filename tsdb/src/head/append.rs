//! Appending to the open chunk of a series, and when to start another.

use model::{Sample, TimeRange, Timestamp};

use super::closed_chunks::Handle;
use super::open_buffers::{Buffer, OpenBuffers};
use super::{Head, Undo};
use chunkenc::{HEADER_BYTES, SAMPLE_BYTES_MAX, XorState, encode};

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

/// Where to end a chunk that is a quarter full, so that the rest of its range is divided evenly.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "Prometheus computes in doubles, and chunks shall be cut where it cuts them"
)]
fn even_end(start: Timestamp, last: Timestamp, end: Timestamp) -> Timestamp {
    let span = end.saturating_sub(start) as f64;
    let chunks = span / ((last.saturating_sub(start) as f64 + 1.0) * 4.0);
    if chunks <= 1.0 { end } else { (start as f64 + span / chunks.floor()) as Timestamp }
}

impl Head {
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
        } else if is_full(open, last.t, t) {
            self.close_chunk(at, last.t);
            self.start_chunk(at, t);
        }
        push(&mut self.open[at], &mut self.buffers, last, t, v);
        self.last[at] = Sample { t, v };
        self.min_time = self.min_time.min(t);
        self.max_time = self.max_time.max(t);
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
        let payload = &self.buffers.get(open.buffer())[..open.payload_bytes()];
        let end = range_end(open.min_time, self.chunk_range);
        let range = TimeRange::new(open.min_time, last_t);
        self.closed[at] = self.chunks.push(end, self.closed[at], range, [&header, payload]);
        self.buffers.free(open.buffer());
    }

    /// The newest full chunk of a series.
    pub(super) fn newest_closed(&self, at: usize) -> Handle {
        self.closed[at]
    }
}

/// Prometheus's rules, so that the same samples make the same chunks.
#[inline]
fn is_full(open: &mut OpenChunk, last_t: Timestamp, t: Timestamp) -> bool {
    if open.payload_bytes() + HEADER_BYTES > CHUNK_BYTES_MAX {
        return true;
    }
    if open.count == SAMPLES_PER_CHUNK / 4 {
        open.set_end(even_end(open.min_time, last_t, open.end()));
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
        let mut head = Head::new(RANGE);
        let slot = head.add_series(1, [("__name__", "m")].into_iter()).unwrap();
        for &t in times {
            head.append(slot, t, value(t), None);
        }
        head
    }

    /// Times of the first sample of each chunk.
    fn starts(head: &Head) -> Vec<i64> {
        let closed = head.chunks.chain(head.closed[0]).map(|chunk| chunk.range.min);
        let mut starts: Vec<i64> = closed.collect();
        starts.reverse();
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
        for chunk in head.chunks.chain(head.closed[0]) {
            assert!((1006..1025).contains(&chunk.bytes.len()), "{}", chunk.bytes.len());
        }
    }

    #[test]
    fn chunks_are_those_of_the_codec() {
        let times: Vec<i64> = (0..700).map(|i| 1_700_000_000_000 + i * 15_000 + i % 7).collect();
        let head = head_with(&times, |t| (t % 1000) as f64 / 8.0);
        let mut bytes: Vec<Vec<u8>> =
            head.chunks.chain(head.closed[0]).map(|chunk| chunk.bytes.to_vec()).collect();
        bytes.reverse();
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
