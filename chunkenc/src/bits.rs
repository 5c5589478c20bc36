//! Bits out of and into bytes, most significant first, for the codecs of histograms and XOR2.
//!
//! Beside `bitstream-io`, on which the encoder of XOR is written, because two things are needed that it keeps to itself: how many bits
//! are left, which bounds what damaged bytes can make us allocate, and the partial byte at the end, so that a chunk can be read and
//! continued after every sample.

use crate::varint::{low_seven, unzigzag, zigzag};

/// Bits to read, through a window of 64.
#[derive(Clone, Debug)]
pub struct Bits<'a> {
    /// Bytes of which nothing is accounted for in `valid`.
    rest: &'a [u8],
    /// The next bits, first on top. Those below `valid` are zeros or repeat the start of `rest`.
    window: u64,
    valid: u32,
}

impl<'a> Bits<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, window: 0, valid: 0 }
    }

    /// Bits that are left.
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len() * 8 + self.valid as usize
    }

    /// At least 56 bits in the window, or all that are left.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.rest.first_chunk::<8>() {
            self.window |= u64::from_be_bytes(*word) >> self.valid;
            let taken = (63 - self.valid) / 8;
            self.rest = &self.rest[taken as usize..];
            self.valid += taken * 8;
        } else {
            self.refill_at_the_end();
        }
    }

    #[cold]
    fn refill_at_the_end(&mut self) {
        while self.valid <= 56
            && let Some((first, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(*first) << (56 - self.valid);
            self.valid += 8;
            self.rest = rest;
        }
    }

    /// Passes over bits of the window, fewer than 64.
    #[inline]
    const fn consume(&mut self, bits: u32) {
        self.window <<= bits;
        self.valid -= bits;
    }

    /// The next 1 to 56 bits.
    #[inline]
    pub(crate) fn get(&mut self, bits: u32) -> Option<u64> {
        if self.valid < bits {
            self.refill();
            if self.valid < bits {
                return None;
            }
        }
        let value = self.window >> (64 - bits);
        self.consume(bits);
        Some(value)
    }

    /// The next 1 to 64 bits.
    #[inline]
    pub(crate) fn get_long(&mut self, bits: u32) -> Option<u64> {
        if bits <= 56 {
            return self.get(bits);
        }
        if self.remaining() < bits as usize {
            return None;
        }
        Some(self.get(bits - 32)? << 32 | self.get(32)?)
    }

    /// How many ones come next, at most `most`, and passes over them and the zero that ends fewer.
    #[inline]
    pub(crate) fn get_ones(&mut self, most: u32) -> Option<u32> {
        if self.valid < most {
            self.refill();
        }
        let ones = (!self.window).leading_zeros().min(most);
        let taken = ones + u32::from(ones < most);
        if taken > self.valid {
            return None;
        }
        self.consume(taken);
        Some(ones)
    }

    /// A number in LEB128 of at most ten bytes, wherever it begins. The error of the inner result is a longer one.
    pub(crate) fn get_uvarint(&mut self) -> Option<Result<u64, ()>> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.get(8)?;
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(Ok(value));
            }
        }
        Some(Err(()))
    }

    /// A signed number, as [`get_uvarint`](Self::get_uvarint).
    pub(crate) fn get_varint(&mut self) -> Option<Result<i64, ()>> {
        Some(self.get_uvarint()?.map(unzigzag))
    }

    /// A varbit number of the kind for signed ones.
    #[inline]
    pub(crate) fn get_varbit(&mut self) -> Option<i64> {
        match VARBIT_WIDTHS[self.get_ones(8)? as usize] {
            0 => Some(0),
            64 => Some(self.get_long(64)?.cast_signed()),
            width => Some(sign_extend(self.get(width)?, width)),
        }
    }

    /// A varbit number of the kind for unsigned ones.
    #[inline]
    pub(crate) fn get_varbit_unsigned(&mut self) -> Option<u64> {
        match VARBIT_WIDTHS[self.get_ones(8)? as usize] {
            0 => Some(0),
            width => self.get_long(width),
        }
    }
}

/// Bits of a varbit number behind a prefix of so many ones.
const VARBIT_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Prometheus's widths reach one further up than down: 2ⁿ⁻¹ itself is positive.
#[inline]
pub(crate) const fn sign_extend(value: u64, bits: u32) -> i64 {
    let value = value.cast_signed();
    if value > 1 << (bits - 1) { value - (1 << bits) } else { value }
}

/// Bytes that grow bit by bit; unused bits of the last are 0.
#[derive(Clone, Debug)]
pub struct BitVec {
    bytes: Vec<u8>,
    free_bits: u32,
}

