//! How far back a query looks.

use model::parse_duration;

/// The longest range of `query`, in seconds rounded up; `None` when there is none, or when it cannot be told: ranges of
/// subqueries add up.
pub(crate) fn of_query(query: &str) -> Option<i64> {
    let mut longest_ms = 0;
    let mut left = query;
    while let Some(at) = left.find(['[', '"', '\'', '`']) {
        let opened = left[at..].chars().next()?;
        let inner = &left[at + 1..];
        if opened != '[' {
            left = after_string(inner, opened)?;
            continue;
        }
        let (range, after) = inner.split_once(']')?;
        if range.contains(':') {
            return None;
        }
        longest_ms = longest_ms.max(parse_duration(range.trim()).ok()?.as_millis());
        left = after;
    }
    i64::try_from(longest_ms.div_ceil(1000)).ok().filter(|&seconds| seconds > 0)
}

fn after_string(inner: &str, quote: char) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return Some(&inner[at + 1..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_found() {
        for (query, expected) in [
            ("sum(rate(<<.Series>>{<<.LabelMatchers>>}[5m])) by (<<.GroupBy>>)", Some(300)),
            ("rate(a[2m]) / rate(b[10m])", Some(600)),
            ("rate(a[1m30s])", Some(90)),
            ("rate(a[500ms])", Some(1)),
            ("sum(a)", None),
            ("max_over_time(rate(a[1m])[1h:5m])", None),
            ("rate(a{b=~\"[5m]\"}[2m])", Some(120)),
            ("rate(a{b=~\"\\\"[9m]\"}[2m])", Some(120)),
            ("rate(a[<<.Series>>])", None),
            ("rate(a[2m)", None),
        ] {
            assert_eq!(of_query(query), expected, "{query}");
        }
    }
}
