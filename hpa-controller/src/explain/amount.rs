//! Numbers as people read them.

use metrics_api::{Format, Quantity};

/// A value in thousandths of what the resource is measured in: memory in the binary units that are usual for it, other resources as
/// Kubernetes writes quantities, and what is no resource (an empty name) as a decimal number.
pub(super) fn amount(resource: &str, milli: i64) -> String {
    const UNITS: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if resource.is_empty() {
        return decimal(milli);
    }
    let bytes = milli / 1000;
    if !matches!(resource, "memory" | "ephemeral-storage") || bytes < 1024 {
        return Quantity::new(i128::from(milli), -3, Format::DecimalSi).to_string();
    }
    let unit = UNITS.iter().enumerate().rev().find(|(at, _)| bytes >> (10 * (at + 1)) > 0);
    let Some((at, unit)) = unit else { return bytes.to_string() };
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let value = bytes as f64 / (1u64 << (10 * (at + 1))) as f64;
    format!("{}{unit}", digits(value, 1))
}

fn decimal(milli: i64) -> String {
    let sign = if milli < 0 { "-" } else { "" };
    let (whole, rest) = (milli.unsigned_abs() / 1000, milli.unsigned_abs() % 1000);
    let text = format!("{sign}{whole}.{rest:03}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A ratio, to the thousandth.
pub(super) fn ratio(value: f64) -> String {
    if value > 1e6 { String::from("more than a million") } else { digits(value, 3) }
}

/// At most so many digits behind the point, none that is a zero at the end.
fn digits(value: f64, most: usize) -> String {
    let text = format!("{value:.most$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_in_their_resources_units() {
        for (resource, milli, expected) in [
            ("cpu", 450, "450m"),
            ("cpu", 2000, "2"),
            ("cpu", 0, "0"),
            ("memory", 524_288_000_333, "500Mi"),
            ("memory", 1_610_612_736_000, "1.5Gi"),
            ("memory", 1_023_000, "1023"),
            ("memory", 1_024_000, "1Ki"),
            // 9,223,372,036,854,775 bytes are 8.19 times 2^50.
            ("memory", i64::MAX, "8.2Pi"),
            ("", 12_500, "12.5"),
            ("", 1_500_000, "1500"),
            ("", 0, "0"),
            ("", -31_666, "-31.666"),
            ("", i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(amount(resource, milli), expected, "{resource} {milli}");
        }
    }

    #[test]
    fn ratios_are_short() {
        assert_eq!(ratio(1.5), "1.5");
        assert_eq!(ratio(0.0), "0");
        assert_eq!(ratio(0.888_888), "0.889");
        assert_eq!(ratio(f64::MAX), "more than a million");
    }
}
