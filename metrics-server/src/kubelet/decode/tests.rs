//! The rules of decoding, one case each.

use proptest::prelude::*;

use super::*;

const REQUEST_MS: i64 = 1_700_000_000_000;

type Pods = Vec<(String, Vec<(String, Point)>)>;

fn decode(body: &str) -> Result<(NodeBatch, Report), DecodeError> {
    let mut decoder = Decoder::new(REQUEST_MS);
    decoder.push(body.as_bytes())?;
    decoder.finish()
}

/// Pods as `namespace/name` with their containers.
fn pods(batch: &NodeBatch) -> Pods {
    let containers = |pod: &PodPoints| {
        pod.containers.iter().map(|(name, point)| (name.to_string(), *point)).collect()
    };
    batch
        .pods
        .iter()
        .map(|pod| (format!("{}/{}", pod.namespace, pod.name), containers(pod)))
        .collect()
}

/// The names of the pods that a body yields.
fn pod_names(body: &str) -> Vec<String> {
    decode(body)
        .map_or_else(|_| Vec::new(), |(batch, _)| pods(&batch).into_iter().map(|p| p.0).collect())
}

const KUBELET: &str = r#"
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="default",pod="web-1"} 4.710169 1633253812125
container_cpu_usage_seconds_total{container="app",namespace="default",pod="web-2"} 12.5 1633253812126
container_cpu_usage_seconds_total{container="dns",namespace="kube-system",pod="coredns-1"} 1e-06 1633253812127
container_cpu_usage_seconds_total{container="proxy",namespace="default",pod="web-1"} 0.25 1633253812128
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="app",namespace="default",pod="web-1"} 1.253376e+07 1633253812999
container_memory_working_set_bytes{container="app",namespace="default",pod="web-2"} 4096 1633253812126
container_memory_working_set_bytes{container="dns",namespace="kube-system",pod="coredns-1"} 8192 1633253812127
container_memory_working_set_bytes{container="proxy",namespace="default",pod="web-1"} 1024 1633253812128
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="app",namespace="default",pod="web-1"} 1.6332527125e+09
container_start_time_seconds{container="app",namespace="default",pod="web-2"} 1.6332527e+09
container_start_time_seconds{container="proxy",namespace="default",pod="web-1"} 1.6332527e+09
# HELP container_swap_usage_bytes [ALPHA] Current amount of the container swap usage in bytes.
# TYPE container_swap_usage_bytes gauge
container_swap_usage_bytes{container="app",namespace="default",pod="web-1"} 0 1633253812125
container_swap_usage_bytes{container="app",namespace="default",pod="web-2"} 512 1633253812125
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 357.35491 1633253809720
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1.616273408e+09 1633253809721
# TYPE node_swap_usage_bytes gauge
node_swap_usage_bytes 2048 1633253809721
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="default",pod="web-1"} 4.67812 1633253803935
# TYPE resource_scrape_error gauge
resource_scrape_error 0
"#;

#[test]
fn an_answer_of_a_kubelet() {
    let (batch, report) = decode(KUBELET).unwrap();
    assert_eq!(report, Report::default());
    let node = Point {
        at_ms: 1_633_253_809_720,
        start_ms: None,
        cpu_ns: 357_354_910_000,
        memory_bytes: 1_616_273_408,
        swap_bytes: Some(2048),
    };
    assert_eq!(batch.node, Some(node));
    let app = Point {
        at_ms: 1_633_253_812_125,
        start_ms: Some(1_633_252_712_500),
        cpu_ns: 4_710_169_000,
        memory_bytes: 12_533_760,
        swap_bytes: Some(0),
    };
    let proxy = Point {
        at_ms: 1_633_253_812_128,
        start_ms: Some(1_633_252_700_000),
        cpu_ns: 250_000_000,
        memory_bytes: 1024,
        swap_bytes: None,
    };
    let second = Point {
        at_ms: 1_633_253_812_126,
        cpu_ns: 12_500_000_000,
        memory_bytes: 4096,
        swap_bytes: Some(512),
        ..proxy
    };
    let dns = Point {
        at_ms: 1_633_253_812_127,
        start_ms: None,
        cpu_ns: 1000,
        memory_bytes: 8192,
        swap_bytes: None,
    };
    let named = |name: &str, point| (String::from(name), point);
    let expected: Pods = vec![
        ("default/web-1".into(), vec![named("app", app), named("proxy", proxy)]),
        ("default/web-2".into(), vec![named("app", second)]),
        ("kube-system/coredns-1".into(), vec![named("dns", dns)]),
    ];
    assert_eq!(pods(&batch), expected);
}

