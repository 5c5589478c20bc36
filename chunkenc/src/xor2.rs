//! XOR2 chunks: floats with times and values under one prefix, stale markers in few bits, and start timestamps.
//!
//! Format: `docs/formats/chunks.md`.

use model::{Timestamp, is_stale, stale_marker};

use crate::bits::{BitVec, Bits};
use crate::chunk::ChunkError;
use crate::field::{Field, Xor};
use crate::starts::Starts;
use crate::xor::HEADER_BYTES;

/// Bytes before the bits: the count, and where start timestamps are.
const XOR2_HEADER_BYTES: usize = HEADER_BYTES + 1;

/// What the samples so far say about the next.
#[derive(Clone, Debug)]
struct State {
    count: u16,
    t: Timestamp,
    delta: u64,
    /// The last value that was not a stale marker; 0 before any.
    value: Xor,
    starts: Starts,
}

impl State {
    const fn new(starts: Starts) -> Self {
        Self { count: 0, t: 0, delta: 0, value: Xor::NEW, starts }
    }
}

/// A float chunk of encoding 4 under construction, with its bytes.
#[derive(Clone, Debug)]
pub struct Xor2Chunk {
    bits: BitVec,
    state: State,
}

impl Default for Xor2Chunk {
    fn default() -> Self {
        Self::new()
    }
}

impl Xor2Chunk {
    /// A chunk without samples.
    #[must_use]
    pub fn new() -> Self {
        let bits = BitVec::new(vec![0; XOR2_HEADER_BYTES]);
        Self { bits, state: State::new(Starts::default()) }
    }

    /// Continues a chunk that was written before.
    ///
    /// # Errors
    /// [`ChunkError`] if it is damaged.
    pub fn resume(chunk: &[u8]) -> Result<Self, ChunkError> {
        let mut decoder = Xor2Decoder::new(chunk)?;
        while decoder.advance()? {}
        let Xor2Decoder { bits, state, .. } = decoder;
        let free_bits = u32::try_from(bits.remaining()).unwrap_or(u32::MAX);
        if free_bits >= 8 {
            return Err(ChunkError::Malformed(state.count));
        }
        Ok(Self { bits: BitVec::resume(chunk.to_vec(), free_bits), state })
    }

    /// Adds a sample and its start timestamp, 0 if unknown.
    ///
    /// # Panics
    /// If the chunk holds 65,535 samples.
    pub fn push(&mut self, t: Timestamp, start: Timestamp, v: f64) {
        let Self { bits: out, state } = self;
        assert!(state.count < u16::MAX, "the header counts to 65,535");
        let delta = t.wrapping_sub(state.t).cast_unsigned();
        match state.count {
            0 => {
                out.put_varint(t);
                out.put(64, v.to_bits());
                if !is_stale(v) {
                    state.value.restart(v.to_bits());
                }
            }
            1 => {
                out.put_uvarint(delta);
                put_value(&mut state.value, v, out);
                state.delta = delta;
            }
            _ => {
                let dod = delta.wrapping_sub(state.delta).cast_signed();
                put_joint(&mut state.value, dod, v, out);
                state.delta = delta;
            }
        }
        state.starts.put(state.count, t, state.t, start, out);
        state.t = t;
        state.count += 1;
        let [high, low] = state.count.to_be_bytes();
        let header = [high, low, state.starts.header()];
        out.as_bytes_mut()[..XOR2_HEADER_BYTES].copy_from_slice(&header);
    }

    /// Samples in the chunk.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.state.count
    }

    /// Time of the last sample.
    #[must_use]
    pub const fn last_t(&self) -> Timestamp {
        self.state.t
    }

    /// The chunk as it stands in a file, header first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bits.as_bytes()
    }
}

/// Time and value under one prefix.
fn put_joint(value: &mut Xor, dod: i64, v: f64, out: &mut BitVec) {
    match dod {
        0 if is_stale(v) => return out.put(5, 0b1_1111),
        0 => {
            let xor = v.to_bits() ^ value.last();
            if xor == 0 {
                return out.put(1, 0);
            }
            out.put(2, 0b10);
            let fits = value.fits(xor);
            out.put(1, u64::from(!fits));
            if !fits {
                value.put_window(xor, out);
            }
            return value.put_in_window(xor, out);
        }
        -0x1000..=0xfff => {
            out.put(3, 0b110);
            out.put(13, dod.cast_unsigned());
        }
        -0x8_0000..=0x7_ffff => {
            out.put(4, 0b1110);
            out.put(20, dod.cast_unsigned());
        }
        _ => {
            out.put(5, 0b1_1110);
            out.put(64, dod.cast_unsigned());
        }
    }
    put_value(value, v, out);
}

