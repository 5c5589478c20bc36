//! From the file to the configuration: defaults, and what cannot be right.

use std::collections::HashMap;
use std::time::Duration;

use serde_saphyr::{Location, Spanned};

use crate::error::{ConfigError, Problem};
use crate::external_labels;
use crate::file::{File, Global, HttpSd, LabelMap, Scrape, StaticConfig, position};
use crate::scrape::{
    GlobalConfig, HttpSdConfig, Limits, ScrapeConfig, ScrapeProtocol, TargetGroup,
};
use crate::{Config, Defaults};

/// Prometheus's defaults.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(60);
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
const EVALUATION_INTERVAL: Duration = Duration::from_secs(60);
const HTTP_SD_REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// The limits of a section; both kinds of section have the same fields.
macro_rules! limits {
    ($written:ident) => {
        Limits {
            body_bytes_max: $written.body_size_limit.as_ref().map_or(0, |bytes| bytes.value.0),
            samples_max: $written.sample_limit.as_ref().map_or(0, |n| n.value),
            targets_max: $written.target_limit.as_ref().map_or(0, |n| n.value),
            labels_max: $written.label_limit.as_ref().map_or(0, |n| n.value),
            label_name_bytes_max: $written.label_name_length_limit.as_ref().map_or(0, |n| n.value),
            label_value_bytes_max: $written
                .label_value_length_limit
                .as_ref()
                .map_or(0, |n| n.value),
            dropped_targets_max: $written.keep_dropped_targets.as_ref().map_or(0, |n| n.value),
        }
    };
}

/// The configuration that `file` describes, and a line for each thing in it that is not acted on.
pub(crate) fn resolve(file: File, path: &str, defaults: Defaults) -> Result<Config, ConfigError> {
    let section = String::from("global");
    let mut resolver = Resolver { path, defaults, section, warnings: Vec::new() };
    for (field, at) in file.not_acted_on() {
        resolver.warn(field, at);
    }
    let global = resolver.global(file.global.map(|global| global.value).unwrap_or_default())?;
    let storage =
        resolver.storage(file.storage.map(|storage| storage.value).unwrap_or_default())?;
    let mut lines_by_name: HashMap<String, u64> = HashMap::new();
    let mut jobs = Vec::new();
    for job in file.scrape_configs.map(|jobs| jobs.value).unwrap_or_default() {
        let at = job.referenced;
        resolver.section = format!("scrape_configs[{}]", jobs.len());
        let Some(job) = job.value else {
            return Err(resolver.invalid("job_name", at, Problem::Missing));
        };
        let job = resolver.job(job, at, &global)?;
        if let Some(&first_line) = lines_by_name.get(&job.job_name) {
            return Err(resolver.invalid("job_name", at, Problem::DuplicateJob { first_line }));
        }
        lines_by_name.insert(job.job_name.clone(), at.line());
        jobs.push(job);
    }
    Ok(Config { global, scrape_configs: jobs, storage, warnings: resolver.warnings })
}

/// Carries along what messages name.
pub(crate) struct Resolver<'a> {
    path: &'a str,
    defaults: Defaults,
    /// `global`, `storage`, or the job being resolved.
    pub(crate) section: String,
    warnings: Vec<String>,
}