impl BitVec {
    /// `bytes`, to be continued after the last.
    pub(crate) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, free_bits: 0 }
    }

    /// `bytes`, of which the last `free_bits`, fewer than 8, are yet to be written.
    pub(crate) fn resume(mut bytes: Vec<u8>, free_bits: u32) -> Self {
        if let Some(last) = bytes.last_mut() {
            *last = *last >> free_bits << free_bits;
        }
        Self { bytes, free_bits }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Appends the lowest `bits` of `value`, at most 64.
    pub(crate) fn put(&mut self, bits: u32, value: u64) {
        let mut left = bits;
        while left > 0 {
            if self.free_bits == 0 {
                self.bytes.push(0);
                self.free_bits = 8;
            }
            let taken = left.min(self.free_bits);
            left -= taken;
            self.free_bits -= taken;
            let part = value >> left & ((1 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= part.to_le_bytes()[0] << self.free_bits;
            }
        }
    }

    pub(crate) fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(8, u64::from(low_seven(value) | 0x80));
            value >>= 7;
        }
        self.put(8, value);
    }

    pub(crate) fn put_varint(&mut self, value: i64) {
        self.put_uvarint(zigzag(value));
    }

    /// A small signed number in few bits: as many ones as its width has smaller ones before it, a zero, its bits.
    pub(crate) fn put_varbit(&mut self, value: i64) {
        let fits = |width: u32| match width {
            0 => value == 0,
            64 => true,
            _ => value > -(1 << (width - 1)) && value <= 1 << (width - 1),
        };
        self.put_varbit_of(fits, value.cast_unsigned());
    }

    /// As [`put_varbit`](Self::put_varbit), of a number that is never negative.
    pub(crate) fn put_varbit_unsigned(&mut self, value: u64) {
        self.put_varbit_of(|width| width == 64 || value < 1 << width, value);
    }

    fn put_varbit_of(&mut self, fits: impl Fn(u32) -> bool, value: u64) {
        for (ones, &width) in (0_u32..).zip(&VARBIT_WIDTHS) {
            if fits(width) {
                match ones {
                    8 => self.put(8, 0xff),
                    _ => self.put(ones + 1, (1 << (ones + 1)) - 2),
                }
                return self.put(width, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(value: i64, expected: &str) {
        let mut bits = BitVec::new(vec![]);
        bits.put_varbit(value);
        let text: String = bits.as_bytes().iter().map(|byte| format!("{byte:08b}")).collect();
        assert_eq!(text.trim_end_matches('0'), expected.replace(' ', "").trim_end_matches('0'));
        let mut reader = Bits::new(bits.as_bytes());
        assert_eq!(reader.get_varbit(), Some(value));
        assert_eq!(bits.as_bytes().len() * 8 - reader.remaining(), expected.replace(' ', "").len());
    }

    /// From the table of the format: one bound of each width and what lies beyond it.
    #[test]
    fn varbit_widths() {
        check(0, "0");
        check(1, "10 001");
        check(4, "10 100");
        check(-3, "10 101");
        check(-4, "110 111100");
        check(5, "110 000101");
        check(32, "110 100000");
        check(33, "1110 000100001");
        check(256, "1110 100000000");
        check(257, "11110 000100000001");
        check(2048, "11110 100000000000");
        check(2049, "111110 000000100000000001");
        check(131_072, "111110 100000000000000000");
        check(131_073, &format!("1111110 {:025b}", 131_073));
        check(16_777_217, &format!("11111110 {:056b}", 16_777_217));
        check((1 << 55) + 1, &format!("11111111 {:064b}", (1_u64 << 55) + 1));
        check(i64::MIN, &format!("11111111 1{:063b}", 0));
    }

    proptest! {
        #[test]
        fn fields_come_back(fields in prop::collection::vec((1_u32..=64, any::<u64>()), 0..80)) {
            let mut bits = BitVec::new(vec![]);
            for &(width, value) in &fields {
                bits.put(width, value);
            }
            let mut reader = Bits::new(bits.as_bytes());
            for &(width, value) in &fields {
                prop_assert_eq!(reader.get_long(width), Some(value & (u64::MAX >> (64 - width))));
            }
            prop_assert!(reader.remaining() < 8);
        }

        #[test]
        fn numbers_come_back(shifts in prop::collection::vec((0_u32..64, any::<i64>()), 0..80)) {
            let mut bits = BitVec::new(vec![]);
            for &(shift, value) in &shifts {
                bits.put_varbit(value >> shift);
                bits.put_varbit_unsigned((value >> shift).cast_unsigned());
                bits.put_varint(value >> shift);
            }
            let mut reader = Bits::new(bits.as_bytes());
            for &(shift, value) in &shifts {
                prop_assert_eq!(reader.get_varbit(), Some(value >> shift));
                prop_assert_eq!(reader.get_varbit_unsigned(), Some((value >> shift).cast_unsigned()));
                prop_assert_eq!(reader.get_varint(), Some(Ok(value >> shift)));
            }
        }

        #[test]
        fn the_end_is_the_end(bytes in prop::collection::vec(any::<u8>(), 0..30), width in 1_u32..=64) {
            let mut reader = Bits::new(&bytes);
            let mut read = 0;
            while reader.get_long(width).is_some() {
                read += width as usize;
            }
            prop_assert_eq!(reader.remaining(), bytes.len() * 8 - read);
            prop_assert!(reader.remaining() < width as usize);
        }
    }
}
