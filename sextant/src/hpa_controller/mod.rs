//! `sextant hpa-controller`: what the HPA controller of kube-controller-manager does, under its flags.

mod flags;
mod ignored;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use hpa_controller::history::ApiHistory;
use hpa_controller::leader::ElectionOptions;
use hpa_controller::state::{LogOptions, Mode, SegmentOptions};
use hpa_controller::{Config, History, React, StatePlaces};
use http::{ClientOptions, TlsOptions};
use model::SystemClock;

pub(crate) use flags::HpaControllerFlags;
use flags::{ElectionFlags, OwnFlags, ReactTo};

use crate::{kubeconfig, logging, serve, signals};

/// The Lease, unless told otherwise.
const LEASE_NAMESPACE: &str = "kube-system";
pub(crate) const LEASE_NAME: &str = "sextant-hpa-controller";
/// Threads of the runtime: one decides while the other writes decisions down.
const WORKERS: usize = 2;
/// Files of decisions with fewer bytes would hold next to nothing.
const DECISIONS_DISK_MIN: u64 = 1 << 20;

/// Runs until a signal asks to stop, or leadership is lost.
pub(crate) fn run(flags: &HpaControllerFlags) -> anyhow::Result<()> {
    logging::start(&flags.log.log_flags());
    flags.ignored.warn();
    for (flag, reason) in idle(flags) {
        tracing::warn!(flag, reason, "flag has no effect");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let shutdown = signals::stop_token().context("cannot watch for signals")?;
        let config = config(flags, api_server(flags).await?)?;
        let mode = config.mode;
        let announce = |address| {
            let line = format!(
                "Sextant {} controls autoscalers in {mode} mode, http://{address}\n",
                telemetry::VERSION
            );
            // Nobody may be reading; it runs all the same.
            let _ = std::io::stdout().write_all(line.as_bytes());
        };
        hpa_controller::run(config, announce, shutdown).await?;
        Ok(())
    });
    runtime.shutdown_timeout(serve::LEFTOVERS_TIMEOUT);
    outcome
}

/// Flags that were given but have nothing to act on, and why.
fn idle(flags: &HpaControllerFlags) -> Vec<(&'static str, &'static str)> {
    let default = ElectionOptions::new(LEASE_NAMESPACE, LEASE_NAME, "");
    let given = [
        flags.election.leader_elect_lease_duration != default.lease_duration,
        flags.election.leader_elect_renew_deadline != default.renew_deadline,
        flags.election.leader_elect_retry_period != default.retry_period,
        flags.election.leader_elect_resource_name != default.name,
        flags.election.leader_elect_resource_namespace != default.namespace,
    ];
    let mut idle = Vec::new();
    if flags.hpa.mode == Mode::Shadow {
        if given.contains(&true) {
            idle.push((
                "--leader-elect-*",
                "in shadow mode nothing is written and no leader is elected",
            ));
        }
        if matches!(flags.hpa.react, ReactTo::FreshSamples) {
            idle.push(("--hpa.react", "in shadow mode nothing could be done about fresh samples"));
        }
    }
    if flags.hpa.state_dir.is_none() && flags.hpa.decisions_disk != 256 << 20 {
        idle.push(("--hpa.decisions-disk", "it needs --hpa.state-dir"));
    }
    idle
}

async fn api_server(flags: &HpaControllerFlags) -> anyhow::Result<kube::Config> {
    let url = flags.master.as_ref().map(|url| url.parse()).transpose().context("--master")?;
    let mut config = match (&flags.kubeconfig, &url) {
        (Some(path), _) => kubeconfig::from_file(path).await.context("--kubeconfig")?,
        (None, Some(url)) => {
            let url: &axum::http::Uri = url;
            kube::Config::incluster().unwrap_or_else(|_| kube::Config::new(url.clone()))
        }
        (None, None) => {
            kube::Config::incluster().context("no --kubeconfig, and not in a cluster")?
        }
    };
    if let Some(url) = url {
        config.cluster_url = url;
    }
    Ok(config)
}

