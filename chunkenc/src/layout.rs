//! What all histograms of a chunk share and its first sample states: schema, zero threshold, spans, custom bounds.

use model::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MIN, Span};

use crate::bits::{BitVec, Bits};
use crate::buckets;

/// The finest schema that is reserved for exponential buckets; those beyond 8 are coarsened when they are read.
const EXPONENTIAL_SCHEMA_RESERVED_MAX: i32 = 52;

/// The exponent, biased as in a float, that the zero threshold's byte is added to: its byte 1 is 2⁻²⁴³, 254 is 2¹⁰.
const ZERO_THRESHOLD_BIAS: u64 = 779;

/// A zero threshold that is not a power of two in reach stands in full behind this byte.
const ZERO_THRESHOLD_IN_FULL: u64 = 255;

/// 1000 times the largest custom bound that is written as a varbit number.
const SHORT_BOUND_MAX: f64 = 33_554_430.0;

/// Schema, zero threshold, spans and custom bounds of a chunk.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) positive: Vec<Span>,
    pub(crate) negative: Vec<Span>,
    pub(crate) custom_bounds: Vec<f64>,
}

/// Why a layout cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayoutError {
    Truncated,
    Malformed,
    UnknownSchema(i64),
}

impl Layout {
    pub(crate) fn put(&self, out: &mut BitVec) {
        put_zero_threshold(self.zero_threshold, out);
        out.put_varbit(i64::from(self.schema));
        put_spans(&self.positive, out);
        put_spans(&self.negative, out);
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            out.put_varbit_unsigned(self.custom_bounds.len() as u64);
            for &bound in &self.custom_bounds {
                put_bound(bound, out);
            }
        }
    }

    /// Reads a layout. Each bucket takes a bit of what follows at least, so that no more memory is asked for than `bits` can fill.
    pub(crate) fn get(bits: &mut Bits<'_>) -> Result<Self, LayoutError> {
        let zero_threshold = get_zero_threshold(bits).ok_or(LayoutError::Truncated)?;
        let number = bits.get_varbit().ok_or(LayoutError::Truncated)?;
        let schema = i32::try_from(number).map_err(|_| LayoutError::UnknownSchema(number))?;
        if schema != CUSTOM_BUCKETS_SCHEMA
            && !(EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_RESERVED_MAX).contains(&schema)
        {
            return Err(LayoutError::UnknownSchema(number));
        }
        let positive = get_spans(bits)?;
        let negative = get_spans(bits)?;
        let mut custom_bounds = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            let count = bits.get_varbit_unsigned().ok_or(LayoutError::Truncated)?;
            for _ in 0..count {
                custom_bounds.push(get_bound(bits).ok_or(LayoutError::Truncated)?);
            }
        }
        let buckets = buckets::count(&positive).saturating_add(buckets::count(&negative));
        if buckets > bits.remaining() as u64 {
            return Err(LayoutError::Truncated);
        }
        Ok(Self { schema, zero_threshold, positive, negative, custom_bounds })
    }
}

fn put_zero_threshold(threshold: f64, out: &mut BitVec) {
    if threshold == 0.0 {
        return out.put(8, 0);
    }
    let bits = threshold.to_bits();
    let exponent = bits >> 52;
    let in_reach = ZERO_THRESHOLD_BIAS + 1..ZERO_THRESHOLD_BIAS + ZERO_THRESHOLD_IN_FULL;
    // A power of two has no fraction; the sign is part of the exponent here and puts it out of reach.
    if bits << 12 == 0 && in_reach.contains(&exponent) {
        return out.put(8, exponent - ZERO_THRESHOLD_BIAS);
    }
    out.put(8, ZERO_THRESHOLD_IN_FULL);
    out.put(64, bits);
}

fn get_zero_threshold(bits: &mut Bits<'_>) -> Option<f64> {
    Some(f64::from_bits(match bits.get(8)? {
        0 => 0,
        ZERO_THRESHOLD_IN_FULL => bits.get_long(64)?,
        byte => (byte + ZERO_THRESHOLD_BIAS) << 52,
    }))
}

fn put_spans(spans: &[Span], out: &mut BitVec) {
    out.put_varbit_unsigned(spans.len() as u64);
    for span in spans {
        out.put_varbit_unsigned(u64::from(span.length));
        out.put_varbit(i64::from(span.offset));
    }
}

