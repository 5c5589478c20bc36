//! XOR chunks decoded in one go, 64 bits at a time.
//!
//! [`XorDecoder`](crate::XorDecoder) is the reference, against which property tests hold this one; it reads field by field and takes
//! 2.0 to 2.7 times as long (`cargo bench -p chunkenc`), which queries of floats would feel. Chunks that are not mostly repeats go through
//! [`xor_lanes`](crate::xor_lanes), which is quicker still.

use std::ops::Range;

use model::{Columns, Sample, TimeRange, Timestamp};

use crate::bits::sign_extend;
use crate::varint::unzigzag;
use crate::xor::{HEADER_BYTES, NO_WINDOW, XorError, XorState};
use crate::xor_lanes::{Lane, Rows, decode_one, decode_two};

/// Samples that are collected before they are appended to the columns.
const BATCH: usize = 32;

/// Bytes that 64 bits may touch, wherever they begin.
const WORD_BYTES: usize = 9;

/// Appends the samples of a chunk of encoding 1 within `range` to `into`, and stops at the first beyond it.
///
/// # Errors
/// [`XorError`]; samples before the damage have been appended.
pub fn decode_xor(chunk: &[u8], range: TimeRange, into: &mut Columns) -> Result<(), XorError> {
    let (announced, payload) = header(chunk)?;
    let Some(dense) = dense_lane((announced, payload)) else {
        return decode_with_care(Decoder::new(payload), 0..announced, range, into);
    };
    let is_sound = append_if_sound(announced.into(), into, |times, floats| {
        let sound = decode_one(dense.lane, dense.rows((times, floats)));
        (sound, keep_within(range, (times, floats)))
    });
    if is_sound {
        return Ok(());
    }
    decode_with_care(Decoder::new(payload), 0..announced, range, into)
}

/// As [`decode_xor`] of one chunk and then of another, and sooner.
///
/// # Errors
/// [`XorError`] and which of the two has it; samples before the damage have been appended.
pub fn decode_two_xor(
    chunks: [&[u8]; 2],
    range: TimeRange,
    into: &mut Columns,
) -> Result<(), (usize, XorError)> {
    let lanes = chunks.map(|chunk| header(chunk).ok().and_then(dense_lane));
    if let [Some(a), Some(b)] = &lanes {
        let of_a = a.samples;
        let is_sound = append_if_sound(of_a + b.samples, into, |times, floats| {
            let (a_times, b_times) = times.split_at_mut(of_a);
            let (a_floats, b_floats) = floats.split_at_mut(of_a);
            let of_both = (a.rows((a_times, a_floats)), b.rows((b_times, b_floats)));
            let sound = decode_two((a.lane, of_both.0), (b.lane, of_both.1));
            let kept = keep_within(range, (a_times, a_floats));
            let more = keep_within(range, (b_times, b_floats));
            if kept < of_a {
                times.copy_within(of_a..of_a + more, kept);
                floats.copy_within(of_a..of_a + more, kept);
            }
            (sound, kept + more)
        });
        if is_sound {
            return Ok(());
        }
    }
    for (which, chunk) in chunks.into_iter().enumerate() {
        decode_xor(chunk, range, into).map_err(|error| (which, error))?;
    }
    Ok(())
}

/// Appends what `decode` writes to the front of `rows` rows, if it says that it is sound, and how many rows that are; otherwise nothing.
pub(crate) fn append_if_sound(
    rows: usize,
    into: &mut Columns,
    decode: impl FnOnce(&mut [Timestamp], &mut [f64]) -> (bool, usize),
) -> bool {
    let before = into.len();
    let mut is_sound = false;
    into.extend_with(rows, |times, floats| {
        let (sound, written) = decode(times, floats);
        is_sound = sound;
        written
    });
    if !is_sound {
        into.truncate(before);
    }
    is_sound
}

/// Number of samples and payload of a chunk.
pub(crate) fn header(chunk: &[u8]) -> Result<(u16, &[u8]), XorError> {
    let (header, payload) = chunk
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(XorError::Truncated { decoded: 0, announced: 0 })?;
    Ok((u16::from_be_bytes(*header), payload))
}

