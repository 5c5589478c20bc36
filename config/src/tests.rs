//! What files mean, and what mistakes in them are called.

use std::time::Duration;

use super::*;

fn good(yaml: &str) -> Config {
    Config::parse(yaml, "p.yml").unwrap_or_else(|error| panic!("{error}\nin {yaml}"))
}

fn check_error(yaml: &str, expected: &str) {
    let error = Config::parse(yaml, "p.yml").expect_err(yaml).to_string();
    assert_eq!(error, expected, "of {yaml}");
}

#[test]
fn defaults_are_prometheus_s() {
    for empty in ["", "# nothing\n", "global:\n", "{}"] {
        let config = good(empty);
        assert_eq!(config.global.scrape_interval, Duration::from_secs(60));
        assert_eq!(config.global.scrape_timeout, Duration::from_secs(10));
        assert_eq!(config.global.evaluation_interval, Duration::from_secs(60));
        assert!(config.scrape_configs.is_empty() && config.warnings().is_empty());
    }
    let config = good("scrape_configs: [{job_name: a, static_configs: [{targets: ['b:1']}]}]");
    let job = &config.scrape_configs[0];
    assert_eq!((job.metrics_path.as_str(), job.scheme.as_str()), ("/metrics", "http"));
    assert!(job.honor_timestamps && !job.honor_labels && job.enable_compression);
    assert_eq!(job.scrape_interval, Duration::from_secs(60));
    assert_eq!(job.static_configs[0].targets, ["b:1"]);
}

#[test]
fn jobs_inherit_what_they_do_not_set() {
    let config = good(
        "global: {scrape_interval: 5s, body_size_limit: 15MB, sample_limit: 10, extra_scrape_metrics: true}\n\
         scrape_configs:\n\
         - {job_name: a}\n\
         - {job_name: b, scrape_interval: 1s, sample_limit: 20, extra_scrape_metrics: false}\n\
         - {job_name: c, scrape_interval: 1m, scrape_timeout: 30s}\n",
    );
    let [a, b, c] = config.scrape_configs.as_slice() else { panic!("three jobs") };
    let seconds =
        |job: &ScrapeConfig| (job.scrape_interval.as_secs(), job.scrape_timeout.as_secs());
    assert_eq!((seconds(a), seconds(b), seconds(c)), ((5, 5), (1, 1), (60, 30)));
    assert_eq!((a.limits.samples_max, b.limits.samples_max), (10, 20));
    assert_eq!(b.limits.body_bytes_max, 15 << 20);
    assert_eq!((a.extra_scrape_metrics, b.extra_scrape_metrics), (true, false));
}

#[test]
fn defaults_may_be_others() {
    let defaults = Defaults { extra_scrape_metrics: true };
    for (global, all, one) in [("{}", true, false), ("{extra_scrape_metrics: false}", false, false)]
    {
        let yaml = format!(
            "global: {global}\nscrape_configs:\n- {{job_name: a}}\n- {{job_name: b, extra_scrape_metrics: false}}\n"
        );
        let config = Config::parse_with(&yaml, "test", defaults).unwrap();
        let [a, b] = config.scrape_configs.as_slice() else { panic!("two jobs") };
        let given = [config.global.extra_scrape_metrics, a.extra_scrape_metrics];
        assert_eq!((given, b.extra_scrape_metrics), ([all, all], one), "{global}");
    }
}