#[test]
fn pieces_make_no_difference() {
    let whole = decode(KUBELET).unwrap();
    for at in 0..=KUBELET.len() {
        let mut decoder = Decoder::new(REQUEST_MS);
        let (first, second) = KUBELET.as_bytes().split_at(at);
        decoder.push(first).unwrap();
        decoder.push(second).unwrap();
        let (batch, report) = decoder.finish().unwrap();
        assert_eq!((batch.node, pods(&batch)), (whole.0.node, pods(&whole.0)), "{at}");
        assert_eq!(report, whole.1, "{at}");
    }
    // Nor does a missing last line feed, nor bytes that come one by one.
    let mut decoder = Decoder::new(REQUEST_MS);
    KUBELET.trim_end().bytes().for_each(|byte| decoder.push(&[byte]).unwrap());
    assert_eq!(pods(&decoder.finish().unwrap().0), pods(&whole.0));
}

#[test]
fn samples_without_a_time_are_of_the_request() {
    let body = "node_cpu_usage_seconds_total 1\nnode_memory_working_set_bytes 2\n";
    assert_eq!(decode(body).unwrap().0.node.unwrap().at_ms, REQUEST_MS);
}

#[test]
fn a_node_is_complete_or_left_out() {
    for body in [
        "node_memory_working_set_bytes 1.6e+09\n",
        "node_cpu_usage_seconds_total 0\nnode_memory_working_set_bytes 1.6e+09\n",
        "node_cpu_usage_seconds_total 357.3\n",
        "node_cpu_usage_seconds_total 357.3\nnode_memory_working_set_bytes 0\n",
    ] {
        let (batch, report) = decode(body).unwrap();
        assert_eq!((batch.node, report.incomplete_node), (None, true), "{body}");
    }
}

#[test]
fn an_answer_of_which_broken_lines_leave_nothing_is_none() {
    for (body, malformed_lines, first) in [
        (
            "node_cpu_usage_seconds_total NaN\nnode_memory_working_set_bytes 1\n",
            1,
            "node_cpu_usage_seconds_total NaN",
        ),
        (
            "container_cpu_usage_seconds_total{\nnode_cpu_usage_seconds_total x\n",
            2,
            "container_cpu_usage_seconds_total{",
        ),
    ] {
        let first = String::from(first);
        assert_eq!(decode(body).unwrap_err(), DecodeError::Unreadable { malformed_lines, first });
    }
    // With a pod that is understood it is an answer.
    let body = container(CPU, "a", "p", "1")
        + &container(MEMORY, "a", "p", "1")
        + "node_cpu_usage_seconds_total NaN\n";
    let (batch, report) = decode(&body).unwrap();
    assert_eq!((batch.pods.len(), report.incomplete_node, report.malformed_lines), (1, true, 1));
}

/// One line per argument of a container `c` of the pod `n/p`.
fn container(family: &str, name: &str, pod: &str, value: &str) -> String {
    format!("{family}{{container=\"{name}\",namespace=\"n\",pod=\"{pod}\"}} {value}\n")
}

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";
const START: &str = "container_start_time_seconds";

#[test]
fn an_incomplete_container_costs_its_pod_and_no_other() {
    let good = |pod| container(CPU, "a", pod, "1") + &container(MEMORY, "a", pod, "1");
    for (bad, malformed) in [
        (container(MEMORY, "b", "p", "1"), 0),
        (container(CPU, "b", "p", "0") + &container(MEMORY, "b", "p", "1"), 0),
        (container(CPU, "b", "p", "1"), 0),
        (container(CPU, "b", "p", "1") + &container(MEMORY, "b", "p", "0"), 0),
        (container(START, "b", "p", "1.6e9"), 0),
        // The second container of the pod is only known from lines that cannot be read.
        (container(CPU, "b", "p", "1 -62135596800000"), 1),
        (container(CPU, "b", "p", "one"), 1),
        (container(CPU, "b", "p", "-1"), 1),
        (container(CPU, "b", "p", "+Inf"), 1),
        (container(CPU, "b", "p", "NaN"), 1),
        (container(START, "b", "p", "-6.79e+09 -62135596800000"), 1),
        (format!("{CPU}{{namespace=\"n\",pod=\"p\"}} 1\n"), 0),
    ] {
        for body in [good("o") + &good("p") + &bad, bad.clone() + &good("p") + &good("o")] {
            let (batch, report) = decode(&body).unwrap();
            let names: Vec<_> = pods(&batch).into_iter().map(|pod| pod.0).collect();
            assert_eq!(names, ["n/o"], "{body}");
            assert_eq!((report.incomplete_pods, report.malformed_lines), (1, malformed), "{body}");
        }
    }
    // Nothing is wrong with the lines around one that names no pod.
    let body = good("p") + "container_cpu_usage_seconds_total{\nnode_cpu_usage_seconds_total x\n";
    let (batch, report) = decode(&body).unwrap();
    assert_eq!((batch.pods.len(), report.malformed_lines), (1, 2));
    assert_eq!(report.first_malformed.as_deref(), Some("container_cpu_usage_seconds_total{"));
}