/// A chunk that is decoded in a lane, and its first two samples.
pub(crate) struct Dense<'a> {
    samples: usize,
    first: [Sample; 2],
    pub(crate) lane: Lane<'a>,
}

impl Dense<'_> {
    /// Writes down the first two samples; the rows of the others.
    pub(crate) fn rows<'r>(&self, (times, floats): Rows<'r>) -> Rows<'r> {
        let (two_times, times) = times.split_at_mut(2);
        let (two_floats, floats) = floats.split_at_mut(2);
        for (row, sample) in self.first.iter().enumerate() {
            (two_times[row], two_floats[row]) = (sample.t, sample.v);
        }
        (times, floats)
    }
}

/// A lane for a chunk whose samples take a byte or more each. The others are mostly repeats, of which the careful way takes many at once.
pub(crate) fn dense_lane((announced, payload): (u16, &[u8])) -> Option<Dense<'_>> {
    let samples = usize::from(announced);
    if samples < 3 || payload.len() < samples {
        return None;
    }
    let mut decoder = Decoder::new(payload);
    let mut first = [Sample { t: 0, v: 0.0 }; 2];
    for (decoded, sample) in (0..).zip(&mut first) {
        decoder.sample(decoded, announced).ok()?;
        *sample = Sample { t: decoder.t, v: f64::from_bits(decoder.value) };
    }
    let Decoder { bytes, at, t, value, delta, leading, trailing, .. } = decoder;
    let lane = Lane {
        bytes,
        at,
        first: first[0].t,
        t,
        value,
        delta,
        significant: 63 - leading - trailing,
        trailing,
        trailings: 0,
        deltas: delta,
    };
    Some(Dense { samples, first, lane })
}

/// Moves the rows within `range` to the front; their number. Times ascend.
pub(crate) fn keep_within(range: TimeRange, (times, floats): Rows<'_>) -> usize {
    let is_whole = times.first().is_none_or(|first| *first >= range.min)
        && times.last().is_none_or(|last| *last <= range.max);
    if is_whole {
        return times.len();
    }
    let start = times.partition_point(|t| *t < range.min);
    let end = times.partition_point(|t| *t <= range.max).max(start);
    times.copy_within(start..end, 0);
    floats.copy_within(start..end, 0);
    end - start
}

/// Decodes the samples with these numbers one by one, repeats in one go, and says where damage is.
pub(crate) fn decode_with_care(
    mut decoder: Decoder<'_>,
    Range { start, end: announced }: Range<u16>,
    range: TimeRange,
    into: &mut Columns,
) -> Result<(), XorError> {
    let mut batch = Batch { times: [0; BATCH], floats: [0.0; BATCH], len: 0, range, into };
    for decoded in start..announced.min(2) {
        decoder.sample(decoded, announced)?;
        if !batch.push(&decoder) {
            return Ok(());
        }
    }
    // A copy of which nothing outside the loop knows stays in registers.
    let mut decoder = Decoder { ..decoder };
    let mut decoded = start.max(2);
    while decoded < announced {
        let word = decoder.word();
        let repeats = decoder.repeats(word).min(announced - decoded);
        if repeats == 0 {
            decoder.later_sample(word, decoded, announced)?;
            if !batch.push(&decoder) {
                return Ok(());
            }
            decoded += 1;
        }
        for _ in 0..repeats {
            decoder.at += 2;
            decoder.step(0);
            if !batch.push(&decoder) {
                return Ok(());
            }
        }
        decoded += repeats;
    }
    Ok(())
}

/// What must be known to encode the next sample of a chunk that was written before, and its last sample.
///
/// # Errors
/// [`XorError`]; also if there is more than a part of a byte after the samples, or no sample.
pub(crate) fn resume(chunk: &[u8]) -> Result<(XorState, Sample), XorError> {
    let (count, payload) = header(chunk)?;
    let mut decoder = Decoder::new(payload);
    for decoded in 0..count {
        decoder.sample(decoded, count)?;
    }
    let free_bits = u8::try_from(payload.len() * 8 - decoder.at).unwrap_or(u8::MAX);
    if free_bits >= 8 || count == 0 {
        return Err(XorError::Malformed(count));
    }
    let Decoder { t, value, delta, leading, trailing, windowed, .. } = decoder;
    let byte = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
    let (leading, trailing) =
        if windowed { (byte(leading), byte(trailing)) } else { (NO_WINDOW, 0) };
    Ok((
        XorState { delta, count, leading, trailing, free_bits },
        Sample { t, v: f64::from_bits(value) },
    ))
}

