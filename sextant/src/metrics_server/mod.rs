//! `sextant metrics-server`: what metrics-server and prometheus-adapter do, under their flags.

mod adapter;
mod flags;
mod ignored;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use http::TlsPolicy;
use metrics_server::auth::{AllowedPaths, FrontProxyFlags};
use metrics_server::cluster::PodWatch;
use metrics_server::kubelet::{EndpointOptions, KubeletTls};
use metrics_server::serving::ServingCertificate;
use metrics_server::{
    AuthenticationConfig, AuthorizationConfig, Config, KubeletConfig, ServingConfig,
};
use model::SystemClock;

pub(crate) use flags::MetricsServerFlags;
use flags::{AuthenticationFlags, AuthorizationFlags, KubeletFlags};

use crate::{descriptors, kubeconfig, logging, serve, signals};

/// Runs until a signal asks to stop.
pub(crate) fn run(flags: &MetricsServerFlags) -> anyhow::Result<()> {
    logging::start(&flags.log.log_flags());
    flags.ignored.warn();
    for flag in flags.authentication.idle() {
        let reason = "it needs --requestheader-client-ca-file";
        tracing::warn!(flag, reason, "flag has no effect");
    }
    descriptors::raise_limit();
    // Kubelets have a thread of their own and long lists others. What is left is little, and each worker keeps memory for itself.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let shutdown = signals::stop_token().context("cannot watch for signals")?;
        let config = config(flags).await?;
        let announce = |address| {
            let line = format!("Sextant {} serves metrics APIs on {address}\n", telemetry::VERSION);
            // Nobody may be reading; it runs all the same.
            let _ = std::io::stdout().write_all(line.as_bytes());
        };
        metrics_server::run(config, announce, shutdown).await?;
        Ok(())
    });
    runtime.shutdown_timeout(serve::LEFTOVERS_TIMEOUT);
    outcome
}

async fn config(flags: &MetricsServerFlags) -> anyhow::Result<Config> {
    let api_server = match &flags.kubeconfig {
        Some(path) => kubeconfig::from_file(path).await?,
        None => kube::Config::incluster().context("no --kubeconfig, and not in a cluster")?,
    };
    Ok(Config {
        api_server,
        resolution: flags.metric_resolution,
        node_selector: flags.kubelet.node_selector.clone(),
        pod_watch: if flags.pod_metadata_only { PodWatch::Metadata } else { PodWatch::Full },
        kubelets: kubelets(&flags.kubelet)?,
        adapter: adapter::config(&flags.adapter)?,
        serving: serving(&flags.serving),
        authentication: authentication(&flags.authentication).await?,
        authorization: authorization(&flags.authorization).await?,
        clock: Arc::new(SystemClock),
        registry: telemetry::new_registry(),
    })
}

async fn other_kubeconfig(path: Option<&Path>) -> anyhow::Result<Option<Box<kube::Config>>> {
    match path {
        Some(path) => Ok(Some(Box::new(kubeconfig::from_file(path).await?))),
        None => Ok(None),
    }
}

fn kubelets(flags: &KubeletFlags) -> anyhow::Result<KubeletConfig> {
    let client_certificate = match (&flags.kubelet_client_certificate, &flags.kubelet_client_key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => anyhow::bail!("need both --kubelet-client-key and --kubelet-client-certificate"),
    };
    Ok(KubeletConfig {
        endpoints: EndpointOptions {
            address_types: flags.kubelet_preferred_address_types.clone(),
            port: flags.kubelet_port,
            use_node_status_port: flags.kubelet_use_node_status_port,
            path: flags.kubelet_path.clone(),
            allow_path_annotation: flags.kubelet_allow_path_annotation,
            allow_loopback: flags.kubelet_allow_loopback,
        },
        tls: KubeletTls {
            certificate_authority: flags.kubelet_certificate_authority.clone(),
            client_certificate,
            insecure: flags.kubelet_insecure_tls,
            completely_insecure: flags.deprecated_kubelet_completely_insecure,
        },
        request_timeout: flags.kubelet_request_timeout,
    })
}

