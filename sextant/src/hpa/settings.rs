//! Settings of the controller that take part in decisions, under the flag names of `kube-controller-manager`.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use hpa_controller::{Constants, Gates};

use crate::go_values::go_duration;

/// What the tools take to decide as a controller with these settings would.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Settings of the controller")]
pub(crate) struct SettingsFlags {
    /// Deviation of usage from target that is not acted upon, as a fraction
    #[arg(
        long = "horizontal-pod-autoscaler-tolerance",
        value_name = "FRACTION",
        default_value_t = 0.1,
        value_parser = tolerance,
        env = "SEXTANT_HORIZONTAL_POD_AUTOSCALER_TOLERANCE"
    )]
    tolerance: f64,
    /// How long a high recommendation holds back scaling down, where the autoscaler does not say
    #[arg(
        long = "horizontal-pod-autoscaler-downscale-stabilization",
        value_name = "DURATION",
        default_value = "5m0s",
        value_parser = go_duration,
        env = "SEXTANT_HORIZONTAL_POD_AUTOSCALER_DOWNSCALE_STABILIZATION"
    )]
    downscale_stabilization: Duration,
    /// For how long after its start a pod's CPU usage is looked at with suspicion
    #[arg(
        long = "horizontal-pod-autoscaler-cpu-initialization-period",
        value_name = "DURATION",
        default_value = "5m0s",
        value_parser = go_duration,
        env = "SEXTANT_HORIZONTAL_POD_AUTOSCALER_CPU_INITIALIZATION_PERIOD"
    )]
    cpu_initialization_period: Duration,
    /// A pod that became unready this soon after its start counts as never having been ready
    #[arg(
        long = "horizontal-pod-autoscaler-initial-readiness-delay",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = go_duration,
        env = "SEXTANT_HORIZONTAL_POD_AUTOSCALER_INITIAL_READINESS_DELAY"
    )]
    initial_readiness_delay: Duration,
    /// Gates that decisions ask for: HPAScaleToZero (off), HPAConfigurableTolerance (on), PodLevelResources (on)
    #[arg(
        long,
        value_name = "GATE=true|false,…",
        value_delimiter = ',',
        env = "SEXTANT_FEATURE_GATES"
    )]
    feature_gates: Vec<GateSetting>,
}

/// A gate and whether it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GateSetting {
    ScaleToZero(bool),
    ConfigurableTolerance(bool),
    PodLevelResources(bool),
}

impl FromStr for GateSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("it is not of the form GATE=true")?;
        let on = value.parse().map_err(|_| String::from("a gate is true or false"))?;
        match name {
            "HPAScaleToZero" => Ok(Self::ScaleToZero(on)),
            "HPAConfigurableTolerance" => Ok(Self::ConfigurableTolerance(on)),
            "PodLevelResources" => Ok(Self::PodLevelResources(on)),
            _ => Err(format!("no decision asks for the gate {name}")),
        }
    }
}

impl SettingsFlags {
    pub(crate) fn constants(&self) -> Constants {
        let mut gates = Gates::default();
        for gate in &self.feature_gates {
            match *gate {
                GateSetting::ScaleToZero(on) => gates.scale_to_zero = on,
                GateSetting::ConfigurableTolerance(on) => gates.configurable_tolerance = on,
                GateSetting::PodLevelResources(on) => gates.pod_level_resources = on,
            }
        }
        Constants {
            tolerance: self.tolerance,
            cpu_initialization_period_ms: milliseconds(self.cpu_initialization_period),
            initial_readiness_delay_ms: milliseconds(self.initial_readiness_delay),
            downscale_stabilization_ms: milliseconds(self.downscale_stabilization),
            gates,
            ..Constants::default()
        }
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| String::from("it is not a number"))?;
    if (0.0..f64::INFINITY).contains(&value) {
        Ok(value)
    } else {
        Err(String::from("it is negative or infinite"))
    }
}
