//! Floats as Go prints them: the shortest digits that read back to the same value.

use std::fmt;

/// A layout of digits and exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatFormat {
    /// Go's `'g'` and `%v`: an exponent below 1e-4 and from 1e6 on (`1.5e+06`). Exposition formats.
    General,
    /// The Prometheus HTTP API: an exponent below 1e-6 and from 1e21 on.
    Api,
    /// Go's `'f'`: never an exponent.
    Plain,
}

impl FloatFormat {
    /// Below this, whole numbers are written as they are: without an exponent, and all of their digits are needed.
    const fn whole_max(self) -> f64 {
        match self {
            Self::General => 1e6,
            // 2⁵³: up to there any two doubles are a whole number apart.
            Self::Api | Self::Plain => 9_007_199_254_740_992.0,
        }
    }

    /// From where on, up to [`whole_max`](Self::whole_max), `zmij` lays numbers that are not whole out as the format does.
    const fn like_zmij_from(self) -> f64 {
        match self {
            Self::General => 1e-4,
            Self::Api | Self::Plain => 1e-5,
        }
    }
}

/// Appends `v` to `out`.
pub fn write_float(out: &mut Vec<u8>, v: f64, format: FloatFormat) {
    match ShortFloatBuffer::default().format(v, format) {
        Some(float) => {
            let mut short = [0; SHORT_FLOAT_BYTES];
            let end = out.len() + float.put(&mut short);
            // A copy of a size that is known takes an instruction or two.
            out.extend_from_slice(&short);
            out.truncate(end);
        }
        None => write_any(out, v, format),
    }
}

/// Room that it takes to write a [`ShortFloat`].
pub const SHORT_FLOAT_BYTES: usize = 32;

/// The text of a value that is one of those that most are: zero, or finite, without an exponent and not very long.
#[derive(Clone, Copy, Debug)]
pub struct ShortFloat<'b> {
    is_negative: bool,
    digits: &'b str,
}

/// Where the digits of a [`ShortFloat`] are written.
///
/// They are written in pieces there, and until these have left a processor it is slow to copy them as a whole. Who writes many values does well
/// to write the digits of some before the first is copied.
pub struct ShortFloatBuffer {
    whole: itoa::Buffer,
    other: zmij::Buffer,
}

impl fmt::Debug for ShortFloatBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortFloatBuffer").finish_non_exhaustive()
    }
}

impl Default for ShortFloatBuffer {
    #[inline]
    fn default() -> Self {
        Self { whole: itoa::Buffer::new(), other: zmij::Buffer::new() }
    }
}

impl ShortFloatBuffer {
    /// Writes the digits of `v`; `None` if it is not a [`ShortFloat`].
    #[inline]
    pub fn format(&mut self, v: f64, format: FloatFormat) -> Option<ShortFloat<'_>> {
        let is_negative = v.is_sign_negative();
        let v = v.abs();
        // Not so if it is not a number.
        let is_short = v < format.whole_max();
        // Most values are whole, and their digits need no search for the shortest form.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "positive; what is not below 2⁵³ is not written from the cast"
        )]
        if is_short && v as i64 as f64 == v {
            return Some(ShortFloat { is_negative, digits: self.whole.format(v as i64) });
        }
        if is_short && v >= format.like_zmij_from() {
            return Some(ShortFloat { is_negative, digits: self.other.format_finite(v) });
        }
        None
    }
}

impl ShortFloat<'_> {
    /// Writes it to the start of `out` and tells how many bytes it takes. What follows is of no meaning then.
    #[inline]
    #[must_use]
    pub fn put(self, out: &mut [u8; SHORT_FLOAT_BYTES]) -> usize {
        out[0] = b'-';
        put_short(out, usize::from(self.is_negative), self.digits.as_bytes())
    }
}

