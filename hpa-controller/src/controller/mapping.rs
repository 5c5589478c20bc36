//! Which resource a kind is: what upstream calls a REST mapping.
//!
//! Discovery is asked for one group at a time, and again when a kind is not known, but not more often than [`UNKNOWN_FOR`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use super::api_server::{ApiError, ApiErrorKind, ApiServer, Call, segment};
use crate::decide::INCOMPLETE_DISCOVERY;

/// How long a kind that is not known stays unknown without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// How long the resources of a group are believed.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Groups that are remembered.
const GROUPS_MAX: usize = 256;
/// Versions of a group that are looked at.
const VERSIONS_MAX: usize = 16;
/// Resources of a group that are remembered.
const RESOURCES_MAX: usize = 4096;

/// Where a kind is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub group: Box<str>,
    pub version: Box<str>,
    pub kind: Box<str>,
    pub plural: Box<str>,
}

impl Mapping {
    fn new(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: Box::from(group),
            version: Box::from(version),
            kind: Box::from(kind),
            plural: Box::from(plural),
        }
    }

    /// `deployments.apps`, or `replicationcontrollers`.
    pub(super) fn resource(&self) -> String {
        match &*self.group {
            "" => self.plural.to_string(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The path of the scale of an object.
    pub(super) fn scale_path(&self, namespace: &str, name: &str) -> String {
        let Self { group, version, plural, .. } = self;
        let root = match &**group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        format!("{root}/namespaces/{}/{plural}/{}/scale", segment(namespace), segment(name))
    }
}

struct Group {
    read: Instant,
    /// Of all versions, the preferred one first.
    mappings: Vec<Arc<Mapping>>,
}

/// What is known of the server's kinds.
pub(super) struct Mappings {
    api: ApiServer,
    groups: Mutex<HashMap<Box<str>, Arc<Group>>>,
    builtin: Vec<Arc<Mapping>>,
}

impl std::fmt::Debug for Mappings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mappings")
            .field("groups", &self.groups.lock().len())
            .finish_non_exhaustive()
    }
}

impl Mappings {
    pub(super) fn new(api: ApiServer) -> Self {
        // Kinds that have had one version for years need no discovery.
        let builtin = [
            ("apps", "v1", "Deployment", "deployments"),
            ("apps", "v1", "ReplicaSet", "replicasets"),
            ("apps", "v1", "StatefulSet", "statefulsets"),
            ("", "v1", "ReplicationController", "replicationcontrollers"),
            ("", "v1", "Pod", "pods"),
            ("", "v1", "Service", "services"),
            ("", "v1", "Namespace", "namespaces"),
            ("networking.k8s.io", "v1", "Ingress", "ingresses"),
        ];
        let builtin = builtin
            .into_iter()
            .map(|(group, version, kind, plural)| {
                Arc::new(Mapping::new(group, version, kind, plural))
            })
            .collect();
        Self { api, groups: Mutex::new(HashMap::new()), builtin }
    }

    /// The mappings of a kind in the group of `api_version`, the preferred version first.
    ///
    /// # Errors
    /// The text of upstream's error: the version is malformed, there is no such kind, or discovery failed.
    pub(super) async fn of(
        &self,
        api_version: &str,
        kind: &str,
    ) -> Result<Vec<Arc<Mapping>>, ApiError> {
        let group = group_of(api_version)?;
        if let Some(found) = self.builtin.iter().find(|m| *m.group == *group && *m.kind == *kind) {
            return Ok(vec![Arc::clone(found)]);
        }
        let known = self.groups.lock().get(group).map(Arc::clone);
        if let Some(known) = known {
            let found = of_kind(&known, kind);
            let age = known.read.elapsed();
            if age < UNKNOWN_FOR || (!found.is_empty() && age < KNOWN_FOR) {
                return some(found, group, kind);
            }
        }
        let read = Arc::new(Group { read: Instant::now(), mappings: self.discover(group).await? });
        let found = of_kind(&read, kind);
        let mut groups = self.groups.lock();
        if groups.len() >= GROUPS_MAX && !groups.contains_key(group) {
            groups.clear();
        }
        groups.insert(Box::from(group), read);
        drop(groups);
        some(found, group, kind)
    }

    async fn discover(&self, group: &str) -> Result<Vec<Arc<Mapping>>, ApiError> {
        let versions = match group {
            "" => vec![String::from("v1")],
            _ => self.versions(group).await?,
        };
        let mut mappings = Vec::new();
        for version in versions.into_iter().take(VERSIONS_MAX) {
            let path = match group {
                "" => format!("/api/{}", segment(&version)),
                _ => format!("/apis/{}/{}", segment(group), segment(&version)),
            };
            let list: ResourceList = match self.api.read(Call::get(path, group, "")).await {
                Ok(list) => list,
                // A version that went away between two questions.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(incomplete(&format!("{group}/{version}"), &error)),
            };
            let resources = list.resources.iter().filter(|r| !r.name.contains('/'));
            mappings.extend(
                resources
                    .take(RESOURCES_MAX)
                    .map(|r| Arc::new(Mapping::new(group, &version, &r.kind, &r.name))),
            );
        }
        Ok(mappings)
    }

