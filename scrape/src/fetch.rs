//! Gets the text of a target: over HTTP, or from a source in this process.

use std::sync::Arc;
use std::time::Duration;

use http::{Client, GetRequest};
use model::{FloatFormat, format_float};
use tokio::task::JoinHandle;

use crate::ScrapeError;
use crate::scraper::LocalSource;

/// Asks for nothing but the text formats, because nothing else can be read.
const ACCEPT: &str =
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Bytes of a body where none are configured: far above any real one, far below the memory of a server.
const BODY_BYTES_DEFAULT: u64 = 256 << 20;

/// What to get, and what to put up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchRequest<'a> {
    pub(crate) url: &'a str,
    pub(crate) timeout: Duration,
    pub(crate) user_agent: &'a str,
    /// Whether to ask for gzip.
    pub(crate) compression: bool,
    /// A body of this size fails, as in Prometheus; 0 for the default.
    pub(crate) body_bytes_max: u64,
    /// Whether a body of no or an unknown type is read as text.
    pub(crate) fallback: bool,
}

impl FetchRequest<'_> {
    /// Bytes of the largest body that is accepted.
    fn body_bytes_accepted(&self) -> usize {
        let limit = if self.body_bytes_max == 0 { BODY_BYTES_DEFAULT } else { self.body_bytes_max };
        usize::try_from(limit.min(u64::from(u32::MAX)) - 1).unwrap_or(usize::MAX)
    }
}

/// Scrapes over HTTP; the timeout covers everything from connecting to the last byte.
pub(crate) async fn over_http(
    client: &Client,
    request: FetchRequest<'_>,
) -> Result<Vec<u8>, ScrapeError> {
    let timeout_s = format_float(request.timeout.as_secs_f64(), FloatFormat::Plain);
    let headers = [
        ("accept", ACCEPT),
        ("accept-encoding", if request.compression { "gzip" } else { "identity" }),
        ("user-agent", request.user_agent),
        ("x-prometheus-scrape-timeout-seconds", timeout_s.as_str()),
    ];
    let answer = client
        .get(GetRequest {
            url: request.url,
            headers: &headers,
            timeout: request.timeout,
            body_bytes_max: request.body_bytes_accepted(),
        })
        .await?;
    if answer.status.as_u16() != 200 {
        return Err(ScrapeError::Status(answer.status.to_string()));
    }
    // An empty answer has no format; it means that there are no series.
    if !answer.body.is_empty() {
        check_content_type(answer.content_type(), request.fallback)?;
    }
    Ok(answer.body)
}

/// Whether a body of this type is in the text format, in any version.
fn check_content_type(content_type: &str, fallback: bool) -> Result<(), ScrapeError> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    if is("text/plain") {
        Ok(())
    } else if is("application/openmetrics-text") {
        Err(ScrapeError::OpenMetrics(String::from(content_type)))
    } else if fallback {
        Ok(())
    } else if media_type.is_empty() {
        Err(ScrapeError::BlankContentType)
    } else {
        Err(ScrapeError::UnsupportedContentType(String::from(content_type)))
    }
}

/// A source in this process, asked on a blocking thread by one scrape at a time.
pub(crate) struct LocalCollector {
    source: Arc<dyn LocalSource>,
    /// A collection that outlived its scrape. Another beside it would wait for the same thing, and
    /// threads would pile up.
    overdue: Option<JoinHandle<Vec<u8>>>,
}

impl LocalCollector {
    pub(crate) fn new(source: Arc<dyn LocalSource>) -> Self {
        Self { source, overdue: None }
    }

    pub(crate) async fn collect(
        &mut self,
        request: FetchRequest<'_>,
    ) -> Result<Vec<u8>, ScrapeError> {
        let url = || String::from(request.url);
        if self.overdue.take_if(|overdue| overdue.is_finished()).is_none() && self.overdue.is_some()
        {
            return Err(ScrapeError::SourceBusy { url: url() });
        }
        let source = Arc::clone(&self.source);
        let mut collection = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            source.collect(&mut text);
            text
        });
        match tokio::time::timeout(request.timeout, &mut collection).await {
            Ok(Ok(text)) if text.len() > request.body_bytes_accepted() => {
                Err(ScrapeError::BodySizeLimit)
            }
            Ok(Ok(text)) => Ok(text),
            Ok(Err(_)) => Err(ScrapeError::SourceFailed { url: url() }),
            Err(_) => {
                self.overdue = Some(collection);
                Err(ScrapeError::DeadlineExceeded { url: url() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_read() {
        let check = |content_type, fallback| {
            check_content_type(content_type, fallback).map_err(|e| e.to_string())
        };
        assert_eq!(check("text/plain; version=0.0.4; charset=utf-8", false), Ok(()));
        assert_eq!(check("Text/Plain;version=1.0.0", false), Ok(()));
        assert_eq!(check("text/plain", false), Ok(()));
        assert_eq!(check("", true), Ok(()));
        assert_eq!(check("text/html", true), Ok(()));
        assert_eq!(
            check("", false).unwrap_err(),
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
        );
        assert_eq!(
            check("text/html", false).unwrap_err(),
            "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target"
        );
        let open_metrics = check("application/openmetrics-text; version=1.0.0", true).unwrap_err();
        assert!(open_metrics.contains("OpenMetrics is not supported"), "{open_metrics}");
    }
}
