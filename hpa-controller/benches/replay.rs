//! Seven days of decisions every 15 s on a load that rises and falls once a day.

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hpa_controller::replay::{
    Curve, Grid, Model, Outcome, PodRequests, Report, Scenario, Setting, Shape, Subject, html, run,
    simulated,
};
use hpa_controller::{Constants, ContainerRequests};
use serde_json::json;

const DAY_MS: i64 = 86_400_000;
const FROM: i64 = 1_767_225_600_000;

fn subject() -> Subject {
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 2, "maxReplicas": 200,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 60}}}],
    });
    let containers = vec![ContainerRequests {
        name: String::from("app"),
        requests_milli: BTreeMap::from([(String::from("cpu"), 500)]),
        restarts_always: false,
    }];
    Subject {
        label: String::from("hpa.yaml"),
        namespace: String::from("shop"),
        name: String::from("web"),
        annotations: BTreeMap::new(),
        spec: serde_json::from_value(spec).expect("the specification is a constant"),
        requests: Some(PodRequests { pod_milli: None, containers }),
    }
}

/// A week with `peak` cores a day at most.
fn week(subject: &mut Subject, peak: f64) -> Scenario {
    let grid = Grid::new(FROM, FROM + 7 * DAY_MS, 15_000).expect("a week is not too long");
    let (shape, begin_ms, period_ms) = (Shape::Sine, 0, DAY_MS);
    let curve = Curve::Shaped { shape, base: 0.6, peak, begin_ms, period_ms };
    let delay = Duration::from_secs(30);
    simulated(subject, None, &curve, grid, delay, None).expect("requests are known")
}

fn replays(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay of 7 days at 15 s");
    group.sample_size(10);
    let constants = Constants::default();
    for pods in [10, 100] {
        let mut subject = subject();
        let scenario = week(&mut subject, f64::from(pods) * 0.3);
        group.bench_function(format!("up to {pods} pods"), |b| {
            b.iter(|| run(&subject, &scenario, &constants, &mut |_| {}));
        });
    }
    let mut subject = subject();
    let scenario = week(&mut subject, 3.0);
    let Ok(trace) = run(&subject, &scenario, &constants, &mut |_| {}) else { return };
    let setting = Setting {
        source: String::from("a sine"),
        simulated: true,
        grid: scenario.grid,
        model: Model::Load,
        startup_delay: Duration::from_secs(30),
        flap_window: Duration::from_secs(600),
    };
    let outcome = Outcome::new(&setting, &subject, scenario, trace);
    let report = Report { setting, outcomes: vec![outcome] };
    group.bench_function("page", |b| b.iter(|| html(&report)));
    group.finish();
}

criterion_group!(benches, replays);
criterion_main!(benches);
