//! The controller's own metrics: those of kube-controller-manager under its names, and the numbers of the last decision about each
//! autoscaler.
//!
//! The latter are made from one row for each autoscaler when they are asked for; a row goes with its autoscaler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Timestamp;
use parking_lot::Mutex;
use telemetry::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, register,
    register_computed,
};

use crate::decide::Action;
use crate::decision::{LimitReason, MetricDecision};
use crate::state::{HpaKey, Logged};

/// Upstream's buckets in seconds: 15 of them, each twice the one before.
const BUCKETS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];
/// Bytes of a metric's name that a label shows: a selector may be part of it.
const METRIC_NAME_MAX: usize = 256;
/// Metrics of one autoscaler that have series.
const METRICS_MAX: usize = 32;

const HPA: [&str; 2] = ["namespace", "hpa_name"];
const HPA_LIMIT: [&str; 3] = ["namespace", "hpa_name", "reason"];
const HPA_METRIC: [&str; 5] = ["namespace", "hpa_name", "metric_index", "metric_type", "metric"];

/// The controller's own metrics.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    reconciliations: IntCounterVec,
    reconciliation_duration: HistogramVec,
    computations: IntCounterVec,
    computation_duration: HistogramVec,
    known: IntGauge,
    decisions: IntCounterVec,
    status_written: IntCounter,
    status_waits: IntCounter,
    rows: Rows,
}

type Rows = Arc<Mutex<BTreeMap<HpaKey, Row>>>;

/// What series show of the last decision about one autoscaler.
#[derive(Debug)]
struct Row {
    at: Timestamp,
    current: Option<i32>,
    desired: i32,
    proposed: Option<i32>,
    stabilized: Option<i32>,
    min: i32,
    max: i32,
    limited: Option<LimitReason>,
    metrics: Box<[MetricRow]>,
}

#[derive(Debug)]
struct MetricRow {
    index: Box<str>,
    kind: &'static str,
    name: Box<str>,
    /// Replicas and ratio.
    proposal: Option<(i32, f64)>,
}