/// Samples on their way into columns, which get them when there are enough and at the end.
struct Batch<'c> {
    times: [Timestamp; BATCH],
    floats: [f64; BATCH],
    len: usize,
    range: TimeRange,
    into: &'c mut Columns,
}

impl Batch<'_> {
    /// Takes the last sample if it is within the range; `false` if it is beyond.
    #[inline]
    fn push(&mut self, &Decoder { t, value, .. }: &Decoder<'_>) -> bool {
        if t >= self.range.min && t <= self.range.max {
            if self.len == BATCH {
                self.flush();
            }
            (self.times[self.len], self.floats[self.len]) = (t, f64::from_bits(value));
            self.len += 1;
        }
        t <= self.range.max
    }

    fn flush(&mut self) {
        self.into.extend_from_slices(&self.times[..self.len], &self.floats[..self.len]);
        self.len = 0;
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The bits say something impossible.
struct Impossible;

/// The last sample and what the next is encoded against.
///
/// Zeros are read beyond the end, and the position says afterwards that it was: one check for a sample instead of one for each field.
pub(crate) struct Decoder<'a> {
    pub(crate) bytes: &'a [u8],
    /// Position in bits.
    pub(crate) at: usize,
    pub(crate) t: Timestamp,
    pub(crate) value: u64,
    pub(crate) delta: u64,
    pub(crate) leading: u32,
    pub(crate) trailing: u32,
    /// There was an XOR, so that the two above mean something.
    pub(crate) windowed: bool,
}