fn serving(flags: &flags::ServingFlags) -> ServingConfig {
    let certificate = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(certificate), Some(key)) => {
            ServingCertificate::Files { certificate: certificate.clone(), key: key.clone() }
        }
        _ => ServingCertificate::SelfMade {
            directory: Some(flags.cert_dir.clone()),
            names: Vec::new(),
        },
    };
    ServingConfig {
        bind_address: flags.bind_address,
        port: flags.secure_port,
        certificate,
        named_certificates: flags.tls_sni_cert_keys.clone(),
        tls: TlsPolicy {
            min_version: flags.tls_min_version,
            cipher_suites: flags.tls_cipher_suites.clone(),
        },
        inject_ca: flags.inject_ca_bundle,
        requests_inflight_max: flags.max_requests_inflight,
        request_timeout: flags.request_timeout,
        shutdown_delay: flags.shutdown_delay_duration,
    }
}

async fn authentication(flags: &AuthenticationFlags) -> anyhow::Result<AuthenticationConfig> {
    let front_proxy = flags.requestheader_client_ca_file.as_ref().map(|file| FrontProxyFlags {
        client_ca_file: file.clone(),
        allowed_names: flags.requestheader_allowed_names.clone(),
        username_headers: flags.requestheader_username_headers.clone(),
        uid_headers: flags.requestheader_uid_headers.clone(),
        group_headers: flags.requestheader_group_headers.clone(),
        extra_headers_prefix: flags.requestheader_extra_headers_prefix.clone(),
    });
    Ok(AuthenticationConfig {
        api_server: other_kubeconfig(flags.authentication_kubeconfig.as_deref()).await?,
        skip_lookup: flags.authentication_skip_lookup,
        tolerate_lookup_failure: flags.authentication_tolerate_lookup_failure,
        token_ttl: flags.authentication_token_webhook_cache_ttl,
        client_ca_file: flags.client_ca_file.clone(),
        front_proxy,
    })
}

