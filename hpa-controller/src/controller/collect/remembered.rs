//! What a controller that runs elsewhere remembers of an autoscaler, from the `ConfigMap`s in which it keeps that for its next leader.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Timestamp;
use serde::Deserialize;

use super::CollectOptions;
use super::lists::{Of, list};
use crate::controller::api_server::{ApiError, ApiServer, segment};
use crate::inputs::Memory;
use crate::state::{self, HpaKey, StateOptions};
use crate::words::span;

/// `ConfigMap`s that are looked at: those of four controllers.
const MAPS_MAX: usize = 64;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub memory: Memory,
    /// When it was last decided about.
    at: Timestamp,
    /// The `ConfigMap`.
    place: String,
}

impl Found {
    /// Where it comes from, in a sentence.
    pub(super) fn note(&self, now: Timestamp) -> String {
        let Self { memory, at, place } = self;
        let what = match memory.recommendations {
            Some(_) => "earlier recommendations and rescales are",
            None => "earlier recommendations are not known; rescales are",
        };
        let age = span(now.saturating_sub(*at).max(0));
        format!("{what} those that a controller kept in config map {place} {age} ago")
    }
}

#[derive(Deserialize)]
struct Map {
    metadata: MapMeta,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct MapMeta {
    #[serde(default)]
    namespace: String,
    name: String,
}

/// Looks for it; `None` if nothing is kept that counts now.
pub(super) async fn look(
    api: &ApiServer,
    key: &HpaKey,
    uid: &str,
    options: &CollectOptions<'_>,
) -> Result<Option<Found>, ApiError> {
    let path = match &options.state.namespace {
        Some(namespace) => format!("/api/v1/namespaces/{}/configmaps", segment(namespace)),
        None => String::from("/api/v1/configmaps"),
    };
    let selector = format!("{}={}", state::MANAGED_BY, options.state.prefix);
    let of = Of { path: &path, selector: &selector, resource: "configmaps", max: MAPS_MAX };
    let maps = list::<Map>(api, of).await?.items;
    let stabilization_ms = options.constants.downscale_stabilization_ms.max(0).unsigned_abs();
    let stabilization = Duration::from_millis(stabilization_ms);
    let ages = StateOptions::new(options.sync_period, stabilization).ages();
    let now = options.clock.now();
    let found = maps.iter().filter_map(|map| {
        let place = format!("{}/{}", map.metadata.namespace, map.metadata.name);
        let text = map.data.get(state::DATA_KEY)?;
        let (memory, at) = state::saved_in(text, &place, key, uid, now, ages)?;
        Some(Found { memory, at, place })
    });
    Ok(found.max_by_key(|found| found.at))
}
