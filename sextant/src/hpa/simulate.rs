//! `sextant hpa simulate`: what autoscalers would do on a load that is made up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use hpa_controller::replay::{Curve, Grid, Model, Setting, Shape, simulated};
use model::Timestamp;

use super::trial::{self, TrialFlags};
use crate::go_values::{go_duration, positive_go_duration};

pub(super) const EXAMPLES: &str = "\
Examples:
  sextant hpa simulate -f hpa.yaml --request cpu=500m --load step --base 1 --peak 8 --period 20m --duration 1h
      A load of 8 cores for 20 minutes on what is used to one of 1 core.

  sextant hpa simulate -f hpa.yaml -f deployment.yaml --load sine --base 2 --peak 12 --period 1d --duration 7d -o html > week.html
      A week of days, as a page with plots.

  sextant hpa simulate -f hpa.yaml --request cpu=1 --load load.csv
      Lines of time_s,demand.

Demand is in units of the metric: cores, bytes, requests a second. The replicas that have started share it evenly.";

/// The year that simulations are in: decisions need a time, and the outputs tell none.
const START: Timestamp = 1_767_225_600_000;

/// `sextant hpa simulate`
#[derive(Debug, Args)]
pub(super) struct SimulateFlags {
    #[command(flatten)]
    trial: TrialFlags,
    /// step: from base to peak and back after a period. ramp: from base to peak within a period. sine: from base to peak and back in
    /// every period. Any other: a file with lines of time_s,demand (seconds from the start), each of which holds until the next
    #[arg(long, value_name = "step|ramp|sine|FILE.csv", required = true)]
    load: PathBuf,
    /// Demand to begin with
    #[arg(long, value_name = "DEMAND", default_value_t = 1.0, value_parser = demand)]
    base: f64,
    /// The highest demand, or the lowest if it is below --base
    #[arg(long, value_name = "DEMAND", default_value_t = 10.0, value_parser = demand)]
    peak: f64,
    /// How long demand stays as it is before it begins to move
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = go_duration)]
    lead: Duration,
    /// Length of the step, the ramp or one wave
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = long_duration)]
    period: Duration,
    /// Length of the simulation; 2h, or ten minutes more than the file, if not given
    #[arg(long, value_name = "DURATION", value_parser = long_duration)]
    duration: Option<Duration>,
    /// Which metric the demand is for, where the autoscaler has several: cpu, CONTAINER/cpu or the name of any other; the first, if
    /// not given
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,
}

fn demand(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(demand) if demand >= 0.0 && demand.is_finite() => Ok(demand),
        _ => Err(String::from("a demand is a number ≥ 0")),
    }
}

/// A duration that may be in days, as Prometheus writes them, or Go's.
fn long_duration(text: &str) -> Result<Duration, String> {
    match model::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => positive_go_duration(text).map_err(|error| error.to_string()),
    }
}

impl SimulateFlags {
    /// The curve, and what to call it.
    fn curve(&self) -> anyhow::Result<(Curve, String)> {
        let shape = match self.load.to_str() {
            Some("step") => Shape::Step,
            Some("ramp") => Shape::Ramp,
            Some("sine") => Shape::Sine,
            _ => return file(&self.load),
        };
        let period_ms = milliseconds(self.period)?;
        if period_ms == 0 {
            bail!("--period: it must be at least 1ms");
        }
        let curve = Curve::Shaped {
            shape,
            base: self.base,
            peak: self.peak,
            begin_ms: milliseconds(self.lead)?,
            period_ms,
        };
        let name = format!(
            "a {} from {} to {} after {} within {}",
            self.load.display(),
            self.base,
            self.peak,
            model::format_duration(self.lead),
            model::format_duration(self.period)
        );
        Ok((curve, name))
    }
}

fn file(path: &Path) -> anyhow::Result<(Curve, String)> {
    let text = trial::read(path).context("--load is neither step, ramp nor sine nor a file")?;
    let curve = Curve::parse(&text).with_context(|| format!("--load {}", path.display()))?;
    Ok((curve, format!("the load of {}", path.display())))
}

fn milliseconds(duration: Duration) -> anyhow::Result<i64> {
    i64::try_from(duration.as_millis()).context("a duration is too long")
}

/// Simulates; the result is to be printed.
pub(super) fn run(flags: &SimulateFlags) -> anyhow::Result<String> {
    /// Without `--duration`.
    const DURATION_MS: i64 = 2 * 3_600_000;
    /// After the last point of a file, so that scaling down is seen.
    const AFTER_FILE_MS: i64 = 600_000;
    let subjects = flags.trial.subjects()?;
    let (curve, source) = flags.curve()?;
    let length_ms = match (flags.duration, curve.end_ms()) {
        (Some(duration), _) => milliseconds(duration)?,
        (None, Some(end)) => end.saturating_add(AFTER_FILE_MS),
        (None, None) => DURATION_MS,
    };
    let end = START.saturating_add(length_ms);
    let grid = Grid::new(START, end, flags.trial.sync_period_ms()?).context("--duration")?;
    let startup_delay = flags.trial.startup_delay;
    let mut trials = Vec::new();
    for mut subject in subjects {
        let metric = flags.metric.as_deref();
        let replicas = flags.trial.replicas;
        let scenario = simulated(&mut subject, metric, &curve, grid, startup_delay, replicas)?;
        trials.push((subject, scenario));
    }
    let setting = Setting {
        source,
        simulated: true,
        grid,
        model: Model::Load,
        startup_delay,
        flap_window: flags.trial.flap_window,
    };
    flags.trial.report(setting, trials)
}
