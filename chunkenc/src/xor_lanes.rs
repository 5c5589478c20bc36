//! XOR chunks decoded without jumps, two at a time.
//!
//! Whether the value of a counter has its significant bits where those of the one before were is as good as random, so a jump that depends
//! on it is mispredicted every few samples. Here both ways are computed and one is chosen, and because one sample then waits for the position
//! that the one before ends at, two chunks take turns. [`xor_batch`](crate::xor_batch) says what samples are; whatever is unusual is left to
//! it.

use std::hint::select_unpredictable;

use model::Timestamp;

use crate::bits::sign_extend;
use crate::xor_batch::low_32;

/// Bits of a word that are true wherever it begins: seven may be missing.
const TRUE_BITS: u32 = 57;

/// As many milliseconds (four thousand years) between samples add up to no more than an `i64` over a whole chunk.
const DELTA_MAX: u64 = (1 << 47) - 1;

/// A chunk that is being decoded, after its second sample.
///
/// Zeros are read beyond the end, and [`is_sound`](Self::is_sound) says afterwards that it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) bytes: &'a [u8],
    /// Position in bits.
    pub(crate) at: usize,
    /// Time of the first sample of all.
    pub(crate) first: Timestamp,
    /// Time of the last one, and its value.
    pub(crate) t: Timestamp,
    pub(crate) value: u64,
    pub(crate) delta: u64,
    /// The significant bits of a value but one, and the zeros behind them.
    pub(crate) significant: u32,
    pub(crate) trailing: u32,
    /// All of `trailing` so far, one over the other, to see if there were more bits than fit in a value.
    pub(crate) trailings: u32,
    /// All of `delta` so far, one over the other: if there is no large one, times ascend.
    pub(crate) deltas: u64,
}

/// Where the samples of a lane go: as many times as floats.
pub(crate) type Rows<'r> = (&'r mut [Timestamp], &'r mut [f64]);

impl Lane<'_> {
    /// Whether all that was decoded, up to the last sample, is what the chunk says, and times ascend.
    const fn is_sound(&self) -> bool {
        self.trailings < 64
            && self.deltas <= DELTA_MAX
            && self.t >= self.first
            && self.at <= self.bytes.len() * 8
    }

    /// The bits from `at` on, of which [`TRUE_BITS`] are true.
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        let byte = at / 8;
        let word = match self.bytes.get(byte..byte + 8).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => last_word(self.bytes, byte),
        };
        word << (at % 8)
    }

    /// Decodes the next sample and writes it down.
    #[inline(always)]
    fn step(&mut self, t: &mut Timestamp, float: &mut f64) {
        let mut word = self.word(self.at);
        if word >> 63 != 0 {
            let (dod, bits) = delta_of_delta(word);
            self.delta = self.delta.wrapping_add(dod.cast_unsigned());
            self.deltas |= if bits == 0 { u64::MAX } else { self.delta };
            // As if the one bit of a time that comes when expected stood in front of the value.
            self.at += bits.saturating_sub(1);
            word = self.word(self.at) & !(1 << 63);
        }
        self.t = self.t.wrapping_add(self.delta.cast_signed());
        // After that bit: 0 the same value, 10 significant bits in the same place, 11 in another, which is five bits of leading zeros and six
        // of significant bits, of which there is at least one.
        let control = word >> 61;
        let is_elsewhere = control == 0b11;
        let significant = low_32(word >> 50).wrapping_sub(1) & 63;
        let trailing = 63_u32.wrapping_sub(low_32(word >> 56) & 31).wrapping_sub(significant);
        self.significant = select_unpredictable(is_elsewhere, significant, self.significant);
        self.trailing = select_unpredictable(is_elsewhere, trailing, self.trailing);
        self.trailings |= self.trailing;
        let before = select_unpredictable(is_elsewhere, 1 + 2 + 11, 1 + 2_u32);
        let bits = before + 1 + self.significant;
        let value = if bits <= TRUE_BITS { word << before } else { self.long_value(before) };
        let xor = value >> (63 - self.significant) << (self.trailing & 63);
        let is_same = control < 0b10;
        self.value ^= select_unpredictable(is_same, 0, xor);
        self.at += select_unpredictable(is_same, 2, bits as usize);
        (*t, *float) = (self.t, f64::from_bits(self.value));
    }

    /// 64 true bits, `before` bits further on.
    #[inline]
    fn long_value(&self, before: u32) -> u64 {
        let at = self.at + before as usize;
        let last = self.bytes.get(at / 8 + 8).copied().unwrap_or(0);
        self.word(at) | u64::from(last) >> (8 - at % 8)
    }
}