async fn authorization(flags: &AuthorizationFlags) -> anyhow::Result<AuthorizationConfig> {
    let paths = AllowedPaths::new(&flags.authorization_always_allow_paths);
    Ok(AuthorizationConfig {
        api_server: other_kubeconfig(flags.authorization_kubeconfig.as_deref()).await?,
        always_allow_paths: paths.context("--authorization-always-allow-paths")?,
        allowed_ttl: flags.authorization_webhook_cache_authorized_ttl,
        denied_ttl: flags.authorization_webhook_cache_unauthorized_ttl,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::flags::{Cli, Command};

    fn parse(args: &[&str]) -> Result<Box<MetricsServerFlags>, clap::Error> {
        let args = ["sextant", "metrics-server"].iter().chain(args);
        match Cli::try_parse_from(args)?.command {
            Some(Command::MetricsServer(flags)) => Ok(flags),
            other => panic!("not a metrics server: {other:?}"),
        }
    }

    /// The names of upstream's `docs/command-line-flags.txt`.
    const UPSTREAM: &str = "\
        kubeconfig metric-resolution version advertise-address cors-allowed-origins emulated-version \
        emulation-forward-compatible external-hostname feature-gates goaway-chance livez-grace-period \
        max-mutating-requests-inflight max-requests-inflight min-compatibility-version min-request-timeout \
        request-timeout runtime-config-emulation-forward-compatible shutdown-delay-duration \
        shutdown-send-retry-after shutdown-watch-termination-grace-period storage-initialization-timeout \
        strict-transport-security-directives deprecated-kubelet-completely-insecure \
        kubelet-certificate-authority kubelet-client-certificate kubelet-client-key kubelet-insecure-tls \
        kubelet-port kubelet-preferred-address-types kubelet-request-timeout kubelet-use-node-status-port \
        node-selector bind-address cert-dir disable-http2-serving http2-max-streams-per-connection \
        permit-address-sharing permit-port-sharing secure-port tls-cert-file tls-cipher-suites \
        tls-curve-preferences tls-min-version tls-private-key-file tls-sni-cert-key \
        authentication-kubeconfig authentication-skip-lookup authentication-token-webhook-cache-ttl \
        authentication-tolerate-lookup-failure client-ca-file requestheader-allowed-names \
        requestheader-client-ca-file requestheader-extra-headers-prefix requestheader-group-headers \
        requestheader-uid-headers requestheader-username-headers authorization-always-allow-paths \
        authorization-kubeconfig authorization-webhook-cache-authorized-ttl \
        authorization-webhook-cache-unauthorized-ttl audit-log-batch-buffer-size audit-log-batch-max-size \
        audit-log-batch-max-wait audit-log-batch-throttle-burst audit-log-batch-throttle-enable \
        audit-log-batch-throttle-qps audit-log-compress audit-log-format audit-log-maxage \
        audit-log-maxbackup audit-log-maxsize audit-log-mode audit-log-path audit-log-truncate-enabled \
        audit-log-truncate-max-batch-size audit-log-truncate-max-event-size audit-log-version \
        audit-policy-file audit-webhook-batch-buffer-size audit-webhook-batch-max-size \
        audit-webhook-batch-max-wait audit-webhook-batch-throttle-burst audit-webhook-batch-throttle-enable \
        audit-webhook-batch-throttle-qps audit-webhook-config-file audit-webhook-initial-backoff \
        audit-webhook-mode audit-webhook-truncate-enabled audit-webhook-truncate-max-batch-size \
        audit-webhook-truncate-max-event-size audit-webhook-version contention-profiling debug-socket-path \
        enable-priority-and-fairness profiling log-flush-frequency log-json-info-buffer-size \
        log-json-split-stream log-text-info-buffer-size log-text-split-stream logging-format v vmodule";

    #[test]
    fn upstream_s_flags_are_known() {
        use clap::CommandFactory;
        assert_eq!(UPSTREAM.split_whitespace().count(), 103);
        let mut cli = Cli::command();
        // Adds what clap itself provides.
        cli.build();
        let command = cli.find_subcommand("metrics-server").unwrap();
        let known: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for name in UPSTREAM.split_whitespace() {
            assert!(known.contains(&name), "--{name}");
        }
        assert!(parse(&["--no-such-flag"]).is_err());
    }

    #[test]
    fn upstream_s_manifest_starts() {
        let flags = parse(&[
            "--cert-dir=/tmp",
            "--secure-port=10250",
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            "--kubelet-use-node-status-port",
            "--metric-resolution=15s",
            "--kubelet-insecure-tls=true",
            "--profiling=false",
            "--audit-log-path",
            "-",
            "-v=2",
            "-l",
            "a=b",
        ])
        .unwrap();
        assert_eq!(flags.serving.secure_port, 10250);
        assert_eq!(
            flags.kubelet.kubelet_preferred_address_types,
            ["InternalIP", "ExternalIP", "Hostname"]
        );
        assert!(flags.kubelet.kubelet_use_node_status_port);
        assert!(flags.kubelet.kubelet_insecure_tls);
        assert_eq!(flags.metric_resolution, std::time::Duration::from_secs(15));
        assert_eq!(flags.log.verbosity, 2);
        assert_eq!(flags.kubelet.node_selector, "a=b");
        assert_eq!(flags.ignored.names().collect::<Vec<_>>(), ["audit-log-path", "profiling"]);
    }

    #[test]
    fn our_manifest_starts() {
        let manifest = include_str!("../../../deploy/metrics-server.yaml");
        let args = manifest.lines().filter_map(|line| line.trim().strip_prefix("- --"));
        let args: Vec<_> = args.map(|arg| format!("--{arg}")).collect();
        assert_eq!(args.len(), 6, "{args:?}");
        let flags = parse(&args.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert!(flags.serving.inject_ca_bundle && !flags.kubelet.kubelet_insecure_tls);
        assert!(flags.ignored.names().next().is_none());
    }

    #[test]
    fn defaults_are_upstream_s() {
        let flags = parse(&[]).unwrap();
        assert_eq!(flags.metric_resolution, std::time::Duration::from_secs(60));
        assert_eq!(flags.kubelet.kubelet_port, 10250);
        assert_eq!(flags.kubelet.kubelet_request_timeout, std::time::Duration::from_secs(10));
        assert!(!flags.kubelet.kubelet_insecure_tls);
        assert_eq!(flags.serving.secure_port, 443);
        assert_eq!(flags.authentication.requestheader_username_headers, ["x-remote-user"]);
        assert_eq!(
            flags.authorization.authorization_always_allow_paths,
            ["/healthz", "/readyz", "/livez"]
        );
        let kubelets = kubelets(&flags.kubelet).unwrap();
        assert_eq!(kubelets.endpoints, EndpointOptions::default());
        assert_eq!(kubelets.tls, KubeletTls::default());
        assert!(flags.ignored.names().next().is_none());
    }

    #[test]
    fn tls_flags_are_read_as_upstream_s() {
        let flags = parse(&[
            "--tls-sni-cert-key=/a.crt,/a.key",
            "--tls-sni-cert-key=/b.crt,/b.key:*.b.example,b.example",
            "--tls-min-version=VersionTLS13",
            "--tls-cipher-suites=TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ])
        .unwrap();
        let serving = serving(&flags.serving);
        assert_eq!(serving.tls.min_version, http::TlsVersion::V13);
        assert_eq!(serving.tls.cipher_suites.len(), 2);
        let names: Vec<_> = serving.named_certificates.iter().map(|one| one.names.len()).collect();
        assert_eq!(names, [0, 2]);
        for bad in ["--tls-sni-cert-key=a", "--tls-sni-cert-key=a,b,c", "--tls-min-version=1.2"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn prometheus_adapter_s_manifest_starts() {
        let flags = parse(&[
            "--cert-dir=/var/run/serving-cert",
            "--config=/etc/adapter/config.yaml",
            "--metrics-relist-interval=1m",
            "--prometheus-url=https://prometheus:9090/",
            "--prometheus-header=X-Scope-OrgID=a,b",
            "--prometheus-header=X-Other=c",
            "--discovery-interval=10m",
            "--lister-kubeconfig=/etc/kubeconfig",
            "--secure-port=6443",
        ])
        .unwrap();
        let headers = [("X-Scope-OrgID", "a,b"), ("X-Other", "c")];
        let headers = headers.map(|(name, value)| (String::from(name), String::from(value)));
        assert_eq!(flags.adapter.prometheus_headers, headers);
        assert_eq!(flags.kubeconfig.as_deref(), Some(Path::new("/etc/kubeconfig")));
        assert_eq!(flags.ignored.names().collect::<Vec<_>>(), ["discovery-interval"]);
        let error = parse(&["--prometheus-auth-config=x"]).unwrap_err().to_string();
        assert!(error.contains("a kubeconfig for Prometheus is not supported"), "{error}");
    }

    #[test]
    fn flags_that_would_say_nothing_are_refused_or_told() {
        let url = "--prometheus-url=http://p";
        let pair = |name: &str, parts: [&str; 2]| parts.map(|part| format!("--{name}-{part}=x"));
        for flags in [
            vec![String::from("--prometheus-ca-file=x")],
            vec![String::from("--prometheus-token-file=x")],
            vec![String::from("--prometheus-header=a=b")],
            vec![String::from("--prometheus-auth-incluster")],
            vec![String::from("--prometheus-verb=post")],
            vec![String::from("--metrics-relist-interval=1m")],
            vec![String::from("--metrics-max-age=1m")],
            Vec::from(pair("prometheus-client-tls", ["cert-file", "key-file"])),
        ] {
            let mut flags: Vec<_> = flags.iter().map(String::as_str).collect();
            let error = parse(&flags).unwrap_err().to_string();
            assert!(error.contains("--prometheus-url <URL>"), "{error}");
            flags.push(url);
            assert!(parse(&flags).is_ok(), "{flags:?}");
        }
        let pair = pair("fallback-client", ["certificate", "key"]);
        let error = parse(&[url, &pair[0], &pair[1]]).unwrap_err().to_string();
        assert!(error.contains("--fallback-api <URL>"), "{error}");
        assert!(parse(&[url, &pair[0], &pair[1], "--fallback-api=https://a"]).is_ok());
        let idle = |flags: &[&str]| parse(flags).unwrap().authentication.idle();
        assert_eq!(idle(&[]), [""; 0]);
        let name = "--requestheader-allowed-names=a";
        assert_eq!(idle(&[name]), ["--requestheader-allowed-names"]);
        assert_eq!(idle(&[name, "--requestheader-client-ca-file=x"]), [""; 0]);
    }

    #[test]
    fn half_a_client_certificate_is_none() {
        let flags = parse(&["--kubelet-client-key=x"]).unwrap();
        let error = kubelets(&flags.kubelet).unwrap_err().to_string();
        assert_eq!(error, "need both --kubelet-client-key and --kubelet-client-certificate");
    }
}
