//! Tables, times and sizes as promtool prints them.

use std::io::{self, Write};

use model::Timestamp;
use tsdb::tools::BlockSummary;

/// Narrowest column, and blanks between columns.
const COLUMN_MIN: usize = 13;
const PADDING: usize = 2;

/// Writes one line a block, under a heading.
pub(super) fn blocks(out: &mut dyn Write, blocks: &[BlockSummary], human: bool) -> io::Result<()> {
    let heading = [
        "BLOCK ULID",
        "MIN TIME",
        "MAX TIME",
        "DURATION",
        "NUM SAMPLES",
        "NUM CHUNKS",
        "NUM SERIES",
        "SIZE",
    ];
    let mut rows = vec![heading.map(String::from)];
    rows.extend(blocks.iter().map(|block| {
        [
            block.ulid.clone(),
            if human { date(block.min_time) } else { block.min_time.to_string() },
            if human { date(block.max_time) } else { block.max_time.to_string() },
            duration(block.max_time.saturating_sub(block.min_time)),
            block.samples.to_string(),
            block.chunks.to_string(),
            block.series.to_string(),
            if human { config::format_size(block.bytes) } else { block.bytes.to_string() },
        ]
    }));
    table(out, &rows)
}

/// Writes columns as wide as their widest cell; the last is not filled up.
fn table<const N: usize>(out: &mut dyn Write, rows: &[[String; N]]) -> io::Result<()> {
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (widest + PADDING).max(COLUMN_MIN)
    };
    let widths: Vec<usize> = (0..N.saturating_sub(1)).map(width).collect();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            write!(out, "{cell:width$}")?;
        }
        writeln!(out, "{}", row.last().map_or("", String::as_str))?;
    }
    Ok(())
}

/// `2015-07-01 20:10:30 +0000 UTC`, to the second; milliseconds where the calendar has no such time.
fn date(t: Timestamp) -> String {
    match jiff::Timestamp::from_second(t / 1000) {
        Ok(instant) => instant.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => t.to_string(),
    }
}

/// A span as Go prints it: `2h0m0s`, `1m0.5s`, `782ms`.
pub(super) fn duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return String::from("0s");
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let mut seconds = format!("{}.{:03}", ms / 1000 % 60, ms % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match (ms / 3_600_000, ms / 60_000 % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_printed_as_go_does() {
        for (ms, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (782, "782ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (60_050, "1m0.05s"),
            (70_000, "1m10s"),
            (7_200_000, "2h0m0s"),
            (129_600_001, "36h0m0.001s"),
            (-1_500, "-1.5s"),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }

    #[test]
    fn dates() {
        assert_eq!(date(1_435_781_430_781), "2015-07-01 20:10:30 +0000 UTC");
        assert_eq!(date(-1), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(date(i64::MAX), "9223372036854775807");
    }

    #[test]
    fn columns_are_aligned() {
        let mut out = Vec::new();
        let rows = [["a", "NUM SAMPLES", "x"], ["a longer cell", "1", ""]]
            .map(|row| row.map(String::from));
        table(&mut out, &rows).unwrap();
        let expected = "a              NUM SAMPLES  x\na longer cell  1            \n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
