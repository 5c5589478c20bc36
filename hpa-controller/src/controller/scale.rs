//! Reads and writes the scale of targets.
//!
//! A write carries the version that the decision was made from, so that a count decided from an older view is never written. The
//! answer is noted in what is known of targets, so that the next decision is not made from before it.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use serde::{Deserialize, Serialize};

use super::api_server::{ApiError, ApiErrorKind, ApiServer, Call, OBJECT_BYTES_MAX, segment};
use super::mapping::{Mapping, Mappings};
use super::watch::AllTargets;
use crate::inputs::ScaleReading;
use crate::leader::ElectionOptions;

/// What every writer's name begins with, in the metadata of what is written.
const FIELD_MANAGER: &str = "sextant-hpa-controller";
/// Characters of such a name at most; the API server's.
const FIELD_MANAGER_MAX: usize = 128;

/// What an installation is called as a writer. Its replicas have one Lease and are one writer; another installation has another
/// Lease. Without an election every process is an installation of its own: it has nothing in common with any other, even one that
/// runs on the same machine or under the same name elsewhere.
pub(super) fn field_manager(election: Option<&ElectionOptions>) -> Arc<str> {
    let Some(election) = election else {
        // The keys of each state are random.
        let process = RandomState::new().build_hasher().finish();
        return Arc::from(format!("{FIELD_MANAGER}:{process:016x}"));
    };
    let lease = format!("{}/{}", election.namespace, election.name);
    let name = format!("{FIELD_MANAGER}:{lease}");
    if name.len() <= FIELD_MANAGER_MAX {
        return Arc::from(name);
    }
    let hash = foldhash::fast::FixedState::default().hash_one(&lease);
    Arc::from(format!("{FIELD_MANAGER}:{hash:016x}"))
}

/// A scale at one version of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub reading: ScaleReading,
}

/// A scale and where it was found.
#[derive(Clone, Debug)]
pub(super) struct FoundScale {
    pub scale: Scale,
    pub mapping: Arc<Mapping>,
}

/// The scales of the cluster.
#[derive(Debug)]
pub(super) struct Scales {
    api: ApiServer,
    mappings: Arc<Mappings>,
    targets: Arc<AllTargets>,
    field_manager: Arc<str>,
}

