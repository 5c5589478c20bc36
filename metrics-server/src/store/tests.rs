//! What the store shows after a sequence of scrapes.

use super::*;

const RESOLUTION_MS: i64 = 15_000;
const T0_MS: i64 = 1_700_000_000_000;
const MIB: u64 = 1 << 20;

fn store() -> Store {
    Store::new(StoreOptions::with_resolution_ms(RESOLUTION_MS))
}

/// A point `at_s` seconds after the beginning of something that started long before.
fn point(at_s: i64, cpu_ms: u64) -> Point {
    Point {
        at_ms: T0_MS + at_s * 1000,
        start_ms: Some(T0_MS - 3_600_000),
        cpu_ns: cpu_ms * 1_000_000,
        memory_bytes: MIB,
        swap_bytes: None,
    }
}

fn pod(namespace: &str, name: &str, containers: &[(&str, Point)]) -> PodPoints {
    PodPoints {
        namespace: namespace.into(),
        name: name.into(),
        containers: containers.iter().map(|(name, point)| ((*name).into(), *point)).collect(),
    }
}

fn record(store: &Store, at_s: i64, pods: Vec<PodPoints>) {
    let batch = NodeBatch { node: Some(point(at_s, 1000 + at_s as u64)), pods };
    store.record("n1", batch, T0_MS + at_s * 1000 + 500);
}

/// Every pod that is shown: `namespace/name@second+window c=nanocores …`.
fn shown(store: &Store, at_s: i64) -> Vec<String> {
    let Some(state) = store.node("n1", T0_MS + at_s * 1000 + 500) else { return Vec::new() };
    let text = |(namespace, name, usage): (&str, &str, PodUsage<'_>)| {
        let at_s = (usage.at_ms - T0_MS) / 1000;
        let mut line = format!("{namespace}/{name}@{at_s}+{}", usage.window_ms / 1000);
        for (container, usage) in usage.containers() {
            line.push_str(&format!(" {container}={}", usage.cpu_nanocores));
        }
        line
    };
    state.pods().map(text).collect()
}

#[test]
fn the_second_scrape_shows_every_pod_ordered_by_namespace_and_name() {
    let store = store();
    let pods = |at_s, cpu_ms| {
        vec![
            pod("b", "x", &[("c", point(at_s, cpu_ms)), ("a", point(at_s, 2 * cpu_ms))]),
            pod("a", "y", &[("c", point(at_s, cpu_ms))]),
        ]
    };
    record(&store, 0, pods(0, 100));
    assert_eq!(shown(&store, 0), [""; 0]);
    assert_eq!(store.points(T0_MS), Points::default());
    record(&store, 10, pods(10, 200));
    assert_eq!(shown(&store, 10), ["a/y@10+10 c=10000000", "b/x@10+10 a=20000000 c=10000000"]);
    assert_eq!(store.points(T0_MS), Points { nodes: 1, containers: 3 });
    let state = store.node("n1", T0_MS).unwrap();
    let node = state.node().unwrap();
    assert_eq!((node.at_ms, node.window_ms), (T0_MS + 10_000, 10_000));
    assert_eq!(node.usage.cpu_nanocores, 1_000_000);
    assert!(state.pod("a", "y").is_some());
    assert!(state.pod("a", "x").is_none());
    assert!(store.node("n2", T0_MS).is_none());
}

#[test]
fn points_outlive_missed_scrapes_with_their_own_time_up_to_an_age() {
    let store = store();
    let pods = |at_s, cpu_ms| vec![pod("a", "x", &[("c", point(at_s, cpu_ms))])];
    record(&store, 0, pods(0, 100));
    record(&store, 15, pods(15, 250));
    let line = "a/x@15+15 c=10000000";
    assert_eq!(shown(&store, 15 + 75), [line]);
    assert_eq!(shown(&store, 15 + 76), [""; 0]);
    assert_eq!(store.points(T0_MS + 91_501), Points::default());
    // One good scrape later the rate is over the gap.
    record(&store, 45, pods(45, 550));
    assert_eq!(shown(&store, 45), ["a/x@45+30 c=10000000"]);
    // After a longer gap the old points are no base for a rate.
    record(&store, 145, pods(145, 9000));
    assert_eq!(shown(&store, 145), [""; 0]);
    record(&store, 155, pods(155, 9100));
    assert_eq!(shown(&store, 155), ["a/x@155+10 c=10000000"]);
}

