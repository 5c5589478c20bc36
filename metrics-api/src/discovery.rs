//! Discovery documents: which groups, versions and resources a server has.

use serde_json::{Value, json};

use crate::negotiate::Transform;

/// A group of APIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiGroup {
    /// Its name, such as `metrics.k8s.io`.
    pub name: String,
    /// Its versions, the preferred one first.
    pub versions: Vec<ApiVersion>,
}

/// A version of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersion {
    /// Its name, such as `v1beta1`.
    pub name: String,
    /// The resources in it.
    pub resources: Vec<ApiResource>,
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResource {
    /// Its name in paths, such as `pods`, or `pods/http_requests`.
    pub name: String,
    /// Its name for one object; may be empty.
    pub singular: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// The kind of its objects.
    pub kind: String,
    /// What can be done, in alphabetical order.
    pub verbs: Vec<String>,
}

/// The documents that `/apis` can be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryFormat {
    /// `APIGroupList`.
    Groups,
    /// `APIGroupDiscoveryList` of this version of `apidiscovery.k8s.io`.
    Aggregated(&'static str),
}

impl DiscoveryFormat {
    /// The format that a client asks for, if there is such a one.
    #[must_use]
    pub fn of(transform: Option<&Transform>) -> Option<Self> {
        let Some(transform) = transform else { return Some(Self::Groups) };
        if transform.group != "apidiscovery.k8s.io" || transform.kind != "APIGroupDiscoveryList" {
            return None;
        }
        match transform.version.as_str() {
            "v2" => Some(Self::Aggregated("v2")),
            "v2beta1" => Some(Self::Aggregated("v2beta1")),
            _ => None,
        }
    }

    /// The media type of the document in JSON.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Aggregated("v2beta1") => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
            Self::Aggregated(_) => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            Self::Groups => "application/json",
        }
    }

    /// The document about `groups`, in order of priority.
    #[must_use]
    pub fn document(self, groups: &[ApiGroup]) -> Value {
        match self {
            Self::Groups => json!({
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": groups.iter().map(ApiGroup::summary).collect::<Vec<_>>(),
            }),
            Self::Aggregated(version) => json!({
                "kind": "APIGroupDiscoveryList",
                "apiVersion": format!("apidiscovery.k8s.io/{version}"),
                "metadata": {},
                "items": groups.iter().map(ApiGroup::aggregated).collect::<Vec<_>>(),
            }),
        }
    }
}