#[test]
fn values_of_every_field_are_read() {
    let config = good(
        "global:\n  evaluation_interval: 30s\n  external_labels: {dc: a, n: 5, none: }\n\
         scrape_configs:\n- job_name: a\n  params: {module: [x, y]}\n  metrics_path: /m\n  honor_labels: true\n  \
         honor_timestamps: false\n  track_timestamps_staleness: true\n  enable_compression: false\n  \
         fallback_scrape_protocol: PrometheusText0.0.4\n  follow_redirects: true\n  enable_http2: false\n  \
         tls_config: {insecure_skip_verify: false}\n  relabel_configs: []\n  keep_dropped_targets: 3\n  \
         static_configs:\n  - targets: [b]\n    labels: {zone: 1, empty: }\n  \
         http_sd_configs: [{url: 'http://sd/x', refresh_interval: 5s}]\n",
    );
    assert_eq!(config.global.external_labels.to_string(), r#"{dc="a", n="5"}"#);
    let job = &config.scrape_configs[0];
    assert_eq!(job.params["module"], ["x", "y"]);
    assert!(job.honor_labels && !job.honor_timestamps && job.track_timestamps_staleness);
    assert_eq!(job.fallback_scrape_protocol, Some(ScrapeProtocol::PrometheusText0_0_4));
    assert_eq!(job.static_configs[0].labels["zone"], "1");
    assert_eq!(job.http_sd_configs[0].refresh_interval, Duration::from_secs(5));
    assert_eq!(job.limits.dropped_targets_max, 3);
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn a_configuration_survives_being_written() {
    for yaml in [
        "",
        "global: {external_labels: {a: 'x$$y', 'b c': \"q'\\\"\\n\"}, sample_limit: 5}",
        "scrape_configs:\n- {job_name: 'yes', params: {'': ['1']}, scrape_interval: 90s, body_size_limit: 7B,\n   \
         fallback_scrape_protocol: PrometheusText1.0.0, static_configs: [{targets: ['a:1', '[::1]:2'], labels: {l: 'null'}}, {}],\n   \
         http_sd_configs: [{url: 'http://h/?a=b#c'}]}\n- {job_name: 'ö #'}\n",
        "storage: {tsdb: {out_of_order_time_window: 30m, stale_series_compaction_threshold: 0.25, retention: {time: 30d, size: 7GB1B, percentage: 0.5}}, exemplars: {max_exemplars: 5}}",
        "storage: {tsdb: {retention: {}}, exemplars: {}}",
    ] {
        let config = good(yaml);
        let written = config.to_yaml();
        assert_eq!(good(&written), config, "through {written}");
    }
}

#[test]
fn storage_has_prometheus_s_defaults() {
    let defaults = StorageConfig {
        out_of_order_time_window: Duration::ZERO,
        stale_series_compaction_threshold: 0.0,
        retention: None,
        exemplars_max: 100_000,
    };
    let kept = |retention| StorageConfig { retention: Some(retention), ..defaults.clone() };
    let none = RetentionConfig::default();
    for (yaml, expected) in [
        ("", defaults.clone()),
        ("storage:", defaults.clone()),
        ("storage: {tsdb: , exemplars: }", defaults.clone()),
        ("storage: {tsdb: {chunk_encoding: {floats: xor}, retention: }}", defaults.clone()),
        // A section that is there replaces what flags say, also where it is silent.
        ("storage: {tsdb: {retention: {}}}", kept(none)),
        (
            "storage: {tsdb: {retention: {size: 10GB}}}",
            kept(RetentionConfig { bytes_max: 10 << 30, ..none }),
        ),
        (
            "storage: {tsdb: {retention: {percentage: 0.5}}}",
            kept(RetentionConfig { percentage_max: 0.5, ..none }),
        ),
        (
            "storage: {tsdb: {retention: {time: 1y, size: 0, percentage: 100}}}",
            kept(RetentionConfig {
                time: Duration::from_secs(365 * 86_400),
                percentage_max: 100.0,
                ..none
            }),
        ),
        (
            "storage: {tsdb: {out_of_order_time_window: 30m, stale_series_compaction_threshold: 0.2}}",
            StorageConfig {
                out_of_order_time_window: Duration::from_secs(1800),
                stale_series_compaction_threshold: 0.2,
                ..defaults.clone()
            },
        ),
        (
            "storage: {exemplars: {max_exemplars: 7}}",
            StorageConfig { exemplars_max: 7, ..defaults.clone() },
        ),
        ("storage: {exemplars: {}}", StorageConfig { exemplars_max: 0, ..defaults.clone() }),
        (
            "storage: {exemplars: {max_exemplars: -1}}",
            StorageConfig { exemplars_max: 0, ..defaults.clone() },
        ),
    ] {
        let config = good(yaml);
        assert_eq!(config.storage, expected, "{yaml}");
        assert!(config.warnings().is_empty(), "{yaml}: {:?}", config.warnings());
    }
    assert_eq!(
        good("storage: {tsdb: {chunk_encoding: {floats: xor2}}}").warnings(),
        ["p.yml:1:43: storage.tsdb.chunk_encoding.floats xor2 is not acted on by this version"]
    );
}

#[test]
fn what_is_not_acted_on_is_a_warning() {
    let config = good(
        "global:\n  query_log_file: q.log\nrule_files: [a.yml]\nalerting: {alertmanagers: []}\nremote_write:\n\
         - url: http://x\nscrape_configs:\n- job_name: a\n  scrape_failure_log_file: f.log\n",
    );
    assert_eq!(
        config.warnings(),
        [
            "p.yml:3:13: rule_files is not acted on by this version",
            "p.yml:6:3: remote_write is not acted on by this version",
            "p.yml:2:19: global.query_log_file is not acted on by this version",
            "p.yml:9:28: job \"a\": scrape_failure_log_file is not acted on by this version",
        ]
    );
}

#[test]
fn what_would_store_other_things_is_an_error() {
    let job = |fields: &str| format!("scrape_configs:\n- job_name: a\n  {fields}\n");
    for (fields, field, column) in [
        ("scheme: https", "scheme https", 11),
        ("basic_auth: {username: u}", "basic_auth", 15),
        ("kubernetes_sd_configs: [{role: node}]", "kubernetes_sd_configs", 26),
        ("scrape_native_histograms: true", "scrape_native_histograms", 29),
        ("follow_redirects: false", "follow_redirects: false", 21),
        ("metric_name_validation_scheme: legacy", "metric_name_validation_scheme legacy", 34),
        (
            "scrape_protocols: [PrometheusProto]",
            "scrape_protocols without the Prometheus text format",
            21,
        ),
        ("http_sd_configs: [{url: 'https://h'}]", "http_sd_configs.url with https", 27),
        ("http_sd_configs: [{url: 'http://h', proxy_url: x}]", "http_sd_configs.proxy_url", 50),
    ] {
        let expected =
            format!("p.yml:3:{column}: job \"a\": {field} is not supported by this version");
        check_error(&job(fields), &expected);
    }
    check_error(
        &job("metric_relabel_configs:\n  - action: drop"),
        "p.yml:4:5: job \"a\": metric_relabel_configs is not supported by this version",
    );
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (yaml, expected) in [
        ("globl: {}", "p.yml:1:1: unknown field \"globl\""),
        ("global:\n  scrape_intervall: 5s", "p.yml:2:3: unknown field \"scrape_intervall\""),
        ("global: {}\nglobal: {}", "p.yml:2:1: field \"global\" is given twice"),
        ("global:\n  scrape_interval: 5x", "p.yml:2:20: not a valid duration string: \"5x\""),
        ("global:\n  body_size_limit: 5", "p.yml:2:20: not a valid size: \"5\""),
        (
            "global:\n  scrape_timeout: 2m",
            "p.yml:2:19: global: scrape_timeout: timeout 2m is greater than scrape_interval 1m",
        ),
        (
            "global: {external_labels: {'': x}}",
            "p.yml:1:27: global: external_labels: \"\" is not a valid label name",
        ),
        (
            "storage:\n  tsdb:\n    chunk_encoding:\n      floats: XOR",
            "p.yml:4:15: storage: tsdb.chunk_encoding.floats: unknown value \"XOR\"",
        ),
        (
            "storage:\n  tsdb:\n    retention:\n      percentage: -1",
            "p.yml:4:19: storage: tsdb.retention.percentage: must be in the range [0, 100], got -1",
        ),
        (
            "storage:\n  tsdb:\n    retention:\n      percentage: .nan",
            "p.yml:4:19: storage: tsdb.retention.percentage: must be in the range [0, 100], got NaN",
        ),
        (
            "storage:\n  tsdb:\n    retention:\n      time: -1h",
            "p.yml:4:13: not a valid duration string: \"-1h\"",
        ),
        ("storage: {tsdb: {retention: {size: -1B}}}", "p.yml:1:36: not a valid size: \"-1B\""),
        ("storage: {tsdb: {wal: 1}}", "p.yml:1:18: unknown field \"wal\""),
        (
            "scrape_configs:\n- metrics_path: /x",
            "p.yml:2:3: scrape_configs[0]: job_name: is missing or empty",
        ),
        ("scrape_configs:\n-", "p.yml:2:2: scrape_configs[0]: job_name: is missing or empty"),
        (
            "scrape_configs:\n- job_name: a\n- job_name: a",
            "p.yml:3:3: job \"a\": job_name: found multiple scrape configs with this job name, the first on line 2",
        ),
        (
            "scrape_configs:\n- job_name: a\n  scrape_timeout: 61s",
            "p.yml:3:19: job \"a\": scrape_timeout: timeout 1m1s is greater than scrape_interval 1m",
        ),
        (
            "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [b, 'http://c']",
            "p.yml:4:18: job \"a\": static_configs: \"http://c\" is not a valid hostname",
        ),
        (
            "scrape_configs:\n- job_name: a\n  http_sd_configs:\n  - url: ftp://x",
            "p.yml:4:10: job \"a\": http_sd_configs.url: \"ftp://x\" is not a valid URL: it must start with http:// or https:// and name a host",
        ),
        (
            "scrape_configs:\n- job_name: a\n  http_sd_configs: [{url: 'http://x', refresh_interval: 0s}]",
            "p.yml:3:57: job \"a\": http_sd_configs.refresh_interval: must be greater than 0",
        ),
        (
            "scrape_configs:\n- job_name: a\n  scrape_protocols: [Morse]",
            "p.yml:3:22: job \"a\": scrape_protocols: unknown scrape protocol \"Morse\"",
        ),
    ] {
        check_error(yaml, expected);
    }
    for broken in ["global: [", "a: b: c", "global: 5", "\"", "scrape_configs: {job_name: a}"] {
        let error = Config::parse(broken, "p.yml").expect_err(broken);
        assert!(matches!(error, ConfigError::Syntax { .. }), "{broken:?}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("tracing: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(matches!(Config::parse(&deep, "p.yml"), Err(ConfigError::Syntax { .. })));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/p.yml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/p.yml: "), "{error}");
}
