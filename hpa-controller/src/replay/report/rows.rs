//! The figures as rows of text, for the table and the page.

use super::super::figures::{Figures, Reproduction};
use super::{Report, span};

/// Figures by name, a cell for each column.
pub(super) struct Rows {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<(String, Vec<String>)>,
}

/// What a column shows.
struct Column<'r> {
    figures: &'r Figures,
    bounds: Option<(i32, i32)>,
    reproduction: Option<&'r Reproduction>,
}

/// What stands where there is nothing to say.
const NONE: &str = "-";

impl Rows {
    pub(super) fn of(report: &Report) -> Self {
        let mut columns = Vec::new();
        let mut shown = Vec::new();
        for (index, outcome) in report.outcomes.iter().enumerate() {
            if let Some(figures) =
                outcome.recorded.as_ref().filter(|_| report.shows_recorded(index))
            {
                columns.push(report.recorded_label(index));
                shown.push(Column { figures, bounds: None, reproduction: None });
            }
            columns.push(outcome.label.clone());
            let reproduction = outcome.reproduction.as_ref();
            let bounds = Some(outcome.bounds);
            shown.push(Column { figures: &outcome.figures, bounds, reproduction });
        }
        let mut rows = Vec::new();
        let mut row = |name: &str, cell: &dyn Fn(&Column<'_>) -> Option<String>| {
            let cells: Vec<Option<String>> = shown.iter().map(cell).collect();
            if cells.iter().any(Option::is_some) {
                let text = |cell: Option<String>| cell.unwrap_or_else(|| String::from(NONE));
                rows.push((String::from(name), cells.into_iter().map(text).collect()));
            }
        };
        row("bounds", &|c| c.bounds.map(|(min, max)| format!("{min} to {max}")));
        row("replicas, fewest", &|c| Some(number(c.figures.replicas_min, 0)));
        row("replicas, mean", &|c| Some(number(c.figures.replicas_mean, 2)));
        row("replicas, most", &|c| Some(number(c.figures.replicas_max, 0)));
        row("rescales", &|c| Some((c.figures.scale_ups + c.figures.scale_downs).to_string()));
        row("  up", &|c| Some(c.figures.scale_ups.to_string()));
        row("  down", &|c| Some(c.figures.scale_downs.to_string()));
        row("flaps", &|c| Some(c.figures.flaps.to_string()));
        row("replica-hours", &|c| Some(number(c.figures.replica_hours, 1)));
        row("core-hours requested", &|c| c.figures.core_hours.map(|hours| number(hours, 1)));
        let time = |column: &Column<'_>, seconds: Option<f64>| {
            seconds.map(|seconds| share(seconds, column.figures.seconds))
        };
        row("time above target", &|c| time(c, c.figures.seconds_above_target));
        row("  beyond tolerance", &|c| time(c, c.figures.seconds_beyond_tolerance));
        row("time at max", &|c| time(c, c.figures.seconds_at_max));
        row("time at min", &|c| time(c, c.figures.seconds_at_min));
        row("time a metric failed", &|c| time(c, c.figures.seconds_failed));
        if !report.setting.simulated {
            row("recorded: same replicas", &|c| {
                c.reproduction.map(|r| format!("{} %", number(r.equal_share * 100.0, 1)))
            });
            row("  mean difference", &|c| c.reproduction.map(|r| number(r.mean_difference, 2)));
            row("  largest difference", &|c| {
                c.reproduction.map(|r| number(r.largest_difference, 0))
            });
        }
        Self { columns, rows }
    }
}

fn number(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

/// A time and its share of the whole.
#[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
fn share(seconds: f64, whole: f64) -> String {
    if seconds <= 0.0 || whole <= 0.0 {
        return String::from("0");
    }
    format!("{} ({:.1} %)", span((seconds * 1000.0) as i64), seconds / whole * 100.0)
}
