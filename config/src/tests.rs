//! What loads, what is refused, and with which words.

use std::time::Duration;

use crate::{Config, ConfigError, TargetGroup};

fn parse(yaml: &str) -> Result<Config, ConfigError> {
    Config::parse(yaml, "test.yml")
}

fn refused(yaml: &str, words: &[&str]) {
    let error = parse(yaml).expect_err(yaml).to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert!(error.starts_with("test.yml") && !error.contains('\n'), "{error:?}");
}

#[test]
fn defaults_are_filled_in() {
    for empty in ["", "# nothing\n", "global: {}\n", "scrape_configs:\n"] {
        let config = parse(empty).unwrap();
        assert_eq!(config.global.scrape_interval, Duration::from_secs(60));
        assert_eq!(config.global.scrape_timeout, Duration::from_secs(10));
        assert!(config.scrape_configs.is_empty());
    }
}

#[test]
fn a_job_inherits_from_global() {
    let config = parse(
        "global: {scrape_interval: 5s, sample_limit: 7, external_labels: {b: x, a: y}}\n\
         scrape_configs:\n\
         - job_name: one\n  static_configs:\n  - targets: ['a:1', 'b:2']\n    labels: {env: prod, __metrics_path__: /m}\n\
         - job_name: two\n  scrape_interval: 1m\n  scrape_timeout: 20s\n  sample_limit: 9\n  body_size_limit: 1MB\n\
         \x20 http_sd_configs: [{url: 'http://sd/targets', refresh_interval: 30s}]\n",
    )
    .unwrap();
    let [one, two] = config.scrape_configs.as_slice() else { panic!("two jobs") };
    assert_eq!(
        (one.scrape_interval, one.scrape_timeout),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert_eq!(one.limits.samples_max, 7);
    assert_eq!(
        one.static_configs,
        [TargetGroup {
            targets: vec!["a:1".into(), "b:2".into()],
            labels: [("__metrics_path__".into(), "/m".into()), ("env".into(), "prod".into())]
                .into(),
            source: "0".into(),
        }]
    );
    assert_eq!(
        (two.scrape_interval, two.scrape_timeout),
        (Duration::from_secs(60), Duration::from_secs(20))
    );
    assert_eq!((two.limits.samples_max, two.limits.body_bytes_max), (9, 1 << 20));
    assert_eq!(two.http_sd_configs[0].refresh_interval, Duration::from_secs(30));
    assert_eq!(config.global.external_labels.to_string(), r#"{a="y", b="x"}"#);
}

#[test]
fn mistakes_are_named() {
    refused("globel: {}\n", &["globel", "1"]);
    refused("global:\n  scrape_interval: 5parsecs\n", &["5parsecs", "2"]);
    refused("global: {scrape_interval: 5s, scrape_timeout: 6s}\n", &["global.scrape_timeout"]);
    refused("scrape_configs:\n- job_name: a\n- job_name: a\n", &["\"a\"", "multiple"]);
    refused("scrape_configs:\n- metrics_path: /x\n", &["scrape_configs[0]", "job_name"]);
    refused("scrape_configs:\n- job_name: a\n  metric_path: /x\n", &["\"a\"", "metric_path"]);
    refused("scrape_configs:\n- job_name: a\n  scheme: gopher\n", &["\"a\"", "scheme", "gopher"]);
    refused(
        "scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n  scrape_timeout: 6s\n",
        &["\"a\"", "scrape_timeout"],
    );
    refused(
        "scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['http://x/']}]\n",
        &["\"a\"", "static_configs[0]", "http://x/"],
    );
    refused("scrape_configs:\n- job_name: a\n  static_configs: [{target: ['x']}]\n", &["target"]);
    refused("scrape_configs:\n- job_name: a\n  http_sd_configs: [{url: ''}]\n", &["URL"]);
    refused("scrape_configs: [\n", &["test.yml"]);
}

#[test]
fn what_must_not_be_ignored_is_refused() {
    for field in [
        "relabel_configs: [{action: keep}]",
        "metric_relabel_configs: [{action: drop}]",
        "basic_auth: {username: x}",
        "scheme: https",
        "kubernetes_sd_configs: [{role: pod}]",
        "tls_config: {insecure_skip_verify: true}",
    ] {
        let name = field.split(':').next().unwrap();
        refused(
            &format!("scrape_configs:\n- job_name: a\n  {field}\n"),
            &["\"a\"", name, "not supported"],
        );
    }
}

#[test]
fn what_is_not_acted_on_is_a_warning() {
    let config = parse(
        "global: {scrape_native_histograms: true}\nrule_files: ['x.yml']\nalerting: {alertmanagers: []}\n\
         scrape_configs: [{job_name: a, enable_http2: true}]\n",
    )
    .unwrap();
    let warnings = config.warnings().join("\n");
    for name in ["rule_files", "global.scrape_native_histograms", "job \"a\": enable_http2"] {
        assert!(warnings.contains(name), "{name} is not in {warnings}");
    }
    assert!(!warnings.contains("alerting"), "an empty section asks for nothing: {warnings}");
}

#[test]
fn written_yaml_reads_back() {
    let yaml = "global: {scrape_interval: 5s, external_labels: {a: b}, body_size_limit: 3MB}\n\
                scrape_configs:\n- job_name: one\n  params: {x: [y]}\n  honor_labels: true\n\
                \x20 static_configs: [{targets: ['a:1'], labels: {l: v}}]\n\
                \x20 http_sd_configs: [{url: 'http://sd/'}]\n";
    let config = parse(yaml).unwrap();
    let again = parse(&config.to_yaml()).unwrap();
    assert_eq!(again.global, config.global);
    assert_eq!(again.scrape_configs, config.scrape_configs);
}