impl<'a> Decoder<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, t: 0, value: 0, delta: 0, leading: 0, trailing: 0, windowed: false }
    }

    /// The next 64 bits.
    #[inline]
    fn word(&self) -> u64 {
        let (byte, bit) = (self.at / 8, self.at % 8);
        let rest = self.bytes.get(byte..).unwrap_or_default();
        let &[first @ .., last] = match rest.first_chunk::<WORD_BYTES>() {
            Some(bytes) => bytes,
            None => &padded(rest),
        };
        u64::from_be_bytes(first) << bit | u64::from(last) >> (8 - bit)
    }

    /// How many samples come next that are as long after the one before and of the same value: two zeros each.
    #[inline]
    fn repeats(&self, word: u64) -> u16 {
        if word >> 62 != 0 {
            return 0;
        }
        let left = (self.bytes.len() * 8).saturating_sub(self.at);
        let zeros = (word.leading_zeros() as usize).min(left);
        u16::try_from(zeros / 2).unwrap_or(0)
    }

    /// Reads sample number `decoded`.
    fn sample(&mut self, decoded: u16, announced: u16) -> Result<(), XorError> {
        let read = match decoded {
            0 => self.first(),
            1 => self.second(),
            _ => return self.later_sample(self.word(), decoded, announced),
        };
        self.checked(&read, decoded, announced)
    }

    /// Reads sample number `decoded`, 2 or more, which begins `word`.
    #[inline(always)]
    fn later_sample(&mut self, word: u64, decoded: u16, announced: u16) -> Result<(), XorError> {
        let read = self.next(word);
        self.checked(&read, decoded, announced)
    }

    #[inline]
    const fn checked(
        &self,
        read: &Result<(), Impossible>,
        decoded: u16,
        announced: u16,
    ) -> Result<(), XorError> {
        if self.at > self.bytes.len() * 8 {
            return Err(XorError::Truncated { decoded, announced });
        }
        match read {
            Ok(()) => Ok(()),
            Err(Impossible) => Err(XorError::Malformed(decoded)),
        }
    }

    fn first(&mut self) -> Result<(), Impossible> {
        self.t = unzigzag(self.uvarint()?);
        self.value = self.word();
        self.at += 64;
        Ok(())
    }

    fn second(&mut self) -> Result<(), Impossible> {
        let delta = self.uvarint()?;
        self.step(delta.cast_signed());
        self.xor(self.word(), 64)
    }

    // Inlined, with what it calls, because the compiler would not by itself and then keep the state in memory.
    #[inline(always)]
    fn next(&mut self, word: u64) -> Result<(), Impossible> {
        if word >> 63 == 0 {
            self.at += 1;
            self.step(0);
            return self.xor(word << 1, 63);
        }
        let (dod, bits) = match word.leading_ones() {
            1 => (signed(word << 2, 14), 16),
            2 => (signed(word << 3, 17), 20),
            3 => (signed(word << 4, 20), 24),
            _ => {
                self.at += 4;
                let dod = self.word().cast_signed();
                self.at += 64;
                self.step(dod);
                return self.xor(self.word(), 64);
            }
        };
        self.at += bits as usize;
        self.step(dod);
        self.xor(word << bits, 64 - bits)
    }

    /// Moves the time on, by the last step and `dod`.
    #[inline]
    const fn step(&mut self, dod: i64) {
        self.delta = self.delta.wrapping_add(dod.cast_unsigned());
        self.t = self.t.wrapping_add(self.delta.cast_signed());
    }

    /// Reads a value; `word` are the next bits, of which the first `valid` are true, 13 at least.
    #[inline(always)]
    fn xor(&mut self, word: u64, valid: u32) -> Result<(), Impossible> {
        if word >> 63 == 0 {
            self.at += 1;
            return Ok(());
        }
        let control = if word >> 62 == 0b11 {
            // Behind the two ones, five bits of leading zeros and six of significant bits, of which there is at least one.
            let leading = low_32(word << 2 >> 59);
            let significant = (low_32(word << 7 >> 58).wrapping_sub(1) & 0x3f) + 1;
            if leading + significant > 64 {
                self.at += 13;
                return Err(Impossible);
            }
            (self.leading, self.trailing) = (leading, 64 - leading - significant);
            13
        } else {
            2
        };
        self.windowed = true;
        let insignificant = self.leading + self.trailing;
        self.at += control as usize;
        let in_word = control + 64 - insignificant <= valid;
        let significant_first = if in_word { word << control } else { self.word() };
        self.value ^= significant_first >> insignificant << self.trailing;
        self.at += 64 - insignificant as usize;
        Ok(())
    }

    fn uvarint(&mut self) -> Result<u64, Impossible> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.word() >> 56;
            self.at += 8;
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Impossible)
    }
}

