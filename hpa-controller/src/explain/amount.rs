//! Numbers as people read them.

use metrics_api::{Format, Quantity};

/// A value in thousandths of what the resource is measured in: memory in the binary units that are usual for it, the rest as
/// Kubernetes writes quantities.
pub(super) fn amount(resource: &str, milli: i64) -> String {
    const UNITS: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
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

/// So many of something, in the singular or the plural.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A ratio, to the thousandth.
pub(super) fn ratio(value: f64) -> String {
    if value > 1e6 { String::from("more than a million") } else { digits(value, 3) }
}

/// A time span, as `1h5m30s`.
pub(super) fn duration(ms: i64) -> String {
    let mut text = Vec::new();
    metrics_api::write_duration(&mut text, ms);
    let text = String::from_utf8(text).unwrap_or_default();
    let short = text.strip_suffix("m0s").map(|rest| format!("{rest}m"));
    let short = short.unwrap_or(text);
    short.strip_suffix("h0m").map(|rest| format!("{rest}h")).unwrap_or(short)
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
            ("", 12_500, "12500m"),
            ("", 1_500_000, "1500"),
        ] {
            assert_eq!(amount(resource, milli), expected, "{resource} {milli}");
        }
    }

    #[test]
    fn ratios_and_durations_are_short() {
        assert_eq!(ratio(1.5), "1.5");
        assert_eq!(ratio(0.0), "0");
        assert_eq!(ratio(0.888_888), "0.889");
        assert_eq!(ratio(f64::MAX), "more than a million");
        assert_eq!(duration(300_000), "5m");
        assert_eq!(duration(3_600_000), "1h");
        assert_eq!(duration(90_500), "1m30.5s");
        assert_eq!(duration(15_000), "15s");
        assert_eq!(duration(600_000), "10m");
    }
}
