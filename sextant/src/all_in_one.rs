//! `sextant` alone: this machine's collectors, the store and the API in one process; with `--kubernetes` the metrics APIs
//! and the autoscaler too.

use server::ConfigSource;

use crate::collectors::{CONTAINERS_PATH, NODE_PATH};
use crate::flags::AllInOneFlags;
use crate::kubernetes;
use crate::serve::{self, Companion, Setup, scrape_address, url};

/// How often this machine is collected.
const COLLECT_INTERVAL: &str = "5s";

/// Runs until a signal asks to stop.
pub(crate) fn run(flags: &AllInOneFlags, values: Vec<(String, String)>) -> anyhow::Result<()> {
    if flags.kubernetes.hpa_mode.is_some() && flags.kubernetes.kubernetes.is_none() {
        anyhow::bail!("--hpa.mode needs --kubernetes");
    }
    let address = &flags.daemon.web.listen_address;
    let (source, scraped) = match &flags.config_file {
        Some(path) => {
            (ConfigSource::File(path.clone()), format!("the targets of {}", path.display()))
        }
        None => (
            ConfigSource::Embedded(embedded(address)),
            format!("this machine every {COLLECT_INTERVAL}"),
        ),
    };
    let announcement = format!(
        "Sextant {version} collects {scraped} into {data}\n\
         \x20 open   {url}/\n\
         \x20 ask    curl -s {url}/api/v1/query --data-urlencode \\\n\
         \x20          'query=sum by (mode) (rate(node_cpu_seconds_total[15s]))'\n\
         \x20 stop   Ctrl-C\n",
        version = telemetry::VERSION,
        data = flags.daemon.storage.path.display(),
        url = url(address),
    );
    let companion = flags.kubernetes.kubernetes.as_ref().map(|cluster| -> Companion<'_> {
        let server_url = url(address);
        Box::new(move |routes, shutdown| {
            Box::pin(kubernetes::run(cluster, &flags.kubernetes, routes, server_url, shutdown))
        })
    });
    let daemon = &flags.daemon;
    serve::run(Setup { source, collectors: true, announcement, daemon, values, companion })
}

/// The configuration without a file: our own collectors and our own metrics.
///
/// The job names are those that dashboards and rules for these metrics select by.
fn embedded(address: &str) -> String {
    let target = scrape_address(address);
    format!(
        "global:\n\
         \x20 scrape_interval: {COLLECT_INTERVAL}\n\
         \x20 scrape_timeout: {COLLECT_INTERVAL}\n\
         scrape_configs:\n\
         - job_name: node\n\
         \x20 metrics_path: {NODE_PATH}\n\
         \x20 static_configs: [{{targets: ['{target}']}}]\n\
         - job_name: cadvisor\n\
         \x20 metrics_path: {CONTAINERS_PATH}\n\
         \x20 static_configs: [{{targets: ['{target}']}}]\n\
         - job_name: sextant\n\
         \x20 static_configs: [{{targets: ['{target}']}}]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_configuration_loads() {
        let config = config::Config::parse(&embedded("[::]:9090"), "embedded").unwrap();
        let jobs: Vec<_> = config.scrape_configs.iter().map(|c| c.job_name.as_str()).collect();
        assert_eq!(jobs, ["node", "cadvisor", "sextant"]);
        assert_eq!(config.scrape_configs[0].static_configs[0].targets, ["[::1]:9090"]);
        assert!(config.warnings().is_empty());
    }
}
