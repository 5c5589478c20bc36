//! What is asked.
//!
//! `http_requests_total` has 10,000 series at a time, `grpc_server_handled_total` 1000, `container_cpu_usage_seconds_total` and
//! `container_memory_working_set_bytes` 3000, `http_request_duration_seconds_bucket` 3000, when there are 1000 pods.

/// A query with what it is to reach: times less CPU time than the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) query: &'static str,
    pub(crate) windows: &'static [Window],
    pub(crate) goal: f64,
    pub(crate) floor: f64,
}

/// A range of times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) name: &'static str,
    pub(crate) span_ms: i64,
    pub(crate) step_ms: i64,
}

const HOUR: Window = Window { name: "1 h @ 15 s", span_ms: 3_600_000, step_ms: 15_000 };
const LONGER: Window = Window { name: "90 min @ 15 s", span_ms: 5_400_000, step_ms: 15_000 };
const DAY: Window = Window { name: "24 h @ 60 s", span_ms: 86_400_000, step_ms: 60_000 };
const BOTH: &[Window] = &[HOUR, DAY];

const fn case(query: &'static str, windows: &'static [Window], (goal, floor): (f64, f64)) -> Case {
    Case { query, windows, goal, floor }
}

pub(crate) const CASES: [Case; 18] = [
    case("sum(rate(grpc_server_handled_total[5m]))", BOTH, (10.0, 5.0)),
    case("sum(rate(http_requests_total[5m]))", BOTH, (10.0, 5.0)),
    case("sum(rate(grpc_server_handled_total[1h]))", BOTH, (20.0, 8.0)),
    case("rate(grpc_server_handled_total[1h])", &[HOUR], (20.0, 8.0)),
    case("sum(max_over_time(grpc_server_handled_total[1h]))", BOTH, (20.0, 8.0)),
    case("max_over_time(grpc_server_handled_total[1h])", &[HOUR], (20.0, 8.0)),
    case("sum(quantile_over_time(0.9, grpc_server_handled_total[1h]))", BOTH, (20.0, 8.0)),
    case("quantile_over_time(0.9, grpc_server_handled_total[1h])", &[HOUR], (20.0, 8.0)),
    case("sum by (pod) (rate(container_cpu_usage_seconds_total[5m]))", BOTH, (10.0, 5.0)),
    case(
        "histogram_quantile(0.99, sum by (le, job) (rate(http_request_duration_seconds_bucket[5m])))",
        BOTH,
        (8.0, 4.0),
    ),
    case(
        "container_memory_working_set_bytes / on (pod) group_left kube_pod_memory_limit_bytes",
        &[HOUR],
        (5.0, 3.0),
    ),
    case(
        "max(container_memory_working_set_bytes / on (pod) group_left kube_pod_memory_limit_bytes)",
        BOTH,
        (5.0, 3.0),
    ),
    case("topk(10, rate(grpc_server_handled_total[5m]))", BOTH, (5.0, 3.0)),
    case("topk(10, rate(http_requests_total[5m]))", &[HOUR], (5.0, 3.0)),
    case("max_over_time(rate(grpc_server_handled_total[5m])[1h:1m])", &[HOUR], (5.0, 3.0)),
    case("sum(max_over_time(rate(grpc_server_handled_total[5m])[1h:1m]))", BOTH, (5.0, 3.0)),
    case("grpc_server_handled_total", &[LONGER], (5.0, 2.0)),
    case("container_memory_working_set_bytes{node=~\"node-[0-6]\"}", &[LONGER], (5.0, 2.0)),
];

/// Where an alert looks: the whole fleet, parts of it, single nodes.
fn places() -> Vec<String> {
    let mut places: Vec<String> =
        ["zone=~\".+\"", "namespace!=\"team-0\""].map(String::from).into();
    places.extend((0..3).map(|zone| format!("zone=\"zone-{zone}\"")));
    places.extend((0..20).map(|node| format!("node=\"node-{node}\"")));
    places
}

/// Conditions as alerting rules have them, `S` for where. At 25 places they are 500.
const ALERTS: [&str; 20] = [
    r#"up{job="app",S} == 0"#,
    r#"absent(up{job="app",S})"#,
    r#"min_over_time(up{S}[5m]) == 0"#,
    r#"avg by (namespace) (up{S}) < 0.9"#,
    r#"count by (node) (up{S} == 0) > 1"#,
    r#"time() - process_start_time_seconds{S} < 600"#,
    r#"increase(kube_pod_container_status_restarts_total{S}[30m]) > 5"#,
    r#"sum by (namespace) (rate(http_requests_total{code=~"5..",S}[5m])) / sum by (namespace) (rate(http_requests_total{S}[5m])) > 0.05"#,
    r#"rate(http_requests_total{code="500",S}[10m]) > 1e5"#,
    r#"sum by (handler) (rate(http_requests_total{code="429",S}[5m])) > 10"#,
    r#"histogram_quantile(0.99, sum by (le, namespace) (rate(http_request_duration_seconds_bucket{S}[5m]))) > 1"#,
    r#"sum by (namespace) (increase(http_request_duration_seconds_count{S}[5m])) == 0"#,
    r#"container_memory_working_set_bytes{S} / on (namespace, pod) group_left kube_pod_memory_limit_bytes{S} > 0.9"#,
    r#"max_over_time(container_memory_working_set_bytes{S}[15m]) > 4.6e8"#,
    r#"predict_linear(container_memory_working_set_bytes{container="proxy",S}[30m], 4 * 3600) > 2e9"#,
    r#"sum by (node) (container_memory_working_set_bytes{S}) > 4e10"#,
    r#"kube_pod_memory_limit_bytes{S} < 3e8 unless on (pod) up{S} == 0"#,
    r#"changes(kube_pod_memory_limit_bytes{S}[1h]) > 0"#,
    r#"sum by (pod) (rate(container_cpu_usage_seconds_total{S}[5m])) > 2.5"#,
    r#"topk(3, sum by (pod) (rate(grpc_server_handled_total{S}[5m]))) > 1e5"#,
];

