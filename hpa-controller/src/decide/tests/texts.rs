//! Texts that upstream's tests do not hold fast.

use k8s_openapi::api::autoscaling::v2::{ContainerResourceMetricSource, MetricSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{
    MetricTarget, NOW, average, cpu_inputs, custom, external, inputs, object, quantity, resource,
    utilization, value,
};
use crate::decide::quantity::{approximate, format_of, write};
use crate::decide::{GoNotation, decide};
use crate::inputs::MetricAnswer;

#[test]
fn selectors_are_written_as_go_does() {
    assert_eq!(GoNotation(None).to_string(), "nil");
    let mut selector = LabelSelector::default();
    assert_eq!(
        GoNotation(Some(&selector)).to_string(),
        "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}"
    );
    let labels = [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    selector.match_labels = Some(labels.into());
    let expression = |key: &str, operator: &str, values: &[&str]| LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.iter().map(|&value| value.to_owned()).collect()),
    };
    selector.match_expressions =
        Some(vec![expression("x", "In", &["1", "2"]), expression("y", "Exists", &[])]);
    assert_eq!(
        GoNotation(Some(&selector)).to_string(),
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]\
         LabelSelectorRequirement{LabelSelectorRequirement{Key:x,Operator:In,Values:[1 2],},\
         LabelSelectorRequirement{Key:y,Operator:Exists,Values:[],},},}"
    );
}

#[test]
fn quantities() {
    let written = |milli, resource| write(milli, format_of(resource)).0;
    for (milli, resource, expected) in [
        (0, None, "0"),
        (1, None, "1m"),
        (-1500, None, "-1500m"),
        (1_000_000, Some("cpu"), "1k"),
        (1_024_000, Some("memory"), "1Ki"),
        (1_023_000, Some("memory"), "1023"),
        (1_536_000, Some("memory"), "1536"),
        (1500, Some("memory"), "1500m"),
        (1 << 40, Some("memory"), "1099511627776m"),
        (1_024_000 << 20, Some("memory"), "1Gi"),
        (i64::MAX, None, "9223372036854775807m"),
    ] {
        assert_eq!(written(milli, resource), expected, "{milli} {resource:?}");
    }
    let double = |text: &str| approximate(&quantity(text).unwrap());
    assert_eq!(double("300m"), Ok(0.3));
    assert_eq!(double("0.1"), Ok(0.1));
    assert_eq!(double("50u"), Ok(50.0 * 1e-6));
    assert_eq!(double("2"), Ok(2.0));
    assert!(double("half").is_err());
}

/// Reason, event message and error of the one metric, which fails.
fn failure(metric: MetricSpec, answer: Option<MetricAnswer>) -> [String; 3] {
    let decision = decide(&inputs(2, vec![metric], vec![answer]), NOW);
    let metric = decision.metrics.into_iter().next().unwrap();
    [metric.failure_reason.unwrap(), metric.failure_message.unwrap(), metric.outcome.unwrap_err()]
}

