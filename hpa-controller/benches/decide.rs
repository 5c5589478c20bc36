//! One decision about a target with many pods, by CPU utilization.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hpa_controller::beyond::Beyond;
use hpa_controller::decide::{Written, conclude, decide, readings};
use hpa_controller::{
    Constants, ContainerRequests, Inputs, Memory, MetricAnswer, PodFacts, PodPhase, PodSet,
    Readiness, ReadyStatus, Recommendation, ScaleReading,
};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
    MetricSpec, MetricTarget, ResourceMetricSource,
};

const NOW: i64 = 2_000_000_000_000;

fn pod(at: usize) -> PodFacts {
    let container = |name: &str, milli| ContainerRequests {
        name: name.to_owned(),
        requests_milli: [("cpu".to_owned(), milli), ("memory".to_owned(), 1 << 38)].into(),
        restarts_always: false,
    };
    PodFacts {
        name: format!("checkout-7d9f8c6b5d-{at:05}").into(),
        phase: Some(PodPhase::Running),
        started: Some(NOW - 86_400_000),
        ready: Some(Readiness { status: ReadyStatus::True, transition: NOW - 86_390_000 }),
        containers: vec![container("app", 500), container("proxy", 100)],
        ..PodFacts::default()
    }
}

fn cpu(percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

fn inputs(count: usize) -> Inputs {
    let usage = |pod: &PodFacts| readings::PodUsage {
        pod: Arc::clone(&pod.name),
        timestamp: NOW - 5000,
        window_ms: 15_000,
        containers: ["app", "proxy"]
            .map(|name| readings::ContainerUsage {
                name: name.to_owned(),
                usage_milli: vec![("cpu".to_owned(), 260), ("memory".to_owned(), 1 << 37)],
            })
            .into(),
    };
    let pods: Vec<_> = (0..count).map(pod).collect();
    let usage: Vec<_> = pods.iter().map(usage).collect();
    let answer = readings::resource(&usage, "cpu", None)
        .map_or_else(|why| MetricAnswer::Failed(why.0), MetricAnswer::Pods);
    let current = i32::try_from(count).unwrap_or(i32::MAX);
    Inputs {
        constants: Constants::default(),
        namespace: "shop".to_owned(),
        name: "checkout".to_owned(),
        spec: HorizontalPodAutoscalerSpec {
            min_replicas: Some(1),
            max_replicas: 10 * current,
            metrics: Some(vec![cpu(80)]),
            behavior: Some(HorizontalPodAutoscalerBehavior::default()),
            ..HorizontalPodAutoscalerSpec::default()
        },
        status: HorizontalPodAutoscalerStatus::default(),
        scale: Ok(ScaleReading {
            spec_replicas: current,
            status_replicas: current,
            selector: "app=checkout".to_owned(),
        }),
        pods: PodSet::Matched(pods.into_iter().map(Arc::new).collect()),
        metrics: vec![Some(answer)],
        memory: Memory {
            recommendations: Some(
                (0..20)
                    .map(|at| Recommendation { replicas: current, at: NOW - at * 15_000 })
                    .collect(),
            ),
            ..Memory::default()
        },
        beyond: Beyond::default(),
    }
}

/// As in a cluster: the status is that of the round before.
fn settled(count: usize) -> Inputs {
    let mut inputs = inputs(count);
    let decision = decide(&inputs, NOW - 15_000);
    inputs.status = conclude(&inputs, &decision, &Written::Done, NOW - 15_000).status;
    inputs
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for count in [10, 100, 1000] {
        let inputs = settled(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::new("cpu", count), &inputs, |b, inputs| {
            b.iter(|| decide(black_box(inputs), NOW));
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
