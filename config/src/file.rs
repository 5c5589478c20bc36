//! The file as it is written: every field that Prometheus knows, nothing filled in yet.
//!
//! A field that is not acted on is known by name, and of its value only whether it asks for anything. So a typing
//! error is told from a field of Prometheus, and `tls_config: {}` from one that matters.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::duration::DurationText;
use crate::error::{ConfigError, Position};
use crate::size::Bytes;

/// Deepest nesting of lists and maps that is looked into.
const DEPTH_MAX: usize = 64;

/// Whether a value asks for anything: `null`, `false`, 0 and what is empty do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asks(pub(crate) bool);

impl<'de> Deserialize<'de> for Asks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsksVisitor)
    }
}

struct AsksVisitor;

impl<'de> Visitor<'de> for AsksVisitor {
    type Value = Asks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Asks, E> {
        Ok(Asks(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Asks, E> {
        Ok(Asks(value != 0))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Asks, E> {
        Ok(Asks(value != 0))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Asks, E> {
        Ok(Asks(true))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Asks, E> {
        Ok(Asks(true))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Asks, E> {
        Ok(Asks(value != 0.0))
    }

    fn visit_str<E>(self, value: &str) -> Result<Asks, E> {
        Ok(Asks(!value.is_empty()))
    }

    fn visit_unit<E>(self) -> Result<Asks, E> {
        Ok(Asks(false))
    }

    fn visit_none<E>(self) -> Result<Asks, E> {
        Ok(Asks(false))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Asks, D::Error> {
        Asks::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Asks, A::Error> {
        let mut asks = false;
        while items.next_element::<Asks>()?.is_some() {
            asks = true;
        }
        Ok(Asks(asks))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Asks, A::Error> {
        let mut asks = false;
        while let Some((_, value)) = fields.next_entry::<String, Asks>()? {
            asks |= value.0;
        }
        Ok(Asks(asks))
    }
}

/// Declares a section: the fields that are acted on with their types, the names of those that may be left undone, and
/// the names of those that may not.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        $name:ident { $( $field:ident: $type:ty, )* }
        $( not acted on { $( $ignored:ident, )* } )?
        $( not supported { $( $unsupported:ident, )* } )?
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $( pub(crate) $field: Option<Spanned<$type>>, )*
            $( $( $ignored: Option<Spanned<Asks>>, )* )?
            $( $( $unsupported: Option<Spanned<Asks>>, )* )?
        }

        impl $name {
            $(
                /// The fields that ask for something which may be left undone.
                pub(crate) fn not_acted_on(&self) -> Vec<(&'static str, Location)> {
                    asking(&[ $( (stringify!($ignored), &self.$ignored), )* ])
                }
            )?

            $(
                /// The fields that ask for something which may not be left undone.
                pub(crate) fn not_supported(&self) -> Vec<(&'static str, Location)> {
                    asking(&[ $( (stringify!($unsupported), &self.$unsupported), )* ])
                }
            )?
        }
    };
}

fn asking(fields: &[(&'static str, &Option<Spanned<Asks>>)]) -> Vec<(&'static str, Location)> {
    let asks = |(name, value): &(&'static str, &Option<Spanned<Asks>>)| match value {
        Some(value) if value.value.0 => Some((*name, value.referenced)),
        _ => None,
    };
    fields.iter().filter_map(asks).collect()
}

section! {
    /// The top level.
    File {
        global: Global,
        scrape_configs: Vec<Spanned<Option<Scrape>>>,
        storage: Storage,
    }
    not acted on {
        runtime, rule_files, scrape_config_files, alerting, remote_write, remote_read, tracing, otlp,
    }
}

section! {
    /// `storage`.
    Storage {
        tsdb: Tsdb,
        exemplars: Exemplars,
    }
}

section! {
    /// `storage.tsdb`.
    Tsdb {
        out_of_order_time_window: DurationText,
        stale_series_compaction_threshold: f64,
        chunk_encoding: ChunkEncoding,
        retention: Retention,
    }
}

section! {
    /// `storage.tsdb.chunk_encoding`.
    ChunkEncoding {
        floats: String,
    }
}

section! {
    /// `storage.tsdb.retention`.
    Retention {
        time: DurationText,
        size: Bytes,
        percentage: f64,
    }
}

section! {
    /// `storage.exemplars`.
    Exemplars {
        max_exemplars: i64,
    }
}

section! {
    /// `global`. What it sets for all jobs and is not acted on is a warning only: no job asks for it by itself.
    Global {
        scrape_interval: DurationText,
        scrape_timeout: DurationText,
        evaluation_interval: DurationText,
        external_labels: LabelMap,
        body_size_limit: Bytes,
        sample_limit: u64,
        target_limit: u64,
        label_limit: u64,
        label_name_length_limit: u64,
        label_value_length_limit: u64,
        keep_dropped_targets: u64,
        extra_scrape_metrics: bool,
        scrape_protocols: Vec<Spanned<String>>,
        metric_name_validation_scheme: String,
        metric_name_escaping_scheme: String,
    }
    not acted on {
        rule_query_offset, query_log_file, scrape_failure_log_file, scrape_native_histograms,
        convert_classic_histograms_to_nhcb, always_scrape_classic_histograms,
    }
}

section! {
    /// One of `scrape_configs`.
    Scrape {
        job_name: String,
        scrape_interval: DurationText,
        scrape_timeout: DurationText,
        metrics_path: String,
        scheme: String,
        params: BTreeMap<String, Vec<String>>,
        honor_labels: bool,
        honor_timestamps: bool,
        track_timestamps_staleness: bool,
        enable_compression: bool,
        extra_scrape_metrics: bool,
        fallback_scrape_protocol: String,
        scrape_protocols: Vec<Spanned<String>>,
        metric_name_validation_scheme: String,
        metric_name_escaping_scheme: String,
        static_configs: Vec<Spanned<Option<StaticConfig>>>,
        http_sd_configs: Vec<Spanned<Option<HttpSd>>>,
        body_size_limit: Bytes,
        sample_limit: u64,
        target_limit: u64,
        label_limit: u64,
        label_name_length_limit: u64,
        label_value_length_limit: u64,
        keep_dropped_targets: u64,
        follow_redirects: bool,
        enable_http2: bool,
    }
    not acted on {
        scrape_failure_log_file, always_scrape_classic_histograms, native_histogram_bucket_limit,
        native_histogram_min_bucket_factor,
    }
    not supported {
        scrape_native_histograms, convert_classic_histograms_to_nhcb, relabel_configs, metric_relabel_configs,
        basic_auth, authorization, oauth2, bearer_token, bearer_token_file, tls_config, http_headers,
        proxy_url, no_proxy, proxy_from_environment, proxy_connect_header,
        aws_sd_configs, azure_sd_configs, consul_sd_configs, digitalocean_sd_configs, dns_sd_configs,
        docker_sd_configs, dockerswarm_sd_configs, ec2_sd_configs, ecs_sd_configs, elasticache_sd_configs,
        eureka_sd_configs, file_sd_configs, gce_sd_configs, hetzner_sd_configs, ionos_sd_configs,
        kubernetes_sd_configs, kuma_sd_configs, lightsail_sd_configs, linode_sd_configs, marathon_sd_configs,
        msk_sd_configs, nerve_sd_configs, nomad_sd_configs, oci_sd_configs, openstack_sd_configs,
        outscale_sd_configs, ovhcloud_sd_configs, puppetdb_sd_configs, rds_sd_configs, scaleway_sd_configs,
        serverset_sd_configs, stackit_sd_configs, triton_sd_configs, uyuni_sd_configs, vultr_sd_configs,
    }
}

section! {
    /// One of `static_configs`.
    StaticConfig {
        targets: Vec<Spanned<String>>,
        labels: LabelMap,
    }
}

section! {
    /// One of `http_sd_configs`.
    HttpSd {
        url: String,
        refresh_interval: DurationText,
        follow_redirects: bool,
        enable_http2: bool,
    }
    not supported {
        basic_auth, authorization, oauth2, bearer_token, bearer_token_file, tls_config, http_headers,
        proxy_url, no_proxy, proxy_from_environment, proxy_connect_header,
    }
}

/// Labels as written; a value may be left out, which removes the label.
pub(crate) type LabelMap = BTreeMap<String, Option<String>>;

/// Reads the text; an empty file is a configuration without jobs.
pub(crate) fn read(yaml: &str, path: &str) -> Result<File, ConfigError> {
    let budget = serde_saphyr::budget! { max_depth: DEPTH_MAX };
    let options = serde_saphyr::options! { with_snippet: false, budget: budget };
    let read = serde_saphyr::from_str_with_options::<Option<File>>(yaml, options);
    read.map(Option::unwrap_or_default).map_err(|error| {
        let position = position(path, error.location().unwrap_or(Location::UNKNOWN));
        ConfigError::Syntax { position, message: message(error.without_snippet()) }
    })
}

/// Our words for the mistakes that people make, the library's for the rest.
fn message(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::SerdeUnknownField { field, .. } => format!("unknown field {field:?}"),
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("field {key:?} is given twice")
        }
        error => UserMessageFormatter.format_message(error).into_owned(),
    }
}

/// `location` in the file `path`.
pub(crate) fn position(path: &str, location: Location) -> Position {
    Position { path: String::from(path), line: location.line(), column: location.column() }
}