    /// The versions of a group, the preferred one first; none if there is no such group.
    async fn versions(&self, group: &str) -> Result<Vec<String>, ApiError> {
        let path = format!("/apis/{}", segment(group));
        let found: ApiGroup = match self.api.read(Call::get(path, group, "")).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(incomplete(group, &error)),
        };
        let mut versions: Vec<String> = found.versions.into_iter().map(|v| v.version).collect();
        if let Some(preferred) = found.preferred_version {
            versions.retain(|version| *version != preferred.version);
            versions.insert(0, preferred.version);
        }
        Ok(versions)
    }
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroup {
    #[serde(default)]
    versions: Vec<Version>,
    preferred_version: Option<Version>,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ServedResource>,
}

#[derive(Deserialize)]
struct ServedResource {
    name: String,
    kind: String,
}

/// Discovery of `what` failed. Upstream's mapper would say this of a group, or of a version of it.
fn incomplete(what: &str, error: &ApiError) -> ApiError {
    let what = what.trim_start_matches('/');
    ApiError::new(error.kind, format!("{INCOMPLETE_DISCOVERY}{what}: {error}"))
}

fn of_kind(group: &Group, kind: &str) -> Vec<Arc<Mapping>> {
    group.mappings.iter().filter(|mapping| *mapping.kind == *kind).map(Arc::clone).collect()
}

fn some(found: Vec<Arc<Mapping>>, group: &str, kind: &str) -> Result<Vec<Arc<Mapping>>, ApiError> {
    if found.is_empty() {
        let text = format!("no matches for kind {kind:?} in group {group:?}");
        return Err(ApiError::new(ApiErrorKind::NotFound, text));
    }
    Ok(found)
}

/// The group in `GROUP/VERSION`; the core group has none.
fn group_of(api_version: &str) -> Result<&str, ApiError> {
    match api_version.split_once('/') {
        None => Ok(""),
        Some((group, version)) if !version.contains('/') => Ok(group),
        Some(_) => {
            let text = format!("unexpected GroupVersion string: {api_version}");
            Err(ApiError::new(ApiErrorKind::Answer, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake_objects::{FakeObjects, Link};

    #[test]
    fn groups_are_read_as_upstream_reads_them() {
        assert_eq!(group_of("apps/v1"), Ok("apps"));
        assert_eq!(group_of("v1"), Ok(""));
        assert_eq!(group_of(""), Ok(""));
        let error = group_of("a/b/c").unwrap_err();
        assert_eq!(error.to_string(), "unexpected GroupVersion string: a/b/c");
    }

    #[tokio::test]
    async fn discovery_that_fails_is_not_taken_for_a_kind_that_is_unknown() {
        let objects = FakeObjects::default();
        let (client, wire) = objects.client();
        let mappings = Mappings::new(ApiServer::new(client, 1000.0, 1000));
        let of = async || {
            mappings.of("argoproj.io/v1alpha1", "Rollout").await.map_err(|e| e.to_string())
        };
        wire.set(Link::Down);
        let error = of().await.unwrap_err();
        let expected = "unable to retrieve the complete list of server APIs: argoproj.io: Get \"/apis/argoproj.io\": ";
        assert!(error.starts_with(expected), "{error}");
        // It is asked again at once: nothing was learned.
        wire.set(Link::Fine);
        objects.put("/apis/argoproj.io", json!({"versions": [{"version": "v1alpha1"}]}));
        let resource = json!({"name": "rollouts", "kind": "Rollout"});
        objects.put("/apis/argoproj.io/v1alpha1", json!({"resources": [resource]}));
        assert_eq!(of().await.unwrap()[0].resource(), "rollouts.argoproj.io");
    }

    #[tokio::test]
    async fn a_kind_that_is_unknown_has_no_match() {
        let objects = FakeObjects::default();
        let mappings = Mappings::new(ApiServer::new(objects.client().0, 1000.0, 1000));
        let error = mappings.of("argoproj.io/v1alpha1", "Rollout").await.unwrap_err();
        let expected = "no matches for kind \"Rollout\" in group \"argoproj.io\"";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn paths_are_those_of_the_scale() {
        let of = |group, plural| Mapping::new(group, "v1", "", plural).scale_path("web", "a");
        assert_eq!(of("apps", "deployments"), "/apis/apps/v1/namespaces/web/deployments/a/scale");
        assert_eq!(
            of("", "replicationcontrollers"),
            "/api/v1/namespaces/web/replicationcontrollers/a/scale"
        );
    }
}
