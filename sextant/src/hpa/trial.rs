//! What `replay` and `simulate` have in common: manifests, settings, the run itself and its output.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use hpa_controller::replay::{
    Outcome, Report, RequestFlag, Scenario, Setting, Subject, html, json, run, subjects, table,
};
use indicatif::ProgressBar;

use super::SettingsFlags;
use crate::go_values::{go_duration, positive_go_duration};

/// Largest manifest or file of a load.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct TrialFlags {
    /// File with autoscalers, of which each is tried on its own, and, if wanted, their targets (a Deployment says what pods request);
    /// may be given several times, for results side by side. - is stdin
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of objects that do not say
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default")]
    namespace: String,
    /// What a container requests, in place of what the target's manifest says or history recorded: cpu=500m, app/memory=1Gi; may be
    /// given several times
    #[arg(long = "request", value_name = "[CONTAINER/]RESOURCE=QUANTITY")]
    requests: Vec<RequestFlag>,
    /// Replicas to begin with
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=10_000))]
    pub(super) replicas: Option<i32>,
    /// How long a new pod is not ready and takes no load
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = go_duration)]
    pub(super) startup_delay: Duration,
    /// A change of direction within this time of the change before is a flap
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = go_duration)]
    pub(super) flap_window: Duration,
    /// How often decisions are made
    #[arg(
        long = "horizontal-pod-autoscaler-sync-period",
        value_name = "DURATION",
        default_value = "15s",
        value_parser = positive_go_duration
    )]
    sync_period: Duration,
    /// What to print
    #[arg(long, short = 'o', value_enum, default_value = "table", value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    settings: SettingsFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Figures side by side
    Table,
    /// All of it for programs; docs/hpa-replay.md describes it
    Json,
    /// A page with plots that needs nothing else
    Html,
}

impl TrialFlags {
    /// The autoscalers of the files.
    pub(super) fn subjects(&self) -> anyhow::Result<Vec<Subject>> {
        let mut files = Vec::new();
        for path in &self.files {
            let stdin = path == Path::new("-");
            let label = if stdin { String::from("stdin") } else { path.display().to_string() };
            files.push((label, read(path)?));
        }
        let gates = self.settings.constants().gates;
        Ok(subjects(&files, &self.namespace, &self.requests, &gates)?)
    }

    /// Distance of decisions in milliseconds.
    pub(super) fn sync_period_ms(&self) -> anyhow::Result<i64> {
        match i64::try_from(self.sync_period.as_millis()) {
            Ok(ms) if ms > 0 => Ok(ms),
            _ => bail!("--horizontal-pod-autoscaler-sync-period: it must be at least 1ms"),
        }
    }

    /// Lets each scenario run and prints what came of them.
    pub(super) fn report(
        &self,
        setting: Setting,
        trials: Vec<(Subject, Scenario)>,
    ) -> anyhow::Result<String> {
        let constants = self.settings.constants();
        let steps = setting.grid.len();
        let total = u64::try_from(steps.saturating_mul(trials.len())).unwrap_or(u64::MAX);
        let bar = crate::progress::bar("deciding", total);
        let mut outcomes = Vec::new();
        for (subject, scenario) in trials {
            let done = outcomes.len() * steps;
            let mut progress = |step: usize| position(&bar, done + step);
            let trace = run(&subject, &scenario, &constants, &mut progress)?;
            outcomes.push(Outcome::new(&setting, &subject, scenario, trace));
        }
        bar.finish_and_clear();
        let report = Report { setting, outcomes };
        match self.output {
            Output::Table => Ok(table(&report)),
            Output::Json => json(&report).context("cannot write JSON"),
            Output::Html => Ok(html(&report)),
        }
    }
}

fn position(bar: &ProgressBar, steps: usize) {
    bar.set_position(u64::try_from(steps).unwrap_or(u64::MAX));
}

/// A file or stdin, as far as it is not too large.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let limit = FILE_BYTES_MAX + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    let bytes = read.with_context(|| format!("cannot read {}", path.display()))?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        bail!("{} is larger than {FILE_BYTES_MAX} bytes", path.display());
    }
    Ok(text)
}
