//! Lines over time as SVG that stretches with the page, and labels beside it as HTML that does not.

use std::fmt::Write;

use super::{Setting, span};
use crate::replay::instant;

/// Width and height of the drawing's own coordinates.
const SIDE: f64 = 1000.0;

/// Most columns of a line: more than a screen shows is folded into their lowest and highest values.
const COLUMNS_MAX: usize = 900;

/// About how many labels an axis has.
const TICKS: f64 = 5.0;

/// Lengths of time between two labels, in seconds.
const TIME_STEPS: [i64; 17] = [
    1,
    5,
    15,
    30,
    60,
    300,
    900,
    1800,
    3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    86_400,
    2 * 86_400,
    7 * 86_400,
    28 * 86_400,
    91 * 86_400,
];

/// A line.
pub(super) struct Line<'l> {
    pub(super) label: &'l str,
    /// Style of the line: `recorded`, or a number.
    pub(super) class: String,
    /// A value for each time; NaN is a gap.
    pub(super) values: Vec<f64>,
    /// Each value holds until the next.
    pub(super) steps: bool,
}

/// A plot of lines over the same times.
pub(super) struct Plot<'l> {
    pub(super) title: String,
    pub(super) lines: Vec<Line<'l>>,
    /// A value that is marked by a line of its own.
    pub(super) mark: Option<f64>,
}

impl Plot<'_> {
    pub(super) fn write(&self, out: &mut String, setting: &Setting) {
        let finite = self.lines.iter().flat_map(|line| &line.values).filter(|v| v.is_finite());
        let highest = finite.copied().chain(self.mark).fold(0.0, f64::max);
        let (top, tick) = scale(highest);
        let title = escaped(&self.title);
        let _ = write!(out, "<figure><figcaption>{title}</figcaption><ul class=\"legend\">");
        for line in &self.lines {
            let (class, label) = (&line.class, escaped(line.label));
            let _ = write!(
                out,
                "<li><svg class=\"key\" viewBox=\"0 0 24 6\" aria-hidden=\"true\">\
                 <path class=\"{class}\" d=\"M0 3H24\"/></svg>{label}</li>"
            );
        }
        out.push_str("</ul><div class=\"plot\">");
        let mut grid = String::new();
        let mut value = 0.0;
        while value <= top * 1.0001 {
            let y = height(value, top);
            let text = escaped(&short(value));
            let _ = write!(out, "<span class=\"y\" style=\"top:{:.2}%\">{text}</span>", y / 10.0);
            let _ = write!(grid, "M0 {y:.1}H{SIDE}");
            value += tick;
        }
        for (count, (share, label)) in times(setting).into_iter().enumerate() {
            // On a narrow page every other label has room.
            let odd = if count % 2 == 0 { "" } else { " odd" };
            // The last one would run over the edge of the page.
            let end = if share > 0.95 { " end" } else { "" };
            let percent = share * 100.0;
            let _ = write!(
                out,
                "<span class=\"x{odd}{end}\" style=\"left:{percent:.2}%\">{label}</span>"
            );
            let _ = write!(grid, "M{:.1} 0V{SIDE}", share * SIDE);
        }
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{title}\"><path class=\"grid\" d=\"{grid}\"/>"
        );
        if let Some(mark) = self.mark {
            let y = height(mark, top);
            let _ = write!(out, "<path class=\"mark\" d=\"M0 {y:.1}H{SIDE}\"/>");
        }
        for line in &self.lines {
            let path = path(&line.values, line.steps, top);
            let _ = write!(out, "<path class=\"{}\" d=\"{path}\"/>", line.class);
        }
        out.push_str("</svg></div></figure>\n");
    }
}

/// The top of an axis that begins at 0, and the distance of its labels: 1, 2 or 5 times a power of ten.
fn scale(highest: f64) -> (f64, f64) {
    if !(highest > 0.0 && highest.is_finite()) {
        return (1.0, 1.0);
    }
    let rough = highest / TICKS;
    let power = 10.0_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough * 0.9999);
    let tick = factor.unwrap_or(10.0) * power;
    let top = (highest / tick * 0.9999).ceil() * tick;
    if top.is_finite() && tick > 0.0 { (top, tick) } else { (highest, highest) }
}

fn height(value: f64, top: f64) -> f64 {
    SIDE - value / top * SIDE
}

/// A value as short as can be: 1500000 is 1.5M.
fn short(value: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (unit, suffix) = units.into_iter().find(|(unit, _)| value >= *unit).unwrap_or((1.0, ""));
    let text = format!("{:.3}", value / unit);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{suffix}")
}

