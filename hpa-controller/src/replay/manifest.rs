//! Autoscalers and their targets from manifests, as people write them or `kubectl get -o yaml` prints them.
//!
//! What an API server would do to an autoscaler is done here: defaults are filled in, and what it would refuse is refused.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Container, PodTemplateSpec, ResourceRequirements};
use metrics_api::Quantity;
use serde::Deserialize;
use serde_json::Value;

use super::{PodRequests, Subject};
use crate::decide::quantity::milli;
use crate::explain::objects::documents;
use crate::inputs::{ContainerRequests, Gates};
use crate::spec;
use crate::steer;

/// Most objects of all files together.
const OBJECTS_MAX: usize = 10_000;

/// Most autoscalers that are tried side by side.
const SUBJECTS_MAX: usize = 32;

/// Container that requests are given for where nothing tells of containers.
const ONLY_CONTAINER: &str = "container";

/// Why manifests cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A file is not YAML or JSON.
    #[error("{file}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// An object cannot be used.
    #[error("{file}: {object}: {reason}")]
    Object {
        /// The file.
        file: String,
        /// Kind and name of the object.
        object: String,
        /// What is wrong, with the field.
        reason: String,
    },
    /// More than is held.
    #[error("{file}: more than {limit} {what}")]
    TooMany {
        /// The file in which it became too many.
        file: String,
        /// How many are allowed.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// No file has an autoscaler.
    #[error("there is no HorizontalPodAutoscaler in {0}")]
    NoAutoscaler(String),
    /// Requests that were given do not say for which container.
    #[error("--request {resource}: pods of {target} have several containers ({}): name one as CONTAINER/{resource}", .containers.join(", "))]
    WhichContainer {
        /// The resource.
        resource: String,
        /// The target.
        target: String,
        /// Its containers.
        containers: Vec<String>,
    },
}

/// `[CONTAINER/]RESOURCE=QUANTITY`: what a container requests, in place of what the manifest says or history recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFlag {
    container: Option<String>,
    resource: String,
    milli: i64,
}

impl FromStr for RequestFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, quantity) =
            text.split_once('=').ok_or("it is not of the form [CONTAINER/]RESOURCE=QUANTITY")?;
        let quantity: Quantity =
            quantity.parse().map_err(|_| format!("{quantity:?} is not a quantity"))?;
        let milli = quantity.milli_value();
        if milli <= 0 {
            return Err(String::from("a request is above 0"));
        }
        let (container, resource) = match name.split_once('/') {
            Some((container, resource)) => (Some(String::from(container)), resource),
            None => (None, name),
        };
        if resource.is_empty() || container.as_ref().is_some_and(String::is_empty) {
            return Err(String::from("it is not of the form [CONTAINER/]RESOURCE=QUANTITY"));
        }
        Ok(Self { container, resource: String::from(resource), milli })
    }
}

/// A target with pods of its own.
struct Workload {
    namespace: String,
    kind: String,
    name: String,
    requests: PodRequests,
}

/// The autoscalers in `files`, each a name and a text, in order. Targets may be in any of the files; other objects are skipped. Objects
/// without a namespace are in `namespace`. `requests` come on top of what the targets request.
///
/// # Errors
/// [`ManifestError`]
pub fn subjects(
    files: &[(String, String)],
    namespace: &str,
    requests: &[RequestFlag],
    gates: &Gates,
) -> Result<Vec<Subject>, ManifestError> {
    let mut subjects = Vec::new();
    let mut workloads = Vec::new();
    let mut objects_left = OBJECTS_MAX;
    for (file, text) in files {
        let before = subjects.len();
        for object in objects(file, text, &mut objects_left)? {
            let kind = object["kind"].as_str().unwrap_or_default();
            if kind == "HorizontalPodAutoscaler" {
                if subjects.len() == SUBJECTS_MAX {
                    let what = "autoscalers";
                    return Err(ManifestError::TooMany {
                        file: file.clone(),
                        limit: SUBJECTS_MAX,
                        what,
                    });
                }
                subjects.push(subject(file, object, namespace, gates)?);
            } else if object.pointer("/spec/template/spec/containers").is_some() {
                workloads.push(workload(file, &object, namespace)?);
            }
        }
        if subjects.len() - before > 1 {
            for subject in &mut subjects[before..] {
                subject.label = format!("{file}: {}/{}", subject.namespace, subject.name);
            }
        }
    }
    if subjects.is_empty() {
        let names: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
        return Err(ManifestError::NoAutoscaler(names.join(", ")));
    }
    for subject in &mut subjects {
        let target = &subject.spec.scale_target_ref;
        let of_target = workloads.iter().find(|workload| {
            workload.namespace == subject.namespace
                && workload.kind == target.kind
                && workload.name == target.name
        });
        let told = of_target.map(|workload| workload.requests.clone());
        subject.requests = with_flags(told, requests, &format!("{}/{}", target.kind, target.name))?;
    }
    Ok(subjects)
}

