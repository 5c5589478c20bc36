//! XOR chunks decoded on from a place that was come by before.

use model::{Columns, TimeRange, Timestamp};

use crate::xor::XorError;
use crate::xor_batch::{Decoder, append_if_sound, decode_with_care, dense_lane, keep_within};
use crate::xor_lanes::{Lane, decode_marking};

/// A place between two samples of a chunk, from which it can be decoded on without those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XorMark {
    bit: u32,
    samples: u16,
    significant: u8,
    trailing: u8,
    t: Timestamp,
    value: u64,
    delta: u64,
}

impl XorMark {
    /// After `samples` of a chunk, where `lane` is, if its bytes are those from byte `offset` of the payload on.
    fn at(lane: &Lane<'_>, samples: usize, offset: usize) -> Option<Self> {
        let &Lane { at, t, value, delta, significant, trailing, .. } = lane;
        Some(Self {
            bit: u32::try_from(offset * 8 + at).ok()?,
            samples: samples.try_into().ok()?,
            significant: significant.try_into().ok()?,
            trailing: trailing.try_into().ok()?,
            t,
            value,
            delta,
        })
    }

    /// Time of the sample before it, in milliseconds.
    #[must_use]
    pub const fn t(&self) -> Timestamp {
        self.t
    }

    /// Samples before it.
    #[must_use]
    pub const fn samples(&self) -> u16 {
        self.samples
    }

    /// The byte of the payload that it is in: what comes before is not needed.
    #[must_use]
    pub const fn byte(&self) -> usize {
        (self.bit / 8) as usize
    }

    const fn lane<'a>(&self, bytes: &'a [u8]) -> Lane<'a> {
        let &Self { t, value, delta, .. } = self;
        Lane {
            bytes,
            at: (self.bit % 8) as usize,
            first: t,
            t,
            value,
            delta,
            significant: self.significant as u32,
            trailing: self.trailing as u32,
            trailings: 0,
            deltas: delta,
        }
    }

    const fn decoder<'a>(&self, bytes: &'a [u8]) -> Decoder<'a> {
        let Lane { at, t, value, delta, significant, trailing, .. } = self.lane(bytes);
        let leading = 63 - significant - trailing;
        Decoder { bytes, at, t, value, delta, leading, trailing, windowed: true }
    }
}

/// As [`decode_xor`](crate::decode_xor), of so many samples of a chunk whose count stands elsewhere, and from `mark` on if there is one: then
/// the payload begins at the byte of the mark, and samples before it are left out. Also gives a mark for the next time, before the first sample
/// within `range`, if one is worth while.
///
/// # Errors
/// [`XorError`]; samples before the damage have been appended.
pub fn decode_xor_from(
    mark: Option<&XorMark>,
    (announced, payload): (u16, &[u8]),
    range: TimeRange,
    into: &mut Columns,
) -> Result<Option<XorMark>, XorError> {
    let dense = if mark.is_none() { dense_lane((announced, payload)) } else { None };
    let (lane, decoded) = match (mark, &dense) {
        (Some(mark), _) => (mark.lane(payload), mark.samples),
        (None, Some(dense)) => (dense.lane, 2),
        (None, None) => {
            decode_with_care(Decoder::new(payload), 0..announced, range, into)?;
            return Ok(None);
        }
    };
    let skipped = mark.map_or(0, |mark| mark.samples.min(announced));
    let mut found = None;
    let is_sound = append_if_sound(usize::from(announced - skipped), into, |times, floats| {
        let rows = match &dense {
            Some(dense) => dense.rows((times, floats)),
            None => (&mut *times, &mut *floats),
        };
        let sound;
        (sound, found) = decode_marking(lane, rows, range.min);
        (sound, keep_within(range, (times, floats)))
    });
    if is_sound {
        let offset = mark.map_or(0, XorMark::byte);
        return Ok(
            found.and_then(|(rows, lane)| XorMark::at(&lane, usize::from(decoded) + rows, offset))
        );
    }
    let decoder = mark.map_or_else(|| Decoder::new(payload), |mark| mark.decoder(payload));
    decode_with_care(decoder, skipped..announced, range, into)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xor_batch::header;
    use crate::xor_batch::tests::{ascending_samples, by_reference, chunk, taken_apart};

    proptest! {
        #[test]
        fn a_chunk_that_grows_is_decoded_on_from_its_marks(
            samples in ascending_samples(),
            ends in prop::collection::vec((any::<prop::sample::Index>(), -1_i64..2), 1..6),
        ) {
            prop_assume!(!samples.is_empty());
            let mut mark: Option<XorMark> = None;
            let ends: Vec<_> =
                ends.iter().map(|(end, off)| (end.index(samples.len()) + 1, *off)).collect();
            for (len, off) in ends {
                // As a store reads: the newest samples of a chunk that may have become longer, from a time on.
                let bytes = chunk(&samples[..len]);
                let (_, payload) = header(&bytes).unwrap();
                let min = samples[len - 1 - (len - 1) / 4].0.wrapping_add(off);
                let range = TimeRange::new(min, i64::MAX);
                let usable = mark.filter(|mark| mark.t() < min && usize::from(mark.samples()) <= len);
                let offset = usable.map_or(0, |mark| mark.byte());
                let announced = u16::try_from(len).unwrap();
                let mut columns = Columns::new();
                let from = (announced, &payload[offset..]);
                let result = decode_xor_from(usable.as_ref(), from, range, &mut columns);
                let skipped = usable.map_or(0, |mark| mark.samples());
                if let Ok(Some(found)) = result {
                    prop_assert!(found.t() < min && found.samples() >= skipped);
                    prop_assert_eq!(found.t(), samples[usize::from(found.samples()) - 1].0);
                    mark = Some(found);
                }
                let decoded = taken_apart(&columns, result.map(|_| ()));
                prop_assert_eq!(decoded, by_reference(&bytes, range));
            }
        }

        #[test]
        fn damage_behind_a_mark_is_named(
            samples in ascending_samples(),
            cut in any::<prop::sample::Index>(),
        ) {
            prop_assume!(samples.len() > 20);
            let bytes = chunk(&samples);
            let (announced, payload) = header(&bytes).unwrap();
            let range = TimeRange::new(samples[samples.len() - 1].0, i64::MAX);
            let whole = decode_xor_from(None, (announced, payload), range, &mut Columns::new());
            if let Some(mark) = whole.unwrap() {
                let rest = &payload[mark.byte()..];
                // The mark's own byte may have bits of samples before it.
                let rest = &rest[..(1 + cut.index(rest.len() + 1)).min(rest.len())];
                let mut columns = Columns::new();
                let result = decode_xor_from(Some(&mark), (announced, rest), range, &mut columns);
                let cut_off = &bytes[..bytes.len() - payload.len() + mark.byte() + rest.len()];
                let result = result.map(|_| ());
                prop_assert_eq!(taken_apart(&columns, result), by_reference(cut_off, range));
            }
        }
    }
}