#[test]
fn order_and_spelling_make_no_difference() {
    let mut lines: Vec<_> = KUBELET.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = pods(&decode(KUBELET).unwrap().0);
    lines.reverse();
    assert_eq!(pods(&decode(&lines.join("\n")).unwrap().0), expected);
    lines.sort_unstable_by_key(|line| (line.len(), *line));
    assert_eq!(pods(&decode(&lines.join("\n")).unwrap().0), expected);
    let spelled = KUBELET.replace(
        r#"container_memory_working_set_bytes{container="app",namespace="default",pod="web-1"}"#,
        r#"container_memory_working_set_bytes { pod="web-1", namespace="default" ,container="app", }"#,
    );
    assert_ne!(spelled, KUBELET);
    // Blanks may stand before the braces in the format; kubelets write none.
    assert_eq!(pods(&decode(&spelled).unwrap().0), expected);
}

#[test]
fn of_equal_series_the_later_counts() {
    let body = container(CPU, "a", "p", "1")
        + &container(MEMORY, "a", "p", "10")
        + &container(MEMORY, "a", "p", "20")
        + &container(CPU, "a", "p", "2 1700000000001");
    let found = pods(&decode(&body).unwrap().0);
    let expected = Point {
        at_ms: 1_700_000_000_001,
        start_ms: None,
        cpu_ns: 2_000_000_000,
        memory_bytes: 20,
        swap_bytes: None,
    };
    assert_eq!(found, [(String::from("n/p"), vec![(String::from("a"), expected)])]);
}

#[test]
fn names_are_unescaped_and_other_families_ignored() {
    let body = container(CPU, r#"a\"b"#, "p", "1") + &container(MEMORY, r#"a\"b"#, "p", "1");
    assert_eq!(pods(&decode(&body).unwrap().0)[0].1[0].0, "a\"b");
    let others = "container_cpu_usage_seconds_total_more 1\nnode_cpu_usage_seconds 1\nfoo{ 1\n";
    assert_eq!(decode(others).unwrap_err(), DecodeError::NoMetrics);
    assert_eq!(decode("").unwrap_err(), DecodeError::NoMetrics);
    assert_eq!(decode("<html>login</html>").unwrap_err(), DecodeError::NoMetrics);
    assert!(pod_names(&container(CPU, "a", "", "1")).is_empty());
}

#[test]
fn everything_is_bounded() {
    let good = container(CPU, "a", "p", "1") + &container(MEMORY, "a", "p", "1");
    let long = container(CPU, &"x".repeat(LINE_BYTES_MAX), "p", "1");
    for pieces in [usize::MAX, 1000] {
        let mut decoder = Decoder::new(REQUEST_MS);
        let body = format!("{long}{good}{long}");
        for piece in body.as_bytes().chunks(pieces.min(body.len())) {
            decoder.push(piece).unwrap();
            assert!(decoder.carry.len() <= LINE_BYTES_MAX);
        }
        let (batch, report) = decoder.finish().unwrap();
        assert_eq!((batch.pods.len(), report.malformed_lines), (1, 2));
        assert!(report.first_malformed.unwrap().len() <= QUOTE_BYTES_MAX);
    }
    let many: String =
        (0..=CONTAINERS_MAX).map(|n| container(CPU, &n.to_string(), "p", "1")).collect();
    assert_eq!(decode(&many).unwrap_err(), DecodeError::TooManyContainers);
    assert_eq!(decode(many.trim_end()).unwrap_err(), DecodeError::TooManyContainers);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_taken(
        lines in prop::collection::vec("(container|node)_(cpu_usage_seconds_total|memory_working_set_bytes|x)[{}\"=, a-z0-9\\\\]{0,40}", 0..20),
        noise: Vec<u8>,
        piece in 1_usize..50,
    ) {
        let mut body = lines.join("\n").into_bytes();
        body.extend(noise);
        let mut whole = Decoder::new(REQUEST_MS);
        whole.push(&body).unwrap();
        let mut pieces = Decoder::new(REQUEST_MS);
        for piece in body.chunks(piece) {
            pieces.push(piece).unwrap();
        }
        match (whole.finish(), pieces.finish()) {
            (Ok((a, b)), Ok((c, d))) => {
                prop_assert_eq!((a.node, pods(&a), b), (c.node, pods(&c), d));
            }
            (a, c) => prop_assert_eq!(a.err(), c.err()),
        }
    }
}
