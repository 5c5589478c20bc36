//! Validation of an `autoscaling/v2` object as at its creation, after defaults.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HPAScalingRules,
    HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec,
    MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use metrics_api::Quantity;

use super::field::{Complaints, FieldError};
use crate::inputs::Gates;

const PERIOD_SECONDS_MAX: i32 = 1800;
const STABILIZATION_WINDOW_SECONDS_MAX: i32 = 3600;
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// What the API server would refuse the object for; nothing, if it would take it. Defaults are to be filled in before.
#[must_use]
pub fn validate(autoscaler: &HorizontalPodAutoscaler, gates: &Gates) -> Vec<FieldError> {
    let mut complaints = Complaints::default();
    let path = String::from("metadata.name");
    match autoscaler.metadata.name.as_deref() {
        None | Some("") => complaints.required(path, "name or generateName is required"),
        Some(name) => subdomain(&mut complaints, path, name),
    }
    Validation { complaints: &mut complaints, gates }.spec(&autoscaler.spec);
    complaints.0
}

struct Validation<'a> {
    complaints: &'a mut Complaints,
    gates: &'a Gates,
}

impl Validation<'_> {
    fn spec(&mut self, spec: &HorizontalPodAutoscalerSpec) {
        let min = spec.min_replicas;
        let lowest = i32::from(!self.gates.scale_to_zero);
        if let Some(min) = min.filter(|min| *min < lowest) {
            let detail = format!("must be greater than or equal to {lowest}");
            self.complaints.invalid("spec.minReplicas".into(), &min, &detail);
        }
        if spec.max_replicas < 1 {
            let detail = "must be greater than 0";
            self.complaints.invalid("spec.maxReplicas".into(), &spec.max_replicas, detail);
        }
        if min.is_some_and(|min| spec.max_replicas < min) {
            let detail = "must be greater than or equal to `minReplicas`";
            self.complaints.invalid("spec.maxReplicas".into(), &spec.max_replicas, detail);
        }
        let target = &spec.scale_target_ref;
        let core = target.kind == "ReplicationController";
        self.reference(target, "spec.scaleTargetRef", core);
        let metrics = spec.metrics.as_deref().unwrap_or_default();
        for (at, metric) in metrics.iter().enumerate() {
            self.metric(metric, &format!("spec.metrics[{at}]"));
        }
        let from_elsewhere =
            metrics.iter().any(|metric| ["Object", "External"].contains(&metric.type_.as_str()));
        if min == Some(0) && !from_elsewhere {
            let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
            self.complaints.forbidden("spec.metrics".into(), detail);
        }
        if let Some(behavior) = &spec.behavior {
            self.rules(behavior.scale_up.as_ref(), "spec.behavior.scaleUp");
            self.rules(behavior.scale_down.as_ref(), "spec.behavior.scaleDown");
        }
    }

    /// `core`: the kind may be one of the core group, which has no name.
    fn reference(&mut self, reference: &CrossVersionObjectReference, path: &str, core: bool) {
        for (field, value) in [("kind", &reference.kind), ("name", &reference.name)] {
            if value.is_empty() {
                self.complaints.required(format!("{path}.{field}"), "");
            } else {
                self.path_segment(format!("{path}.{field}"), value);
            }
        }
        let version = reference.api_version.as_deref().unwrap_or_default();
        let path = format!("{path}.apiVersion");
        match version.matches('/').count() {
            0 if !core => {
                self.complaints.invalid(path, &version, "apiVersion must specify API group");
            }
            0 | 1 => {}
            _ => {
                let detail = format!("unexpected GroupVersion string: {version}");
                self.complaints.invalid(path, &version, &detail);
            }
        }
    }

    fn path_segment(&mut self, path: String, name: &str) {
        let detail = match name {
            "." | ".." => format!("may not be '{name}'"),
            _ if name.contains('/') => String::from("may not contain '/'"),
            _ if name.contains('%') => String::from("may not contain '%'"),
            _ => return,
        };
        self.complaints.invalid(path, &name, &detail);
    }

    fn metric(&mut self, metric: &MetricSpec, path: &str) {
        let kind = metric.type_.as_str();
        if kind.is_empty() {
            let detail = "must specify a metric source type";
            self.complaints.required(format!("{path}.type"), detail);
        }
        if !TYPES.contains(&kind) {
            self.complaints.not_supported(format!("{path}.type"), kind, &TYPES);
        }
        // The first source that is there is looked into, whatever the type says.
        let mut present = Vec::new();
        present.extend(metric.object.is_some().then_some("object"));
        present.extend(metric.external.is_some().then_some("external"));
        present.extend(metric.pods.is_some().then_some("pods"));
        present.extend(metric.resource.is_some().then_some("resource"));
        present.extend(metric.container_resource.is_some().then_some("containerResource"));
        match present.first() {
            Some(&"object") => self.object(metric, path),
            Some(&"external") => self.external(metric, path),
            Some(&"pods") => self.pods(metric, path),
            Some(&"resource") => self.resource(metric, path),
            Some(_) => self.container_resource(metric, path),
            None => {}
        }
        let expected = match kind {
            "Object" => "object",
            "External" => "external",
            "Pods" => "pods",
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            _ => "",
        };
        if !expected.is_empty() && !present.contains(&expected) {
            let detail = "must populate information for the given metric source";
            self.complaints.required(format!("{path}.{expected}"), detail);
        }
        if present.len() > 1 {
            for other in present.iter().filter(|other| **other != expected) {
                let detail = "must populate the given metric source only";
                self.complaints.forbidden(format!("{path}.{other}"), detail);
            }
        }
    }

    fn object(&mut self, metric: &MetricSpec, path: &str) {
        let Some(source) = &metric.object else { return };
        let path = format!("{path}.object");
        self.reference(&source.described_object, &format!("{path}.describedObject"), true);
        self.identifier(&source.metric, &path);
        self.target(&source.target, &path);
        if source.target.value.is_none() && source.target.average_value.is_none() {
            let detail = "must set either a target value or averageValue";
            self.complaints.required(format!("{path}.target.averageValue"), detail);
        }
    }

    fn external(&mut self, metric: &MetricSpec, path: &str) {
        let Some(source) = &metric.external else { return };
        let path = format!("{path}.external");
        self.identifier(&source.metric, &path);
        self.target(&source.target, &path);
        match (&source.target.value, &source.target.average_value) {
            (None, None) => {
                let detail = "must set either a target value for metric or a per-pod target";
                self.complaints.required(format!("{path}.target.averageValue"), detail);
            }
            (Some(_), Some(_)) => {
                let detail = "may not set both a target value for metric and a per-pod target";
                self.complaints.forbidden(format!("{path}.target.value"), detail);
            }
            _ => {}
        }
    }

    fn pods(&mut self, metric: &MetricSpec, path: &str) {
        let Some(source) = &metric.pods else { return };
        let path = format!("{path}.pods");
        self.identifier(&source.metric, &path);
        self.target(&source.target, &path);
        if source.target.average_value.is_none() {
            let detail = "must specify a positive target averageValue";
            self.complaints.required(format!("{path}.target.averageValue"), detail);
        }
    }

    fn resource(&mut self, metric: &MetricSpec, path: &str) {
        let Some(source) = &metric.resource else { return };
        let path = format!("{path}.resource");
        if source.name.is_empty() {
            self.complaints.required(format!("{path}.name"), "must specify a resource name");
        }
        self.usage_target(&source.target, &path);
    }

    fn container_resource(&mut self, metric: &MetricSpec, path: &str) {
        let Some(source) = &metric.container_resource else { return };
        let path = format!("{path}.containerResource");
        let ContainerResourceMetricSource { name, container, target } = source;
        let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str())
            || name.starts_with("hugepages-");
        if name.is_empty() {
            self.complaints.required(format!("{path}.name"), "must specify a resource name");
        } else if !standard && !name.contains('/') {
            let detail = "must be a standard resource for containers";
            self.complaints.invalid(format!("{path}.name"), name, detail);
        }
        if container.is_empty() {
            self.complaints.required(format!("{path}.container"), "must specify a container");
        } else if !is_label(container) {
            let detail = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
            self.complaints.invalid(format!("{path}.container"), container, detail);
        }
        self.usage_target(target, &path);
    }

    /// The target of a resource: a share of what is requested or an amount.
    fn usage_target(&mut self, target: &MetricTarget, path: &str) {
        self.target(target, path);
        match (target.average_utilization, &target.average_value) {
            (None, None) => {
                let detail = "must set either a target raw value or a target utilization";
                self.complaints.required(format!("{path}.target.averageUtilization"), detail);
            }
            (Some(_), Some(_)) => {
                let detail = "may not set both a target raw value and a target utilization";
                self.complaints.forbidden(format!("{path}.target.averageValue"), detail);
            }
            _ => {}
        }
    }

    fn target(&mut self, target: &MetricTarget, path: &str) {
        let path = format!("{path}.target");
        let kind = target.type_.as_str();
        if kind.is_empty() {
            let detail = "must specify a metric target type";
            self.complaints.required(format!("{path}.type"), detail);
        }
        if !["Utilization", "Value", "AverageValue"].contains(&kind) {
            let detail = "must be either Utilization, Value, or AverageValue";
            self.complaints.invalid(format!("{path}.type"), &kind, detail);
        }
        let quantities = [("value", &target.value), ("averageValue", &target.average_value)];
        for (field, quantity) in quantities {
            self.quantity(
                quantity.as_ref(),
                format!("{path}.{field}"),
                "must be positive",
                |sign| sign.is_gt(),
            );
        }
        if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
            let detail = "must be greater than 0";
            self.complaints.invalid(format!("{path}.averageUtilization"), &percent, detail);
        }
    }

    /// A quantity must be one, and compare to zero as `wanted`.
    fn quantity(
        &mut self,
        quantity: Option<&QuantityText>,
        path: String,
        detail: &str,
        wanted: impl Fn(std::cmp::Ordering) -> bool,
    ) {
        let Some(QuantityText(text)) = quantity else { return };
        match text.parse::<Quantity>() {
            Ok(value) if wanted(value.cmp(&Quantity::bytes(0))) => {}
            Ok(_) => self.complaints.invalid(path, text, detail),
            Err(error) => self.complaints.invalid(path, text, &error.to_string()),
        }
    }

    fn identifier(&mut self, metric: &MetricIdentifier, path: &str) {
        let path = format!("{path}.metric.name");
        if metric.name.is_empty() {
            self.complaints.required(path, "must specify a metric name");
        } else {
            self.path_segment(path, &metric.name);
        }
    }

    fn rules(&mut self, rules: Option<&HPAScalingRules>, path: &str) {
        let Some(rules) = rules else { return };
        if let Some(window) = rules.stabilization_window_seconds {
            let path = format!("{path}.stabilizationWindowSeconds");
            if window < 0 {
                let detail = "must be greater than or equal to zero";
                self.complaints.invalid(path, &window, detail);
            } else if window > STABILIZATION_WINDOW_SECONDS_MAX {
                let detail =
                    format!("must be less than or equal to {STABILIZATION_WINDOW_SECONDS_MAX}");
                self.complaints.invalid(path, &window, &detail);
            }
        }
        let select = ["Disabled", "Max", "Min"];
        if let Some(policy) = rules.select_policy.as_deref().filter(|it| !select.contains(it)) {
            self.complaints.not_supported(format!("{path}.selectPolicy"), policy, &select);
        }
        let policies = rules.policies.as_deref().unwrap_or_default();
        if policies.is_empty() {
            let detail = "must specify at least one Policy";
            self.complaints.required(format!("{path}.policies"), detail);
        }
        for (at, policy) in policies.iter().enumerate() {
            let path = format!("{path}.policies[{at}]");
            if !["Percent", "Pods"].contains(&policy.type_.as_str()) {
                let supported = ["Percent", "Pods"];
                self.complaints.not_supported(format!("{path}.type"), &policy.type_, &supported);
            }
            if policy.value <= 0 {
                let detail = "must be greater than zero";
                self.complaints.invalid(format!("{path}.value"), &policy.value, detail);
            }
            let (period, path) = (policy.period_seconds, format!("{path}.periodSeconds"));
            if period <= 0 {
                self.complaints.invalid(path, &period, "must be greater than zero");
            } else if period > PERIOD_SECONDS_MAX {
                let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
                self.complaints.invalid(path, &period, &detail);
            }
        }
        let tolerance = rules.tolerance.as_ref().filter(|_| self.gates.configurable_tolerance);
        let detail = "must be greater than or equal to 0";
        let path = format!("{path}.tolerance");
        self.quantity(tolerance, path, detail, std::cmp::Ordering::is_ge);
    }
}