/// The last bytes of a chunk, with zeros behind.
#[cold]
fn padded(rest: &[u8]) -> [u8; WORD_BYTES] {
    let mut bytes = [0; WORD_BYTES];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

/// The lower half of `value`.
#[inline]
pub(crate) const fn low_32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The upper `bits` of `word` as a delta of delta.
#[inline]
const fn signed(word: u64, bits: u32) -> i64 {
    sign_extend(word >> (64 - bits), bits)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bits::BitVec;
    use crate::xor::{XorChunk, XorDecoder, decode_range};

    /// Times, bits of values and error of a decoder.
    pub(crate) type Decoded<E = XorError> = (Vec<i64>, Vec<u64>, Result<(), E>);

    pub(crate) fn taken_apart<E>(columns: &Columns, result: Result<(), E>) -> Decoded<E> {
        let values = columns.floats().iter().map(|v| v.to_bits()).collect();
        (columns.times().to_vec(), values, result)
    }

    pub(crate) fn by_reference(chunk: &[u8], range: TimeRange) -> Decoded {
        let mut columns = Columns::new();
        let result =
            XorDecoder::new(chunk).and_then(|decoder| decode_range(decoder, range, &mut columns));
        taken_apart(&columns, result)
    }

    fn in_one_go(chunk: &[u8], range: TimeRange) -> Decoded {
        let mut columns = Columns::new();
        let result = decode_xor(chunk, range, &mut columns);
        taken_apart(&columns, result)
    }

    /// Two chunks as they are decoded in turns, and one after the other by the reference.
    fn check_two(chunks: [&[u8]; 2], range: TimeRange) {
        let (mut columns, mut expected) = (Columns::new(), Columns::new());
        for columns in [&mut columns, &mut expected] {
            columns.push(7, 0.5);
        }
        let result = decode_two_xor(chunks, range, &mut columns);
        let reference = chunks.into_iter().enumerate().try_for_each(|(which, chunk)| {
            XorDecoder::new(chunk)
                .and_then(|decoder| decode_range(decoder, range, &mut expected))
                .map_err(|error| (which, error))
        });
        assert_eq!(taken_apart(&columns, result), taken_apart(&expected, reference));
    }

    fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
        samples_after(prop_oneof![4 => step(), 1 => any::<i64>()])
    }

    /// As a store has them.
    pub(crate) fn ascending_samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
        samples_after(step())
    }

    fn step() -> impl Strategy<Value = i64> {
        prop_oneof![
            20 => Just(15_000_i64),
            10 => 14_990_i64..15_010,
            1 => 1_i64..2_000_000,
        ]
    }

    fn samples_after(step: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<(i64, f64)>> {
        let value = prop_oneof![
            3 => Just(1.0_f64),
            3 => (0_u32..1000).prop_map(f64::from),
            1 => any::<u64>().prop_map(f64::from_bits),
        ];
        prop::collection::vec((step, value), 0..200).prop_map(|steps| {
            let mut t = 1_700_000_000_000_i64;
            let mut sample = |(step, v): (i64, f64)| {
                t = t.wrapping_add(step);
                (t, v)
            };
            steps.into_iter().map(&mut sample).collect()
        })
    }

    pub(crate) fn chunk(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut chunk = XorChunk::new();
        samples.iter().for_each(|&(t, v)| chunk.push(t, v));
        chunk.as_bytes().to_vec()
    }

    /// Fields, each of so many bits.
    type Fields = Vec<(u32, u64)>;

    /// What may stand for the time of a sample but the first two: a delta of delta of any width.
    fn time_fields() -> impl Strategy<Value = Fields> {
        let of = |prefix: (u32, u64), width: u32| {
            any::<u64>().prop_map(move |dod| vec![prefix, (width, dod)])
        };
        prop_oneof![
            20 => Just(vec![(1, 0)]),
            20 => of((2, 0b10), 14),
            1 => of((3, 0b110), 17),
            1 => of((4, 0b1110), 20),
            1 => of((4, 0b1111), 64),
        ]
    }

    /// What may stand for a value but the first: in the window before, though there may be none, or in a window that may be impossible.
    fn value_fields() -> impl Strategy<Value = Fields> {
        let new = |window: (u64, u64), bits: u64| {
            let (leading, significant) = window;
            let width = u32::try_from(significant).unwrap();
            vec![(2, 0b11), (5, leading), (6, significant & 63), (width, bits)]
        };
        let possible = (0_u64..32).prop_flat_map(|leading| (Just(leading), 1..=64 - leading));
        prop_oneof![
            10 => Just(vec![(1, 0)]),
            10 => (1_u32..=64, any::<u64>()).prop_map(|(width, bits)| vec![(2, 0b10), (width, bits)]),
            20 => (possible, any::<u64>()).prop_map(move |(window, bits)| new(window, bits)),
            1 => ((0_u64..32, 1_u64..=64), any::<u64>())
                .prop_map(move |(window, bits)| new(window, bits)),
        ]
    }

    /// Chunks of fields that no encoder need have put together.
    fn fields() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            2 => Just(1_700_000_000_000_i64),
            1 => any::<i64>(),
            1 => i64::MAX - 1_000_000..i64::MAX,
        ];
        let delta = prop_oneof![4 => 0_u64..20_000, 1 => any::<u64>()];
        let rows = prop::collection::vec((time_fields(), value_fields()), 0..60);
        let more = prop_oneof![4 => Just(2_usize), 1 => 0_usize..5];
        (first, any::<u64>(), delta, value_fields(), rows, more).prop_map(
            |(first, value, delta, second, rows, more)| {
                let announced = u16::try_from(rows.len() + more).unwrap();
                let mut bits = BitVec::new(announced.to_be_bytes().to_vec());
                bits.put_varint(first);
                bits.put(64, value);
                bits.put_uvarint(delta);
                let rows = rows.into_iter().flat_map(|(time, value)| [time, value]);
                for (width, field) in second.into_iter().chain(rows.flatten()) {
                    bits.put(width, field);
                }
                bits.as_bytes().to_vec()
            },
        )
    }

    proptest! {
        #[test]
        fn a_resumed_chunk_grows_as_if_it_had_never_stopped(
            samples in samples(),
            at in any::<prop::sample::Index>(),
        ) {
            prop_assume!(!samples.is_empty());
            let at = at.index(samples.len()) + 1;
            let mut resumed = XorChunk::resume(&chunk(&samples[..at])).unwrap();
            samples[at..].iter().for_each(|&(t, v)| resumed.push(t, v));
            prop_assert_eq!(resumed.as_bytes(), chunk(&samples));
        }

        #[test]
        fn whole_chunks_as_by_reference(
            samples in samples(),
            from in 0_i64..4_000_000,
            len in 0_i64..4_000_000,
        ) {
            let bytes = chunk(&samples);
            let min = 1_700_000_000_000 + from;
            for range in [TimeRange::ALL, TimeRange::new(min, min + len)] {
                prop_assert_eq!(in_one_go(&bytes, range), by_reference(&bytes, range));
            }
        }

        #[test]
        fn damaged_chunks_as_by_reference(
            samples in samples(),
            cut in any::<prop::sample::Index>(),
            flips in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut bytes = chunk(&samples);
            for flip in flips {
                let bit = flip.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let bytes = &bytes[..=cut.index(bytes.len())];
            prop_assert_eq!(in_one_go(bytes, TimeRange::ALL), by_reference(bytes, TimeRange::ALL));
        }

        #[test]
        fn two_chunks_as_by_reference(
            first in samples(),
            second in samples(),
            from in 0_i64..4_000_000,
            len in 0_i64..4_000_000,
            damage in prop::option::of((any::<bool>(), any::<prop::sample::Index>())),
        ) {
            let mut chunks = [chunk(&first), chunk(&second)];
            if let Some((which, flip)) = damage {
                let bytes = &mut chunks[usize::from(which)];
                let bit = flip.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let min = 1_700_000_000_000 + from;
            for range in [TimeRange::ALL, TimeRange::new(min, min + len)] {
                check_two([&chunks[0], &chunks[1]], range);
            }
        }

        #[test]
        fn any_bytes_as_by_reference(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            announced in any::<prop::sample::Index>(),
        ) {
            // A lane takes no chunk that announces more samples than it has bytes.
            let announced = u16::try_from(announced.index(payload.len() + 1)).unwrap();
            let bytes = [&announced.to_be_bytes(), &payload[..]].concat();
            prop_assert_eq!(in_one_go(&bytes, TimeRange::ALL), by_reference(&bytes, TimeRange::ALL));
        }

        #[test]
        fn any_fields_as_by_reference(first in fields(), second in fields(), at in any::<i64>()) {
            let times = by_reference(&first, TimeRange::ALL).0;
            // Bounds at samples, if there are any.
            let len = times.len().max(1);
            let [min, max] = [at, at >> 32].map(|at| {
                let place = usize::try_from(at.rem_euclid(1 << 16)).unwrap() % len;
                times.get(place).copied().unwrap_or(at)
            });
            let within = TimeRange::new(min.min(max), min.max(max));
            for range in [TimeRange::ALL, within] {
                for chunk in [&first, &second] {
                    prop_assert_eq!(in_one_go(chunk, range), by_reference(chunk, range));
                }
                check_two([&first, &second], range);
            }
        }
    }

    #[test]
    fn every_prefix_as_by_reference() {
        let samples: Vec<_> = (0..60).map(|i| (i * 15_000 + i % 3, f64::sin(i as f64))).collect();
        let bytes = chunk(&samples);
        for len in 0..=bytes.len() {
            let range = TimeRange::ALL;
            assert_eq!(
                in_one_go(&bytes[..len], range),
                by_reference(&bytes[..len], range),
                "{len}"
            );
            check_two([&bytes[..len], &bytes], range);
            check_two([&bytes, &bytes[..len]], range);
        }
    }
}
