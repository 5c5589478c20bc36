//! XOR chunks: Gorilla's float compression with the bit widths that Prometheus gives it.
//!
//! Format: `docs/formats/chunks.md`. The codec is written on `bitstream-io`. A chunk under construction is a [`XorState`]
//! of a few bytes beside the encoded bytes, so that the head can keep the two where it likes; [`XorChunk`] is the pair for those who
//! need no more than one chunk.

use std::io;

use bitstream_io::{BigEndian, BitRead, BitReader, BitWrite, BitWriter};
use model::{Columns, Sample, TimeRange, Timestamp};

use crate::bits::sign_extend;
use crate::varint::{low_seven, unzigzag, zigzag};
use crate::xor_batch::resume;

/// Bytes of the sample count at the start of a chunk.
pub const HEADER_BYTES: usize = 2;

/// No sample takes more: a delta of delta of 68 bits and a value of 77, behind a partial byte.
pub const SAMPLE_BYTES_MAX: usize = 20;

/// Leading zeros of a series of values that has had no XOR yet.
pub(crate) const NO_WINDOW: u8 = 0xff;

/// Why a chunk cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XorError {
    /// The bytes end before the number of samples that the header announces.
    #[error("xor chunk ends after {decoded} of {announced} samples")]
    Truncated {
        /// Samples before the end.
        decoded: u16,
        /// Samples that the header announces.
        announced: u16,
    },
    /// The bits say something impossible.
    #[error("xor chunk is malformed at sample {0}")]
    Malformed(u16),
}

/// What must be known, beside the last sample, to encode the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XorState {
    /// Time between the last two samples, modulo 2⁶⁴ as the format has it.
    pub delta: u64,
    /// Samples encoded.
    pub count: u16,
    /// Zero bits in front of the last window of significant bits.
    pub leading: u8,
    /// Zero bits behind it.
    pub trailing: u8,
    /// Bits of the last byte not in use, 0 to 7.
    pub free_bits: u8,
}

impl XorState {
    /// Of `chunk`, which was written before, with its last sample: what the head needs to go on with it.
    ///
    /// # Errors
    /// [`XorError`]; also if there is more than a part of a byte after the samples, or no sample.
    pub fn resume(chunk: &[u8]) -> Result<(Self, Sample), XorError> {
        resume(chunk)
    }

    /// Of a chunk without samples.
    pub const EMPTY: Self =
        Self { delta: 0, count: 0, leading: NO_WINDOW, trailing: 0, free_bits: 0 };
}

/// A slice that is written front to back, a few bytes at a time. Writing to the slice itself would be a call of `memmove` for each few, which takes
/// longer than all else that a sample needs.
struct ShortWrites<'b>(&'b mut [u8]);

impl io::Write for ShortWrites<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = std::mem::take(&mut self.0);
        let (mut into, rest) =
            rest.split_at_mut_checked(bytes.len()).ok_or(io::ErrorKind::WriteZero)?;
        self.0 = rest;
        let mut from = bytes;
        // Sizes that are known are single instructions.
        while copy_part::<8>(&mut into, &mut from) {}
        copy_part::<4>(&mut into, &mut from);
        copy_part::<2>(&mut into, &mut from);
        copy_part::<1>(&mut into, &mut from);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies the first `N` bytes and goes on behind them; false if there are not so many.
#[inline]
fn copy_part<const N: usize>(into: &mut &mut [u8], from: &mut &[u8]) -> bool {
    let Some((bytes, rest)) = from.split_first_chunk::<N>() else { return false };
    let Some((place, behind)) = std::mem::take(into).split_first_chunk_mut::<N>() else {
        return false;
    };
    *place = *bytes;
    (*into, *from) = (behind, rest);
    true
}

/// Bits into a slice, counted. Short fields are joined to one write, since a write costs more than a field.
struct SampleWriter<'b> {
    bits: BitWriter<ShortWrites<'b>, BigEndian>,
    written: u32,
    /// The last 64 bits that were put, of which the last few are still to be written.
    tail: u64,
    pending_bits: u32,
}