/// Whether a text is a DNS label by RFC 1123.
fn is_label(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

fn subdomain(complaints: &mut Complaints, path: String, name: &str) {
    const LENGTH_MAX: usize = 253;
    if name.len() > LENGTH_MAX {
        complaints.invalid(path, &name, &format!("must be no more than {LENGTH_MAX} bytes"));
    } else if !name.split('.').all(|label| is_label(label) || label.len() > 63) {
        let detail = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        complaints.invalid(path, &name, detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::set_defaults;

    fn complaints(spec: &Value, gates: &Gates) -> Vec<String> {
        let object = json!({"metadata": {"name": "web"}, "spec": spec});
        let mut autoscaler: HorizontalPodAutoscaler = serde_json::from_value(object).unwrap();
        set_defaults(&mut autoscaler.spec);
        validate(&autoscaler, gates).iter().map(ToString::to_string).collect()
    }

    /// A valid specification with one field, named by a JSON pointer, replaced.
    fn check(pointer: &str, value: Value, expected: &[&str]) {
        let mut spec = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2,
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
            "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1800}],
                "stabilizationWindowSeconds": 3600, "tolerance": "0"}},
        });
        assert_eq!(complaints(&spec, &Gates::default()), [] as [&str; 0]);
        *spec.pointer_mut(pointer).unwrap() = value;
        assert_eq!(complaints(&spec, &Gates::default()), expected, "{pointer}");
    }

    /// The rules and words of `pkg/apis/autoscaling/validation/validation.go`.
    #[test]
    fn bounds_and_references() {
        check(
            "/minReplicas",
            json!(0),
            &[
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        );
        check(
            "/maxReplicas",
            json!(0),
            &[
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        );
        check("/scaleTargetRef/kind", json!(""), &["spec.scaleTargetRef.kind: Required value"]);
        check(
            "/scaleTargetRef/name",
            json!("a/b"),
            &["spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'"],
        );
        check(
            "/scaleTargetRef/name",
            json!(".."),
            &["spec.scaleTargetRef.name: Invalid value: \"..\": may not be '..'"],
        );
        check(
            "/scaleTargetRef/apiVersion",
            json!("v1"),
            &[
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            ],
        );
        check(
            "/scaleTargetRef/apiVersion",
            json!("a/b/c"),
            &[
                "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ],
        );
        let core = json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "web"});
        check("/scaleTargetRef", core, &[]);
    }

    #[test]
    fn behavior() {
        let at = "/behavior/scaleUp";
        let field = "spec.behavior.scaleUp";
        let check = |pointer: &str, value: Value, problem: &str| {
            check(&format!("{at}{pointer}"), value, &[&format!("{field}{problem}")]);
        };
        check(
            "/stabilizationWindowSeconds",
            json!(-1),
            ".stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
        );
        check(
            "/stabilizationWindowSeconds",
            json!(3601),
            ".stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
        );
        check(
            "/policies",
            json!([]),
            ".policies: Required value: must specify at least one Policy",
        );
        check(
            "/policies/0/type",
            json!("x"),
            r#".policies[0].type: Unsupported value: "x": supported values: "Percent", "Pods""#,
        );
        check(
            "/policies/0/value",
            json!(0),
            ".policies[0].value: Invalid value: 0: must be greater than zero",
        );
        check(
            "/policies/0/periodSeconds",
            json!(0),
            ".policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
        );
        check(
            "/policies/0/periodSeconds",
            json!(1801),
            ".policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        );
        check(
            "/tolerance",
            json!("-1m"),
            r#".tolerance: Invalid value: "-1m": must be greater than or equal to 0"#,
        );
    }

    #[test]
    fn metrics() {
        let check = |metric: Value, expected: &[&str]| {
            let expected: Vec<_> =
                expected.iter().map(|problem| format!("spec.metrics[0]{problem}")).collect();
            let expected: Vec<_> = expected.iter().map(String::as_str).collect();
            check("/metrics/0", metric, &expected);
        };
        check(
            json!({"type": "Cheese"}),
            &[
                r#".type: Unsupported value: "Cheese": supported values: "ContainerResource", "External", "Object", "Pods", "Resource""#,
            ],
        );
        check(
            json!({"type": "Pods"}),
            &[".pods: Required value: must populate information for the given metric source"],
        );
        let cpu =
            json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 0}});
        check(
            json!({"type": "Resource", "resource": cpu}),
            &[".resource.target.averageUtilization: Invalid value: 0: must be greater than 0"],
        );
        let both = json!({"name": "", "target": {"type": "Other", "averageUtilization": 1, "averageValue": "1"}});
        check(
            json!({"type": "Resource", "resource": both}),
            &[
                ".resource.name: Required value: must specify a resource name",
                r#".resource.target.type: Invalid value: "Other": must be either Utilization, Value, or AverageValue"#,
                ".resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
            ],
        );
        let depth = json!({"metric": {"name": "depth"}, "target": {"type": "Value", "value": "0"}});
        check(
            json!({"type": "External", "external": depth}),
            &[r#".external.target.value: Invalid value: "0": must be positive"#],
        );
        let object = json!({"describedObject": {"kind": "Service", "name": "web", "apiVersion": "v1"},
            "metric": {"name": "hits"}, "target": {"type": "Value"}});
        check(
            json!({"type": "Object", "object": object}),
            &[
                ".object.target.averageValue: Required value: must set either a target value or averageValue",
            ],
        );
        let container = json!({"name": "apples", "container": "App", "target": {"type": "AverageValue", "averageValue": "1"}});
        let expected = [
            r#".containerResource.name: Invalid value: "apples": must be a standard resource for containers"#,
            r#".containerResource.container: Invalid value: "App": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"#,
        ];
        check(json!({"type": "ContainerResource", "containerResource": container}), &expected);
        let pods = json!({"metric": {"name": ""}, "target": {"type": "AverageValue", "averageValue": "1"}});
        let cpu =
            json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}});
        check(
            json!({"type": "Resource", "resource": cpu, "pods": pods}),
            &[
                ".pods.metric.name: Required value: must specify a metric name",
                ".pods: Forbidden: must populate the given metric source only",
            ],
        );
    }

    #[test]
    fn zero_needs_its_gate_and_a_metric_from_elsewhere() {
        let gates = Gates { scale_to_zero: true, ..Gates::default() };
        let spec = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 0, "maxReplicas": 5,
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "depth"}, "target": {"type": "AverageValue", "averageValue": "5"}}}],
        });
        assert_eq!(complaints(&spec, &gates), [] as [&str; 0]);
        assert_eq!(complaints(&spec, &Gates::default()).len(), 1);
    }
}
