//! Floats as Go's `strconv.ParseFloat` reads them.

/// Reads a float; `None` if it is not one, or is beyond the largest finite one.
///
/// Infinity may have a sign, NaN may not. Hexadecimal numbers have an exponent, which is a power of two.
pub fn parse(text: &str) -> Option<f64> {
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    let without;
    let unsigned = if unsigned.contains('_') {
        without = without_underscores(unsigned)?;
        &without
    } else {
        unsigned
    };
    let magnitude = match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        Some(digits) => parse_hexadecimal(digits)?,
        None if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            unsigned.parse().ok()?
        }
        None => return None,
    };
    magnitude.is_finite().then_some(sign * magnitude)
}

/// Underscores may stand between digits, and between the prefix of a hexadecimal number and its digits.
fn without_underscores(number: &str) -> Option<String> {
    let bytes = number.as_bytes();
    let hexadecimal = number.starts_with("0x") || number.starts_with("0X");
    let is_digit = |at: usize| {
        bytes.get(at).is_some_and(|b| {
            b.is_ascii_digit() || (hexadecimal && (b.is_ascii_hexdigit() || at == 1))
        })
    };
    let mut underscores = (0..bytes.len()).filter(|at| bytes[*at] == b'_');
    underscores
        .all(|at| at > 0 && is_digit(at - 1) && is_digit(at + 1))
        .then(|| number.replace('_', ""))
}

/// `digits` follow the prefix.
fn parse_hexadecimal(digits: &str) -> Option<f64> {
    /// Beyond any exponent that matters.
    const EXPONENT_MAX: i64 = 1 << 32;
    let (mantissa, exponent) = digits.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let magnitude = unsigned.parse::<i64>().map_or(EXPONENT_MAX, |e| e.min(EXPONENT_MAX));
    let mut exponent = if exponent.starts_with('-') { -magnitude } else { magnitude };
    // Of digits that do not fit, all that matters is whether any is not zero.
    let mut bits = 0_u64;
    for (in_fraction, c) in
        whole.chars().map(|c| (false, c)).chain(fraction.chars().map(|c| (true, c)))
    {
        let digit = u64::from(c.to_digit(16)?);
        let fits = bits < 1 << 58;
        if fits {
            bits = bits << 4 | digit;
        } else if digit != 0 {
            bits |= 1;
        }
        exponent += match (in_fraction, fits) {
            (false, true) | (true, false) => 0,
            (false, false) => 4,
            (true, true) => -4,
        };
    }
    Some(scale(bits, exponent))
}

/// `bits` times two to the `exponent`, rounded once, to even.
fn scale(bits: u64, exponent: i64) -> f64 {
    const LEAST: i64 = -1074;
    if bits == 0 {
        return 0.0;
    }
    let length = i64::from(u64::BITS - bits.leading_zeros());
    let unit = (exponent + length - 53).max(LEAST);
    let (rounded, unit) = match unit - exponent {
        dropped @ 65.. => {
            debug_assert!(dropped > length);
            return 0.0;
        }
        dropped @ 1.. => {
            let wide = u128::from(bits);
            let half = 1_u128 << (dropped - 1);
            let rest = wide & ((half << 1) - 1);
            let kept = wide >> dropped;
            (kept + u128::from(rest > half || (rest == half && kept & 1 == 1)), unit)
        }
        _ => (u128::from(bits), exponent),
    };
    let Ok(unit) = i32::try_from(unit.clamp(-4000, 4000)) else { return 0.0 };
    // In two steps, as the power alone may be too small for a float.
    #[expect(clippy::cast_precision_loss, reason = "it was rounded to what fits")]
    let rounded = rounded as f64;
    rounded * 2_f64.powi(unit / 2) * 2_f64.powi(unit - unit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these are floats is what Prometheus says of them as bounds of buckets.
    #[test]
    fn floats_are_those_of_go() {
        for (text, expected) in [
            ("1.5e3", 1500.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("0x1p1", 2.0),
            ("-0X1.8p-1", -0.75),
            ("0x1p-1074", f64::from_bits(1)),
            ("0x1.8p-1075", f64::from_bits(1)),
            ("0x1p-1075", 0.0),
            ("0x1p-99999999999999999999", 0.0),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000001p0", 1.0 + f64::EPSILON),
            ("1e-400", 0.0),
            ("1_0", 10.0),
            ("0x_1p1", 2.0),
            ("0x1_0p0", 16.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("+INF", f64::INFINITY),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        assert!(parse("NaN").unwrap().is_nan());
        for text in [
            "1e400", "-nan", "+nan", "0x1", "0xp1", "0x1p", "1e", "", " 1", "1_", "0b1",
            "0x1p1024", "+-1", "infi",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
