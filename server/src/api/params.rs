//! Request parameters: from the URL, and for POST and PUT from the form too, as Go's `Request.FormValue` merges them.

use std::num::IntErrorKind;
use std::time::Duration;

use axum::extract::{FromRequest, Query, Request};
use axum::http::{Method, header};
use axum::{Form, RequestExt};
use model::{Matcher, TimeRange, Timestamp, parse_duration};

use super::error::ApiError;

/// Times are clamped to ± this many milliseconds (a hundred million years), so that no later sum overflows. Grafana
/// sends milliseconds where seconds are meant, which must not fail.
const TIME_MS_MAX: f64 = 4e18;

/// Prometheus's names for the ends of time, accepted where clients send them back.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "+292277025-08-18T07:12:54.999999999Z";

type Pairs = Vec<(String, String)>;

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Pairs);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let malformed = |error: &dyn std::fmt::Display| {
            ApiError::bad_data(format!("error parsing form values: {error}"))
        };
        let Query(url) = Query::<Pairs>::try_from_uri(request.uri()).map_err(|e| malformed(&e))?;
        let is_form = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        let mut pairs = Pairs::new();
        if matches!(*request.method(), Method::POST | Method::PUT) && is_form {
            let Form(form) =
                request.extract::<Form<Pairs>, _>().await.map_err(|e| malformed(&e))?;
            pairs = form;
        }
        pairs.extend(url);
        Ok(Self(pairs))
    }
}

impl Params {
    /// The first value of `name`, if it is given and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty())
    }

    /// A time that may be left out.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let why =
            |why| ApiError::parameter(name, format!("invalid time value for '{name}': {why}"));
        self.get(name).map(parse_time).transpose().map_err(why)
    }

    /// A time that must be given.
    pub(crate) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        let text = self.get(name).unwrap_or_default();
        parse_time(text).map_err(|why| ApiError::parameter(name, why))
    }

    /// A duration that may be left out; a negative one counts as zero.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let parsed = self.get(name).map(parse_positive_duration).transpose();
        parsed.map_err(|why| ApiError::parameter(name, why))
    }

    /// A duration that must be given.
    pub(crate) fn required_duration(&self, name: &str) -> Result<Duration, ApiError> {
        let text = self.get(name).unwrap_or_default();
        parse_positive_duration(text).map_err(|why| ApiError::parameter(name, why))
    }

    /// `lookback_delta`, `None` for the server's own.
    pub(crate) fn lookback_delta(&self) -> Result<Option<Duration>, ApiError> {
        let parsed = self.get("lookback_delta").map(parse_positive_duration).transpose();
        let parsed = parsed.map_err(|why| {
            ApiError::bad_data(format!("error parsing lookback delta duration: {why}"))
        })?;
        Ok(parsed.filter(|delta| !delta.is_zero()))
    }

    /// `start` and `end`, all of time where they are left out.
    pub(crate) fn range(&self) -> Result<TimeRange, ApiError> {
        let min = self.time("start")?.unwrap_or(TimeRange::ALL.min);
        let max = self.time("end")?.unwrap_or(TimeRange::ALL.max);
        Ok(TimeRange::new(min, max))
    }

    /// `limit`; 0 for none.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let limit = parse_integer(text).map_err(|why| ApiError::parameter("limit", why))?;
        if limit < 0 {
            return Err(ApiError::parameter("limit", "limit must be non-negative"));
        }
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// A limit of metadata, where 0 is a limit too; a negative one, or none, means no limit.
    pub(crate) fn signed_limit(&self, name: &str) -> Result<usize, ApiError> {
        match self.get(name).map(str::parse::<i64>) {
            None => Ok(usize::MAX),
            Some(Ok(limit)) => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
            Some(Err(_)) => Err(ApiError::bad_data(format!("{name} must be a number"))),
        }
    }

    /// Yes or no; no if it is left out. The words are Go's.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(text) => {
                let why = format!(
                    "unable to parse boolean: strconv.ParseBool: parsing {text:?}: invalid syntax"
                );
                Err(ApiError::parameter(name, why))
            }
        }
    }

    /// The selectors of all `match[]`.
    ///
    /// # Errors
    /// What is wrong with the first that is malformed, in the parser's words.
    pub(crate) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, promql::parse::ParseErrors> {
        let texts = self.0.iter().filter(|(name, _)| name == "match[]").map(|(_, value)| value);
        texts.map(|text| promql::parse::parse_selector(text)).collect()
    }
}

/// A decimal number, refused in the words of Go's `strconv.Atoi`.
pub(crate) fn parse_integer(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {why}")
    })
}