impl SampleWriter<'_> {
    #[inline]
    fn put(&mut self, bits: u32, value: u64) {
        if self.pending_bits + bits > 64 {
            self.flush();
        }
        self.tail = self.tail.checked_shl(bits).unwrap_or(0) | value;
        self.pending_bits += bits;
    }

    #[inline]
    fn flush(&mut self) {
        let mask = u64::MAX.checked_shr(64 - self.pending_bits).unwrap_or(0);
        self.bits
            .write_unsigned_var(self.pending_bits, self.tail & mask)
            .expect("values are masked to their bits and a sample fits the buffer");
        self.written += self.pending_bits;
        self.pending_bits = 0;
    }

    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(8, u64::from(low_seven(value) | 0x80));
            value >>= 7;
        }
        self.put(8, value);
    }

    #[inline]
    fn delta_of_delta(&mut self, dod: i64) {
        let low = |bits: u32| dod.cast_unsigned() & ((1 << bits) - 1);
        match dod {
            0 => self.put(1, 0),
            -0x1fff..=0x2000 => self.put(16, 0b10 << 14 | low(14)),
            -0xffff..=0x1_0000 => self.put(20, 0b110 << 17 | low(17)),
            -0x7_ffff..=0x8_0000 => self.put(24, 0b1110 << 20 | low(20)),
            _ => {
                self.put(4, 0b1111);
                self.put(64, dod.cast_unsigned());
            }
        }
    }

    #[inline]
    fn xor(&mut self, xor: u64, state: &mut XorState) {
        if xor == 0 {
            return self.put(1, 0);
        }
        // Five bits hold the number of leading zeros.
        let leading = u8::try_from(xor.leading_zeros().min(31)).unwrap_or(31);
        let trailing = u8::try_from(xor.trailing_zeros()).unwrap_or(0);
        if state.leading != NO_WINDOW && leading >= state.leading && trailing >= state.trailing {
            self.put(2, 0b10);
            let significant = 64 - u32::from(state.leading) - u32::from(state.trailing);
            return self.put(significant, xor >> state.trailing);
        }
        (state.leading, state.trailing) = (leading, trailing);
        let significant = 64 - u64::from(leading) - u64::from(trailing);
        // 64 significant bits are written as 0, since none at all never occurs.
        self.put(13, 0b11 << 11 | u64::from(leading) << 6 | (significant & 0x3f));
        self.put(64 - u32::from(leading) - u32::from(trailing), xor >> trailing);
    }
}

/// Encodes the sample (`t`, `v`) after `last`; `last_byte` is the last byte of the chunk, of which
/// `state.free_bits` are free. The bytes, of which the first takes the place of a byte that was partly in use, are put at the start of
/// `into`, which has room for [`SAMPLE_BYTES_MAX`]; their number and the last of them are returned.
///
/// # Panics
/// If `into` has less room, or after 65,535 samples where overflow is checked.
#[inline]
pub fn encode(
    state: &mut XorState,
    last: Sample,
    last_byte: u8,
    t: Timestamp,
    v: f64,
    into: &mut [u8],
) -> (usize, u8) {
    let bits = BitWriter::new(ShortWrites(into));
    let mut writer = SampleWriter { bits, written: 0, tail: 0, pending_bits: 0 };
    if state.free_bits > 0 {
        writer.put(8 - u32::from(state.free_bits), u64::from(last_byte >> state.free_bits));
    }
    if state.count == 0 {
        writer.uvarint(zigzag(t));
        writer.put(64, v.to_bits());
        state.delta = 0;
    } else {
        let delta = t.wrapping_sub(last.t).cast_unsigned();
        if state.count == 1 {
            writer.uvarint(delta);
        } else {
            writer.delta_of_delta(delta.wrapping_sub(state.delta).cast_signed());
        }
        state.delta = delta;
        writer.xor(v.to_bits() ^ last.v.to_bits(), state);
    }
    writer.flush();
    let SampleWriter { mut bits, written, tail, .. } = writer;
    bits.byte_align().expect("a sample fits the buffer");
    state.free_bits = u8::try_from((8 - written % 8) % 8).unwrap_or(0);
    state.count += 1;
    (written.div_ceil(8) as usize, (tail << state.free_bits).to_le_bytes()[0])
}

