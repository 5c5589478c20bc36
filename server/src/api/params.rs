//! Request parameters: from the URL, and from the form too if there is one, as Go's `Request.FormValue` merges them.

use std::num::IntErrorKind;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};
use model::{Matcher, TimeRange, Timestamp};
use promql::quote::quoted;

use super::error::ApiError;
use super::form::{self, Pairs};
use super::times::{parse_positive_duration, parse_time};

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    /// Of the form, then of the URL, then of the parts.
    pairs: Pairs,
    /// How many of them came in parts.
    in_parts: usize,
    /// What is wrong with the first that is malformed, and so left out.
    malformed: Option<String>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let has_form = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = String::from(kind.and_then(|value| value.to_str().ok()).unwrap_or_default());
        let has_form = has_form && form::is_kind(&kind, "application/x-www-form-urlencoded");
        let boundary = form::is_kind(&kind, "multipart/form-data")
            .then(|| form::parameter(&kind, "boundary"))
            .flatten();
        let (url, malformed) = form::pairs(request.uri().query().unwrap_or_default().as_bytes());
        let mut params = Self { malformed, ..Self::default() };
        let mut body = Bytes::new();
        if has_form || boundary.is_some() {
            body = Bytes::from_request(request, state)
                .await
                .map_err(|error| malformed_form(&error))?;
        }
        if has_form {
            let malformed;
            (params.pairs, malformed) = form::pairs(&body);
            params.malformed = malformed.or(params.malformed);
        }
        params.pairs.extend(url);
        if let Some(boundary) = boundary {
            let parts = form::parts(&body, &boundary).unwrap_or_default();
            params.in_parts = parts.len();
            params.pairs.extend(parts);
        }
        Ok(params)
    }
}

fn malformed_form(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_data(format!("error parsing form values: {error}"))
}

impl Params {
    /// What endpoints see that parse the form themselves, as some do in Prometheus: parts are not looked at, and nothing may be malformed.
    pub(crate) fn parsed_form(mut self) -> Result<Self, ApiError> {
        if let Some(malformed) = &self.malformed {
            return Err(malformed_form(malformed));
        }
        self.pairs.truncate(self.pairs.len() - self.in_parts);
        Ok(self)
    }

    /// The first value of `name`, if it is given and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
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
                    "unable to parse boolean: strconv.ParseBool: parsing {}: invalid syntax",
                    quoted(text)
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
        let texts = self.pairs.iter().filter(|(name, _)| name == "match[]").map(|(_, value)| value);
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
        format!("strconv.Atoi: parsing {}: {why}", quoted(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let pairs = pairs.iter().map(|(n, v)| (String::from(*n), String::from(*v))).collect();
        Params { pairs, ..Params::default() }
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