/// Seconds since the epoch, to the millisecond, or RFC 3339.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        return Ok(milliseconds(seconds));
    }
    match text {
        MIN_TIME_TEXT => return Ok(milliseconds(f64::MIN)),
        MAX_TIME_TEXT => return Ok(milliseconds(f64::MAX)),
        _ => {}
    }
    let instant: jiff::Timestamp =
        text.parse().map_err(|_| format!("cannot parse {text:?} to a valid timestamp"))?;
    let ms = instant.as_nanosecond().div_euclid(1_000_000);
    Ok(Timestamp::try_from(ms).unwrap_or(Timestamp::MAX))
}

#[expect(clippy::cast_possible_truncation, reason = "clamped")]
fn milliseconds(seconds: f64) -> Timestamp {
    // Whole seconds and the rest apart: their product with 1000 would round differently.
    let (whole, rest) = (seconds.trunc(), seconds.fract());
    (whole * 1000.0 + (rest * 1000.0).round()).clamp(-TIME_MS_MAX, TIME_MS_MAX) as Timestamp
}

/// Seconds, or a duration in Prometheus's notation. A negative number is zero: where that is no good, the place that
/// uses it says so.
fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("cannot parse {text:?} to a valid duration");
    let Ok(seconds) = text.parse::<f64>() else {
        return parse_duration(text).map_err(|_| invalid());
    };
    // Go's numbers have no sign before NaN.
    if seconds.is_nan() && text.starts_with(['+', '-']) {
        return Err(invalid());
    }
    // Go counts nanoseconds in 63 bits.
    if seconds.abs() * 1e9 > 2f64.powi(63) {
        return Err(format!("{}. It overflows int64", invalid()));
    }
    // NaN becomes a negative duration there, which is zero here.
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(pairs.iter().map(|(n, v)| (String::from(*n), String::from(*v))).collect())
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("1435781430.781", Ok(1_435_781_430_781)),
            ("1435781430.7814", Ok(1_435_781_430_781)),
            ("-1.5", Ok(-1_500)),
            ("2015-07-01T20:10:51.781Z", Ok(1_435_781_451_781)),
            ("2015-07-01T20:10:51.7819Z", Ok(1_435_781_451_781)),
            ("1969-12-31T23:59:59.9995Z", Ok(-1)),
            ("2015-07-01T20:10:51+02:00", Ok(1_435_774_251_000)),
            ("1797000000000", Ok(1_797_000_000_000_000)),
            ("1e300", Ok(4_000_000_000_000_000_000)),
            (MIN_TIME_TEXT, Ok(-4_000_000_000_000_000_000)),
            (MAX_TIME_TEXT, Ok(4_000_000_000_000_000_000)),
            ("", Err(r#"cannot parse "" to a valid timestamp"#)),
            ("NaN", Err(r#"cannot parse "NaN" to a valid timestamp"#)),
            ("inf", Err(r#"cannot parse "inf" to a valid timestamp"#)),
            ("tomorrow", Err(r#"cannot parse "tomorrow" to a valid timestamp"#)),
        ] {
            assert_eq!(parse_time(text), expected.map_err(String::from), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("5m", Ok(300_000)),
            ("15", Ok(15_000)),
            ("0.5", Ok(500)),
            ("-1", Ok(0)),
            ("x", Err(r#"cannot parse "x" to a valid duration"#)),
            ("", Err(r#"cannot parse "" to a valid duration"#)),
            ("NaN", Ok(0)),
            ("-NaN", Err(r#"cannot parse "-NaN" to a valid duration"#)),
            ("1e99", Err(r#"cannot parse "1e99" to a valid duration. It overflows int64"#)),
        ] {
            let parsed = parse_positive_duration(text).map(|d| d.as_millis());
            assert_eq!(parsed, expected.map_err(String::from), "{text}");
        }
    }

    #[test]
    fn limits() {
        for (text, expected) in [
            ("", Ok(0)),
            ("0", Ok(0)),
            ("40000", Ok(40_000)),
            ("-1", Err(r#"invalid parameter "limit": limit must be non-negative"#)),
            ("x", Err(r#"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#)),
            (
                "99999999999999999999",
                Err(
                    r#"invalid parameter "limit": strconv.Atoi: parsing "99999999999999999999": value out of range"#,
                ),
            ),
        ] {
            let limit = params(&[("limit", text)]).limit();
            assert_eq!(limit.map_err(|e| e.message), expected.map_err(String::from), "{text}");
        }
    }

    #[test]
    fn the_first_value_counts() {
        let params = params(&[("a", "1"), ("a", "2"), ("empty", "")]);
        assert_eq!(
            (params.get("a"), params.get("empty"), params.get("b")),
            (Some("1"), None, None)
        );
    }
}