/// Expressions as dashboards and recording rules of libraries have them: `$job` is a job, `$name` the prefix of its metrics.
/// For ten jobs they are 200.
const PANELS: [&str; 20] = [
    r#"sum by (cluster, team, pod) (rate($name_cpu_seconds_total{cluster="c1", job="$job", stage!=""}[5m])) * on (cluster, team, pod) group_left (rack) topk by (cluster, team, pod) (1, max by (cluster, team, pod, rack) ($name_placement{rack!=""}))"#,
    r#"1 - avg without (cpu) (sum without (mode) (rate($name_cpu_seconds_total{job="$job", mode=~"idle|steal", cluster=~"c[0-9]+"}[4m])))"#,
    r#"histogram_quantile(0.99, sum by (cluster, le, route) (rate($name_request_duration_seconds_bucket{job="$job", route=~"/items/.*|/search", code!~"4.."}[5m]))) > 0.3"#,
    r#"($name_disk_free_bytes{job="$job", kind!="tmpfs", mount!=""} / $name_disk_bytes{job="$job", kind!="tmpfs", mount!=""} * 100 < 15 and predict_linear($name_disk_free_bytes{job="$job", kind!="tmpfs", mount!=""}[6h], 24 * 3600) < 0 and $name_disk_readonly{job="$job", mount!=""} == 0)"#,
    r#"max by (team, pod) ($name_phase{job="$job", phase=~"pending|lost"}) * on (team, pod) group_left (owner) sum by (team, pod, owner) ($name_owner{owner!="batch"}) > 0"#,
    r#"(rate($name_errors_total{job="$job"}[1h]) > (14.4 * 0.01)) and (rate($name_errors_total{job="$job"}[5m]) > (14.4 * 0.01)) or (rate($name_errors_total{job="$job"}[6h]) > (6 * 0.01))"#,
    r#"max_over_time(deriv($name_queue_length{job="$job"}[5m])[30m:1m]) > 100 unless on (instance) $name_maintenance == 1"#,
    r#"label_replace($name_build_info{job="$job"} offset 5m, "major", "$1", "version", "v([0-9]+)[.].*")"#,
    r#"count by (version) (count by (version, instance) ($name_build_info{job!~"dns|proxy", version!=""})) > 1"#,
    r#"clamp_max(sum without (instance, pod) (increase($name_requests_total{job="$job", code=~"5.."}[30m])) / ignoring (code) group_left () sum without (instance, pod, code) (increase($name_requests_total{job="$job"}[30m])), 1)"#,
    r#"$name:request_errors:ratio_rate5m{job="$job"} > bool 0.001 * 14.4"#,
    r#"quantile_over_time(0.95, $name_load1{job="$job"}[1d]) / on (instance) group_left () count without (cpu, mode) ($name_cpu_seconds_total{job="$job", mode="idle"})"#,
    r#"absent(up{job="$job"} == 1) or vector(0)"#,
    r#"avg_over_time($name_up{job="$job"}[1w] offset 1w) - avg_over_time($name_up{job="$job"}[1w])"#,
    r#"sort_desc(topk(20, sum by (handler, method) (irate($name_http_requests_total{job=~"$job|$job-canary", handler!~"/health|/metrics|/ready"}[1m]))))"#,
    r#"-($name_memory_bytes{job="$job"} - $name_memory_free_bytes{job="$job"} - $name_memory_cached_bytes{job="$job"}) ^ 2 % 1e9"#,
    r#"time() - max by (job, schedule) ($name_last_success_seconds{job="$job"}) > 3 * 3600 and on () day_of_week() != 0 and on () hour() >= 8"#,
    r#"sum by (le) ($name_latency_bucket{job="$job", le="0.25"} @ end() offset 1m) / on () group_left sum ($name_latency_count{job="$job"} @ end())"#,
    r#"stddev_over_time($name_temperature_celsius{job="$job", sensor=~"(core|package)_[0-9]+"}[10m]) > 3 * scalar(avg(stddev_over_time($name_temperature_celsius{job="$job"}[1d])))"#,
    r#"(sum by (team) ($name_quota{job="$job", type="used"}) / sum by (team) ($name_quota{job="$job", type="hard"} > 0)) > 0.9 < 1"#,
];

/// Jobs whose expressions these are.
const JOBS: [&str; 10] = [
    "machine",
    "agent",
    "frontend",
    "quorum",
    "ingress",
    "queue",
    "database",
    "cache",
    "gateway",
    "scheduler",
];

/// All of them.
pub(crate) fn panels() -> Vec<String> {
    let panels = JOBS.iter().flat_map(|job| PANELS.iter().map(move |panel| (job, panel)));
    panels.map(|(job, panel)| panel.replace("$name", job).replace("$job", job)).collect()
}

/// All alerts, each at all places.
pub(crate) fn alerts() -> Vec<String> {
    let places = places();
    let all = ALERTS.iter().flat_map(|alert| places.iter().map(move |place| (alert, place)));
    all.map(|(alert, place)| alert.replace("S}", &format!("{place}}}"))).collect()
}
