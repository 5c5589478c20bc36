//! Every endpoint of the HTTP API, as clients call it: envelopes, statuses, texts.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use tests::conformance::program;
use tests::harness::{Sextant, free_port, post_form, wait_for};

use super::peers::Prometheus;

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
        ("parse_query?query=1", 200, r#""data":{"type":"numberLiteral","val":"1"}"#),
        ("parse_query?query=(", 400, r#"invalid parameter \"query\": 1:2: parse error"#),
        ("query?query=up&explain=true", 200, r#""explain":{"operation":"up","#),
        ("targets", 200, r#""health":"up""#),
        ("targets?state=dropped", 200, r#""activeTargets":[]"#),
        ("scrape_pools", 200, r#"{"scrapePools":["self"]}"#),
        (
            "metadata?metric=prometheus_tsdb_head_series",
            200,
            r#"[{"type":"gauge","help":"Total number of series in the head block.","unit":""}]"#,
        ),
        (
            "targets/metadata?metric=prometheus_tsdb_head_series&match_target=%7Bjob%3D%22self%22%7D",
            200,
            r#","job":"self"},"type":"gauge","help":"Total number of series in the head block.","unit":""}]"#,
        ),
        ("targets/metadata?match_target=%7Bjob%3D%22other%22%7D", 200, r#""data":[]"#),
        ("targets/metadata?limit=1", 200, r#","metric":""#),
        ("targets/metadata?limit=x", 400, r#""error":"limit must be a number""#),
        ("targets/metadata?match_target=%7B", 400, r#"invalid parameter \"match_target\""#),
        ("status/buildinfo", 200, r#""version":"3."#),
        ("status/runtimeinfo", 200, r#""storageRetention":"15d""#),
        ("status/flags", 200, r#""query.timeout":"2m""#),
        ("status/flags", 200, r#""web.enable-otlp-receiver":"false""#),
        ("status/flags", 200, r#""web.enable-remote-write-receiver":"false""#),
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
    assert_eq!((answer.status, answer.body.as_str()), (403, "Lifecycle API is not enabled."));
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

/// A server that scrapes nothing, with these flags.
fn start_with(folder: &Path, flags: &[&str]) -> Sextant {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let config = format!("--config.file={}", config.display());
    let arguments = [&["server", &config], flags].concat();
    Sextant::start(folder, free_port(), &arguments)
}

#[test]
fn features_are_enabled_by_prometheus_s_names() {
    // The function, the modifier, the fill: refused by the parser unless enabled.
    let queries = [
        ("promql-experimental-functions", "ts_of_max_over_time(vector(1)[1m:1s])"),
        ("promql-extended-range-selectors", "rate(m[1m] smoothed)"),
        ("promql-binop-fill-modifiers", "m + fill(0) n"),
    ];
    let status = |server: &Sextant, path: &str, query: &str| {
        let answer = post_form(server.port, &format!("/api/v1/{path}"), &[("query", query)]);
        answer.unwrap().status
    };
    for (enabled, _) in queries {
        let folder = tempfile::tempdir().unwrap();
        let flag = format!("--enable-feature={enabled},promql-duration-expr,nonsense");
        let server = start_with(folder.path(), &[&flag, "--enable-feature=old-ui"]);
        for (feature, query) in queries {
            let expected = if feature == enabled { 200 } else { 400 };
            for path in ["query", "format_query", "parse_query"] {
                assert_eq!(status(&server, path, query), expected, "{enabled}: {path} {query}");
            }
        }
        let flags = server.get("/api/v1/status/flags").json();
        let given = format!("{enabled},promql-duration-expr,nonsense,old-ui");
        assert_eq!(flags["data"]["enable-feature"], given, "{flags}");
        let log = server.log();
        for part in [
            &format!("feature {enabled} enabled"),
            "--enable-feature=promql-duration-expr has no effect",
            "--enable-feature=old-ui is not supported",
            "unknown option for --enable-feature: \\\"nonsense\\\"",
        ] {
            assert!(log.contains(part), "{part} is not in {log}");
        }
    }
}

#[test]
fn features_of_scraping_are_enabled_by_prometheus_s_names() {
    let folder = tempfile::tempdir().unwrap();
    let flag = "--enable-feature=type-and-unit-labels,extra-scrape-metrics";
    let server = start_with(folder.path(), &[flag]);
    let yaml = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
         - {{job_name: self, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n",
        server.port
    );
    std::fs::write(folder.path().join("prometheus.yml"), yaml).unwrap();
    server.signal(rustix::process::Signal::HUP);
    for query in [
        r#"prometheus_tsdb_head_series{__type__="gauge"}"#,
        r#"sum(prometheus_http_request_duration_seconds_bucket{__type__="histogram"})"#,
        r#"scrape_body_size_bytes{job="self",__type__=""} > 0"#,
    ] {
        wait_for(query, LIMIT, || match server.query(query, None) {
            result if result.len() == 1 => Ok(()),
            result => Err(format!("{result:?}")),
        });
    }
    let sum = server.query("prometheus_tsdb_head_series + 0", None);
    assert_eq!(sum[0]["metric"].get("__type__"), None, "a sum has no type: {sum:?}");
}

#[test]
fn a_query_that_needs_more_bytes_than_allowed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, allowed, message) in [
        ("--query.max-bytes=8MB", 8 << 20, "the query needs "),
        ("--query.max-total-bytes=8MB", 8 << 20, "all queries together need "),
    ] {
        let server = start_with(folder.path(), &[flag]);
        let query = [("query", "count_over_time(vector(1)[20d:1s])")];
        let answer = post_form(server.port, "/api/v1/query", &query).unwrap();
        assert_eq!(answer.status, 422, "{}", answer.body);
        let json = answer.json();
        assert_eq!(json["errorType"], "execution", "{json}");
        let (flag, _) = flag.split_once('=').unwrap();
        let end = format!(" bytes at a time, {allowed} are allowed by {flag}");
        let error = json["error"].as_str().unwrap();
        let needed = error.strip_prefix(message).and_then(|rest| rest.strip_suffix(&end));
        let needed: u64 = needed.unwrap_or_else(|| panic!("{error}")).parse().unwrap();
        assert!(needed > allowed, "{error}");
        assert_eq!(server.query("count_over_time(vector(1)[1h:1s])", None).len(), 1);
        assert!(server.terminate().success());
    }
}

#[test]
fn a_query_ends_when_its_client_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_with(folder.path(), &["--query.timeout=1d"]);
    let running = |expected: u32| {
        let expected = format!("\nprometheus_engine_queries {expected}\n");
        let metrics = server.get("/metrics").body;
        if metrics.contains(&expected) { Ok(()) } else { Err(format!("not yet:{expected}")) }
    };
    // Every one of 864,000 steps looks at as many samples: hours, unless it is stopped.
    let query = "max_over_time(stddev_over_time(vector(time())[10d:1s])[10d:1s])";
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    write!(client, "GET /api/v1/query?query={query} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    wait_for("the query", LIMIT, || running(1));
    drop(client);
    wait_for("the end of the query", LIMIT, || running(0));
}

/// Expressions of all kinds, short ones and such as do not fit on a line. Numbers are small: how large ones are printed changed with 3.0.
fn expressions() -> Vec<String> {
    const PARTS: [&str; 14] = [
        "a",
        "1 - -2",
        "{__name__=~\"a.*\",b!=\"c\"} offset -5m",
        "rate(container_cpu_usage_seconds_total{container!=\"\",namespace=\"default\"}[5m])",
        "sum without (instance) (rate(http_request_duration_seconds_bucket[5m] @ end() offset 1h))",
        "max_over_time((a + b)[1h:5m] @ 1435781430.781 offset 30m)",
        "max_over_time(sum by (namespace, pod, container) (rate(container_cpu_usage_seconds_total[5m]))[1h:])",
        "topk(3, kube_pod_container_status_restarts_total{namespace=~\"kube-.*\"}) by (namespace, pod, container)",
        "count_values(\"version\", build_info)",
        "histogram_quantile(0.99, sum by (le) (rate(apiserver_request_duration_seconds_bucket{verb=\"GET\"}[5m])))",
        "(((a_name_that_is_long_enough_to_fill_a_line_once_it_is_repeated and another_name_that_is_long_too)))",
        "label_replace(up{job=\"api\"}, \"instance\", \"$1\", \"instance\", \"(.*):.*\")",
        "-(vector(time()) > bool 5)",
        "absent(a) or vector(0)",
    ];
    let mut expressions: Vec<String> = PARTS.map(String::from).into();
    for a in PARTS {
        for b in PARTS {
            expressions.push(format!("{a} / on (namespace, pod) group_left (node) {b}"));
            expressions.push(format!("{b} + ignoring (instance) {a} unless {b} == bool ({a})"));
            expressions.push(format!("avg by (node) (({a} or {b}) * 2 ^ 3 - {b})"));
            expressions.push(format!("clamp(-({a}), 0, scalar({b}))"));
        }
    }
    expressions
}

#[test]
fn expressions_are_formatted_as_by_prometheus() {
    let Some(prometheus) = program("prometheus", "PROMETHEUS_DEBIAN") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = start_with(folder.path(), &[]);
    let peer = Prometheus::start(&prometheus, folder.path());
    let (mut accepted, mut several_lines) = (0, 0);
    for query in expressions() {
        let [ours, theirs] = [server.port, peer.port].map(|port| {
            let answer = post_form(port, "/api/v1/format_query", &[("query", &query)]).unwrap();
            (answer.status, answer.json())
        });
        assert_eq!(ours.0, theirs.0, "{query}: {}, {}", ours.1, theirs.1);
        if ours.0 == 200 {
            assert_eq!(ours.1, theirs.1, "{query}");
            accepted += 1;
            let text = ours.1["data"].as_str().unwrap_or_default();
            several_lines += usize::from(text.contains('\n'));
        }
    }
    assert!(accepted > 400 && several_lines > 300, "{accepted}, {several_lines}");
}
