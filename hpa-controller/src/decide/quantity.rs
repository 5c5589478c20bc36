//! Quantities of specifications and statuses, which are text, and the thousandths that are calculated with.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use metrics_api::{Format, Quantity};

/// How a value of `resource` is written: memory in powers of 1024, all else in powers of 1000.
#[must_use]
pub fn format_of(resource: Option<&str>) -> Format {
    if resource == Some("memory") { Format::BinarySi } else { Format::DecimalSi }
}

/// `milli` thousandths as the text of a quantity.
#[must_use]
pub fn write(milli: i64, format: Format) -> Text {
    Text(Quantity::new(i128::from(milli), -3, format).to_string())
}

/// A quantity in thousandths, rounded up; capped at what an `i64` holds.
///
/// # Errors
/// It is none.
pub fn milli(text: &Text) -> Result<i64, String> {
    Ok(parse(text)?.milli_value())
}

/// A quantity as a double, multiplied out from its canonical text as Go does it: `300m` is 300 × 0.001.
///
/// # Errors
/// It is none.
pub fn approximate(text: &Text) -> Result<f64, String> {
    let canonical = parse(text)?.to_string();
    let digits = canonical.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &canonical[digits.len()..] {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        _ => return Ok(parse(text)?.as_f64()),
    };
    digits.parse().map(|number: f64| number * factor).map_err(|_| unreadable(text))
}

fn parse(text: &Text) -> Result<Quantity, String> {
    text.0.parse().map_err(|_| unreadable(text))
}

fn unreadable(text: &Text) -> String {
    format!("quantity {:?} cannot be read", text.0)
}