/// Whether a watch may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A watch if it knows, else the server.
    Watch,
    /// The server.
    Server,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaleObject {
    metadata: ScaleMeta,
    #[serde(default)]
    spec: ScaleSpec,
    #[serde(default)]
    status: ScaleStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ScaleMeta {
    uid: String,
    resource_version: String,
}

#[derive(Default, Deserialize, Serialize)]
struct ScaleSpec {
    #[serde(default)]
    replicas: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScaleStatus {
    replicas: i32,
    selector: String,
}

impl std::convert::From<ScaleObject> for Scale {
    fn from(object: ScaleObject) -> Self {
        Self {
            uid: object.metadata.uid.into_boxed_str(),
            resource_version: object.metadata.resource_version.into_boxed_str(),
            reading: ScaleReading {
                spec_replicas: object.spec.replicas,
                status_replicas: object.status.replicas,
                selector: object.status.selector,
            },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaleBody<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: ScaleBodyMeta<'a>,
    spec: ScaleSpec,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaleBodyMeta<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    resource_version: &'a str,
}

impl Scales {
    /// `field_manager` is who writes.
    pub(super) fn new(
        api: ApiServer,
        mappings: Arc<Mappings>,
        targets: Arc<AllTargets>,
        field_manager: Arc<str>,
    ) -> Self {
        Self { api, mappings, targets, field_manager }
    }

    /// The uids of the `ReplicaSet`s that an object controls; `None` while they are not known.
    pub(super) fn replica_sets_of(
        &self,
        namespace: &str,
        owner: &str,
    ) -> Option<HashSet<Box<str>>> {
        self.targets.of("apps", "ReplicaSet")?.owned_by(namespace, owner)
    }

    /// What is known from watches.
    pub(super) fn targets(&self) -> &Arc<AllTargets> {
        &self.targets
    }

    /// The scale of a target. Of several mappings the first that answers counts; if none does, the first error.
    ///
    /// # Errors
    /// What upstream says why the scale cannot be read.
    pub(super) async fn read(
        &self,
        namespace: &str,
        target: &CrossVersionObjectReference,
        from: From,
    ) -> Result<FoundScale, ApiError> {
        let api_version = target.api_version.as_deref().unwrap_or_default();
        let mut first = None;
        for mapping in self.mappings.of(api_version, &target.kind).await? {
            let watched = self.targets.of(&mapping.group, &mapping.kind);
            if from == From::Watch
                && let Some(scale) = watched.and_then(|of| of.get(namespace, &target.name))
            {
                return Ok(FoundScale { scale, mapping });
            }
            let resource = mapping.resource();
            let path = mapping.scale_path(namespace, &target.name);
            match self.api.read::<ScaleObject>(Call::get(path, &resource, &target.name)).await {
                Ok(object) => {
                    let scale = Scale::from(object);
                    if let Some(watched) = watched {
                        watched.note(namespace, &target.name, &scale);
                    }
                    return Ok(FoundScale { scale, mapping });
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| {
            ApiError::new(
                ApiErrorKind::NotFound,
                format!("unrecognized resource {:?}", target.kind),
            )
        }))
    }

    /// What is known of a target's selector without asking anybody.
    pub(super) fn selector(
        &self,
        namespace: &str,
        target: &CrossVersionObjectReference,
    ) -> Option<String> {
        let group = target.api_version.as_deref()?.split_once('/')?.0;
        let scale = self.targets.of(group, &target.kind)?.get(namespace, &target.name)?;
        Some(scale.reading.selector)
    }

    /// Asks for `replicas` if the target is still as it was read.
    ///
    /// # Errors
    /// The server's, a conflict among them, or [`ApiErrorKind::NotAllowed`] if `guard` says no.
    pub(super) async fn write(
        &self,
        namespace: &str,
        name: &str,
        found: &FoundScale,
        replicas: i32,
        timeout: Duration,
        guard: impl Fn() -> bool,
    ) -> Result<(), ApiError> {
        let FoundScale { scale, mapping } = found;
        let body = ScaleBody {
            kind: "Scale",
            api_version: "autoscaling/v1",
            metadata: ScaleBodyMeta {
                name,
                namespace,
                uid: &scale.uid,
                resource_version: &scale.resource_version,
            },
            spec: ScaleSpec { replicas },
        };
        let body = serde_json::to_vec(&body)
            .map_err(|error| ApiError::new(ApiErrorKind::Answer, error.to_string()))?;
        let path = mapping.scale_path(namespace, name);
        let resource = mapping.resource();
        let call = Call {
            method: Method::PUT,
            path: format!("{path}?fieldManager={}", segment(&self.field_manager)),
            body: Some(("application/json", body)),
            resource: &resource,
            name,
            bytes_max: OBJECT_BYTES_MAX,
            timeout,
        };
        let written: ScaleObject = self.api.call(call, guard).await?;
        let written = Scale::from(written);
        if let Some(watched) = self.targets.of(&mapping.group, &mapping.kind) {
            watched.note(namespace, name, &written);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installations_are_different_writers_and_their_replicas_are_not() {
        let name = |namespace: &str, lease: &str, identity: &str| {
            field_manager(Some(&ElectionOptions::new(namespace, lease, identity)))
        };
        assert_eq!(&*name("a", "b", "x"), "sextant-hpa-controller:a/b");
        assert_eq!(name("a", "b", "x"), name("a", "b", "y"));
        assert_ne!(field_manager(None), field_manager(None));
        let long = "l".repeat(200);
        assert!(name("a", &long, "x").len() <= FIELD_MANAGER_MAX);
        assert_ne!(name("a", &long, "x"), name("b", &long, "x"));
    }
}