#[test]
fn a_pod_with_a_container_missing_or_implausible_or_without_a_rate_is_not_shown() {
    let whole = [("c", point(0, 100)), ("d", point(0, 100))];
    let zero = |at_s| Point { cpu_ns: 0, ..point(at_s, 1) };
    let no_memory = Point { memory_bytes: 0, ..point(10, 200) };
    for (why, second, expected) in [
        ("whole", vec![("c", point(10, 200)), ("d", point(10, 200))], true),
        ("a container ended", vec![("c", point(10, 200))], true),
        ("zero CPU", vec![("c", point(10, 200)), ("d", zero(10))], false),
        ("zero memory", vec![("c", point(10, 200)), ("d", no_memory)], false),
        ("a counter went back", vec![("c", point(10, 200)), ("d", point(10, 99))], false),
        (
            "a new container",
            vec![("c", point(10, 200)), ("d", point(10, 200)), ("e", point(10, 5))],
            false,
        ),
        ("no containers", vec![], false),
    ] {
        let store = store();
        let other = |at_s, cpu_ms| pod("a", "other", &[("c", point(at_s, cpu_ms))]);
        record(&store, 0, vec![pod("a", "x", &whole), other(0, 1)]);
        record(&store, 10, vec![pod("a", "x", &second), other(10, 2)]);
        let shown = shown(&store, 10);
        assert_eq!(shown.iter().any(|line| line.starts_with("a/x@")), expected, "{why}");
        // Neither the node nor another pod suffers.
        assert!(shown.iter().any(|line| line.starts_with("a/other@")), "{why}");
        assert!(store.node("n1", T0_MS).unwrap().node().is_some(), "{why}");
    }
}

#[test]
fn a_container_that_was_implausible_once_has_a_rate_at_once() {
    let store = store();
    record(&store, 0, vec![pod("a", "x", &[("c", point(0, 100))])]);
    let zero = Point { cpu_ns: 0, memory_bytes: 0, ..point(10, 0) };
    record(&store, 10, vec![pod("a", "x", &[("c", zero)])]);
    assert_eq!(shown(&store, 10), [""; 0]);
    record(&store, 20, vec![pod("a", "x", &[("c", point(20, 300))])]);
    assert_eq!(shown(&store, 20), ["a/x@20+20 c=10000000"]);
}

#[test]
fn a_pod_or_node_that_a_good_scrape_lacks_is_not_shown_but_remembered_a_while() {
    let store = store();
    let pods = |at_s, cpu_ms| vec![pod("a", "x", &[("c", point(at_s, cpu_ms))])];
    record(&store, 0, pods(0, 100));
    record(&store, 10, pods(10, 200));
    let before = store.revision().current();
    // Since the first scrape nothing has gone.
    let complete_since = |resource| store.complete_since(resource, T0_MS);
    assert!(complete_since(Resource::Nodes) < before && complete_since(Resource::Pods) < before);
    store.record("n1", NodeBatch::default(), T0_MS + 20_500);
    assert_eq!(shown(&store, 20), [""; 0]);
    assert!(store.node("n1", T0_MS).unwrap().node().is_none());
    assert!(complete_since(Resource::Nodes) > before && complete_since(Resource::Pods) > before);
    record(&store, 30, pods(30, 400));
    assert_eq!(shown(&store, 30), ["a/x@30+20 c=10000000"]);
    assert_eq!(store.node("n1", T0_MS).unwrap().node().unwrap().window_ms, 20_000);
    // Longer than points are kept.
    for at_s in [40, 60, 80, 100, 106] {
        store.record("n1", NodeBatch::default(), T0_MS + at_s * 1000 + 500);
    }
    record(&store, 110, pods(110, 4000));
    assert_eq!(shown(&store, 110), [""; 0]);
}

#[test]
fn a_pod_that_ends_leaves_what_is_told_of_nodes_complete() {
    let store = store();
    record(&store, 0, vec![pod("a", "x", &[("c", point(0, 100))])]);
    record(&store, 10, vec![pod("a", "x", &[("c", point(10, 200))])]);
    let before = store.revision().current();
    record(&store, 20, Vec::new());
    assert!(store.complete_since(Resource::Nodes, T0_MS) < before);
    assert!(store.complete_since(Resource::Pods, T0_MS) > before);
}

