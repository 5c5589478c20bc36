//! Numbers of things and lengths of time, as people say them.

/// So many of something, in the singular or the plural.
pub(crate) fn counted(count: impl Into<i64>, what: &str) -> String {
    let count = count.into();
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A length of time by its two largest units, such as `328d 22h` or `1m 30s`; what is below is dropped. Its sign is, too.
pub(crate) fn span(ms: i64) -> String {
    let ms = ms.unsigned_abs();
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let seconds = ms / 1000;
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(units.len() - 1);
    let mut left = seconds;
    let mut parts = Vec::new();
    for (name, unit) in units.iter().skip(first).take(2) {
        if left / unit > 0 {
            parts.push(format!("{}{name}", left / unit));
        }
        left %= unit;
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        for (count, text) in [(0, "0 pods"), (1, "1 pod"), (2, "2 pods"), (-1, "-1 pods")] {
            assert_eq!(counted(count, "pod"), text);
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (15_000, "15s"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (3_630_000, "1h"),
            (604_800_000, "7d"),
            (90_061_000, "1d 1h"),
            // 7894h 45m 30s
            (28_421_130_000, "328d 22h"),
            (-15_000, "15s"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
