//! Reading and writing the integers and strings that all of the store's formats are made of.
//!
//! Varints are LEB128 as Go's `encoding/binary` writes them, signed ones in zigzag. Reading never panics: bytes from disk
//! may be anything.

use chunkenc::varint::{low_seven, unzigzag, zigzag};

/// Why bytes cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The bytes end within a value.
    #[error("unexpected end")]
    End,
    /// A varint is longer than 64 bits, or a number is too large for its place.
    #[error("number out of range")]
    Range,
    /// A string is not UTF-8.
    #[error("string is not utf-8")]
    Utf8,
    /// The bytes say something that the format does not allow.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Takes values off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(crate) fn be16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn be32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn be64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Range);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Range)
    }

    /// A length or count, which must fit in memory.
    #[inline]
    pub(crate) fn uvarint_len(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.uvarint()?).map_err(|_| DecodeError::Range)
    }

    /// A symbol reference or other number of 32 bits.
    #[inline]
    pub(crate) fn uvarint32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.uvarint()?).map_err(|_| DecodeError::Range)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i64, DecodeError> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// A string after its length as a varint.
    #[inline]
    pub(crate) fn str(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.uvarint_len()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::Utf8)
    }
}

#[inline]
pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_seven(value) | 0x80);
        value >>= 7;
    }
    out.push(low_seven(value));
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

#[inline]
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varints_are_those_of_go() {
        // From the documentation of encoding/binary and protobuf: 300 is ac 02, -1 is 01, 1 is 02.
        let mut out = Vec::new();
        put_uvarint(&mut out, 300);
        put_varint(&mut out, -1);
        put_varint(&mut out, 1);
        put_varint(&mut out, -64);
        assert_eq!(out, [0xac, 0x02, 0x01, 0x02, 0x7f]);
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        let ten = |last| [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, last];
        assert_eq!(Bytes::new(&ten(0x01)).uvarint(), Ok(u64::MAX));
        assert_eq!(Bytes::new(&ten(0x02)).uvarint(), Err(DecodeError::Range));
        assert_eq!(Bytes::new(&[0x80; 11]).uvarint(), Err(DecodeError::Range));
        assert_eq!(Bytes::new(&[0x80]).uvarint(), Err(DecodeError::End));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u64, b: i64, text: String) {
            let mut out = Vec::new();
            put_uvarint(&mut out, a);
            put_varint(&mut out, b);
            put_str(&mut out, &text);
            let mut bytes = Bytes::new(&out);
            prop_assert_eq!(bytes.uvarint(), Ok(a));
            prop_assert_eq!(bytes.varint(), Ok(b));
            prop_assert_eq!(bytes.str(), Ok(text.as_str()));
            prop_assert!(bytes.is_empty());
        }
    }
}