impl Resolver<'_> {
    pub(crate) fn warn(&mut self, field: &str, at: Location) {
        let position = position(self.path, at);
        self.warnings.push(format!("{position}: {field} is not acted on by this version"));
    }

    pub(crate) fn invalid(
        &self,
        field: &'static str,
        at: Location,
        problem: Problem,
    ) -> ConfigError {
        let (position, section) = (position(self.path, at), self.section.clone());
        ConfigError::Invalid { position, section, field, problem }
    }

    fn unsupported(&self, field: impl Into<String>, at: Location) -> ConfigError {
        let (position, section) = (position(self.path, at), self.section.clone());
        ConfigError::Unsupported { position, section, field: field.into() }
    }

    fn global(&mut self, written: Global) -> Result<GlobalConfig, ConfigError> {
        for (field, at) in written.not_acted_on() {
            self.warn(&format!("global.{field}"), at);
        }
        for (field, value) in [
            ("global.metric_name_validation_scheme", &written.metric_name_validation_scheme),
            ("global.metric_name_escaping_scheme", &written.metric_name_escaping_scheme),
        ] {
            if let Some(value) = value
                && !matches!(value.value.as_str(), "" | "utf8" | "allow-utf-8")
            {
                self.warn(field, value.referenced);
            }
        }
        if let Some(protocols) = &written.scrape_protocols
            && !self
                .protocols(&protocols.value)?
                .into_iter()
                .any(ScrapeProtocol::is_prometheus_text)
        {
            self.warn("global.scrape_protocols", protocols.referenced);
        }
        let limits = limits!(written);
        let (interval, timeout) = self.interval_and_timeout(
            written.scrape_interval.map(|text| text.value.0),
            written.scrape_timeout.map(|text| (text.value.0, text.referenced)),
            (SCRAPE_INTERVAL, SCRAPE_TIMEOUT),
        )?;
        let external_labels = match written.external_labels {
            Some(labels) => external_labels::build(&labels.value, |name| std::env::var(name).ok())
                .map_err(|problem| self.invalid("external_labels", labels.referenced, problem))?,
            None => model::Labels::empty(),
        };
        Ok(GlobalConfig {
            scrape_interval: interval,
            scrape_timeout: timeout,
            evaluation_interval: written
                .evaluation_interval
                .map(|text| text.value.0)
                .filter(|interval| !interval.is_zero())
                .unwrap_or(EVALUATION_INTERVAL),
            external_labels,
            limits,
            extra_scrape_metrics: or(
                written.extra_scrape_metrics,
                self.defaults.extra_scrape_metrics,
            ),
        })
    }

    /// Zero means unset. A default timeout gives way to the interval, a given one must not exceed it.
    fn interval_and_timeout(
        &self,
        interval: Option<Duration>,
        timeout: Option<(Duration, Location)>,
        (interval_default, timeout_default): (Duration, Duration),
    ) -> Result<(Duration, Duration), ConfigError> {
        let interval = interval.filter(|i| !i.is_zero()).unwrap_or(interval_default);
        match timeout.filter(|(timeout, _)| !timeout.is_zero()) {
            Some((timeout, at)) if timeout > interval => {
                let problem = Problem::TimeoutGreaterThanInterval { timeout, interval };
                Err(self.invalid("scrape_timeout", at, problem))
            }
            Some((timeout, _)) => Ok((interval, timeout)),
            None => Ok((interval, timeout_default.min(interval))),
        }
    }

    fn job(
        &mut self,
        written: Scrape,
        at: Location,
        global: &GlobalConfig,
    ) -> Result<ScrapeConfig, ConfigError> {
        let name = written.job_name.as_ref().map(|name| name.value.clone()).unwrap_or_default();
        if name.is_empty() {
            return Err(self.invalid("job_name", at, Problem::Missing));
        }
        self.section = format!("job {name:?}");
        for (field, at) in written.not_acted_on() {
            self.warn(&format!("job {name:?}: {field}"), at);
        }
        self.refuse_what_is_not_supported(&written)?;
        let limits = limits!(written).or(global.limits);
        let (scrape_interval, scrape_timeout) = self.interval_and_timeout(
            written.scrape_interval.map(|text| text.value.0),
            written.scrape_timeout.map(|text| (text.value.0, text.referenced)),
            (global.scrape_interval, global.scrape_timeout),
        )?;
        let fallback_scrape_protocol = match &written.fallback_scrape_protocol {
            Some(name) if !name.value.is_empty() => {
                let protocol = self.protocol("fallback_scrape_protocol", name)?;
                if !protocol.is_prometheus_text() {
                    let field = format!("fallback_scrape_protocol {}", protocol.as_str());
                    return Err(self.unsupported(field, name.referenced));
                }
                Some(protocol)
            }
            _ => None,
        };
        Ok(ScrapeConfig {
            job_name: name,
            scrape_interval,
            scrape_timeout,
            metrics_path: or(written.metrics_path, String::from("/metrics")),
            scheme: or(written.scheme, String::from("http")),
            params: or(written.params, std::collections::BTreeMap::new()),
            honor_labels: or(written.honor_labels, false),
            honor_timestamps: or(written.honor_timestamps, true),
            track_timestamps_staleness: or(written.track_timestamps_staleness, false),
            enable_compression: or(written.enable_compression, true),
            fallback_scrape_protocol,
            extra_scrape_metrics: or(written.extra_scrape_metrics, global.extra_scrape_metrics),
            limits,
            static_configs: self.static_configs(or(written.static_configs, Vec::new()))?,
            http_sd_configs: self.http_sd_configs(or(written.http_sd_configs, Vec::new()))?,
        })
    }

    /// Refuses what would make us scrape or store something else than the file asks for.
    fn refuse_what_is_not_supported(&self, written: &Scrape) -> Result<(), ConfigError> {
        if let Some((field, at)) = written.not_supported().into_iter().next() {
            return Err(self.unsupported(field, at));
        }
        if let Some(scheme) = &written.scheme
            && scheme.value != "http"
        {
            return Err(match scheme.value.as_str() {
                "https" => self.unsupported("scheme https", scheme.referenced),
                other => {
                    let problem = Problem::Choice(String::from(other));
                    self.invalid("scheme", scheme.referenced, problem)
                }
            });
        }
        self.refuse_fixed_redirects(written.follow_redirects.as_ref())?;
        if let Some(protocols) = &written.scrape_protocols
            && !self
                .protocols(&protocols.value)?
                .into_iter()
                .any(ScrapeProtocol::is_prometheus_text)
        {
            let field = "scrape_protocols without the Prometheus text format";
            return Err(self.unsupported(field, protocols.referenced));
        }
        self.choice(
            "metric_name_validation_scheme",
            written.metric_name_validation_scheme.as_ref(),
            "utf8",
            &["legacy"],
        )?;
        self.choice(
            "metric_name_escaping_scheme",
            written.metric_name_escaping_scheme.as_ref(),
            "allow-utf-8",
            &["underscores", "dots", "values"],
        )
    }

    /// Accepts `supported` and nothing, and tells values that Prometheus knows from mistakes.
    fn choice(
        &self,
        field: &'static str,
        value: Option<&Spanned<String>>,
        supported: &str,
        known: &[&str],
    ) -> Result<(), ConfigError> {
        match value {
            Some(value) if value.value.is_empty() || value.value == supported => Ok(()),
            Some(value) if known.contains(&value.value.as_str()) => {
                Err(self.unsupported(format!("{field} {}", value.value), value.referenced))
            }
            Some(value) => {
                Err(self.invalid(field, value.referenced, Problem::Choice(value.value.clone())))
            }
            None => Ok(()),
        }
    }

    fn refuse_fixed_redirects(&self, follow: Option<&Spanned<bool>>) -> Result<(), ConfigError> {
        match follow {
            Some(follow) if !follow.value => {
                Err(self.unsupported("follow_redirects: false", follow.referenced))
            }
            _ => Ok(()),
        }
    }

    fn protocols(&self, names: &[Spanned<String>]) -> Result<Vec<ScrapeProtocol>, ConfigError> {
        names.iter().map(|name| self.protocol("scrape_protocols", name)).collect()
    }

    fn protocol(
        &self,
        field: &'static str,
        name: &Spanned<String>,
    ) -> Result<ScrapeProtocol, ConfigError> {
        let found = ScrapeProtocol::ALL.into_iter().find(|p| p.as_str() == name.value);
        found.ok_or_else(|| {
            self.invalid(field, name.referenced, Problem::Protocol(name.value.clone()))
        })
    }

    fn static_configs(
        &self,
        written: Vec<Spanned<Option<StaticConfig>>>,
    ) -> Result<Vec<TargetGroup>, ConfigError> {
        let mut groups = Vec::with_capacity(written.len());
        for (index, group) in written.into_iter().enumerate() {
            let at = group.referenced;
            let group = group.value.unwrap_or_default();
            let mut targets = Vec::new();
            for target in or(group.targets, Vec::new()) {
                if target.value.contains('/') {
                    let problem = Problem::Hostname(target.value);
                    return Err(self.invalid("static_configs", target.referenced, problem));
                }
                targets.push(target.value);
            }
            let labels = or(group.labels, LabelMap::new());
            if labels.contains_key("") {
                let problem = Problem::LabelName(String::new());
                return Err(self.invalid("static_configs", at, problem));
            }
            let labels = labels.into_iter().map(|(n, v)| (n, v.unwrap_or_default())).collect();
            groups.push(TargetGroup { targets, labels, source: index.to_string() });
        }
        Ok(groups)
    }

    fn http_sd_configs(
        &self,
        written: Vec<Spanned<Option<HttpSd>>>,
    ) -> Result<Vec<HttpSdConfig>, ConfigError> {
        written.into_iter().map(|entry| self.http_sd_config(entry)).collect()
    }

    fn http_sd_config(
        &self,
        written: Spanned<Option<HttpSd>>,
    ) -> Result<HttpSdConfig, ConfigError> {
        const FIELD: &str = "http_sd_configs";
        let at = written.referenced;
        let written = written.value.unwrap_or_default();
        if let Some((field, at)) = written.not_supported().into_iter().next() {
            return Err(self.unsupported(format!("{FIELD}.{field}"), at));
        }
        self.refuse_fixed_redirects(written.follow_redirects.as_ref())?;
        let (url, at) = match written.url {
            Some(url) if !url.value.is_empty() => (url.value, url.referenced),
            _ => return Err(self.invalid("http_sd_configs.url", at, Problem::Missing)),
        };
        match url.split_once("://") {
            Some(("http", host)) if !host.is_empty() && !host.starts_with('/') => {}
            Some(("https", _)) => {
                return Err(self.unsupported(format!("{FIELD}.url with https"), at));
            }
            _ => return Err(self.invalid("http_sd_configs.url", at, Problem::Url(url))),
        }
        let refresh_interval = match written.refresh_interval {
            Some(text) if text.value.0.is_zero() => {
                let field = "http_sd_configs.refresh_interval";
                return Err(self.invalid(field, text.referenced, Problem::Zero));
            }
            Some(text) => text.value.0,
            None => HTTP_SD_REFRESH_INTERVAL,
        };
        Ok(HttpSdConfig { url, refresh_interval })
    }
}

pub(crate) fn or<T>(written: Option<Spanned<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

impl Limits {
    /// `self`, with `other` where it sets none.
    fn or(self, other: Self) -> Self {
        let or = |a, b| if a == 0 { b } else { a };
        Self {
            body_bytes_max: or(self.body_bytes_max, other.body_bytes_max),
            samples_max: or(self.samples_max, other.samples_max),
            targets_max: or(self.targets_max, other.targets_max),
            labels_max: or(self.labels_max, other.labels_max),
            label_name_bytes_max: or(self.label_name_bytes_max, other.label_name_bytes_max),
            label_value_bytes_max: or(self.label_value_bytes_max, other.label_value_bytes_max),
            dropped_targets_max: or(self.dropped_targets_max, other.dropped_targets_max),
        }
    }
}