/// All objects of a file, those of lists too.
fn objects(file: &str, text: &str, left: &mut usize) -> Result<Vec<Value>, ManifestError> {
    let documents = documents(text)
        .map_err(|reason| ManifestError::Syntax { file: String::from(file), reason })?;
    let mut objects = Vec::new();
    for mut document in documents.into_iter().filter(|document| !document.is_null()) {
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => objects.extend(items),
            _ => objects.push(document),
        }
    }
    *left = left.checked_sub(objects.len()).ok_or_else(|| ManifestError::TooMany {
        file: String::from(file),
        limit: OBJECTS_MAX,
        what: "objects",
    })?;
    Ok(objects)
}

fn subject(
    file: &str,
    object: Value,
    namespace: &str,
    gates: &Gates,
) -> Result<Subject, ManifestError> {
    let named = described(&object);
    let wrong =
        |reason| ManifestError::Object { file: String::from(file), object: named.clone(), reason };
    let mut autoscaler = spec::autoscaler(object).map_err(|error| wrong(error.to_string()))?;
    if autoscaler.metadata.namespace.as_deref().is_none_or(str::is_empty) {
        autoscaler.metadata.namespace = Some(String::from(namespace));
    }
    spec::set_defaults(&mut autoscaler.spec);
    // Of one that is steered, what its owner means.
    let annotations = autoscaler.metadata.annotations.as_ref();
    if let Some(meant) = annotations.and_then(|all| steer::real_spec(all, &autoscaler.spec)) {
        autoscaler.spec = meant.map_err(|error| wrong(error.to_string()))?;
    }
    let complaints = spec::validate(&autoscaler, gates);
    if !complaints.is_empty() {
        let complaints: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        return Err(wrong(complaints.join("; ")));
    }
    let metadata = autoscaler.metadata;
    Ok(Subject {
        label: String::from(file),
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
        spec: autoscaler.spec,
        requests: None,
    })
}

/// Kind and name, for errors.
fn described(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("object without a kind");
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
    format!("{kind} {name}")
}

fn workload(file: &str, object: &Value, namespace: &str) -> Result<Workload, ManifestError> {
    let wrong = |reason| ManifestError::Object {
        file: String::from(file),
        object: described(object),
        reason,
    };
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let template = PodTemplateSpec::deserialize(&object["spec"]["template"])
        .map_err(|error| wrong(format!("spec.template: {error}")))?;
    let pod = template.spec.unwrap_or_default();
    let keeps_running =
        |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = pod.init_containers.iter().flatten().filter(keeps_running);
    let mut containers = Vec::new();
    for container in pod.containers.iter().chain(sidecars) {
        let requests_milli = requested(container.resources.as_ref()).map_err(|reason| {
            wrong(format!("container {}: resources: {reason}", container.name))
        })?;
        containers.push(ContainerRequests {
            name: container.name.clone(),
            requests_milli,
            restarts_always: false,
        });
    }
    let pod_milli = requested(pod.resources.as_ref())
        .map_err(|reason| wrong(format!("spec.template.spec.resources: {reason}")))?;
    let pod_milli = Some(pod_milli).filter(|requests| !requests.is_empty());
    Ok(Workload {
        namespace: String::from(text("/metadata/namespace").unwrap_or(namespace)),
        kind: String::from(text("/kind").unwrap_or_default()),
        name: String::from(text("/metadata/name").unwrap_or_default()),
        requests: PodRequests { pod_milli, containers },
    })
}

/// Requests; of a resource that has a limit alone, the limit, as the API server fills it in.
fn requested(resources: Option<&ResourceRequirements>) -> Result<BTreeMap<String, i64>, String> {
    let mut requested = BTreeMap::new();
    let Some(resources) = resources else { return Ok(requested) };
    for (name, quantity) in
        resources.limits.iter().flatten().chain(resources.requests.iter().flatten())
    {
        requested.insert(name.clone(), milli(quantity)?);
    }
    Ok(requested)
}