/// A chunk under construction, with its bytes.
#[derive(Clone, Debug)]
pub struct XorChunk {
    bytes: Vec<u8>,
    state: XorState,
    last: Sample,
}

impl Default for XorChunk {
    fn default() -> Self {
        Self::new()
    }
}

impl XorChunk {
    /// A chunk without samples.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], state: XorState::EMPTY, last: Sample { t: 0, v: 0.0 } }
    }

    /// Continues a chunk that was written before.
    ///
    /// # Errors
    /// [`XorError`]; also if there is more than a part of a byte after the samples, or no sample.
    pub fn resume(chunk: &[u8]) -> Result<Self, XorError> {
        let (state, last) = resume(chunk)?;
        Ok(Self { bytes: chunk.to_vec(), state, last })
    }

    /// Adds a sample.
    ///
    /// # Panics
    /// If the chunk holds 65,535 samples.
    pub fn push(&mut self, t: Timestamp, v: f64) {
        assert!(self.state.count < u16::MAX, "the header counts to 65,535");
        let last_byte = self.bytes[self.bytes.len() - 1];
        let start = self.bytes.len() - usize::from(self.state.free_bits > 0);
        self.bytes.resize(start + SAMPLE_BYTES_MAX, 0);
        let into = &mut self.bytes[start..];
        let (len, _) = encode(&mut self.state, self.last, last_byte, t, v, into);
        self.bytes.truncate(start + len);
        self.bytes[..HEADER_BYTES].copy_from_slice(&self.state.count.to_be_bytes());
        self.last = Sample { t, v };
    }

    /// Samples in the chunk.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.state.count
    }

    /// Time of the last sample.
    #[must_use]
    pub const fn last_t(&self) -> Timestamp {
        self.last.t
    }

    /// The chunk as it stands in a file, sample count first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The samples of an encoded chunk.
///
/// Ends after the first error.
#[derive(Debug)]
pub struct XorDecoder<'a> {
    bits: BitReader<&'a [u8], BigEndian>,
    announced: u16,
    decoded: u16,
    last: Sample,
    delta: u64,
    leading: u8,
    trailing: u8,
}

impl<'a> XorDecoder<'a> {
    /// Reads `chunk`, which starts with its sample count.
    ///
    /// # Errors
    /// [`XorError::Truncated`] when there is no room for the count.
    pub fn new(chunk: &'a [u8]) -> Result<Self, XorError> {
        let (header, payload) = chunk
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(XorError::Truncated { decoded: 0, announced: 0 })?;
        Ok(Self::from_payload(u16::from_be_bytes(*header), payload))
    }

    /// Reads `announced` samples from a chunk whose count stands elsewhere.
    pub fn from_payload(announced: u16, payload: &'a [u8]) -> Self {
        Self {
            bits: BitReader::new(payload),
            announced,
            decoded: 0,
            last: Sample { t: 0, v: 0.0 },
            delta: 0,
            leading: 0,
            trailing: 0,
        }
    }

    /// Samples that the header announces.
    #[must_use]
    pub const fn announced(&self) -> u16 {
        self.announced
    }

