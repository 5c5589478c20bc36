//! The kinds that the server knows: those built in, and those that CustomResourceDefinitions add.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::store::CollectionKey;

/// Where the `/scale` subresource finds its fields, as JSON pointers.
#[derive(Clone, Debug)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    /// A label selector: an object, a map of labels, or a string.
    pub(crate) selector: Option<String>,
}

/// A kind, as served in one version.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) namespaced: bool,
    /// Whether there is a `/status` subresource, so that other writes leave the status alone.
    pub(crate) has_status: bool,
    pub(crate) scale: Option<ScalePaths>,
    /// Whether requests are answered and nothing is kept, as of reviews.
    pub(crate) create_only: bool,
    /// Where objects are kept; versions and groups can share this.
    pub(crate) collection: CollectionKey,
    /// The `apiVersion` of what is kept.
    pub(crate) stored_version: String,
}

impl Kind {
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub(crate) fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { String::from(version) } else { format!("{group}/{version}") }
}

struct Row(
    /* group */ &'static str,
    /* version */ &'static str,
    /* resource */ &'static str,
    /* kind */ &'static str,
    /* short names */ &'static [&'static str],
    Traits,
);

#[derive(Clone, Copy, Default)]
struct Traits {
    namespaced: bool,
    status: bool,
    scale: bool,
    create_only: bool,
}

const CLUSTER: Traits =
    Traits { namespaced: false, status: false, scale: false, create_only: false };