/// A value behind a time that has a prefix of its own.
fn put_value(value: &mut Xor, v: f64, out: &mut BitVec) {
    if is_stale(v) {
        return out.put(3, 0b111);
    }
    let xor = v.to_bits() ^ value.last();
    if xor == 0 {
        return out.put(1, 0);
    }
    if value.fits(xor) {
        out.put(2, 0b10);
    } else {
        out.put(3, 0b110);
        value.put_window(xor, out);
    }
    value.put_in_window(xor, out);
}

/// The samples of a chunk of encoding 4, one at a time.
#[derive(Clone, Debug)]
pub(crate) struct Xor2Decoder<'a> {
    bits: Bits<'a>,
    announced: u16,
    state: State,
    stale: bool,
}

/// Why a sample cannot be read.
enum Broken {
    End,
    Impossible,
}

impl<'a> Xor2Decoder<'a> {
    /// Reads the header.
    pub(crate) fn new(chunk: &'a [u8]) -> Result<Self, ChunkError> {
        let (&[high, low, starts], payload) = chunk
            .split_first_chunk::<XOR2_HEADER_BYTES>()
            .ok_or(ChunkError::Truncated { decoded: 0, announced: 0 })?;
        Ok(Self {
            bits: Bits::new(payload),
            announced: u16::from_be_bytes([high, low]),
            state: State::new(Starts::from_header(starts)),
            stale: false,
        })
    }

    /// Reads the next sample; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, ChunkError> {
        let (decoded, announced) = (self.state.count, self.announced);
        if decoded >= announced {
            return Ok(false);
        }
        match self.sample() {
            Ok(()) => {
                self.state.count += 1;
                Ok(true)
            }
            Err(Broken::End) => Err(ChunkError::Truncated { decoded, announced }),
            Err(Broken::Impossible) => Err(ChunkError::Malformed(decoded)),
        }
    }

    /// Time of the sample that was read last.
    pub(crate) const fn t(&self) -> Timestamp {
        self.state.t
    }

    /// Its value.
    pub(crate) const fn value(&self) -> f64 {
        if self.stale { stale_marker() } else { f64::from_bits(self.state.value.last()) }
    }

    /// Its start timestamp; 0 if unknown.
    pub(crate) const fn start(&self) -> Timestamp {
        self.state.starts.last()
    }

    fn sample(&mut self) -> Result<(), Broken> {
        let previous_t = self.state.t;
        self.stale = false;
        match self.state.count {
            0 => {
                self.state.t = whole(self.bits.get_varint())?;
                let value = self.bits.get_long(64).ok_or(Broken::End)?;
                self.stale = is_stale(f64::from_bits(value));
                if !self.stale {
                    self.state.value.restart(value);
                }
            }
            1 => {
                self.state.delta = whole(self.bits.get_uvarint())?;
                self.step(0);
                self.value_behind_time()?;
            }
            _ => self.joint()?,
        }
        let State { count, t, starts, .. } = &mut self.state;
        whole(starts.get(*count, *t, previous_t, &mut self.bits))
    }

    fn joint(&mut self) -> Result<(), Broken> {
        match self.bits.get_ones(5).ok_or(Broken::End)? {
            0 => self.step(0),
            1 => {
                self.step(0);
                if self.bits.get(1).ok_or(Broken::End)? == 1 {
                    self.window()?;
                }
                self.state.value.get_in_window(&mut self.bits).ok_or(Broken::End)?;
            }
            2 => self.time_and_value(13)?,
            3 => self.time_and_value(20)?,
            4 => self.time_and_value(64)?,
            _ => {
                self.step(0);
                self.stale = true;
            }
        }
        Ok(())
    }

    fn time_and_value(&mut self, bits: u32) -> Result<(), Broken> {
        let dod = self.bits.get_long(bits).ok_or(Broken::End)?;
        // Two's complement of that width.
        self.step((dod << (64 - bits)).cast_signed() >> (64 - bits));
        self.value_behind_time()
    }

    const fn step(&mut self, dod: i64) {
        self.state.delta = self.state.delta.wrapping_add(dod.cast_unsigned());
        self.state.t = self.state.t.wrapping_add(self.state.delta.cast_signed());
    }

    fn value_behind_time(&mut self) -> Result<(), Broken> {
        match self.bits.get_ones(3).ok_or(Broken::End)? {
            0 => return Ok(()),
            1 => {}
            2 => self.window()?,
            _ => {
                self.stale = true;
                return Ok(());
            }
        }
        self.state.value.get_in_window(&mut self.bits).ok_or(Broken::End)
    }

    fn window(&mut self) -> Result<(), Broken> {
        match self.state.value.get_window(&mut self.bits) {
            Some(true) => Ok(()),
            Some(false) => Err(Broken::Impossible),
            None => Err(Broken::End),
        }
    }
}

/// A number that is there and possible.
fn whole<T>(number: Option<Result<T, ()>>) -> Result<T, Broken> {
    number.ok_or(Broken::End)?.map_err(|()| Broken::Impossible)
}