#[test]
fn failures_say_what_failed() {
    let failed = || Some(MetricAnswer::Failed("down".to_owned()));
    let container = |target| MetricSpec {
        type_: "ContainerResource".to_owned(),
        container_resource: Some(ContainerResourceMetricSource {
            container: "main".to_owned(),
            name: "cpu".to_owned(),
            target,
        }),
        ..MetricSpec::default()
    };
    let check = |metric, answer, expected: [&str; 3]| {
        assert_eq!(failure(metric, answer), expected);
    };
    let usage = "failed to get cpu usage: unable to get metrics for resource cpu: down";
    check(
        resource("cpu", average("1")),
        failed(),
        [
            "FailedGetResourceMetric",
            usage,
            &format!("failed to get cpu resource metric value: {usage}"),
        ],
    );
    let percent = "failed to get cpu utilization: unable to get metrics for resource cpu: down";
    check(
        container(utilization(50)),
        failed(),
        [
            "FailedGetContainerResourceMetric",
            percent,
            &format!("failed to get main container metric value: {percent}"),
        ],
    );
    let neither = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
    check(
        container(MetricTarget::default()),
        None,
        [
            "FailedGetContainerResourceMetric",
            neither,
            &format!("failed to get main container metric value: {neither}"),
        ],
    );
    let on = "unable to get metric hits: Ingress on shop front/down";
    check(
        object(average("1")),
        failed(),
        [
            "FailedGetObjectMetric",
            on,
            &format!("failed to get object metric value: failed to get hits object metric: {on}"),
        ],
    );
    let neither =
        "invalid object metric source: neither a value target nor an average value target was set";
    for target in
        [MetricTarget::default(), MetricTarget { type_: "Value".to_owned(), ..average("1") }]
    {
        let error = format!("failed to get object metric value: {neither}");
        check(object(target), None, ["FailedGetObjectMetric", neither, &error]);
    }
    let ask = "unable to get external metric shop/qps/nil: down";
    for (target, inner) in [
        (value("1"), format!("failed to get external metric qps: {ask}")),
        (average("1"), format!("failed to get qps external metric: {ask}")),
    ] {
        let error = format!("failed to get qps external metric value: {inner}");
        check(external(target), failed(), ["FailedGetExternalMetric", ask, &error]);
    }
    let neither = "invalid external metric source: neither a value target nor an average value target was set";
    let error = format!("failed to get qps external metric value: {neither}");
    check(external(MetricTarget::default()), None, ["FailedGetExternalMetric", neither, &error]);
    let near = Some(LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "a".to_owned(),
            operator: "Near".to_owned(),
            values: None,
        }]),
        match_labels: None,
    });
    let mut strange = custom(average("1"));
    strange.pods.as_mut().unwrap().metric.selector.clone_from(&near);
    let why = "\"Near\" is not a valid label selector operator";
    let error = format!("failed to get pods metric value: {why}");
    check(strange, None, ["FailedGetPodsMetric", why, &error]);
    for (operator, values, why) in [
        ("NotIn", vec![], "null: for 'in', 'notin' operators, values set can't be empty"),
        (
            "Exists",
            vec!["b", "c"],
            r#"["b","c"]: values set must be empty for exists and does not exist"#,
        ),
    ] {
        let mut strange = custom(average("1"));
        strange.pods.as_mut().unwrap().metric.selector = Some(LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "a".to_owned(),
                operator: operator.to_owned(),
                values: Some(values.into_iter().map(str::to_owned).collect()),
            }]),
            match_labels: None,
        });
        let why = format!("values: Invalid value: {why}");
        let error = format!("failed to get pods metric value: {why}");
        check(strange, None, ["FailedGetPodsMetric", &why, &error]);
    }
    // An external metric's is looked at by the calculation, which names the metric.
    for (target, inner) in [
        (value("1"), format!("failed to get external metric qps: {why}")),
        (average("1"), format!("failed to get qps external metric: {why}")),
    ] {
        let mut strange = external(target);
        strange.external.as_mut().unwrap().metric.selector.clone_from(&near);
        let error = format!("failed to get qps external metric value: {inner}");
        check(strange, failed(), ["FailedGetExternalMetric", why, &error]);
    }
}

#[test]
fn every_number_is_told() {
    let mut given = cpu_inputs(3, &[900, 900]);
    given.spec.max_replicas = 3;
    let decision = decide(&given, NOW);
    let proposal = decision.metrics[0].outcome.as_ref().unwrap();
    assert_eq!((proposal.utilization_percent, proposal.value_milli), (Some(90), 900));
    assert_eq!((proposal.ratio.ratio, proposal.ratio.tolerated_to), (1.8, 1.1));
    // 1800 of 3000: 60 %, a ratio of 1.2, of three values.
    let again = proposal.rebalanced.unwrap();
    assert_eq!((again.ratio, proposal.multiplied_by, proposal.replicas), (1.2, 3, 4));
    let account = proposal.pods.as_ref().unwrap();
    assert_eq!((account.ready.len(), account.missing.len()), (2, 1));
    let stabilization = decision.stabilization.unwrap();
    assert_eq!((stabilization.proposed, stabilization.stabilized), (4, 4));
    assert_eq!((stabilization.up_window_ms, stabilization.down_window_ms), (None, 300_000));
    let rate_limit = decision.rate_limit.unwrap();
    assert_eq!((rate_limit.rate_limit, rate_limit.limit.replicas), (Some(6), 3));
    assert_eq!((decision.bounds.min_replicas, decision.bounds.max_replicas), (1, 3));
}
