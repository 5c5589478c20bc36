//! Decisions in memory and in files, and made again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
    MetricSpec, MetricTarget, ResourceMetricSource,
};
use proptest::prelude::*;
use telemetry::Registry;

use crate::beyond::Beyond;
use crate::decide::{Written, decide};
use crate::inputs::{
    Constants, ContainerRequests, Inputs, Memory, MetricAnswer, PodFacts, PodPhase, PodReading,
    PodSet, Readiness, ReadyStatus, Recommendation, ScaleEvent, ScaleReading,
};
use crate::state::{DecisionLog, HpaKey, LogOptions, Logged, Mode, SegmentOptions, read_segments};

const NOW: i64 = 1_700_000_000_000;

/// An autoscaler of `replicas` pods that each use `usage` thousandths of a core of one that they asked for.
fn inputs(name: &str, replicas: i32, usage: &[i64]) -> Inputs {
    let target = MetricTarget {
        type_: "Utilization".into(),
        average_utilization: Some(60),
        ..MetricTarget::default()
    };
    let metric = MetricSpec {
        type_: "Resource".into(),
        resource: Some(ResourceMetricSource { name: "cpu".into(), target }),
        ..MetricSpec::default()
    };
    let pod = |at: usize| PodFacts {
        name: format!("pod-{at}").into(),
        phase: Some(PodPhase::Running),
        started: Some(NOW - 900_000),
        ready: Some(Readiness { status: ReadyStatus::True, transition: NOW - 890_000 }),
        containers: vec![ContainerRequests {
            name: "main".into(),
            requests_milli: [(String::from("cpu"), 1_000)].into(),
            restarts_always: false,
        }],
        ..PodFacts::default()
    };
    let reading = |(at, usage): (usize, &i64)| PodReading {
        pod: format!("pod-{at}").into(),
        value_milli: *usage,
        timestamp: NOW - 7_000,
        window_ms: 15_000,
    };
    Inputs {
        constants: Constants::default(),
        namespace: "shop".into(),
        name: name.into(),
        spec: HorizontalPodAutoscalerSpec {
            min_replicas: Some(1),
            max_replicas: 40,
            metrics: Some(vec![metric]),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: "Deployment".into(),
                name: name.into(),
            },
            behavior: None,
        },
        status: HorizontalPodAutoscalerStatus::default(),
        scale: Ok(ScaleReading {
            spec_replicas: replicas,
            status_replicas: replicas,
            selector: "app=x".into(),
        }),
        pods: PodSet::Matched(
            (0..usize::try_from(replicas).unwrap()).map(|at| Arc::new(pod(at))).collect(),
        ),
        metrics: vec![Some(MetricAnswer::Pods(usage.iter().enumerate().map(reading).collect()))],
        memory: Memory::default(),
        beyond: Beyond::default(),
    }
}

fn logged(inputs: Inputs, at: i64) -> Logged {
    let decision = decide(&inputs, at);
    Logged {
        key: HpaKey::new(&inputs.namespace, &inputs.name),
        uid: "u".into(),
        mode: Mode::Shadow,
        at,
        inputs,
        decision,
        written: Written::NotAsked,
    }
}

fn simple(name: &str, at: i64) -> Logged {
    logged(inputs(name, 2, &[900, 800]), at)
}

fn log(kept: usize, bytes_max: usize, directory: Option<(&Path, u64)>) -> DecisionLog {
    let segments = directory.map(|(directory, bytes_max)| SegmentOptions {
        directory: directory.to_path_buf(),
        bytes_max,
    });
    DecisionLog::new(LogOptions { kept, bytes_max, segments }, &Registry::new()).unwrap()
}

fn times(log: &DecisionLog, name: &str) -> Vec<i64> {
    let key = HpaKey::new("shop", name);
    log.last(&key, 100).iter().map(|logged| logged.at - NOW).collect()
}

#[test]
fn the_last_decisions_are_kept_whole() {
    let log = log(3, usize::MAX, None);
    for at in 0..5 {
        log.push(&simple("a", NOW + at));
    }
    log.push(&simple("b", NOW));
    assert_eq!(times(&log, "a"), [4, 3, 2]);
    assert_eq!(times(&log, "b"), [0]);
    assert_eq!(times(&log, "c"), [0_i64; 0]);
    let newest = log.last(&HpaKey::new("shop", "a"), 1);
    assert_eq!(*newest[0], simple("a", NOW + 4));
    // 85 % used of 60 % that are wanted: 2 pods become 3.
    assert_eq!(newest[0].decision.desired_replicas, 3);
    assert_eq!(log.keys(), [HpaKey::new("shop", "a"), HpaKey::new("shop", "b")]);
    let (page, more) = log.summaries(None, 1);
    assert!(more);
    assert_eq!(
        (&page[0].key, page[0].desired_replicas, page[0].decisions),
        (&HpaKey::new("shop", "a"), 3, 3)
    );
    let (page, more) = log.summaries(Some(&page[0].key), 1);
    assert_eq!((&*page[0].key.name, more), ("b", false));
    log.forget(&HpaKey::new("shop", "a"));
    assert_eq!(log.keys(), [HpaKey::new("shop", "b")]);
}