impl ApiGroup {
    /// `APIGroup`: what `/apis/GROUP` answers.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = self.summary();
        document["kind"] = json!("APIGroup");
        document["apiVersion"] = json!("v1");
        document
    }

    /// `APIResourceList`: what `/apis/GROUP/VERSION` answers, if there is that version.
    #[must_use]
    pub fn resources(&self, version: &str) -> Option<Value> {
        let found = self.versions.iter().find(|v| v.name == version)?;
        let resource = |resource: &ApiResource| {
            json!({
                "name": resource.name,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": resource.verbs,
            })
        };
        Some(json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": format!("{}/{version}", self.name),
            "resources": found.resources.iter().map(resource).collect::<Vec<_>>(),
        }))
    }

    fn summary(&self) -> Value {
        let version = |version: &ApiVersion| {
            json!({
                "groupVersion": format!("{}/{}", self.name, version.name),
                "version": version.name,
            })
        };
        json!({
            "name": self.name,
            "versions": self.versions.iter().map(version).collect::<Vec<_>>(),
            "preferredVersion": self.versions.first().map(version),
        })
    }

    fn aggregated(&self) -> Value {
        let versions = self.versions.iter().map(|version| {
            json!({
                "version": version.name,
                "resources": self.aggregated_resources(version),
                "freshness": "Current",
            })
        });
        json!({
            "metadata": {"name": self.name, "creationTimestamp": null},
            "versions": versions.collect::<Vec<_>>(),
        })
    }

    /// Resources such as `pods/http_requests` are subresources here.
    fn aggregated_resources(&self, version: &ApiVersion) -> Vec<Value> {
        let kind = |kind: &str| json!({"group": self.name, "version": version.name, "kind": kind});
        let mut resources: Vec<Value> = Vec::new();
        for resource in &version.resources {
            let (parent, subresource) = match resource.name.split_once('/') {
                Some((parent, subresource)) => (parent, Some(subresource)),
                None => (resource.name.as_str(), None),
            };
            let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
            let at = resources.iter().position(|r| r["resource"] == parent);
            let at = at.unwrap_or_else(|| {
                resources.push(json!({
                    "resource": parent,
                    "responseKind": {"group": "", "version": "", "kind": ""},
                    "scope": scope,
                    "singularResource": "",
                    "verbs": [],
                }));
                resources.len() - 1
            });
            let entry = &mut resources[at];
            match subresource {
                None => {
                    entry["responseKind"] = kind(&resource.kind);
                    entry["singularResource"] = json!(resource.singular);
                    entry["verbs"] = json!(resource.verbs);
                }
                Some(subresource) => {
                    let value = json!({
                        "subresource": subresource,
                        "responseKind": kind(&resource.kind),
                        "verbs": resource.verbs,
                    });
                    match entry["subresources"].as_array_mut() {
                        Some(list) => list.push(value),
                        None => entry["subresources"] = json!([value]),
                    }
                }
            }
        }
        resources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> ApiGroup {
        let resource = |name: &str, kind: &str| ApiResource {
            name: name.to_owned(),
            singular: String::new(),
            namespaced: true,
            kind: kind.to_owned(),
            verbs: vec!["get".to_owned()],
        };
        ApiGroup {
            name: "g.io".to_owned(),
            versions: vec![ApiVersion {
                name: "v2".to_owned(),
                resources: vec![
                    resource("pods", "PodMetrics"),
                    resource("jobs.batch/depth", "MetricValueList"),
                    resource("jobs.batch/rate", "MetricValueList"),
                ],
            }],
        }
    }

    #[test]
    fn groups_and_resources_are_listed() {
        let version = json!({"groupVersion": "g.io/v2", "version": "v2"});
        assert_eq!(
            DiscoveryFormat::Groups.document(&[group()]),
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                {"name": "g.io", "versions": [version], "preferredVersion": version},
            ]})
        );
        assert_eq!(group().document()["kind"], "APIGroup");
        let resources = group().resources("v2").unwrap();
        assert_eq!(resources["groupVersion"], "g.io/v2");
        assert_eq!(
            resources["resources"][0],
            json!({"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics",
                "verbs": ["get"]})
        );
        assert_eq!(group().resources("v1"), None);
    }

    #[test]
    fn aggregated_discovery_nests_subresources() {
        let document = DiscoveryFormat::Aggregated("v2").document(&[group()]);
        assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
        let version = &document["items"][0]["versions"][0];
        assert_eq!(version["freshness"], "Current");
        assert_eq!(version["resources"].as_array().unwrap().len(), 2);
        let jobs = &version["resources"][1];
        assert_eq!(jobs["resource"], "jobs.batch");
        assert_eq!(jobs["subresources"][1]["subresource"], "rate");
        assert_eq!(jobs["verbs"], json!([]));
    }

    #[test]
    fn formats_are_chosen_by_the_transformation_asked_for() {
        let transform = |version: &str| Transform {
            kind: "APIGroupDiscoveryList".to_owned(),
            group: "apidiscovery.k8s.io".to_owned(),
            version: version.to_owned(),
        };
        assert_eq!(DiscoveryFormat::of(None), Some(DiscoveryFormat::Groups));
        let beta = DiscoveryFormat::of(Some(&transform("v2beta1")));
        assert_eq!(beta, Some(DiscoveryFormat::Aggregated("v2beta1")));
        assert_eq!(DiscoveryFormat::of(Some(&transform("v3"))), None);
    }
}
