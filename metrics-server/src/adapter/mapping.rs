//! Which resources the cluster has, and how their names are written.

use std::sync::Arc;

use parking_lot::RwLock;

use super::config::GroupResource;

/// A resource of the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResource {
    /// Its group; empty for the core API.
    pub group: String,
    /// The version that the server prefers.
    pub version: String,
    /// `pods`
    pub plural: String,
    /// `pod`
    pub singular: String,
    /// `Pod`
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl ApiResource {
    /// Its group and plural, which identify it.
    #[must_use]
    pub fn key(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.plural.clone() }
    }

    /// The `apiVersion` of a reference to an object: custom-metrics-apiserver writes the slash even after an empty
    /// group, and clients have got used to it.
    #[must_use]
    pub fn reference_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// `pods`, or `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        qualified(&self.group, &self.plural)
    }
}

/// `pods`, or `deployments.apps`.
pub(crate) fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { String::from(resource) } else { format!("{resource}.{group}") }
}

/// The resources of a cluster, those that are preferred first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceMap {
    resources: Vec<ApiResource>,
}

impl ResourceMap {
    /// The resources in the order in which the server lists them, which is the order of preference.
    #[must_use]
    pub const fn new(resources: Vec<ApiResource>) -> Self {
        Self { resources }
    }

    /// What every cluster has and metrics usually describe: enough until the server has been asked.
    #[must_use]
    pub fn builtin() -> Self {
        const BUILTIN: [(&str, &str, &str, &str, &str, bool); 14] = [
            ("", "v1", "namespaces", "namespace", "Namespace", false),
            ("", "v1", "nodes", "node", "Node", false),
            (
                "",
                "v1",
                "persistentvolumeclaims",
                "persistentvolumeclaim",
                "PersistentVolumeClaim",
                true,
            ),
            ("", "v1", "persistentvolumes", "persistentvolume", "PersistentVolume", false),
            ("", "v1", "pods", "pod", "Pod", true),
            (
                "",
                "v1",
                "replicationcontrollers",
                "replicationcontroller",
                "ReplicationController",
                true,
            ),
            ("", "v1", "services", "service", "Service", true),
            ("apps", "v1", "daemonsets", "daemonset", "DaemonSet", true),
            ("apps", "v1", "deployments", "deployment", "Deployment", true),
            ("apps", "v1", "replicasets", "replicaset", "ReplicaSet", true),
            ("apps", "v1", "statefulsets", "statefulset", "StatefulSet", true),
            ("batch", "v1", "cronjobs", "cronjob", "CronJob", true),
            ("batch", "v1", "jobs", "job", "Job", true),
            ("networking.k8s.io", "v1", "ingresses", "ingress", "Ingress", true),
        ];
        let resource = |(group, version, plural, singular, kind, namespaced): (
            &str,
            &str,
            &str,
            &str,
            &str,
            bool,
        )| {
            ApiResource {
                group: String::from(group),
                version: String::from(version),
                plural: String::from(plural),
                singular: String::from(singular),
                kind: String::from(kind),
                namespaced,
            }
        };
        Self { resources: BUILTIN.into_iter().map(resource).collect() }
    }

    /// The resource that is meant: in singular or plural, in any group when `group` is empty, in one that begins with
    /// `group` when there is none of that name.
    #[must_use]
    pub fn resolve(&self, group: &str, resource: &str) -> Option<&ApiResource> {
        let resource = resource.to_ascii_lowercase();
        let named = || {
            let of_name = |own: &&ApiResource| own.plural == resource || own.singular == resource;
            self.resources.iter().filter(of_name)
        };
        if group.is_empty() {
            return named().next();
        }
        let exact = named().find(|own| own.group == group);
        exact.or_else(|| named().find(|own| own.group.starts_with(group)))
    }

    /// As [`resolve`](Self::resolve) for what a label says: label names have `_` for the dots of a group.
    #[must_use]
    pub fn resolve_label(&self, group: &str, resource: &str) -> Option<&ApiResource> {
        let found = self.resolve(group, resource);
        found.or_else(|| {
            let meant = |own: &&ApiResource| {
                sanitized(&own.group) == group
                    && (own.plural == resource || own.singular == resource)
            };
            self.resources.iter().find(meant)
        })
    }

    /// All resources.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ApiResource> {
        self.resources.iter()
    }

    /// The resource of exactly this group and plural.
    #[must_use]
    pub fn get(&self, key: &GroupResource) -> Option<&ApiResource> {
        self.resources.iter().find(|own| own.group == key.group && own.plural == key.resource)
    }
}

/// A group as a part of a label name.
pub(crate) fn sanitized(group: &str) -> String {
    group.replace(['.', '-'], "_")
}

/// A [`ResourceMap`] that is replaced when the cluster is asked again.
#[derive(Clone, Debug)]
pub struct SharedResourceMap(Arc<RwLock<Arc<ResourceMap>>>);

impl SharedResourceMap {
    /// Begins with `map`.
    #[must_use]
    pub fn new(map: ResourceMap) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(map))))
    }

    /// The map as it is now.
    #[must_use]
    pub fn get(&self) -> Arc<ResourceMap> {
        Arc::clone(&self.0.read())
    }

    /// Replaces the map.
    pub fn set(&self, map: ResourceMap) {
        *self.0.write() = Arc::new(map);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_found_by_any_of_their_names() {
        let mut resources = ResourceMap::builtin().resources;
        for group in ["metrics.k8s.io", "extensions.example.com"] {
            resources.push(ApiResource { group: String::from(group), ..resources[4].clone() });
        }
        let map = ResourceMap::new(resources);
        for (group, resource, expected) in [
            ("", "pod", Some("pods")),
            ("", "Pods", Some("pods")),
            ("metrics.k8s.io", "pods", Some("pods.metrics.k8s.io")),
            ("metrics", "pods", Some("pods.metrics.k8s.io")),
            ("", "deployment", Some("deployments.apps")),
            ("apps", "deployments", Some("deployments.apps")),
            ("batch", "deployments", None),
            ("", "instance", None),
        ] {
            let found = map.resolve(group, resource).map(ApiResource::qualified);
            assert_eq!(found.as_deref(), expected, "{group} {resource}");
        }
        let label = map.resolve_label("extensions_example_com", "pod").unwrap();
        assert_eq!(label.qualified(), "pods.extensions.example.com");
        assert_eq!(map.resolve("", "pod").unwrap().reference_version(), "/v1");
    }
}
