//! `sextant hpa replay`: what autoscalers would have done on recorded metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use hpa_controller::History;
use hpa_controller::history::ApiHistory;
use hpa_controller::replay::{Archive, Grid, Model, Queries, Setting, record};
use indicatif::ProgressBar;
use model::{Clock, SystemClock, Timestamp, parse_duration};

use super::local_history::LocalHistory;
use super::prometheus::{ServerFlags, pair};
use super::trial::TrialFlags;
use crate::flags::{LogFlags, LogFormat, LogLevel};
use crate::go_values::positive_go_duration;
use crate::logging;

pub(super) const EXAMPLES: &str = "\
Examples:
  sextant hpa replay -f hpa.yaml --from now-7d --url http://prometheus:9090
      What this autoscaler would have done in the last week, and how near that is to what was recorded.

  sextant hpa replay -f today.yaml -f proposed.yaml --from now-7d --data ./data -o html > replay.html
      Two side by side, on the data directory of a server, as a page.

  sextant hpa replay -f hpa.yaml --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z \\
      --query 'queue_length=sum(rabbitmq_queue_messages{queue=\"orders\"})'
      A metric by an expression.

Times are RFC 3339, seconds since 1970, now, or now-DURATION. The model is stated in the output: load shares what was used in total
among the replicas of the replay, fixed takes values as they were.";

/// `sextant hpa replay`
#[derive(Debug, Args)]
pub(super) struct ReplayFlags {
    #[command(flatten)]
    trial: TrialFlags,
    /// When to begin
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    from: Moment,
    /// When to end
    #[arg(long, value_name = "TIME", default_value = "now", value_parser = parse_moment)]
    to: Moment,
    /// What is assumed about metrics when there are other replicas than there were
    #[arg(long, value_name = "load|fixed", default_value = "load")]
    model: Model,
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    queries: QueryFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "History")]
struct SourceFlags {
    /// A server with a Prometheus API
    #[arg(long, value_name = "SERVER", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// A data directory instead, which is only looked at; a server may be using it
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data: Option<PathBuf>,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Queries")]
struct QueryFlags {
    /// Expression for a metric: cpu, CONTAINER/cpu, or the name of any other. One element a pod for metrics of pods; elements of
    /// others are added. May be given several times
    #[arg(long = "query", value_name = "METRIC=PROMQL", value_parser = pair)]
    metric_queries: Vec<(String, String)>,
    /// Expression for what containers request of a resource, one element a container, by the label container
    #[arg(long = "requests-query", value_name = "RESOURCE=PROMQL", value_parser = pair)]
    requests_queries: Vec<(String, String)>,
    /// Expression for the replicas that there were
    #[arg(long = "replicas-query", value_name = "PROMQL")]
    replicas_query: Option<String>,
    /// Expression for readiness, one element a pod, by the label pod: 1 if it was ready, 0 if not
    #[arg(long = "ready-query", value_name = "PROMQL")]
    ready_query: Option<String>,
    /// What the names of the target's pods match in full; how Kubernetes names pods of the target's kind, if not given
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    pods: Option<String>,
    /// How far back the two samples that a rate is made from may lie
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = positive_go_duration)]
    rate_window: Duration,
}

/// A time that may be told from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    At(Timestamp),
    BeforeNow(i64),
}

impl Moment {
    const fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::BeforeNow(ms) => now.saturating_sub(ms),
        }
    }
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Some(before) = text.strip_prefix("now") {
        let Some(before) = before.strip_prefix('-') else {
            return if before.is_empty() { Ok(Moment::BeforeNow(0)) } else { Err(not_a_time()) };
        };
        let duration = parse_duration(before).map_err(|error| error.to_string())?;
        return Ok(Moment::BeforeNow(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)));
    }
    if let Ok(seconds) = text.parse::<f64>()
        && (0.0..1e12).contains(&seconds)
    {
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        return Ok(Moment::At((seconds * 1000.0).round() as i64));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| not_a_time())?;
    Ok(Moment::At(at.as_millisecond()))
}