const CLUSTER_STATUS: Traits = Traits { status: true, ..CLUSTER };
const PLAIN: Traits = Traits { namespaced: true, ..CLUSTER };
const STATUS: Traits = Traits { status: true, ..PLAIN };
const SCALE: Traits = Traits { scale: true, ..STATUS };
const REVIEW: Traits = Traits { create_only: true, ..CLUSTER };
const LOCAL_REVIEW: Traits = Traits { create_only: true, ..PLAIN };

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Groups in the order in which they are listed; that of versions is from the preferred one on.
const BUILT_IN: [Row; 40] = [
    Row("", "v1", "nodes", "Node", &["no"], CLUSTER_STATUS),
    Row("", "v1", "pods", "Pod", &["po"], STATUS),
    Row("", "v1", "namespaces", "Namespace", &["ns"], CLUSTER_STATUS),
    Row("", "v1", "configmaps", "ConfigMap", &["cm"], PLAIN),
    Row("", "v1", "secrets", "Secret", &[], PLAIN),
    Row("", "v1", "events", "Event", &["ev"], PLAIN),
    Row("", "v1", "services", "Service", &["svc"], STATUS),
    Row("", "v1", "endpoints", "Endpoints", &["ep"], PLAIN),
    Row("", "v1", "serviceaccounts", "ServiceAccount", &["sa"], PLAIN),
    Row("", "v1", "persistentvolumes", "PersistentVolume", &["pv"], CLUSTER_STATUS),
    Row("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", &["pvc"], STATUS),
    Row("", "v1", "resourcequotas", "ResourceQuota", &["quota"], STATUS),
    Row("", "v1", "limitranges", "LimitRange", &["limits"], PLAIN),
    Row("", "v1", "replicationcontrollers", "ReplicationController", &["rc"], SCALE),
    Row("apiregistration.k8s.io", "v1", "apiservices", "APIService", &[], CLUSTER_STATUS),
    Row("apps", "v1", "deployments", "Deployment", &["deploy"], SCALE),
    Row("apps", "v1", "replicasets", "ReplicaSet", &["rs"], SCALE),
    Row("apps", "v1", "statefulsets", "StatefulSet", &["sts"], SCALE),
    Row("apps", "v1", "daemonsets", "DaemonSet", &["ds"], STATUS),
    Row("events.k8s.io", "v1", "events", "Event", &["ev"], PLAIN),
    Row("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", &[], REVIEW),
    Row(AUTHORIZATION, "v1", "subjectaccessreviews", "SubjectAccessReview", &[], REVIEW),
    Row(AUTHORIZATION, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", &[], REVIEW),
    Row(
        AUTHORIZATION,
        "v1",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        &[],
        LOCAL_REVIEW,
    ),
    Row(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        &["hpa"],
        STATUS,
    ),
    Row(
        "autoscaling",
        "v1",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        &["hpa"],
        STATUS,
    ),
    Row("batch", "v1", "jobs", "Job", &[], STATUS),
    Row("batch", "v1", "cronjobs", "CronJob", &["cj"], STATUS),
    Row("networking.k8s.io", "v1", "ingresses", "Ingress", &["ing"], STATUS),
    Row("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", &["pdb"], STATUS),
    Row(RBAC, "v1", "clusterroles", "ClusterRole", &[], CLUSTER),
    Row(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", &[], CLUSTER),
    Row(RBAC, "v1", "roles", "Role", &[], PLAIN),
    Row(RBAC, "v1", "rolebindings", "RoleBinding", &[], PLAIN),
    Row("storage.k8s.io", "v1", "storageclasses", "StorageClass", &["sc"], CLUSTER),
    Row(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &["crd", "crds"],
        CLUSTER_STATUS,
    ),
    Row("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", &["pc"], CLUSTER),
    Row("coordination.k8s.io", "v1", "leases", "Lease", &[], PLAIN),
    Row("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", &[], PLAIN),
    Row("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", &[], CLUSTER),
];

fn built_in(row: &Row) -> Kind {
    let Row(group, version, resource, kind, short_names, traits) = *row;
    let scale = traits.scale.then(|| ScalePaths {
        spec_replicas: String::from("/spec/replicas"),
        status_replicas: String::from("/status/replicas"),
        selector: Some(String::from("/spec/selector")),
    });
    // Events are one collection, whichever group they are written to.
    let stored_group = if group == "events.k8s.io" { "" } else { group };
    let stored_version = if group == "autoscaling" { "v2" } else { version };
    Kind {
        group: String::from(group),
        version: String::from(version),
        resource: String::from(resource),
        singular: kind.to_lowercase(),
        kind: String::from(kind),
        short_names: short_names.iter().copied().map(String::from).collect(),
        namespaced: traits.namespaced,
        has_status: traits.status,
        scale,
        create_only: traits.create_only,
        collection: (String::from(stored_group), String::from(resource)),
        stored_version: api_version(stored_group, stored_version),
    }
}

/// All kinds.
#[derive(Debug)]
pub(crate) struct Kinds {
    kinds: RwLock<Vec<Arc<Kind>>>,
}

impl Kinds {
    pub(crate) fn new() -> Self {
        Self { kinds: RwLock::new(BUILT_IN.iter().map(built_in).map(Arc::new).collect()) }
    }

    pub(crate) fn find(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Kind>> {
        let kinds = self.kinds.read();
        let mut kinds = kinds.iter();
        kinds.find(|k| k.group == group && k.version == version && k.resource == resource).cloned()
    }

    /// The kind of an object with these fields.
    pub(crate) fn of(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let kinds = self.kinds.read();
        kinds.iter().find(|k| k.kind == kind && k.api_version() == api_version).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Kind>> {
        self.kinds.read().clone()
    }

    /// Adds what a CustomResourceDefinition defines, in place of what it defined before.
    ///
    /// `None` if a field that it needs is missing.
    pub(crate) fn define(&self, definition: &Value) -> Option<()> {
        let spec = &definition["spec"];
        let group = String::from(spec["group"].as_str()?);
        let names = &spec["names"];
        let resource = String::from(names["plural"].as_str()?);
        let kind = String::from(names["kind"].as_str()?);
        let short_names = names["shortNames"].as_array().into_iter().flatten();
        let short_names: Vec<_> = short_names.filter_map(Value::as_str).map(String::from).collect();
        let versions = spec["versions"].as_array()?;
        let stored = versions.iter().find(|version| version["storage"] == true)?;
        let stored_version = api_version(&group, stored["name"].as_str()?);
        let mut defined = Vec::new();
        for version in versions.iter().filter(|version| version["served"] == true) {
            defined.push(Arc::new(Kind {
                group: group.clone(),
                version: String::from(version["name"].as_str()?),
                resource: resource.clone(),
                singular: names["singular"]
                    .as_str()
                    .map_or_else(|| kind.to_lowercase(), String::from),
                kind: kind.clone(),
                short_names: short_names.clone(),
                namespaced: spec["scope"] == "Namespaced",
                has_status: version.pointer("/subresources/status").is_some(),
                scale: version.pointer("/subresources/scale").and_then(scale_paths),
                create_only: false,
                collection: (group.clone(), resource.clone()),
                stored_version: stored_version.clone(),
            }));
        }
        let mut kinds = self.kinds.write();
        kinds.retain(|kind| kind.group != group || kind.resource != resource);
        kinds.extend(defined);
        Some(())
    }

    /// Removes what a CustomResourceDefinition defined.
    pub(crate) fn undefine(&self, definition: &Value) {
        let group = &definition["spec"]["group"];
        let resource = &definition["spec"]["names"]["plural"];
        self.kinds.write().retain(|kind| kind.group != *group || kind.resource != *resource);
    }
}

/// `.spec.replicas` is `/spec/replicas`.
fn scale_paths(scale: &Value) -> Option<ScalePaths> {
    let pointer = |field: &str| scale[field].as_str().map(|path| path.replace('.', "/"));
    Some(ScalePaths {
        spec_replicas: pointer("specReplicasPath")?,
        status_replicas: pointer("statusReplicasPath")?,
        selector: pointer("labelSelectorPath"),
    })
}