    fn sample(&mut self) -> io::Result<Option<Sample>> {
        match self.decoded {
            0 => {
                self.last.t = unzigzag(self.uvarint()?);
                self.last.v = f64::from_bits(self.bits.read_unsigned::<64, u64>()?);
                return Ok(Some(self.last));
            }
            1 => self.delta = self.uvarint()?,
            _ => {
                let dod = self.delta_of_delta()?;
                self.delta = self.delta.wrapping_add(dod.cast_unsigned());
            }
        }
        self.last.t = self.last.t.wrapping_add(self.delta.cast_signed());
        if !self.bits.read_bit()? {
            return Ok(Some(self.last));
        }
        if self.bits.read_bit()? {
            let leading = self.bits.read_unsigned::<5, u8>()?;
            let significant = match self.bits.read_unsigned::<6, u8>()? {
                0 => 64,
                bits => bits,
            };
            let Some(trailing) = 64_u8.checked_sub(leading + significant) else { return Ok(None) };
            (self.leading, self.trailing) = (leading, trailing);
        }
        let significant = 64 - u32::from(self.leading) - u32::from(self.trailing);
        let xor = self.bits.read_unsigned_var::<u64>(significant)? << self.trailing;
        self.last.v = f64::from_bits(self.last.v.to_bits() ^ xor);
        Ok(Some(self.last))
    }

    #[inline]
    fn delta_of_delta(&mut self) -> io::Result<i64> {
        if !self.bits.read_bit()? {
            return Ok(0);
        }
        if !self.bits.read_bit()? {
            return Ok(sign_extend(self.bits.read_unsigned::<14, u64>()?, 14));
        }
        if !self.bits.read_bit()? {
            return Ok(sign_extend(self.bits.read_unsigned::<17, u64>()?, 17));
        }
        if !self.bits.read_bit()? {
            return Ok(sign_extend(self.bits.read_unsigned::<20, u64>()?, 20));
        }
        Ok(self.bits.read_unsigned::<64, u64>()?.cast_signed())
    }

    fn uvarint(&mut self) -> io::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bits.read_unsigned::<8, u8>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

impl Iterator for XorDecoder<'_> {
    type Item = Result<Sample, XorError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.decoded >= self.announced {
            return None;
        }
        let (decoded, announced) = (self.decoded, self.announced);
        let error = match self.sample() {
            Ok(Some(sample)) => {
                self.decoded += 1;
                return Some(Ok(sample));
            }
            Ok(None) => XorError::Malformed(decoded),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                XorError::Malformed(decoded)
            }
            Err(_) => XorError::Truncated { decoded, announced },
        };
        self.decoded = self.announced;
        Some(Err(error))
    }
}