#[test]
fn memory_is_bounded_and_the_oldest_go_first() {
    let bytes_of = |registry: &Registry| {
        let mut out = Vec::new();
        telemetry::encode(registry, &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().find(|l| l.starts_with("sextant_hpa_decision_log_bytes ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let registry = Registry::new();
    let options = LogOptions { kept: 10, bytes_max: 40_000, segments: None };
    let log = DecisionLog::new(options, &registry).unwrap();
    for at in 0..20 {
        for name in ["a", "b", "c"] {
            log.push(&simple(name, NOW + at));
            assert!(bytes_of(&registry) <= 40_000);
        }
    }
    let kept = ["a", "b", "c"].map(|name| times(&log, name).len());
    assert!(kept.iter().all(|count| (2..=10).contains(count)), "{kept:?}");
    assert!(kept.iter().max().unwrap() - kept.iter().min().unwrap() <= 1, "{kept:?}");
    for name in ["a", "b", "c"] {
        log.forget(&HpaKey::new("shop", name));
    }
    assert_eq!(bytes_of(&registry), 0);
    let none = DecisionLog::new(LogOptions { kept: 0, ..LogOptions::default() }, &Registry::new());
    let none = none.unwrap();
    none.push(&simple("a", NOW));
    assert_eq!(none.keys(), []);
}

#[test]
fn files_bring_decisions_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    let first = log(3, usize::MAX, Some((&path, 64 << 20)));
    for at in 0..5 {
        first.push(&simple("a", NOW + at));
    }
    drop(first);
    let read: Vec<_> = read_segments(&path).unwrap().collect();
    assert_eq!(read.len(), 5);
    assert_eq!(read[4], simple("a", NOW + 4));
    let second = log(3, usize::MAX, Some((&path, 64 << 20)));
    assert_eq!(times(&second, "a"), [4, 3, 2]);
    second.push(&simple("a", NOW + 9));
    drop(second);
    let third = log(3, usize::MAX, Some((&path, 64 << 20)));
    assert_eq!(times(&third, "a"), [9, 4, 3]);
    assert_eq!(read_segments(&path).unwrap().count(), 6);
}

fn at(logged: &Logged) -> i64 {
    logged.at - NOW
}

#[test]
fn of_files_that_are_cut_off_or_broken_what_is_whole_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    for round in 0..3 {
        let log = log(3, usize::MAX, Some((&path, 64 << 20)));
        for at in 0..500 {
            // Names that repeat nothing, so that there is much to cut.
            log.push(&simple(
                &format!("{:x}", (round * 1000 + at) * 0x9E37_79B9_7F4A),
                NOW + round * 1000 + at,
            ));
        }
    }
    // The end of the first is lost, as by a crash; in the second there is something else.
    let file = |number: u32| path.join(format!("decisions-{number:012}.jsonl.zst"));
    let mut whole = fs::read(file(0)).unwrap();
    whole.truncate(whole.len() - 1000);
    fs::write(file(0), whole).unwrap();
    let mut broken = fs::read(file(1)).unwrap();
    let middle = broken.len() / 2;
    broken[middle..].fill(0xAA);
    fs::write(file(1), broken).unwrap();
    let read: Vec<_> = read_segments(&path).unwrap().map(|logged| at(&logged)).collect();
    let of = |round: i64| {
        let ours = read.iter().filter(|at| **at / 1000 == round).map(|at| at % 1000);
        ours.collect::<Vec<_>>()
    };
    // Nothing is read twice or out of order, and nothing but ends is missing.
    for round in 0..3 {
        let ours = of(round);
        assert_eq!(ours, (0..i64::try_from(ours.len()).unwrap()).collect::<Vec<_>>());
    }
    assert!((1..500).contains(&of(0).len()), "{} decisions", of(0).len());
    assert_eq!(of(2).len(), 500);
}

#[test]
fn a_process_that_dies_leaves_what_is_older_than_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(3, usize::MAX, Some((folder.path(), 64 << 20)));
    log.push(&simple("a", NOW));
    // The file of a log that is open, as a crash would leave it.
    let found =
        || read_segments(folder.path()).unwrap().map(|logged| at(&logged)).collect::<Vec<_>>();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while found().is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(found(), [0]);
    drop(log);
    assert_eq!(found(), [0]);
}

#[test]
fn plain_files_of_earlier_versions_are_read_and_count() {
    let folder = tempfile::tempdir().unwrap();
    let line = |at: i64| format!("{}\n", serde_json::to_string(&simple("a", NOW + at)).unwrap());
    let half = &line(2)[..100];
    let text = format!("{}nonsense\n{}{half}", line(0), line(1));
    fs::write(folder.path().join("decisions-000000000007.jsonl"), text).unwrap();
    let log = log(3, usize::MAX, Some((folder.path(), 200_000)));
    assert_eq!(times(&log, "a"), [1, 0]);
    log.push(&simple("a", NOW + 3));
    drop(log);
    assert!(folder.path().join("decisions-000000000008.jsonl.zst").exists());
    let read: Vec<_> = read_segments(folder.path()).unwrap().map(|logged| at(&logged)).collect();
    assert_eq!(read, [0, 1, 3]);
    // They go first when room is needed.
    let small = self::log(3, usize::MAX, Some((folder.path(), 10_000)));
    drop(small);
    assert!(!folder.path().join("decisions-000000000007.jsonl").exists());
}

#[test]
fn decisions_in_files_are_small() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(3, usize::MAX, Some((folder.path(), 64 << 20)));
    let mut plain = 0;
    for at in 0..1000 {
        let logged = simple(&format!("app-{at:05}"), NOW + at);
        plain += serde_json::to_vec(&logged).unwrap().len() as u64;
        log.push(&logged);
    }
    drop(log);
    let files = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    let total: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(total * 20 < plain, "{total} of {plain}");
    assert_eq!(read_segments(folder.path()).unwrap().count(), 1000);
}

