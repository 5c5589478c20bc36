//! `/`: a plain page that says what runs and links every endpoint. No scripts, nothing loaded from elsewhere.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use scrape::{ActiveTarget, Health};

use crate::api::targets::{rfc3339, whole_seconds};
use crate::api::{ENDPOINTS, PROMETHEUS_VERSION};
use crate::state::{Ready, Server};
use crate::storage;

/// Most targets listed; the API lists all.
const TARGETS_MAX: usize = 200;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733;background:#fbfcfd}\
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}\
p.lead{color:#5a6a7a;margin:.2rem 0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e3e8ee;vertical-align:top}\
th{font-weight:600;color:#5a6a7a}code,input{font:13px ui-monospace,monospace}\
input[type=text]{width:70%;padding:.4rem;border:1px solid #b8c4d0;border-radius:4px}\
button{padding:.4rem 1rem;border:0;border-radius:4px;background:#1f5fa8;color:#fff}\
a{color:#1f5fa8;text-decoration:none}a:hover{text-decoration:underline}\
.up{color:#177245}.down{color:#b3261e}.unknown{color:#8a6d00}";

/// The stylesheet, served apart so that the page needs no inline style.
pub(crate) async fn stylesheet() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/css"))], STYLE).into_response()
}

/// The page.
pub(crate) async fn page(State(server): State<Arc<Server>>) -> Response {
    let mut html = String::with_capacity(8 << 10);
    html.push_str(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sextant</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/style.css\"></head><body>\
         <h1>Sextant</h1>",
    );
    let _ = write!(
        html,
        "<p class=\"lead\">Version {}, answering as Prometheus {PROMETHEUS_VERSION}.</p>",
        telemetry::VERSION
    );
    html.push_str(
        "<form action=\"/api/v1/query\" method=\"get\"><input type=\"text\" name=\"query\" \
         value=\"sum by (mode) (rate(node_cpu_seconds_total[1m]))\" aria-label=\"PromQL expression\"> \
         <button>Query</button></form>",
    );
    match server.running.get() {
        Some(ready) => {
            write_status(&mut html, &server, ready);
            write_targets(&mut html, &server, &ready.scraper.targets().active);
        }
        None => html.push_str("<p>The store is being opened; queries are answered afterwards.</p>"),
    }
    write_links(&mut html, &server);
    html.push_str("</body></html>\n");
    let policy = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
    ];
    (headers, html).into_response()
}

fn write_status(html: &mut String, server: &Server, ready: &Ready) {
    let head = ready.store.statistics(0).head;
    let uptime_ms = server.clock.now().saturating_sub(server.started).max(0).unsigned_abs();
    let resident_mib = telemetry::resident_bytes() >> 20;
    let newest = match head.series {
        0 => String::from("none yet"),
        _ => rfc3339(Some(head.max_time)),
    };
    let samples = counter(server, "prometheus_tsdb_head_samples_appended_total");
    let stored = format!("{samples} since the start, {:.0} a second", samples / seconds(uptime_ms));
    let kept = match storage::retention_text(&server.config.read().storage) {
        text if text.is_empty() => String::from("ever"),
        text => text,
    };
    html.push_str("<h2>Now</h2><table>");
    for (what, value) in [
        ("Running for", whole_seconds(Duration::from_millis(uptime_ms))),
        ("Memory", format!("{resident_mib} MiB resident")),
        ("Data", server.data_path.display().to_string()),
        ("Kept for", kept),
        ("Series in the head", head.series.to_string()),
        ("Newest sample", newest),
        ("Samples stored", stored),
    ] {
        let _ = write!(html, "<tr><th>{what}</th><td>{}</td></tr>", Escaped(&value));
    }
    html.push_str("</table>");
}

/// Milliseconds as seconds, at least one.
fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64().max(1.0)
}

/// The sum of one of our own counters over its labels; 0 if there is none of that name.
fn counter(server: &Server, name: &str) -> f64 {
    let families = server.registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
    metrics.iter().map(|metric| metric.get_counter().get_value()).sum()
}

fn write_targets(html: &mut String, server: &Server, targets: &[ActiveTarget]) {
    let now = server.clock.now();
    let count = |health| targets.iter().filter(|target| target.health == health).count();
    let _ = write!(
        html,
        "<h2>Targets</h2><p><span class=\"up\">{} up</span>, <span class=\"down\">{} down</span>, \
         <span class=\"unknown\">{} not scraped yet</span></p><table>",
        count(Health::Up),
        count(Health::Down),
        count(Health::Unknown),
    );
    html.push_str(
        "<tr><th>job</th><th>URL</th><th>state</th><th>scraped</th><th>took</th><th>error</th></tr>",
    );
    for target in targets.iter().take(TARGETS_MAX) {
        let state = target.health.as_str();
        let ago = match target.last_scrape {
            0 => String::from("never"),
            t => {
                let ago = Duration::from_millis(now.saturating_sub(t).max(0).unsigned_abs());
                format!("{:.1} s ago", ago.as_secs_f64())
            }
        };
        let _ = write!(
            html,
            "<tr><td>{}</td><td><code>{}</code></td><td class=\"{state}\">{state}</td><td>{ago}</td>\
             <td>{:.1} ms</td><td>{}</td></tr>",
            Escaped(&target.scrape_pool),
            Escaped(&target.scrape_url),
            target.last_scrape_duration.as_secs_f64() * 1e3,
            Escaped(&target.last_error),
        );
    }
    html.push_str("</table>");
    if targets.len() > TARGETS_MAX {
        let _ = write!(
            html,
            "<p>and {} more: <a href=\"/api/v1/targets\">all</a></p>",
            targets.len() - TARGETS_MAX
        );
    }
}

fn write_links(html: &mut String, server: &Server) {
    html.push_str("<h2>Endpoints</h2><table>");
    let own = server.extra_links.iter().map(|(path, what)| (path.as_str(), what.as_str()));
    for (path, what) in own.chain(ENDPOINTS) {
        let _ = write!(
            html,
            "<tr><td><a href=\"{0}\"><code>{0}</code></a></td><td>{1}</td></tr>",
            Escaped(path),
            Escaped(what)
        );
    }
    html.push_str("</table>");
}

/// Text as HTML, safe in content and in quoted attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn text_cannot_leave_its_place() {
        let text = Escaped("<script>alert(\"x\")</script>&'").to_string();
        assert_eq!(text, "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;");
    }
}