/// Decodes a sample for each row of a chunk. If it says `true`, times ascend; if `false`, it takes more care, and what was written means
/// nothing.
pub(crate) fn decode_one(lane: Lane<'_>, rows: Rows<'_>) -> bool {
    decode_rows(lane, rows).is_sound()
}

/// As [`decode_one`]; and the last of some places from which it can be decoded on that has no sample at or after `from` before it: the rows
/// that are decoded there and the lane.
pub(crate) fn decode_marking<'a>(
    mut lane: Lane<'a>,
    (mut times, mut floats): Rows<'_>,
    from: Timestamp,
) -> (bool, Option<(usize, Lane<'a>)>) {
    const ROWS_BETWEEN: usize = 16;
    let (mut done, mut mark) = (0, None);
    while lane.t < from && times.len() > ROWS_BETWEEN {
        mark = Some((done, lane));
        let (first_times, first_floats);
        (first_times, times) = times.split_at_mut(ROWS_BETWEEN);
        (first_floats, floats) = floats.split_at_mut(ROWS_BETWEEN);
        lane = decode_rows(lane, (first_times, first_floats));
        done += ROWS_BETWEEN;
    }
    if lane.t < from {
        mark = Some((done, lane));
    }
    (decode_one(lane, (times, floats)), mark)
}

/// Decodes a sample for each row; what comes behind.
fn decode_rows<'a>(lane: Lane<'a>, (times, floats): Rows<'_>) -> Lane<'a> {
    // A copy of which nothing outside the loop knows stays in registers.
    let mut lane = Lane { ..lane };
    for (t, float) in times.iter_mut().zip(floats) {
        lane.step(t, float);
    }
    lane
}

/// As [`decode_one`], of two chunks.
pub(crate) fn decode_two(
    (a, (a_times, a_floats)): (Lane<'_>, Rows<'_>),
    (b, (b_times, b_floats)): (Lane<'_>, Rows<'_>),
) -> bool {
    let (mut a, mut b) = (Lane { ..a }, Lane { ..b });
    let both = a_times.len().min(b_times.len());
    let (a_times, a_rest) = a_times.split_at_mut(both);
    let (a_floats, a_rest_floats) = a_floats.split_at_mut(both);
    let (b_times, b_rest) = b_times.split_at_mut(both);
    let (b_floats, b_rest_floats) = b_floats.split_at_mut(both);
    let of_a = a_times.iter_mut().zip(a_floats);
    for ((a_t, a_float), (b_t, b_float)) in of_a.zip(b_times.iter_mut().zip(b_floats)) {
        a.step(a_t, a_float);
        b.step(b_t, b_float);
    }
    decode_one(a, (a_rest, a_rest_floats)) && decode_one(b, (b_rest, b_rest_floats))
}

/// The delta of delta that `word` begins with, and its length in bits; no bits if it is one of 64 bits.
#[cold]
#[inline(never)]
const fn delta_of_delta(word: u64) -> (i64, usize) {
    match word.leading_ones() {
        0 => (0, 1),
        1 => (sign_extend(word << 2 >> 50, 14), 16),
        2 => (sign_extend(word << 3 >> 47, 17), 20),
        3 => (sign_extend(word << 4 >> 44, 20), 24),
        _ => (0, 0),
    }
}

/// The bytes from `at` on, fewer than eight, with zeros behind.
#[cold]
#[inline(never)]
fn last_word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default().iter().take(8);
    rest.zip((0..8).rev()).fold(0, |word, (byte, place)| word | u64::from(*byte) << (8 * place))
}