#[test]
fn a_restarted_container_never_has_a_negative_or_a_mixed_rate() {
    let store = store();
    let run = |at_s: i64, start_s: i64, cpu_ms| Point {
        start_ms: Some(T0_MS + start_s * 1000),
        ..point(at_s, cpu_ms)
    };
    let pods = |point| vec![pod("a", "x", &[("c", point)])];
    record(&store, 0, pods(run(0, -3600, 90_000)));
    record(&store, 15, pods(run(15, -3600, 91_500)));
    assert_eq!(shown(&store, 15), ["a/x@15+15 c=100000000"]);
    record(&store, 30, pods(run(30, 25, 100)));
    assert_eq!(shown(&store, 30), [""; 0]);
    record(&store, 45, pods(run(45, 25, 1600)));
    assert_eq!(shown(&store, 45), ["a/x@45+15 c=100000000"]);
}

#[test]
fn the_time_of_a_pod_is_that_of_its_oldest_measurement() {
    let store = store();
    record(&store, 0, vec![pod("a", "x", &[("c", point(0, 100)), ("d", point(1, 100))])]);
    record(&store, 15, vec![pod("a", "x", &[("c", point(14, 240)), ("d", point(11, 200))])]);
    assert_eq!(shown(&store, 15), ["a/x@11+10 c=10000000 d=10000000"]);
}

#[test]
fn duplicates_and_impossible_names_are_dropped() {
    let store = store();
    let long = "n".repeat(254);
    for at_s in [0, 10] {
        let cpu_ms = 100 + 10 * at_s as u64;
        record(
            &store,
            at_s,
            vec![
                pod("a", "x", &[("c", point(at_s, cpu_ms)), ("c", point(at_s, 7))]),
                pod("a", "x", &[("c", point(at_s, 9))]),
                pod("a", &long, &[("c", point(at_s, cpu_ms))]),
                pod("", "y", &[("c", point(at_s, cpu_ms))]),
                pod("a", "z", &[(&long, point(at_s, cpu_ms))]),
            ],
        );
    }
    assert_eq!(shown(&store, 10), ["a/x@10+10 c=10000000"]);
}

#[test]
fn changes_are_told_and_a_node_can_be_forgotten() {
    let store = store();
    let changes = store.changes();
    record(&store, 0, Vec::new());
    let first = *changes.borrow();
    assert_eq!(first, u64::try_from(T0_MS + 500).unwrap() * 1000 + 1);
    record(&store, 10, Vec::new());
    assert!(*changes.borrow() > first);
    store.forget_node("n2");
    store.forget_node("n1");
    assert_eq!(*changes.borrow(), store.revision().current());
    for resource in [Resource::Nodes, Resource::Pods] {
        assert_eq!(store.complete_since(resource, T0_MS), store.revision().current());
    }
    assert!(store.node("n1", T0_MS).is_none());
}

#[test]
fn replicas_that_saw_the_same_measurements_agree_whenever_they_fetched_them() {
    let one = store();
    let two = store();
    let pods = |at_s, cpu_ms| vec![pod("a", "x", &[("c", point(at_s, cpu_ms))])];
    for (at_s, cpu_ms) in [(0, 100), (10, 200), (10, 200), (20, 500)] {
        record(&one, at_s, pods(at_s, cpu_ms));
        let batch = NodeBatch { node: Some(point(at_s, 1000)), pods: pods(at_s, cpu_ms) };
        two.record("n1", batch, T0_MS + at_s * 1000 + 7400);
    }
    assert_eq!(shown(&one, 20), ["a/x@20+10 c=30000000"]);
    assert_eq!(shown(&two, 20), shown(&one, 20));
}

#[test]
fn nodes_are_recorded_by_many_threads_at_once() {
    let store = store();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for at_s in [0, 10] {
                    for node in (thread..200).step_by(4) {
                        let pods = vec![pod("a", "x", &[("c", point(at_s, 100 + at_s as u64))])];
                        let batch = NodeBatch { node: Some(point(at_s, 100)), pods };
                        store.record(&format!("n{node}"), batch, T0_MS + at_s * 1000);
                    }
                }
            });
        }
    });
    assert_eq!(store.points(T0_MS + 10_000), Points { nodes: 200, containers: 200 });
}

#[test]
fn a_pod_is_found_wherever_it_is_expected() {
    let store = store();
    let names = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "a")];
    for (at_s, cpu_ms) in [(0, 1000), (15, 2000)] {
        let one =
            |&(namespace, name): &(&str, &str)| pod(namespace, name, &[("c", point(at_s, cpu_ms))]);
        record(&store, at_s, names.iter().map(one).collect());
    }
    let state = store.node("n1", T0_MS + 15_500).unwrap();
    for expected in 0..6 {
        for (at, (namespace, name)) in (0..).zip(names) {
            assert_eq!(state.find_near(expected, namespace, name), Some(at));
        }
        assert_eq!(state.find_near(expected, "a", "z"), None);
    }
}