fn not_a_time() -> String {
    String::from("a time is RFC 3339, seconds since 1970, now or now-7d")
}

fn regex(text: &str) -> Result<String, String> {
    let compiled = model::Regex::anchored(text);
    compiled.map(|_| String::from(text)).map_err(|error| error.to_string())
}

impl SourceFlags {
    /// Whom to ask, and what to call it.
    fn history(&self) -> anyhow::Result<(Box<dyn History>, String)> {
        if let Some(data) = &self.data {
            let history = LocalHistory::open(data)?;
            return Ok((Box::new(history), data.display().to_string()));
        }
        let client = self.server.client(&self.url).context("--url")?;
        let name = String::from(client.url());
        Ok((Box::new(ApiHistory::new(client)), name))
    }
}

impl QueryFlags {
    fn queries(&self) -> anyhow::Result<Queries> {
        Ok(Queries {
            metrics: by_name("--query", &self.metric_queries)?,
            requests: by_name("--requests-query", &self.requests_queries)?,
            replicas: self.replicas_query.clone(),
            ready: self.ready_query.clone(),
            pods: self.pods.clone(),
            rate_window: self.rate_window,
        })
    }
}

fn by_name(flag: &str, pairs: &[(String, String)]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut by_name = BTreeMap::new();
    for (name, expression) in pairs {
        if by_name.insert(name.clone(), expression.clone()).is_some() {
            return Err(anyhow!("{flag}: {name} is given twice"));
        }
    }
    Ok(by_name)
}

/// Replays; the result is to be printed.
pub(super) fn run(flags: &ReplayFlags) -> anyhow::Result<String> {
    // Warnings of the server about a query.
    logging::start(&LogFlags { level: LogLevel::Warn, format: Some(LogFormat::Text) });
    let subjects = flags.trial.subjects()?;
    let now = SystemClock.now();
    let (from, to) = (flags.from.at(now), flags.to.at(now));
    let grid = Grid::new(from, to, flags.trial.sync_period_ms()?).context("--from, --to")?;
    let queries = flags.queries.queries()?;
    let (history, source) = flags.source.history()?;
    let setting = Setting {
        source,
        simulated: false,
        grid,
        model: flags.model,
        startup_delay: flags.trial.startup_delay,
        flap_window: flags.trial.flap_window,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let bar = ProgressBar::new_spinner().with_message("asking history");
    let mut asked = |query: &str| {
        let shown = &query[..query.floor_char_boundary(60)];
        bar.set_message(format!("asking history: {shown}"));
        bar.tick();
    };
    let mut archive = Archive::new(history.as_ref(), grid, &mut asked);
    let mut trials = Vec::new();
    for subject in subjects {
        let scenario = runtime.block_on(record(
            &mut archive,
            &subject,
            &queries,
            flags.model,
            flags.trial.startup_delay,
            flags.trial.replicas,
        ))?;
        trials.push((subject, scenario));
    }
    bar.finish_and_clear();
    flags.trial.report(setting, trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_before_now() {
        for (text, at) in [
            ("1767225600", 1_767_225_600_000),
            ("1767225600.5", 1_767_225_600_500),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
            ("now", 1_000_000_000),
            ("now-7d", 1_000_000_000 - 604_800_000),
            ("now-1h30m", 1_000_000_000 - 5_400_000),
        ] {
            assert_eq!(parse_moment(text).unwrap().at(1_000_000_000), at, "{text}");
        }
        for text in ["", "yesterday", "now+1h", "now-", "now-1", "-5", "2026-01-01"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        let expected = (String::from("a"), String::from("sum(b{c=\"d\"})"));
        assert_eq!(pair("a=sum(b{c=\"d\"})"), Ok(expected));
        for text in ["a", "=b", "a="] {
            assert!(pair(text).is_err(), "{text}");
        }
        let twice =
            [(String::from("a"), String::from("b")), (String::from("a"), String::from("c"))];
        let error = by_name("--query", &twice).unwrap_err().to_string();
        assert_eq!(error, "--query: a is given twice");
    }
}
