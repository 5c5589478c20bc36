//! The arithmetic of varints: LEB128 as Go's `encoding/binary` writes them, signed ones in zigzag.

/// The signed number that zigzag maps to `value`.
#[inline]
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Small numbers of either sign as small numbers.
#[inline]
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The lowest seven bits of `value`.
#[inline]
#[must_use]
pub const fn low_seven(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}