/// Labels of times, and where they stand, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a replay is short against 2^53 ms")]
fn times(setting: &Setting) -> Vec<(f64, String)> {
    const LABELS_MAX: i64 = 8;
    let (from, to) = (setting.grid.from(), setting.grid.to());
    let length = to - from;
    let fits = |step: &&i64| length / (**step * 1000) <= LABELS_MAX;
    let step = TIME_STEPS.iter().find(fits).copied().unwrap_or(length / 1000 / LABELS_MAX).max(1);
    let step_ms = step * 1000;
    let first = if setting.simulated { from } else { from.div_euclid(step_ms) * step_ms };
    let mut times = Vec::new();
    let mut at = first;
    while at <= to {
        if at >= from {
            let text = instant(at);
            let label = match (setting.simulated, text.get(5..10), text.get(11..19)) {
                (true, ..) if at == from => String::from("0"),
                (true, ..) => span(at - from),
                (false, Some(day), Some(time)) if step < 86_400 => {
                    let end = if step < 60 { time.len() } else { 5 };
                    format!("{day} {}", &time[..end])
                }
                (false, Some(day), _) => String::from(day),
                (false, None, _) => text,
            };
            times.push(((at - from) as f64 / length as f64, escaped(&label)));
        }
        at += step_ms;
    }
    times
}

/// The path of a line. A column that stands for several values goes through their lowest, highest and last.
#[expect(clippy::cast_precision_loss, reason = "a line has a few million values")]
fn path(values: &[f64], steps: bool, top: f64) -> String {
    let mut path = String::new();
    let per_column = values.len().div_ceil(COLUMNS_MAX).max(1);
    let last = values.len().saturating_sub(1).max(1) as f64;
    let mut drawn: Option<f64> = None;
    for (column, values) in values.chunks(per_column).enumerate() {
        let x = (column * per_column) as f64 / last * SIDE;
        let mut finite = values.iter().copied().filter(|value| value.is_finite());
        let Some(first) = finite.next() else {
            drawn = None;
            continue;
        };
        let (mut low, mut high, mut end) = (first, first, first);
        for value in finite {
            (low, high, end) = (low.min(value), high.max(value), value);
        }
        let y = height(first, top);
        match drawn {
            // What goes on as it was needs no point.
            Some(before)
                if steps && low.total_cmp(&high).is_eq() && before.total_cmp(&low).is_eq() => {}
            Some(_) if steps => {
                let _ = write!(path, "H{x:.1}V{y:.1}");
            }
            Some(_) => {
                let _ = write!(path, "L{x:.1} {y:.1}");
            }
            None => {
                let _ = write!(path, "M{x:.1} {y:.1}");
            }
        }
        if high > low {
            let [low, high, end] = [low, high, end].map(|value| height(value, top));
            let _ = write!(path, "V{high:.1}V{low:.1}V{end:.1}");
        }
        drawn = Some(end);
    }
    if steps && drawn.is_some() {
        let _ = write!(path, "H{SIDE}");
    }
    path
}

/// Text within HTML, in an attribute too.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_labels() {
        for (highest, top, tick) in [
            (10.0, 10.0, 2.0),
            (7.0, 8.0, 2.0),
            (1.2, 1.5, 0.5),
            (0.0, 1.0, 1.0),
            (43e6, 50e6, 1e7),
        ] {
            let (got_top, got_tick) = scale(highest);
            let close = |a: f64, b: f64| (a - b).abs() <= b * 1e-9;
            assert!(
                close(got_top, top) && close(got_tick, tick),
                "{highest}: {got_top} {got_tick}"
            );
        }
        assert_eq!(short(1_500_000.0), "1.5M");
        assert_eq!(short(0.25), "0.25");
        assert_eq!(short(10.0), "10");
    }

    #[test]
    fn steps_hold_and_gaps_are_gaps() {
        let nan = f64::NAN;
        let steps = path(&[1.0, 1.0, 2.0, nan, 1.0], true, 2.0);
        assert_eq!(steps, "M0.0 500.0H500.0V0.0M1000.0 500.0H1000");
        assert_eq!(path(&[0.0, 2.0], false, 2.0), "M0.0 1000.0L1000.0 0.0");
        assert_eq!(path(&[nan, nan], true, 2.0), "");
    }

    #[test]
    fn a_spike_between_two_columns_is_drawn() {
        let mut values = vec![1.0; 10 * COLUMNS_MAX];
        values[5] = 4.0;
        let path = path(&values, true, 4.0);
        assert!(path.starts_with("M0.0 750.0V0.0V750.0V750.0"), "{}", &path[..40]);
    }

    #[test]
    fn changes_within_a_column_are_drawn_there() {
        let mut values = vec![1.0; 2 * COLUMNS_MAX];
        values[COLUMNS_MAX + 1..].fill(2.0);
        // The middle column begins as the one before ended, and changes.
        assert_eq!(path(&values, true, 4.0), "M0.0 750.0H500.3V750.0V500.0V750.0V500.0H1000");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(escaped("<a href='\"&\n"), "&lt;a href=&#39;&quot;&amp; ");
    }
}