/// Appends the samples within `range` to `into`, and stops at the first beyond it.
///
/// # Errors
/// [`XorError`]; samples before the damage have been appended.
pub fn decode_range(
    decoder: XorDecoder<'_>,
    range: TimeRange,
    into: &mut Columns,
) -> Result<(), XorError> {
    for sample in decoder {
        let Sample { t, v } = sample?;
        if t > range.max {
            break;
        }
        if t >= range.min {
            into.push(t, v);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode_all(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut chunk = XorChunk::new();
        for &(t, v) in samples {
            chunk.push(t, v);
        }
        chunk.bytes
    }

    fn decode_all(bytes: &[u8]) -> Result<Vec<(i64, u64)>, XorError> {
        XorDecoder::new(bytes)?.map(|s| s.map(|s| (s.t, s.v.to_bits()))).collect()
    }

    fn check(samples: &[(i64, f64)], bits: &str) {
        let bits: String = bits.chars().filter(|c| matches!(c, '0' | '1')).collect();
        let mut expected = vec![];
        for byte in bits.as_bytes().chunks(8) {
            let text = std::str::from_utf8(byte).unwrap();
            expected.push(u8::from_str_radix(&format!("{text:0<8}"), 2).unwrap());
        }
        assert_eq!(encode_all(samples), expected, "{samples:?}");
    }

    /// Written out by hand from the description of the format.
    #[test]
    fn golden_bits() {
        let count = |n: u16| format!("{n:016b}");
        // 1.0 is 3ff0000000000000; the zigzag of 1 is 2.
        let first = "00000010 0011111111110000000000000000000000000000000000000000000000000000";
        check(&[(1, 1.0)], &format!("{} {first}", count(1)));
        // Delta 15 as a varint, value unchanged.
        let second = "00001111 0";
        check(&[(1, 1.0), (16, 1.0)], &format!("{} {first} {second}", count(2)));
        // Delta of delta 0; 2.0 ^ 1.0 = 7ff0…: one leading zero, 52 trailing, so eleven bits, new window.
        let third = "0 11 00001 001011 11111111111";
        check(&[(1, 1.0), (16, 1.0), (31, 2.0)], &format!("{} {first} {second} {third}", count(3)));
        // Delta of delta 8192 = 2¹³ still fits 14 bits; 1.0 ^ 2.0 fits the same window.
        let fourth = "10 10000000000000 10 11111111111";
        check(
            &[(1, 1.0), (16, 1.0), (31, 2.0), (31 + 15 + 8192, 1.0)],
            &format!("{} {first} {second} {third} {fourth}", count(4)),
        );
        // 8193 needs 17 bits.
        let fourth = "110 00010000000000001 0";
        check(
            &[(1, 1.0), (16, 1.0), (31, 2.0), (31 + 15 + 8193, 2.0)],
            &format!("{} {first} {second} {third} {fourth}", count(4)),
        );
        // -8192 does not fit 14 bits either, since 2¹³ took its place; 20 and 64 bits likewise.
        for (dod, bits) in [
            (-8191, format!("10 {:014b}", (1 << 14) - 8191)),
            (-8192, format!("110 {:017b}", (1 << 17) - 8192)),
            (65_536, format!("110 {:017b}", 65_536)),
            (65_537, format!("1110 {:020b}", 65_537)),
            (524_288, format!("1110 {:020b}", 524_288)),
            (524_289, format!("1111 {:064b}", 524_289)),
        ] {
            let samples = [(1, 1.0), (31, 1.0), (61, 1.0), (91 + dod, 1.0)];
            check(&samples, &format!("{} {first} 00011110 0 0 0 {bits} 0", count(4)));
        }
        // All 64 bits significant: written as 0.
        let all = f64::from_bits(1.0_f64.to_bits() ^ 0x8000_0000_0000_0001);
        check(
            &[(1, 1.0), (16, all)],
            &format!(
                "{} {first} 00001111 11 00000 000000 {:064b}",
                count(2),
                0x8000_0000_0000_0001_u64
            ),
        );
    }

    #[test]
    fn any_prefix_is_refused_or_shorter() {
        let samples: Vec<_> = (0..50).map(|i| (i * 15_000 + i % 3, f64::sin(i as f64))).collect();
        let bytes = encode_all(&samples);
        for len in 0..bytes.len() {
            assert!(decode_all(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn impossible_windows_are_refused() {
        // Leading 31 and 40 significant bits are more than 64.
        let mut bytes = encode_all(&[(1, 1.0)]);
        bytes[1] = 2;
        bytes.extend_from_slice(&[1, 0b1111_1111, 0b0100_0000, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_all(&bytes), Err(XorError::Malformed(1)));
    }

    proptest! {
        #[test]
        fn round_trip_of_any_bits(
            samples in prop::collection::vec((any::<i64>(), any::<u64>()), 1..60)
        ) {
            let floats: Vec<_> = samples.iter().map(|&(t, v)| (t, f64::from_bits(v))).collect();
            prop_assert_eq!(decode_all(&encode_all(&floats)).unwrap(), samples);
        }

        #[test]
        fn round_trip_of_scrapes(
            start in -1_000_000_i64..1_000_000,
            steps in prop::collection::vec((1_i64..700_000, -50_i32..50), 1..200),
        ) {
            let mut t = start;
            let samples: Vec<_> = steps
                .iter()
                .map(|&(step, v)| { t += step; (t, f64::from(v) / 4.0) })
                .collect();
            let expected: Vec<_> = samples.iter().map(|&(t, v)| (t, v.to_bits())).collect();
            prop_assert_eq!(decode_all(&encode_all(&samples)).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_all(&bytes);
        }
    }
}
