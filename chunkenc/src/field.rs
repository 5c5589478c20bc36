//! How one number of a sample follows the same number of the sample before: as a difference of differences, or as an XOR.
//!
//! Writing and reading change the same state, which is what lets a chunk be continued after it was read.

use crate::bits::{BitVec, Bits};

/// Leading zeros of a number that has had no XOR yet.
const NO_WINDOW: u32 = 0xff;

/// The last value of a number and what the next one is encoded against.
pub trait Field: Clone + std::fmt::Debug {
    /// The number.
    type Value: Copy + Default + PartialOrd + std::fmt::Debug;

    /// Of a number that has had no value.
    const NEW: Self;

    /// Writes the first value.
    fn put_first(&mut self, value: Self::Value, out: &mut BitVec);
    /// Writes a value after another.
    fn put_next(&mut self, value: Self::Value, out: &mut BitVec);
    /// Reads the first value.
    fn get_first(&mut self, bits: &mut Bits<'_>) -> Option<()>;
    /// Reads a value after another; `Some(false)` says that the bits are impossible.
    fn get_next(&mut self, bits: &mut Bits<'_>) -> Option<bool>;
    /// The last value.
    fn value(&self) -> Self::Value;
}

/// A signed number, as the difference of differences: times, and buckets of integer histograms. Arithmetic wraps as in Go.
#[derive(Clone, Debug)]
pub struct Signed {
    last: i64,
    delta: i64,
}

impl Field for Signed {
    type Value = i64;
    const NEW: Self = Self { last: 0, delta: 0 };

    fn put_first(&mut self, value: i64, out: &mut BitVec) {
        out.put_varbit(value);
        *self = Self { last: value, delta: 0 };
    }

    fn put_next(&mut self, value: i64, out: &mut BitVec) {
        let delta = value.wrapping_sub(self.last);
        out.put_varbit(delta.wrapping_sub(self.delta));
        *self = Self { last: value, delta };
    }

    fn get_first(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        *self = Self { last: bits.get_varbit()?, delta: 0 };
        Some(())
    }

    #[inline]
    fn get_next(&mut self, bits: &mut Bits<'_>) -> Option<bool> {
        self.delta = self.delta.wrapping_add(bits.get_varbit()?);
        self.last = self.last.wrapping_add(self.delta);
        Some(true)
    }

    fn value(&self) -> i64 {
        self.last
    }
}

/// A number that is never negative, as the difference of differences: counts of integer histograms.
#[derive(Clone, Debug)]
pub struct Unsigned(Signed);

impl Field for Unsigned {
    type Value = u64;
    const NEW: Self = Self(Signed::NEW);

    fn put_first(&mut self, value: u64, out: &mut BitVec) {
        out.put_varbit_unsigned(value);
        self.0 = Signed { last: value.cast_signed(), delta: 0 };
    }

    fn put_next(&mut self, value: u64, out: &mut BitVec) {
        self.0.put_next(value.cast_signed(), out);
    }

    fn get_first(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        self.0 = Signed { last: bits.get_varbit_unsigned()?.cast_signed(), delta: 0 };
        Some(())
    }

    fn get_next(&mut self, bits: &mut Bits<'_>) -> Option<bool> {
        self.0.get_next(bits)
    }

    fn value(&self) -> u64 {
        self.0.last.cast_unsigned()
    }
}

/// A float, as the significant bits of the XOR with the one before.
#[derive(Clone, Debug)]
pub struct Xor {
    last: u64,
    leading: u32,
    trailing: u32,
}

impl Field for Xor {
    type Value = f64;
    const NEW: Self = Self { last: 0, leading: NO_WINDOW, trailing: 0 };

    fn put_first(&mut self, value: f64, out: &mut BitVec) {
        *self = Self { last: value.to_bits(), ..Self::NEW };
        out.put(64, self.last);
    }

    fn put_next(&mut self, value: f64, out: &mut BitVec) {
        let xor = value.to_bits() ^ self.last;
        if xor == 0 {
            return out.put(1, 0);
        }
        if self.fits(xor) {
            out.put(2, 0b10);
        } else {
            out.put(2, 0b11);
            self.put_window(xor, out);
        }
        self.put_in_window(xor, out);
    }

    fn get_first(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        *self = Self { last: bits.get_long(64)?, ..Self::NEW };
        Some(())
    }

    #[inline]
    fn get_next(&mut self, bits: &mut Bits<'_>) -> Option<bool> {
        match bits.get_ones(2)? {
            0 => return Some(true),
            1 => {}
            _ => {
                if !self.get_window(bits)? {
                    return Some(false);
                }
            }
        }
        self.get_in_window(bits)?;
        Some(true)
    }

    fn value(&self) -> f64 {
        f64::from_bits(self.last)
    }
}

impl Xor {
    /// The bits of the last value.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// Takes `bits` for the last value, without a window.
    pub(crate) const fn restart(&mut self, bits: u64) {
        self.last = bits;
    }

    /// Whether the significant bits of `xor` lie within those of the last window.
    pub(crate) const fn fits(&self, xor: u64) -> bool {
        self.leading != NO_WINDOW
            && xor.leading_zeros() >= self.leading
            && xor.trailing_zeros() >= self.trailing
    }

    /// Narrows the window to the significant bits of `xor`, which is not 0.
    pub(crate) fn put_window(&mut self, xor: u64, out: &mut BitVec) {
        // Five bits hold the number of leading zeros.
        (self.leading, self.trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        // 64 significant bits are written as 0, since none at all never occurs.
        let significant = 64 - self.leading - self.trailing;
        out.put(11, u64::from(self.leading) << 6 | u64::from(significant & 0x3f));
    }

    /// The bits of `xor` within the window.
    pub(crate) fn put_in_window(&mut self, xor: u64, out: &mut BitVec) {
        out.put(64 - self.leading - self.trailing, xor >> self.trailing);
        self.last ^= xor;
    }

    /// Reads a window; `Some(false)` if it is impossible.
    #[inline]
    pub(crate) fn get_window(&mut self, bits: &mut Bits<'_>) -> Option<bool> {
        let leading = u32::from(bits.get(5)?.to_le_bytes()[0]);
        let significant = match u32::from(bits.get(6)?.to_le_bytes()[0]) {
            0 => 64,
            significant => significant,
        };
        let Some(trailing) = 64_u32.checked_sub(leading + significant) else {
            return Some(false);
        };
        (self.leading, self.trailing) = (leading, trailing);
        Some(true)
    }

    /// Reads the bits within the window. Without one, it is all 64.
    #[inline]
    pub(crate) fn get_in_window(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        if self.leading == NO_WINDOW {
            (self.leading, self.trailing) = (0, 0);
        }
        self.last ^= bits.get_long(64 - self.leading - self.trailing)? << self.trailing;
        Some(())
    }
}
