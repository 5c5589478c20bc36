//! Start timestamps within a chunk: of the first sample if it has one, then nothing until one changes, then one for each sample.
//!
//! A byte of the chunk's header says whether the first is known (bit 7) and at which sample they begin to be listed (bits 0 to 6; 0 is
//! never). A start is written as its distance to the time of the sample *before*, and distances as differences to the last one.

use model::Timestamp;

use crate::bits::{BitVec, Bits};

const FIRST_KNOWN: u8 = 0x80;

/// The last sample at which listing can begin: the header has seven bits for it.
const LISTED_FROM_MAX: u16 = 0x7f;

/// The start timestamps of a chunk, while it is written or read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts {
    last: Timestamp,
    /// Time of the sample before, less the start.
    distance: i64,
    listed_from: u8,
    first_known: bool,
}

impl Starts {
    /// As the byte of the header says.
    pub(crate) fn from_header(header: u8) -> Self {
        Self {
            listed_from: header & !FIRST_KNOWN,
            first_known: header & FIRST_KNOWN != 0,
            ..Self::default()
        }
    }

    /// The byte of the header.
    pub(crate) const fn header(&self) -> u8 {
        self.listed_from | if self.first_known { FIRST_KNOWN } else { 0 }
    }

    /// The start of the sample that was written or read last; 0 is unknown.
    pub(crate) const fn last(&self) -> Timestamp {
        self.last
    }

    /// Writes the start of sample number `index`, after the rest of it.
    pub(crate) fn put(
        &mut self,
        index: u16,
        t: Timestamp,
        previous_t: Timestamp,
        start: Timestamp,
        out: &mut BitVec,
    ) {
        let distance = previous_t.wrapping_sub(start);
        if index == 0 {
            if start != 0 {
                self.first_known = true;
                out.put_varint(t.wrapping_sub(start));
            }
        } else if self.listed_from > 0 {
            out.put_varbit(distance.wrapping_sub(self.distance));
            self.distance = distance;
        } else if start != self.last || index == LISTED_FROM_MAX {
            self.listed_from = index.to_le_bytes()[0];
            out.put_varbit(distance);
            self.distance = distance;
        }
        self.last = start;
    }

    /// Reads the start of sample number `index`; the error of the inner result is an impossible number.
    pub(crate) fn get(
        &mut self,
        index: u16,
        t: Timestamp,
        previous_t: Timestamp,
        bits: &mut Bits<'_>,
    ) -> Option<Result<(), ()>> {
        if index == 0 {
            if self.first_known {
                match bits.get_varint()? {
                    Ok(distance) => self.last = t.wrapping_sub(distance),
                    Err(()) => return Some(Err(())),
                }
            }
        } else if self.listed_from > 0 && index >= u16::from(self.listed_from) {
            let number = bits.get_varbit()?;
            let first = index == u16::from(self.listed_from);
            self.distance = if first { number } else { self.distance.wrapping_add(number) };
            self.last = previous_t.wrapping_sub(self.distance);
        }
        Some(Ok(()))
    }
}