/// Copies a text of one to 24 bytes to `at`, 0 or 1; gives its end. Two copies of a size that is known, which may overlap, take less time than a call
/// for one of any size.
#[inline]
fn put_short(out: &mut [u8; SHORT_FLOAT_BYTES], at: usize, text: &[u8]) -> usize {
    #[inline]
    fn put_ends<const N: usize>(out: &mut [u8; SHORT_FLOAT_BYTES], at: usize, text: &[u8]) {
        if let (Some(start), Some(last)) = (text.first_chunk::<N>(), text.last_chunk::<N>()) {
            let end = at + text.len();
            if let Some(to) = out[at..].first_chunk_mut() {
                *to = *start;
            }
            if let Some(to) = out[..end].last_chunk_mut() {
                *to = *last;
            }
        }
    }
    match text.len() {
        16.. => put_ends::<16>(out, at, text),
        8..16 => put_ends::<8>(out, at, text),
        4..8 => put_ends::<4>(out, at, text),
        2..4 => put_ends::<2>(out, at, text),
        _ => put_ends::<1>(out, at, text),
    }
    at + text.len()
}

/// Appends what is not a [`ShortFloat`].
#[cold]
fn write_any(out: &mut Vec<u8>, v: f64, format: FloatFormat) {
    if v.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if v.is_infinite() {
        return out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if v.is_sign_negative() {
        out.push(b'-');
    }
    let v = v.abs();
    let mut buffer = zmij::Buffer::new();
    write_laid_out(out, v, buffer.format_finite(v), format);
}

/// Writes `v`, of which `text` has the shortest digits, as the format lays them out.
fn write_laid_out(out: &mut Vec<u8>, v: f64, text: &str, format: FloatFormat) {
    let (digits, point) = shortest_digits(text);
    let digits = digits.as_slice();
    let exponent = point - 1;
    let with_exponent = match format {
        FloatFormat::General => !(-4..6).contains(&exponent),
        FloatFormat::Api => !(1e-6..1e21).contains(&v),
        FloatFormat::Plain => false,
    };
    if with_exponent {
        write_scientific(out, digits, exponent);
    } else {
        write_positional(out, digits, point);
    }
}

/// `v` in the given layout.
///
/// # Panics
/// Never: digits, signs and letters are ASCII.
#[must_use]
pub fn format_float(v: f64, format: FloatFormat) -> String {
    let mut out = Vec::with_capacity(24);
    write_float(&mut out, v, format);
    String::from_utf8(out).expect("digits, signs and letters are ASCII")
}

/// Decimal digits without leading or trailing zeros, and the position of the point relative to their start.
fn shortest_digits(text: &str) -> (Digits, i32) {
    let (mantissa, exponent) = match text.split_once('e') {
        Some((m, e)) => (m, e.parse::<i32>().expect("zmij writes a decimal exponent")),
        None => (text, 0),
    };
    let mut digits = Digits::default();
    let mut point = 0;
    let mut seen_point = false;
    for b in mantissa.bytes() {
        if b == b'.' {
            seen_point = true;
        } else if b == b'0' && digits.len == 0 {
            point -= i32::from(seen_point);
        } else {
            digits.push(b);
            point += i32::from(!seen_point);
        }
    }
    digits.trim_zeros();
    (digits, point + exponent)
}

/// At most the 17 significant digits of a double, with room for zeros that zmij writes before the point.
#[derive(Default)]
struct Digits {
    bytes: [u8; 32],
    len: usize,
}

impl Digits {
    fn push(&mut self, digit: u8) {
        self.bytes[self.len] = digit;
        self.len += 1;
    }

    fn trim_zeros(&mut self) {
        while self.len > 1 && self.bytes[self.len - 1] == b'0' {
            self.len -= 1;
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn write_scientific(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
}

fn write_positional(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    let Ok(whole) = usize::try_from(point) else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + point.unsigned_abs() as usize, b'0');
        return out.extend_from_slice(digits);
    };
    if whole == 0 {
        out.extend_from_slice(b"0.");
        out.extend_from_slice(digits);
    } else if whole >= digits.len() {
        out.extend_from_slice(digits);
        out.resize(out.len() + whole - digits.len(), b'0');
    } else {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(v: f64, general: &str, api: &str, plain: &str) {
        assert_eq!(format_float(v, FloatFormat::General), general);
        assert_eq!(format_float(v, FloatFormat::Api), api);
        assert_eq!(format_float(v, FloatFormat::Plain), plain);
    }

    #[test]
    fn layouts_follow_go() {
        check(0.0, "0", "0", "0");
        check(-0.0, "-0", "-0", "-0");
        check(1.0, "1", "1", "1");
        check(-1.5, "-1.5", "-1.5", "-1.5");
        check(999_999.0, "999999", "999999", "999999");
        check(1e6, "1e+06", "1000000", "1000000");
        check(1_418_183_276.0, "1.418183276e+09", "1418183276", "1418183276");
        check(123_456.75, "123456.75", "123456.75", "123456.75");
        check(0.0001, "0.0001", "0.0001", "0.0001");
        check(0.00001, "1e-05", "0.00001", "0.00001");
        check(1e-7, "1e-07", "1e-07", "0.0000001");
        check(0.1 + 0.2, "0.30000000000000004", "0.30000000000000004", "0.30000000000000004");
        check(1e21, "1e+21", "1e+21", "1000000000000000000000");
        check(1e20, "1e+20", "100000000000000000000", "100000000000000000000");
        check(1.25e-300, "1.25e-300", "1.25e-300", &format!("0.{}125", "0".repeat(299)));
        check(f64::NAN, "NaN", "NaN", "NaN");
        check(f64::INFINITY, "+Inf", "+Inf", "+Inf");
        check(f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf");
        check(10.0, "10", "10", "10");
        check(1_200_000.0, "1.2e+06", "1200000", "1200000");
    }

    /// Values of all magnitudes, whole ones and others, and their neighbours.
    fn values() -> impl Iterator<Item = f64> {
        let mut state: u64 = 1;
        let random = (0..20_000).map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            let magnitude = 10_f64.powi(i32::try_from(state >> 59).unwrap() - 10);
            let v = (state >> 11) as f64 / 9e15 * magnitude;
            [v, v.trunc(), (v * 100.0).round() / 100.0]
        });
        let edges = [1e-6, 1e-5, 1e-4, 1e6, 1e15, 9_007_199_254_740_992.0, 1e16, 1e21];
        let edges = edges.map(|v: f64| [v.next_down(), v, v.next_up()]);
        random.chain(edges).flatten().filter(|v| *v > 0.0)
    }

    #[test]
    fn shortcuts_lead_to_the_same_digits() {
        for v in values() {
            for format in [FloatFormat::General, FloatFormat::Api, FloatFormat::Plain] {
                let mut laid_out = Vec::new();
                let mut buffer = zmij::Buffer::new();
                write_laid_out(&mut laid_out, v, buffer.format_finite(v), format);
                let expected = String::from_utf8(laid_out).unwrap();
                assert_eq!(format_float(v, format), expected, "{v:e} as {format:?}");
            }
        }
    }

    /// Of two shortest forms that are equally near, Prometheus and `ryu` take the even one (787447446044675.25 ends in 2, not in 3).
    #[test]
    fn digits_are_those_of_ryu() {
        let mut bits: u64 = 0x0123_4567_89ab_cdef;
        let random = (0..100_000).map(|_| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(17);
            f64::from_bits(bits & !(1 << 63))
        });
        let tie = 787_447_446_044_675.0 + 0.25;
        let ties = (0..10_000).map(|i| tie + f64::from(i));
        for v in values().chain(random).chain(ties).filter(|v| v.is_finite()) {
            let (digits, point) = shortest_digits(zmij::Buffer::new().format_finite(v));
            let (expected, expected_point) = shortest_digits(ryu::Buffer::new().format_finite(v));
            assert_eq!(digits.as_slice(), expected.as_slice(), "{v:e}");
            assert_eq!(point, expected_point, "{v:e}");
        }
        assert_eq!(format_float(tie, FloatFormat::Api), "787447446044675.2");
    }

    #[test]
    fn digits_read_back_to_the_same_value() {
        let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..20_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let v = f64::from_bits(bits);
            if v.is_nan() {
                continue;
            }
            for format in [FloatFormat::General, FloatFormat::Api, FloatFormat::Plain] {
                let back: f64 = format_float(v, format).parse().unwrap();
                assert_eq!(back.to_bits(), v.to_bits(), "{v:e} as {format:?}");
            }
        }
    }
}