fn config(flags: &HpaControllerFlags, api_server: kube::Config) -> anyhow::Result<Config> {
    let HpaControllerFlags { hpa, election, web, .. } = flags;
    let active = hpa.mode == Mode::Active;
    let config_maps = (active && hpa.state_config_maps).then(|| {
        let prefix = election.leader_elect_resource_name.clone();
        (election.leader_elect_resource_namespace.clone(), prefix)
    });
    let config = Config {
        constants: flags.settings.constants(),
        sync_period: flags.sync_period,
        concurrent_syncs: flags.concurrent_syncs,
        mode: hpa.mode,
        react: match hpa.react {
            ReactTo::Period => React::Period,
            ReactTo::FreshSamples => React::FreshSamples,
        },
        election: (active && election.leader_elect).then(|| election_options(election)),
        state: StatePlaces { config_maps, directory: hpa.state_dir.clone() },
        log: log_options(hpa)?,
        qps: flags.qps,
        burst: flags.burst,
        status_writes: flags.hpa.status_writes,
        namespaces: hpa.namespaces.clone(),
        listen: web.listen_address.clone(),
        listen_probes: web.probe_address.clone(),
        history: history(hpa)?,
        ..Config::new(api_server, Arc::new(SystemClock), telemetry::new_registry())
    };
    config.check()?;
    Ok(config)
}

/// Where forecasts are made from.
fn history(flags: &OwnFlags) -> anyhow::Result<Option<Arc<dyn History>>> {
    let Some(url) = &flags.prometheus_url else { return Ok(None) };
    let ca_pem = flags
        .prometheus_ca_file
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())));
    let tls = Some(TlsOptions { ca_pem: ca_pem.transpose()?, ..TlsOptions::default() });
    let http = http::Client::new(ClientOptions { tls, ..ClientOptions::default() })?;
    let mut options = api_client::Options::new(url);
    options.bearer_token_file.clone_from(&flags.prometheus_token_file);
    let client = api_client::Client::new(http, options).context("--hpa.prometheus-url")?;
    Ok(Some(Arc::new(ApiHistory::new(client))))
}

fn election_options(flags: &ElectionFlags) -> ElectionOptions {
    ElectionOptions {
        namespace: flags.leader_elect_resource_namespace.clone(),
        name: flags.leader_elect_resource_name.clone(),
        identity: identity(),
        lease_duration: flags.leader_elect_lease_duration,
        renew_deadline: flags.leader_elect_renew_deadline,
        retry_period: flags.leader_elect_retry_period,
    }
}

/// The host, which in a cluster is the pod, and something that no two processes share, as upstream's.
pub(crate) fn identity() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().to_lowercase();
    format!("{host}_{}", ulid::Ulid::generate().to_string().to_lowercase())
}