impl ControllerMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let histogram = |name, help, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            register(registry, HistogramVec::new(options, labels))
        };
        let rows = Rows::default();
        register_rows(registry, &rows);
        Self {
            reconciliations: counter(
                "horizontal_pod_autoscaler_controller_reconciliations_total",
                "Reconciliations. The label action is scale_up, scale_down or none; error is spec, internal or none.",
                &["action", "error"],
            ),
            reconciliation_duration: histogram(
                "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds",
                "Time that a reconciliation took, by action and error.",
                &["action", "error"],
            ),
            computations: counter(
                "horizontal_pod_autoscaler_controller_metric_computation_total",
                "Computations of replicas from a metric. The label action is scale_up, scale_down or none; error is spec, internal or none; metric_type is that of the specification.",
                &["action", "error", "metric_type"],
            ),
            computation_duration: histogram(
                "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds",
                "Time that asking a metric and computing replicas from it took, by action, error and metric_type.",
                &["action", "error", "metric_type"],
            ),
            known: register(
                registry,
                IntGauge::new(
                    "horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers",
                    "Autoscalers that are controlled.",
                ),
            ),
            decisions: counter(
                "sextant_hpa_decisions_total",
                "Decisions by what they would do to the replicas, and by the mode: only in active mode it is done.",
                &["mode", "action"],
            ),
            status_written: register(
                registry,
                IntCounter::new(
                    "sextant_hpa_status_writes_total",
                    "Statuses of autoscalers that were written.",
                ),
            ),
            status_waits: register(
                registry,
                IntCounter::new(
                    "sextant_hpa_status_writes_delayed_total",
                    "Evaluations that left a changed status to a later one, as autoscalers take turns to write what can wait.",
                ),
            ),
            rows,
        }
    }

    /// Counts a reconciliation. `error` is `spec`, `internal` or `none`.
    pub fn reconciled(&self, action: Action, error: &str, took: Duration) {
        let labels = [action.as_str(), error];
        self.reconciliations.with_label_values(&labels).inc();
        self.reconciliation_duration.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// Counts a computation of replicas from one metric of the type that the specification says. `action` is what it proposes.
    pub fn computed(&self, metric_type: &str, action: Action, error: &str, took: Duration) {
        // The API server takes no others; who writes around it must not make series.
        let labels = [action.as_str(), error, type_label(metric_type)];
        self.computations.with_label_values(&labels).inc();
        self.computation_duration.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// Counts a status that was written.
    pub fn status_written(&self) {
        self.status_written.inc();
    }

    /// Counts a status that has changed and is written later.
    pub fn status_waits(&self) {
        self.status_waits.inc();
    }

    /// Shows how many autoscalers there are.
    pub fn known(&self, count: usize) {
        self.known.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Shows the numbers of a decision until the next about the same autoscaler.
    pub fn decided(&self, logged: &Logged) {
        let decision = &logged.decision;
        let action = match decision.current_replicas {
            Some(current) if decision.desired_replicas > current => Action::ScaleUp,
            Some(current) if decision.desired_replicas < current => Action::ScaleDown,
            _ => Action::None,
        };
        let mode = logged.mode.as_str();
        self.decisions.with_label_values(&[mode, action.as_str()]).inc();
        self.rows.lock().insert(logged.key.clone(), Row::of(logged));
    }

    /// Drops the series of an autoscaler that is no more.
    pub fn forget(&self, key: &HpaKey) {
        self.rows.lock().remove(key);
    }
}

impl Row {
    fn of(logged: &Logged) -> Self {
        let decision = &logged.decision;
        let limit = decision.rate_limit.as_ref().map(|rate| rate.limit.reason);
        Self {
            at: logged.at,
            current: decision.current_replicas,
            desired: decision.desired_replicas,
            proposed: decision.proposed_replicas,
            stabilized: decision.stabilization.as_ref().map(|s| s.stabilized),
            min: decision.bounds.min_replicas,
            max: decision.bounds.max_replicas,
            limited: limit.filter(|reason| *reason != LimitReason::DesiredWithinRange),
            metrics: decision.metrics.iter().take(METRICS_MAX).map(MetricRow::of).collect(),
        }
    }
}

impl MetricRow {
    fn of(metric: &MetricDecision) -> Self {
        let end = metric.name.floor_char_boundary(METRIC_NAME_MAX);
        let ratio = |proposal: &crate::decision::Proposal| {
            proposal.rebalanced.unwrap_or(proposal.ratio).ratio
        };
        Self {
            index: metric.spec_index.to_string().into(),
            kind: type_label(&metric.kind),
            name: metric.name[..end].into(),
            proposal: metric.outcome.as_ref().ok().map(|p| (p.replicas, ratio(p))),
        }
    }
}

/// The series of rows.
fn register_rows(registry: &Registry, rows: &Rows) {
    let gauge = |name: &str, help: &str, value: fn(&Row) -> Option<f64>| {
        let rows = Arc::clone(rows);
        register_computed(registry, name, help, &HPA, move |series| {
            for (key, row) in &*rows.lock() {
                if let Some(value) = value(row) {
                    series(&[&key.namespace, &key.name], value);
                }
            }
        });
    };
    gauge(
        "horizontal_pod_autoscaler_controller_desired_replicas",
        "Replicas that the last decision asks for.",
        |row| Some(row.desired.into()),
    );
    gauge(
        "sextant_hpa_current_replicas",
        "Replicas that the target asked for at the last decision; none if its scale could not be read.",
        |row| row.current.map(f64::from),
    );
    gauge(
        "sextant_hpa_desired_replicas",
        "Replicas that the target should ask for by the last decision.",
        |row| Some(row.desired.into()),
    );
    gauge(
        "sextant_hpa_proposed_replicas",
        "The largest proposal of a metric, before stabilization and limits.",
        |row| row.proposed.map(f64::from),
    );
    gauge(
        "sextant_hpa_stabilized_replicas",
        "What stabilization left of the proposal, before limits.",
        |row| row.stabilized.map(f64::from),
    );
    gauge("sextant_hpa_min_replicas", "The lower bound that was applied.", |row| {
        Some(row.min.into())
    });
    gauge("sextant_hpa_max_replicas", "The upper bound that was applied.", |row| {
        Some(row.max.into())
    });
    gauge(
        "sextant_hpa_last_decision_timestamp_seconds",
        "When the last decision was made, in seconds since the epoch.",
        |row| Some(seconds(row.at)),
    );
    let limited = Arc::clone(rows);
    register_computed(
        registry,
        "sextant_hpa_scaling_limited",
        "1 with the reason if the last decision was limited by a bound or a rate; none otherwise.",
        &HPA_LIMIT,
        move |series| {
            for (key, row) in &*limited.lock() {
                if let Some(reason) = row.limited {
                    series(&[&key.namespace, &key.name, reason_label(reason)], 1.0);
                }
            }
        },
    );
    register_metric_rows(registry, rows);
}

/// The series of each metric of each row.
fn register_metric_rows(registry: &Registry, rows: &Rows) {
    let gauge = |name: &str, help: &str, value: fn(&MetricRow) -> Option<f64>| {
        let rows = Arc::clone(rows);
        register_computed(registry, name, help, &HPA_METRIC, move |series| {
            for (key, row) in &*rows.lock() {
                for metric in &row.metrics {
                    if let Some(value) = value(metric) {
                        let MetricRow { index, kind, name, .. } = metric;
                        series(&[&key.namespace, &key.name, index, kind, name], value);
                    }
                }
            }
        });
    };
    gauge(
        "sextant_hpa_metric_proposed_replicas",
        "Replicas that the metric alone asks for, before stabilization and limits.",
        |metric| metric.proposal.map(|(replicas, _)| replicas.into()),
    );
    gauge(
        "sextant_hpa_metric_usage_ratio",
        "Value of the metric divided by its target, with missing and unready pods accounted for.",
        |metric| metric.proposal.map(|(_, ratio)| ratio),
    );
    gauge(
        "sextant_hpa_metric_failed",
        "1 if the metric could not be computed, 0 otherwise.",
        |metric| Some(if metric.proposal.is_none() { 1.0 } else { 0.0 }),
    );
}

#[expect(clippy::cast_precision_loss, reason = "times of this age are far below 2^53 ms")]
fn seconds(at: Timestamp) -> f64 {
    at as f64 / 1_000.0
}

fn type_label(kind: &str) -> &'static str {
    const TYPES: [&str; 5] = ["Resource", "ContainerResource", "Pods", "Object", "External"];
    TYPES.into_iter().find(|known| *known == kind).unwrap_or("unknown")
}

fn reason_label(reason: LimitReason) -> &'static str {
    match reason {
        LimitReason::DesiredWithinRange => "DesiredWithinRange",
        LimitReason::TooFewReplicas => "TooFewReplicas",
        LimitReason::TooManyReplicas => "TooManyReplicas",
        LimitReason::ScaleUpLimit => "ScaleUpLimit",
        LimitReason::ScaleDownLimit => "ScaleDownLimit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Written;
    use crate::decision::{Limit, Proposal, RateLimit, Ratio, TargetKind};
    use crate::inputs::Inputs;
    use crate::state::Mode;

    fn text(registry: &Registry) -> String {
        let mut out = Vec::new();
        telemetry::encode(registry, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// A decision with one metric that works and one that does not, limited by the upper bound.
    fn logged(name: &str) -> Logged {
        let inputs: Inputs = serde_json::from_value(serde_json::json!({
            "constants": crate::inputs::Constants::default(),
            "namespace": "shop", "name": name,
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": name, "apiVersion": "apps/v1"},
                "maxReplicas": 5,
            },
            "status": {},
            "scale": {"Ok": {"specReplicas": 3, "statusReplicas": 3, "selector": "a=b"}},
            "pods": {"matched": []}, "metrics": [],
            "memory": crate::inputs::Memory::default(),
        }))
        .unwrap();
        let mut decision = crate::decide::decide(&inputs, 1_700_000_000_500);
        let ratio = |ratio| Ratio {
            ratio,
            tolerated_from: 0.9,
            tolerated_to: 1.1,
            within_tolerance: false,
        };
        let proposal = Proposal {
            replicas: 7,
            target: TargetKind::Utilization,
            target_value: 60,
            utilization_percent: Some(150),
            value_milli: 1_500,
            ratio: ratio(2.5),
            rebalanced: Some(ratio(2.25)),
            multiplied_by: 3,
            pods: None,
            because: String::new(),
        };
        let metric = |spec_index, kind: &str, outcome| MetricDecision {
            spec_index,
            kind: kind.into(),
            name: "cpu \"x\"".into(),
            outcome,
            failure_reason: None,
            failure_message: None,
        };
        decision.metrics = vec![
            metric(0, "Resource", Ok(proposal)),
            metric(1, "Odd", Err("no metrics returned".into())),
        ];
        decision.proposed_replicas = Some(7);
        decision.desired_replicas = 5;
        decision.rescale = true;
        decision.rate_limit = Some(RateLimit {
            stabilized: 7,
            policies: Vec::new(),
            select: String::new(),
            rate_limit: Some(6),
            limit: Limit { replicas: 5, reason: LimitReason::TooManyReplicas },
        });
        Logged {
            key: HpaKey::new("shop", name),
            uid: "u".into(),
            mode: Mode::Shadow,
            at: 1_700_000_000_500,
            inputs,
            decision,
            written: Written::NotAsked,
        }
    }

    #[test]
    fn the_last_decision_is_shown_until_its_autoscaler_is_gone() {
        let registry = Registry::new();
        let metrics = ControllerMetrics::new(&registry);
        metrics.decided(&logged("front"));
        metrics.decided(&logged("back"));
        let shown = text(&registry);
        for line in [
            "horizontal_pod_autoscaler_controller_desired_replicas{hpa_name=\"front\",namespace=\"shop\"} 5",
            "sextant_hpa_current_replicas{hpa_name=\"front\",namespace=\"shop\"} 3",
            "sextant_hpa_desired_replicas{hpa_name=\"back\",namespace=\"shop\"} 5",
            "sextant_hpa_proposed_replicas{hpa_name=\"front\",namespace=\"shop\"} 7",
            "sextant_hpa_min_replicas{hpa_name=\"front\",namespace=\"shop\"} 1",
            "sextant_hpa_max_replicas{hpa_name=\"front\",namespace=\"shop\"} 5",
            "sextant_hpa_last_decision_timestamp_seconds{hpa_name=\"front\",namespace=\"shop\"} 1700000000.5",
            "sextant_hpa_scaling_limited{hpa_name=\"front\",namespace=\"shop\",reason=\"TooManyReplicas\"} 1",
            "sextant_hpa_metric_proposed_replicas{hpa_name=\"front\",metric=\"cpu \\\"x\\\"\",metric_index=\"0\",metric_type=\"Resource\",namespace=\"shop\"} 7",
            "sextant_hpa_metric_usage_ratio{hpa_name=\"front\",metric=\"cpu \\\"x\\\"\",metric_index=\"0\",metric_type=\"Resource\",namespace=\"shop\"} 2.25",
            "sextant_hpa_metric_failed{hpa_name=\"front\",metric=\"cpu \\\"x\\\"\",metric_index=\"0\",metric_type=\"Resource\",namespace=\"shop\"} 0",
            "sextant_hpa_metric_failed{hpa_name=\"front\",metric=\"cpu \\\"x\\\"\",metric_index=\"1\",metric_type=\"unknown\",namespace=\"shop\"} 1",
            "sextant_hpa_decisions_total{action=\"scale_up\",mode=\"shadow\"} 2",
        ] {
            assert!(shown.contains(&format!("\n{line}\n")), "{line}\n{shown}");
        }
        assert!(!shown.contains("metric_proposed_replicas{hpa_name=\"front\",metric=\"cpu \\\"x\\\"\",metric_index=\"1\""));
        metrics.forget(&HpaKey::new("shop", "front"));
        let shown = text(&registry);
        assert!(!shown.contains("front") && shown.contains("back"), "{shown}");
    }

    #[test]
    fn upstream_s_metrics_have_upstream_s_names() {
        let registry = Registry::new();
        let metrics = ControllerMetrics::new(&registry);
        metrics.known(3);
        metrics.reconciled(Action::ScaleDown, "internal", Duration::from_millis(3));
        metrics.computed("External", Action::ScaleUp, "none", Duration::from_millis(20_000));
        metrics.computed("Odd", Action::None, "spec", Duration::ZERO);
        let shown = text(&registry);
        for line in [
            "num_horizontal_pod_autoscalers 3",
            "reconciliations_total{action=\"scale_down\",error=\"internal\"} 1",
            "reconciliation_duration_seconds_bucket{action=\"scale_down\",error=\"internal\",le=\"0.002\"} 0",
            "reconciliation_duration_seconds_bucket{action=\"scale_down\",error=\"internal\",le=\"0.004\"} 1",
            "metric_computation_total{action=\"scale_up\",error=\"none\",metric_type=\"External\"} 1",
            "metric_computation_total{action=\"none\",error=\"spec\",metric_type=\"unknown\"} 1",
            "metric_computation_duration_seconds_bucket{action=\"scale_up\",error=\"none\",metric_type=\"External\",le=\"16.384\"} 0",
            "metric_computation_duration_seconds_count{action=\"scale_up\",error=\"none\",metric_type=\"External\"} 1",
        ] {
            let line = format!("\nhorizontal_pod_autoscaler_controller_{line}\n");
            assert!(shown.contains(&line), "{line}\n{shown}");
        }
    }
}
