//! Every endpoint of the HTTP API, as clients call it: envelopes, statuses, texts.

use std::time::Duration;

use tests::harness::{Sextant, post_form, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that scrapes itself, with a sample stored.
fn start(folder: &std::path::Path) -> Sextant {
    let server = Sextant::server(folder, "scrape_configs: []\n");
    let yaml = format!(
        "global: {{scrape_interval: 1s, external_labels: {{site: here}}}}\nscrape_configs:\n\
         - job_name: self\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        server.port
    );
    std::fs::write(folder.join("prometheus.yml"), yaml).unwrap();
    server.signal(rustix::process::Signal::HUP);
    wait_for("a sample", LIMIT, || match server.query("up == 1", None) {
        result if result.len() == 1 => Ok(()),
        result => Err(format!("{result:?}")),
    });
    server
}

#[test]
fn every_endpoint_answers_in_the_envelope() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    for (path, status, part) in [
        ("query?query=1", 200, r#""resultType":"scalar","result":["#),
        ("query?query=%22x%22", 200, r#""resultType":"string""#),
        ("query?query=up&stats=all", 200, r#""stats":{"#),
        ("query?query=up&time=1970-01-01T00:00:00Z", 200, r#""result":[]"#),
        (
            "query?query=sum(",
            400,
            r#""errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error:"#,
        ),
        (
            "query?query=up&time=x",
            400,
            r#"invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\""#,
        ),
        ("query?query=up&timeout=x", 400, r#"invalid parameter \"timeout\""#),
        (
            "query?query=count_values(%22%22,up)",
            422,
            r#""errorType":"execution","error":"invalid label name \"\"""#,
        ),
        ("query?query=up%2Bon(x)group_left%20up", 200, r#""status":"success""#),
        (
            "query_range?query=vector(1)&start=0&end=10&step=5",
            200,
            r#""values":[[0,"1"],[5,"1"],[10,"1"]]"#,
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            400,
            "exceeded maximum resolution of 11,000 points",
        ),
        (
            "query_range?query=up&start=10&end=0&step=1",
            400,
            "end timestamp must not be before start time",
        ),
        (
            "query_range?query=up&start=0&end=10&step=0",
            400,
            "zero or negative query resolution step widths",
        ),
        ("query_range?query=up[1m]&start=0&end=10&step=1", 400, "invalid expression type"),
        ("labels", 200, r#""data":["__name__","#),
        ("labels?limit=1", 200, "results truncated due to limit"),
        ("label/job/values", 200, r#"{"status":"success","data":["self"]}"#),
        ("label/U__job/values", 200, r#""data":["self"]"#),
        ("series?match[]=up", 200, r#""__name__":"up""#),
        ("series", 400, "no match[] parameter provided"),
        ("series?match[]=%7B%7D", 400, "must contain at least one non-empty matcher"),
        ("format_query?query=sum(up)by(job)", 200, r#""data":"sum by (job) (up)""#),
        ("targets", 200, r#""health":"up""#),
        ("targets?state=dropped", 200, r#""activeTargets":[]"#),
        ("scrape_pools", 200, r#"{"scrapePools":["self"]}"#),
        (
            "metadata?metric=prometheus_tsdb_head_series",
            200,
            r#"[{"type":"gauge","help":"Total number of series in the head block.","unit":""}]"#,
        ),
        ("status/buildinfo", 200, r#""version":"3."#),
        ("status/runtimeinfo", 200, r#""storageRetention":"15d""#),
        ("status/flags", 200, r#""query.timeout":"2m""#),
        ("status/config", 200, "external_labels:"),
        ("status/tsdb?limit=2", 200, r#""headStats":{"#),
        ("query_exemplars?query=test&start=1795431307670&end=1795431367670", 200, r#""data":[]"#),
        ("rules", 200, r#"{"groups":[]}"#),
        ("alerts", 200, r#"{"alerts":[]}"#),
        ("nothing", 404, r#""errorType":"not_found""#),
    ] {
        let answer = server.get(&format!("/api/v1/{path}"));
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(part), "{path}: {part} is not in {}", answer.body);
        let envelope =
            if status == 200 { r#"{"status":"success""# } else { r#"{"status":"error""# };
        assert!(answer.body.starts_with(envelope), "{path}: {}", answer.body);
        assert!(answer.head.contains("application/json"), "{path}: {}", answer.head);
    }
    let build = server.get("/api/v1/status/buildinfo").json();
    assert!(build["data"].get("features").is_none(), "Grafana would take it for Mimir");

    // Forms are read, and a method that is not served is 405, on which clients fall back to GET.
    let form = [("match[]", "up"), ("match[]", "scrape_duration_seconds")];
    let answer = post_form(server.port, "/api/v1/series", &form).unwrap();
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 2, "{}", answer.body);
    let answer = post_form(server.port, "/api/v1/label/job/values", &[]).unwrap();
    assert_eq!(answer.status, 405);
    let answer = post_form(server.port, "/-/reload", &[]).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (403, "Lifecycle API is not enabled.\n"));
    for (path, part) in [
        ("/", "/api/v1/query"),
        ("/metrics", "\nprometheus_tsdb_head_series "),
        ("/-/healthy", "Healthy"),
        ("/-/ready", "Ready"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
    }
}