/// Four bits that look like chance.
fn noise(n: u64) -> u64 {
    (n ^ (n >> 7)).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_mul(n | 1) >> 60
}

#[test]
fn files_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let bytes_max = 100_000;
    for round in 0..2 {
        let log = log(1, usize::MAX, Some((folder.path(), bytes_max)));
        for at in 0..400 {
            let mut logged = simple("a", NOW + round * 1_000 + at);
            // Something that does not compress.
            logged.uid = (0..500)
                .map(|n: u64| format!("{:x}", noise(n + at.unsigned_abs() * 500)))
                .collect();
            log.push(&logged);
        }
        drop(log);
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        let total: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!((50_000..=bytes_max).contains(&total), "{total} in {} files", files.len());
        let last = read_segments(folder.path()).unwrap().last().unwrap();
        assert_eq!(last.at, NOW + round * 1_000 + 399);
    }
}

#[test]
fn a_folder_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    let segments = Some(SegmentOptions { directory: path.clone(), bytes_max: 1 << 20 });
    let options = LogOptions { segments, ..LogOptions::default() };
    let error = DecisionLog::new(options, &Registry::new()).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
}

fn behavior() -> impl Strategy<Value = Option<HorizontalPodAutoscalerBehavior>> {
    let rules = (0..400_i32, 1..5_i32, prop::bool::ANY).prop_map(|(window, value, percent)| {
        let type_ = if percent { "Percent" } else { "Pods" };
        HPAScalingRules {
            stabilization_window_seconds: Some(window),
            policies: Some(vec![HPAScalingPolicy {
                type_: type_.into(),
                value: if percent { value * 30 } else { value },
                period_seconds: 60,
            }]),
            ..HPAScalingRules::default()
        }
    });
    prop::option::of((rules.clone(), rules).prop_map(|(up, down)| {
        HorizontalPodAutoscalerBehavior { scale_up: Some(up), scale_down: Some(down) }
    }))
}

fn memory() -> impl Strategy<Value = Memory> {
    let ages = || prop::collection::vec((0..20_i32, 0..600_000_i64), 0..6);
    (ages(), ages(), ages()).prop_map(|(recommendations, up, down)| {
        let events = |all: Vec<(i32, i64)>| -> Vec<ScaleEvent> {
            let event =
                |(change, age)| ScaleEvent { change, at: NOW - age, outdated: age > 300_000 };
            all.into_iter().map(event).collect()
        };
        let recommendation = |(replicas, age)| Recommendation { replicas, at: NOW - age };
        Memory {
            recommendations: Some(recommendations.into_iter().map(recommendation).collect()),
            scale_up_events: events(up),
            scale_down_events: events(down),
            ..Memory::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A decision that was written down and read again is the same, and is made again to the same.
    #[test]
    fn a_logged_decision_is_made_again(
        replicas in 0..12_i32,
        usage in prop::collection::vec(0..3_000_i64, 0..14),
        status_replicas in 0..12_i32,
        unready in prop::collection::vec(prop::bool::ANY, 12),
        failed in prop::bool::weighted(0.1),
        behavior in behavior(),
        memory in memory(),
    ) {
        let mut inputs = inputs("a", replicas, &usage);
        inputs.memory = memory;
        inputs.spec.behavior = behavior;
        if let Ok(scale) = &mut inputs.scale {
            scale.status_replicas = status_replicas;
        }
        if let PodSet::Matched(pods) = &mut inputs.pods {
            for (pod, unready) in pods.iter_mut().zip(unready) {
                if unready && let Some(ready) = &mut Arc::make_mut(pod).ready {
                    ready.status = ReadyStatus::False;
                    ready.transition = NOW - 895_000;
                }
            }
        }
        if failed {
            inputs.metrics = vec![Some(MetricAnswer::Failed("no metrics returned".into()))];
        }
        let logged = logged(inputs, NOW);
        let log = log(1, usize::MAX, None);
        log.push(&logged);
        let read = log.last(&logged.key, 1);
        prop_assert_eq!(&*read[0], &logged);
        prop_assert_eq!(read[0].again(), logged.decision);
    }
}
