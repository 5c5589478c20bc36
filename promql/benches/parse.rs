//! Queries as dashboards and rules have them: text to checked tree, and back to text.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use promql::parse::{ParseOptions, parse, parse_selector};

const QUERIES: [&str; 30] = [
    "up",
    "up == 0",
    "time() - process_start_time_seconds",
    r#"up{job="node",instance=~"10\\.0\\..*"}"#,
    "rate(http_requests_total[5m])",
    r#"sum by (job, code) (rate(http_requests_total{job="api"}[5m]))"#,
    r#"sum(rate(http_requests_total{code=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))"#,
    "histogram_quantile(0.99, sum by (le, route) (rate(http_request_duration_seconds_bucket[5m])))",
    "histogram_quantile(0.95, sum(rate(rpc_latency_seconds[10m])))",
    r#"100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])))"#,
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    r#"node_filesystem_avail_bytes{fstype!="",mountpoint!=""} / node_filesystem_size_bytes{fstype!="",mountpoint!=""} * 100 < 5 and predict_linear(node_filesystem_avail_bytes{fstype!="",mountpoint!=""}[6h], 24 * 60 * 60) < 0"#,
    "topk(10, sum by (namespace, pod) (container_memory_working_set_bytes))",
    r#"sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{image!="",container!="POD"}[5m])) * on (namespace, pod) group_left (node) topk by (namespace, pod) (1, max by (namespace, pod, node) (kube_pod_info{node!=""}))"#,
    "max_over_time(rate(process_cpu_seconds_total[1m])[1h:1m])",
    "avg_over_time(up[1d] offset 1w)",
    "rate(errors_total[5m]) > 2 * rate(errors_total[5m] offset 1d)",
    r#"label_replace(up, "host", "$1", "instance", "([^:]+):.*")"#,
    r#"absent(up{job="prometheus"})"#,
    r#"count by (version) (count_values("version", build_info))"#,
    "increase(kube_pod_container_status_restarts_total[1h]) > 3",
    "sum without (instance, pod) (rate(grpc_server_handled_total[1m]))",
    r#"(instance:node_cpu:ratio > 0.9) or (instance:node_load1:ratio > 1.5) unless on (instance) maintenance{state="active"}"#,
    "changes(process_start_time_seconds[15m]) > 2",
    "quantile_over_time(0.9, queue_depth[30m])",
    r#"min_over_time(probe_success{job="blackbox"}[5m]) == bool 0"#,
    "deriv(temperature_celsius[1h]) * 3600",
    r#"{__name__=~"job:.*",job="x"} @ end() offset 5m"#,
    r#"sum({"http.server.requests", "service.name"="shop"}) by ("http.route")"#,
    "clamp_max(sum(up) / scalar(count(up)), 1) ^ 2 * 1e3",
];

fn parsing(c: &mut Criterion) {
    let options = ParseOptions::default();
    let bytes: usize = QUERIES.iter().map(|query| query.len()).sum();
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("dashboard", |b| {
        b.iter(|| {
            for query in QUERIES {
                black_box(parse(black_box(query), &options).expect("a valid query"));
            }
        });
    });
    let chain = vec!["errors_total"; 1_000].join(" or ");
    group.throughput(Throughput::Bytes(chain.len() as u64));
    group.bench_function("chain of 1000", |b| {
        b.iter(|| parse(black_box(&chain), &options).expect("a valid query"));
    });
    let selector = r#"http_requests_total{job="api",code!="200",path=~"/a|/b"}"#;
    group.throughput(Throughput::Bytes(selector.len() as u64));
    group.bench_function("selector", |b| {
        b.iter(|| parse_selector(black_box(selector)).expect("a valid selector"));
    });
    group.finish();
}

fn printing(c: &mut Criterion) {
    let options = ParseOptions::default();
    let exprs: Vec<_> =
        QUERIES.iter().map(|query| parse(query, &options).expect("a valid query")).collect();
    c.bench_function("print", |b| {
        b.iter(|| exprs.iter().map(|expr| expr.to_string().len()).sum::<usize>());
    });
}

criterion_group!(benches, parsing, printing);
criterion_main!(benches);