/// Requests with what flags say about them.
fn with_flags(
    told: Option<PodRequests>,
    flags: &[RequestFlag],
    target: &str,
) -> Result<Option<PodRequests>, ManifestError> {
    if flags.is_empty() {
        return Ok(told);
    }
    let mut requests = told.unwrap_or_default();
    for flag in flags {
        let name = match (&flag.container, &requests.containers[..]) {
            (Some(name), _) => name.clone(),
            (None, []) => String::from(ONLY_CONTAINER),
            (None, [only]) => only.name.clone(),
            (None, several) => {
                return Err(ManifestError::WhichContainer {
                    resource: flag.resource.clone(),
                    target: String::from(target),
                    containers: several.iter().map(|container| container.name.clone()).collect(),
                });
            }
        };
        let known = requests.containers.iter_mut().find(|container| container.name == name);
        let value = (flag.resource.clone(), flag.milli);
        match known {
            Some(container) => drop(container.requests_milli.insert(value.0, value.1)),
            None => requests.containers.push(ContainerRequests {
                name,
                requests_milli: BTreeMap::from([value]),
                restarts_always: false,
            }),
        }
    }
    Ok(Some(requests))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTOSCALER: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 5
";
    const TARGET: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    spec:
      containers:
      - name: app
        resources: {requests: {cpu: 250m}, limits: {cpu: 2, memory: 1Gi}}
      - name: log
        resources: {requests: {cpu: 50m, memory: 64Mi}}
";

    fn read(texts: &[&str], flags: &[&str]) -> Result<Vec<Subject>, String> {
        let files: Vec<(String, String)> = (1..)
            .zip(texts)
            .map(|(number, text)| (format!("{number}.yaml"), String::from(*text)))
            .collect();
        let flags: Vec<RequestFlag> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
        subjects(&files, "shop", &flags, &Gates::default()).map_err(|error| error.to_string())
    }

    fn cpu(subject: &Subject) -> Option<i64> {
        subject.requests.as_ref()?.of_pod("cpu")
    }

    #[test]
    fn an_autoscaler_finds_its_target_in_any_file() {
        let both = read(&[AUTOSCALER, TARGET], &[]).unwrap();
        let [subject] = &both[..] else { panic!("{both:?}") };
        assert_eq!((subject.label.as_str(), subject.namespace.as_str()), ("1.yaml", "shop"));
        assert_eq!((cpu(subject), subject.spec.min_replicas), (Some(300), Some(1)));
        // A limit alone is a request.
        let memory = subject.requests.as_ref().unwrap().of_pod("memory");
        assert_eq!(memory, Some(1088 * 1024 * 1024 * 1000));
        let one = read(&[&format!("{TARGET}---\n{AUTOSCALER}")], &["log/cpu=100m"]).unwrap();
        assert_eq!(cpu(&one[0]), Some(350));
        assert_eq!(cpu(&read(&[AUTOSCALER], &["cpu=1"]).unwrap()[0]), Some(1000));
        assert_eq!(read(&[AUTOSCALER], &[]).unwrap()[0].requests, None);
    }

    #[test]
    fn of_a_steered_one_what_is_meant_is_tried() {
        let plain = spec::autoscaler(documents(AUTOSCALER).unwrap().remove(0)).unwrap();
        let mut steered = serde_json::to_value(steer::steered(&plain).unwrap()).unwrap();
        steered["apiVersion"] = Value::from("autoscaling/v2");
        steered["kind"] = Value::from("HorizontalPodAutoscaler");
        steered["spec"]["maxReplicas"] = Value::from(4);
        let found = read(&[&steered.to_string()], &[]).unwrap();
        let spec = &found[0].spec;
        let metrics = spec.metrics.as_ref().unwrap();
        assert_eq!((spec.max_replicas, metrics[0].type_.as_str()), (4, "Resource"));
        steered["metadata"]["annotations"][steer::ANNOTATION] = Value::from("{");
        let error = read(&[&steered.to_string()], &[]).unwrap_err();
        let expected = "1.yaml: HorizontalPodAutoscaler web: metadata.annotations[autoscaling.sextant.dev/steered-spec]: ";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn several_of_a_file_are_told_apart() {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
            serde_saphyr::from_str::<Value>(AUTOSCALER).unwrap(),
            serde_saphyr::from_str::<Value>(&AUTOSCALER.replace("name: web}", "name: api}")).unwrap(),
        ]});
        let found = read(&[&list.to_string()], &[]).unwrap();
        let labels: Vec<&str> = found.iter().map(|subject| subject.label.as_str()).collect();
        assert_eq!(labels, ["1.yaml: shop/web", "1.yaml: shop/api"]);
    }

    #[test]
    fn errors_name_file_object_and_field() {
        let broken = AUTOSCALER.replace("maxReplicas: 5", "maxReplicas: 0");
        let error = read(&[&broken], &[]).unwrap_err();
        assert!(
            error.starts_with("1.yaml: HorizontalPodAutoscaler web: spec.maxReplicas"),
            "{error}"
        );
        let broken = TARGET.replace("cpu: 50m", "cpu: much");
        let error = read(&[AUTOSCALER, &broken], &[]).unwrap_err();
        assert!(error.starts_with("2.yaml: Deployment web: container log: resources: "), "{error}");
        let error = read(&[&format!("{AUTOSCALER}---\na: [b")], &[]).unwrap_err();
        assert!(error.starts_with("1.yaml: document 2: "), "{error}");
        assert_eq!(
            read(&[TARGET], &[]).unwrap_err(),
            "there is no HorizontalPodAutoscaler in 1.yaml"
        );
        assert_eq!(
            read(&[AUTOSCALER, TARGET], &["cpu=1"]).unwrap_err(),
            "--request cpu: pods of Deployment/web have several containers (app, log): name one as CONTAINER/cpu"
        );
        for flag in ["cpu", "cpu=x", "cpu=0", "/cpu=1", "a/=1"] {
            assert!(flag.parse::<RequestFlag>().is_err(), "{flag}");
        }
    }
}