/// Reads spans; of those that go back or beyond the range of indices no valid histogram is made, and code that walks them relies on that.
fn get_spans(bits: &mut Bits<'_>) -> Result<Vec<Span>, LayoutError> {
    let count = bits.get_varbit_unsigned().ok_or(LayoutError::Truncated)?;
    let mut spans = Vec::new();
    let mut end = 0_i64;
    for index in 0..count {
        let length = bits.get_varbit_unsigned().ok_or(LayoutError::Truncated)?;
        let offset = bits.get_varbit().ok_or(LayoutError::Truncated)?;
        let length = u32::try_from(length).map_err(|_| LayoutError::Malformed)?;
        let offset = i32::try_from(offset).map_err(|_| LayoutError::Malformed)?;
        end += i64::from(offset) + i64::from(length);
        if index > 0 && offset < 0 || i32::try_from(end).is_err() {
            return Err(LayoutError::Malformed);
        }
        spans.push(Span { offset, length });
    }
    Ok(spans)
}

/// Thousandths up to four bytes' worth as a number, plus 1; others as 0 and in full.
fn put_bound(bound: f64, out: &mut BitVec) {
    let thousandths = (bound * 1000.0).round();
    let short = bound * 1000.0 >= 0.0 && bound * 1000.0 <= SHORT_BOUND_MAX;
    if !short || thousandths / 1000.0 != bound {
        out.put(1, 0);
        return out.put(64, bound.to_bits());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number within the bounds above"
    )]
    out.put_varbit_unsigned(thousandths as u64 + 1);
}

fn get_bound(bits: &mut Bits<'_>) -> Option<f64> {
    match bits.get_varbit_unsigned()? {
        0 => bits.get_long(64).map(f64::from_bits),
        #[expect(clippy::cast_precision_loss, reason = "as Prometheus reads larger numbers")]
        number => Some((number - 1) as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_threshold(threshold: f64, expected: &[u8]) {
        let mut bits = BitVec::new(vec![]);
        put_zero_threshold(threshold, &mut bits);
        assert_eq!(bits.as_bytes(), expected, "{threshold:e}");
        let read = get_zero_threshold(&mut Bits::new(expected)).unwrap();
        assert_eq!(read.abs().to_bits(), threshold.abs().to_bits());
    }

    /// From the description of the format: one byte for powers of two from 2⁻²⁴³ to 2¹⁰, the usual 2⁻¹²⁸ is 116.
    #[test]
    fn zero_thresholds() {
        check_threshold(0.0, &[0]);
        check_threshold(-0.0, &[0]);
        check_threshold(2_f64.powi(-243), &[1]);
        check_threshold(2_f64.powi(-128), &[116]);
        check_threshold(1024.0, &[254]);
        let in_full = |v: f64| [&[255][..], &v.to_be_bytes()].concat();
        for v in [2048.0, 2_f64.powi(-244), 0.001, -0.5, f64::INFINITY, f64::MIN_POSITIVE / 4.0] {
            check_threshold(v, &in_full(v));
        }
    }

    fn check_bound(bound: f64, bits_expected: usize) {
        let mut bits = BitVec::new(vec![]);
        put_bound(bound, &mut bits);
        let mut reader = Bits::new(bits.as_bytes());
        let read = get_bound(&mut reader).unwrap();
        assert_eq!(read.to_bits(), bound.to_bits());
        assert_eq!(bits.as_bytes().len() * 8 - reader.remaining(), bits_expected, "{bound}");
    }

    #[test]
    fn custom_bounds() {
        check_bound(0.0, 5);
        check_bound(0.006, 5);
        check_bound(0.007, 9);
        check_bound(0.1, 13);
        check_bound(33_554.430, 32);
        check_bound(33_554.431, 65);
        check_bound(0.000_5, 65);
        check_bound(-1.0, 65);
        check_bound(f64::INFINITY, 65);
        check_bound(f64::NAN, 65);
    }

    #[test]
    fn spans_that_no_histogram_has_are_refused() {
        let check = |spans: &[Span], expected: Option<LayoutError>| {
            let layout = Layout { positive: spans.to_vec(), ..Layout::default() };
            let mut bits = BitVec::new(vec![]);
            layout.put(&mut bits);
            bits.put(64, 0);
            assert_eq!(Layout::get(&mut Bits::new(bits.as_bytes())).err(), expected, "{spans:?}");
        };
        let span = |offset, length| Span { offset, length };
        check(&[span(-5, 3), span(0, 0), span(2, 60)], None);
        check(&[span(0, 80)], Some(LayoutError::Truncated));
        check(&[span(0, u32::MAX)], Some(LayoutError::Malformed));
        check(&[span(0, 1), span(-1, 1)], Some(LayoutError::Malformed));
        check(&[span(i32::MAX, 1)], Some(LayoutError::Malformed));
    }
}