fn log_options(flags: &OwnFlags) -> anyhow::Result<LogOptions> {
    let on_disk = flags.state_dir.as_ref().filter(|_| flags.decisions_disk > 0);
    if on_disk.is_some() && flags.decisions_disk < DECISIONS_DISK_MIN {
        anyhow::bail!("--hpa.decisions-disk must be 0 or at least 1MB");
    }
    Ok(LogOptions {
        kept: flags.decisions_kept,
        bytes_max: usize::try_from(flags.decisions_memory).unwrap_or(usize::MAX),
        segments: on_disk.map(|directory: &PathBuf| SegmentOptions {
            directory: directory.join("decisions"),
            bytes_max: flags.decisions_disk,
        }),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::flags::{Cli, Command};

    fn parse(args: &[&str]) -> Result<Box<HpaControllerFlags>, clap::Error> {
        let args = ["sextant", "hpa-controller"].iter().chain(args);
        match Cli::try_parse_from(args)?.command {
            Some(Command::HpaController(flags)) => Ok(flags),
            other => panic!("not an HPA controller: {other:?}"),
        }
    }

    fn configured(args: &[&str]) -> anyhow::Result<Config> {
        let api_server = kube::Config::new("https://127.0.0.1:6443".parse()?);
        config(&*parse(args)?, api_server)
    }

    #[test]
    fn defaults_are_upstream_s_and_shadow() {
        let config = configured(&[]).unwrap();
        assert_eq!(config.mode, Mode::Shadow);
        assert_eq!(config.react, React::Period);
        // Nothing is written to the cluster.
        assert_eq!((config.election, config.state), (None, StatePlaces::default()));
        assert_eq!(config.sync_period, Duration::from_secs(15));
        assert_eq!(config.constants, hpa_controller::Constants::default());
        assert_eq!(config.listen, "127.0.0.1:9099");
        assert_eq!(
            (config.log.kept, config.log.bytes_max, config.log.segments),
            (20, 64 << 20, None)
        );
    }

    #[test]
    fn an_active_controller_elects_and_keeps_state() {
        let config = configured(&["--hpa.mode=active", "--hpa.state-dir=/state"]).unwrap();
        let election = config.election.unwrap();
        let upstream =
            ElectionOptions::new("kube-system", "sextant-hpa-controller", &election.identity);
        assert_eq!(election, upstream);
        assert_ne!(election.identity, identity());
        let maps = Some((String::from("kube-system"), String::from("sextant-hpa-controller")));
        assert_eq!(
            config.state,
            StatePlaces { config_maps: maps, directory: Some("/state".into()) }
        );
        let segments = config.log.segments.unwrap();
        assert_eq!(
            (segments.directory, segments.bytes_max),
            ("/state/decisions".into(), 256 << 20)
        );
        let alone = configured(&[
            "--hpa.mode=active",
            "--leader-elect=false",
            "--hpa.state-config-maps=false",
            "--hpa.state-dir=/state",
            "--hpa.decisions-disk=0",
        ]);
        let alone = alone.unwrap();
        assert_eq!(
            (alone.election, alone.state.config_maps, alone.log.segments),
            (None, None, None)
        );
    }

    /// The flags of a kube-controller-manager as kubeadm writes them, and all that concern autoscaling.
    #[test]
    fn a_manifest_of_kube_controller_manager_starts() {
        let flags = [
            "--allocate-node-cidrs=true",
            "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--bind-address=127.0.0.1",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-cidr=10.244.0.0/16",
            "--cluster-name=kubernetes",
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
            "--controllers=*,bootstrapsigner,tokencleaner",
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--leader-elect=true",
            "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--use-service-account-credentials=true",
        ];
        let parsed = parse(&flags).unwrap();
        assert_eq!(parsed.ignored.names().count(), flags.len() - 2);
        let config = configured(&[
            "--master=https://api:6443",
            "--horizontal-pod-autoscaler-sync-period=30s",
            "--horizontal-pod-autoscaler-downscale-stabilization=10m",
            "--horizontal-pod-autoscaler-tolerance=0.2",
            "--horizontal-pod-autoscaler-cpu-initialization-period=2m",
            "--horizontal-pod-autoscaler-initial-readiness-delay=10s",
            "--concurrent-horizontal-pod-autoscaler-syncs=5",
            "--kube-api-qps=20",
            "--kube-api-burst=30",
            "--feature-gates=HPAScaleToZero=true",
            "--hpa.mode=active",
            "--leader-elect-lease-duration=30s",
            "--leader-elect-renew-deadline=20s",
            "--leader-elect-retry-period=5s",
            "--leader-elect-resource-lock=leases",
            "--leader-elect-resource-name=hpa",
            "--leader-elect-resource-namespace=scaling",
            "--v=2",
        ]);
        let config = config.unwrap();
        assert_eq!(config.sync_period, Duration::from_secs(30));
        assert_eq!((config.concurrent_syncs, config.qps, config.burst), (5, 20.0, 30));
        let constants = &config.constants;
        assert_eq!((constants.tolerance, constants.downscale_stabilization_ms), (0.2, 600_000));
        assert_eq!(constants.cpu_initialization_period_ms, 120_000);
        assert_eq!(constants.initial_readiness_delay_ms, 10_000);
        assert!(constants.gates.scale_to_zero);
        let election = config.election.unwrap();
        assert_eq!((&*election.namespace, &*election.name), ("scaling", "hpa"));
        assert_eq!(election.lease_duration, Duration::from_secs(30));
        assert_eq!(election.renew_deadline, Duration::from_secs(20));
        assert_eq!(election.retry_period, Duration::from_secs(5));
        assert_eq!(config.state.config_maps, Some((String::from("scaling"), String::from("hpa"))));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (flag, name) in [
            ("--hpa.mode=maybe", "--hpa.mode"),
            ("--hpa.react=never", "--hpa.react"),
            ("--hpa.decisions-memory=5", "--hpa.decisions-memory"),
            (
                "--horizontal-pod-autoscaler-sync-period=0s",
                "--horizontal-pod-autoscaler-sync-period",
            ),
            ("--horizontal-pod-autoscaler-tolerance=-1", "--horizontal-pod-autoscaler-tolerance"),
            ("--leader-elect-resource-lock=endpoints", "--leader-elect-resource-lock"),
            ("--leader-elect-lease-duration=5s", "--leader-elect-lease-duration"),
            ("--leader-elect-retry-period=9s", "--leader-elect-retry-period"),
            ("--leader-elect-resource-name=", "--leader-elect-resource-name"),
            ("--feature-gates=HPAScaleToZero", "--feature-gates"),
        ] {
            let error = configured(&["--hpa.mode=active", flag]).unwrap_err().to_string();
            assert!(error.contains(name), "{flag}: {error}");
        }
        let error = configured(&["--hpa.state-dir=/s", "--hpa.decisions-disk=1KB"]).unwrap_err();
        assert!(error.to_string().contains("--hpa.decisions-disk"), "{error}");
    }

    #[test]
    fn our_manifest_starts() {
        let manifest = include_str!("../../../deploy/hpa-controller.yaml");
        let args = manifest.lines().filter_map(|line| line.trim().strip_prefix("- --"));
        let args: Vec<_> = args.map(|arg| format!("--{arg}")).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        assert_eq!(args.len(), 4, "{args:?}");
        let config = configured(&args).unwrap();
        assert_eq!((config.mode, config.listen_probes), (Mode::Shadow, Some(":8080".into())));
        // And in active mode its role names what is written.
        let active = configured(&[&args[1..], &["--hpa.mode=active"]].concat()).unwrap();
        let (namespace, prefix) = active.state.config_maps.unwrap();
        assert_eq!(namespace, "sextant");
        assert!(manifest.contains(&format!("resourceNames: [\"{prefix}\"]")));
        for shard in 0..16 {
            assert!(manifest.contains(&format!("- {prefix}-state-{shard}\n")), "{shard}");
        }
    }

    #[test]
    fn flags_without_effect_are_told() {
        let told = |args: &[&str]| -> Vec<&str> {
            idle(&parse(args).unwrap()).into_iter().map(|(flag, _)| flag).collect()
        };
        assert_eq!(told(&[]), [""; 0]);
        assert_eq!(told(&["--leader-elect-retry-period=3s"]), ["--leader-elect-*"]);
        assert_eq!(told(&["--leader-elect-retry-period=3s", "--hpa.mode=active"]), [""; 0]);
        assert_eq!(told(&["--leader-elect-resource-namespace=other"]), ["--leader-elect-*"]);
        assert_eq!(told(&["--hpa.react=fresh-samples"]), ["--hpa.react"]);
        assert_eq!(told(&["--hpa.react=fresh-samples", "--hpa.mode=active"]), [""; 0]);
        assert_eq!(told(&["--hpa.decisions-disk=1GB"]), ["--hpa.decisions-disk"]);
    }
}
