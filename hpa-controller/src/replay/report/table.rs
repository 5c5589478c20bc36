//! The report as a table for a terminal.

use std::fmt::Write;

use super::rows::Rows;
use super::{Outcome, Report};

/// Longest label in a heading: files have long paths.
const LABEL_CHARS_MAX: usize = 40;

/// The report as text.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    for sentence in report.assumptions() {
        line(&mut out, &sentence);
    }
    out.push('\n');
    figures(&mut out, &Rows::of(report));
    for outcome in &report.outcomes {
        details(&mut out, outcome);
    }
    out
}

fn figures(out: &mut String, rows: &Rows) {
    let columns: Vec<String> = rows.columns.iter().map(|label| clipped(&clean(label))).collect();
    let names = rows.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.rows.iter().map(|(_, cells)| cells[at].chars().count());
        cells.chain([columns[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut print = |name: &str, cells: &[String]| {
        let mut text = format!("{name:<names$}");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "  {cell:>width$}");
        }
        line(out, text.trim_end());
    };
    print("", &columns);
    for (name, cells) in &rows.rows {
        print(name, cells);
    }
}

fn details(out: &mut String, outcome: &Outcome) {
    let Outcome { label, namespace, name, target, found, notes, trace, .. } = outcome;
    let _ = writeln!(out);
    line(out, &format!("{}: {namespace}/{name}, target {target}", clean(label)));
    for found in found {
        let of = found.of;
        line(
            out,
            &format!("  {:<30} {:>7} of {of} points  {}", found.what, found.points, found.query),
        );
    }
    for note in notes {
        line(out, &format!("  note: {}", clean(note)));
    }
    for (error, times) in &trace.errors {
        line(out, &format!("  {times} decisions failed or were partial: {}", clean(error)));
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn clipped(label: &str) -> String {
    let chars = label.chars().count();
    if chars <= LABEL_CHARS_MAX {
        return String::from(label);
    }
    // The end of a path says more than its beginning.
    let tail: String = label.chars().skip(chars - LABEL_CHARS_MAX + 1).collect();
    format!("…{tail}")
}

/// Without what would move a terminal's cursor.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
