//! What a decision about one autoscaler would be made from right now, asked of a cluster once and without watches.

use std::sync::Arc;

use futures_util::StreamExt;
use model::{Clock, SystemClock};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api_server::{ApiError, ApiServer, Call, segment};
use super::evaluate::answer;
use super::mapping::Mappings;
use super::scale::{From, Scales, field_manager};
use super::status;
use super::watch::{Feed, HpaObject, PodFeed, PodObject, Pods};
use crate::decide::{keeping_one, plan};
use crate::inputs::{Constants, Inputs, Memory, PodSet};
use crate::sources::MetricsSource;
use crate::state::HpaKey;

/// Requests a second, and at once: those of a person who waits.
const QPS: f64 = 200.0;
const BURST: u32 = 400;
/// Objects in one answer.
const PAGE_LEN: usize = 500;
/// Pods that are looked at.
const PODS_MAX: usize = 20_000;
/// Other autoscalers of the namespace whose selectors are looked at.
const OTHERS_MAX: usize = 500;
/// Requests at a time.
const CONCURRENT: usize = 16;

/// What was found.
#[derive(Clone, Debug)]
pub struct Collected {
    /// What a decision is made from.
    pub inputs: Inputs,
    /// The autoscaler's uid.
    pub uid: String,
}

/// Why it is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The autoscaler cannot be read.
    #[error("horizontalpodautoscaler {key}: {source}")]
    Autoscaler {
        /// Which.
        key: HpaKey,
        /// Why.
        source: ApiError,
    },
}

/// Collects what a decision about an autoscaler would be made from. What cannot be read besides the autoscaler itself is part of the
/// answer, as the decision would say so. `memory` is what earlier decisions left behind, as far as the caller knows; schedules
/// are looked at now, and there are no forecasts.
///
/// # Errors
/// [`CollectError`]
pub async fn collect(
    client: &kube::Client,
    source: &dyn MetricsSource,
    constants: &Constants,
    namespace: &str,
    name: &str,
    memory: Memory,
) -> Result<Collected, CollectError> {
    let api = ApiServer::new(client.clone(), QPS, BURST);
    let key = HpaKey::new(namespace, name);
    let hpa = status::read(&api, &key)
        .await
        .map_err(|source| CollectError::Autoscaler { key: key.clone(), source })?;
    let mappings = Arc::new(Mappings::new(api.clone()));
    let scales = Scales::new(api.clone(), mappings, Arc::default(), field_manager(None));
    let found = scales.read(namespace, &hpa.spec.scale_target_ref, From::Server).await;
    let plan = match &found {
        Ok(found) => plan(constants, namespace, &hpa.spec, &hpa.status, &found.scale.reading),
        Err(_) => Vec::new(),
    };
    let pods = match &found {
        Ok(found) if !plan.is_empty() => {
            pods(&api, &scales, &key, &found.scale.reading.selector).await
        }
        _ => PodSet::Matched(Vec::new()),
    };
    let mut metrics = vec![None; plan.len()];
    if matches!(pods, PodSet::Matched(_)) {
        for (metric, request) in metrics.iter_mut().zip(&plan) {
            if let Some(request) = request {
                *metric = Some(answer(source, request).await);
            }
        }
    }
    let uid = String::from(hpa.uid());
    // Owners and forecasts need more than one look.
    let beyond = hpa.gather(None, None, SystemClock.now());
    let inputs = Inputs {
        constants: constants.clone(),
        namespace: String::from(namespace),
        name: String::from(name),
        spec: keeping_one(constants.gates, &hpa.spec),
        status: hpa.status,
        scale: found.map(|found| found.scale.reading).map_err(|error| error.to_string()),
        pods,
        metrics,
        memory,
        beyond,
    };
    Ok(Collected { inputs, uid })
}

/// The pods of a selector, and whether other autoscalers select any of them.
async fn pods(api: &ApiServer, scales: &Scales, key: &HpaKey, selector: &str) -> PodSet {
    if let Err(complaint) = selector.parse::<metrics_api::LabelSelector>() {
        return PodSet::InvalidSelector(complaint.to_string());
    }
    let namespace = segment(&key.namespace);
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let listed: Vec<PodObject> = match list(api, &path, selector, "pods", PODS_MAX).await {
        Ok(listed) => listed,
        Err(error) => return PodSet::Failed(error.to_string()),
    };
    let index = Arc::new(Pods::default());
    let mut feed = PodFeed::new(Arc::clone(&index), None);
    feed.begin();
    for pod in listed {
        feed.apply(pod, true);
    }
    let path = format!("/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers");
    let resource = "horizontalpodautoscalers.autoscaling";
    match list::<HpaObject>(api, &path, "", resource, OTHERS_MAX).await {
        Ok(others) => register(scales, key, &index, others).await,
        // Upstream would know; who may read one autoscaler but not list them sees the decision as if there were no other.
        Err(error) => tracing::warn!(%error, "other autoscalers are not looked at"),
    }
    index.select(&key.namespace, &key.name, selector)
}

/// Notes which pods other autoscalers select. One whose scale cannot be read selects none.
async fn register(scales: &Scales, key: &HpaKey, index: &Pods, others: Vec<HpaObject>) {
    let selectors = others.into_iter().filter_map(|other| {
        let name = other.metadata.name.filter(|name| **name != *key.name)?;
        let target = other.spec.scale_target_ref;
        Some(async move {
            let found = scales.read(&key.namespace, &target, From::Server).await;
            (name, found)
        })
    });
    let mut selectors = futures_util::stream::iter(selectors).buffer_unordered(CONCURRENT);
    while let Some((name, found)) = selectors.next().await {
        if let Ok(found) = found
            && let Err(complaint) =
                index.register(&key.namespace, &name, &found.scale.reading.selector)
        {
            tracing::debug!(name, complaint, "the selector of another autoscaler is unreadable");
        }
    }
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

/// Lists page by page, up to `max` objects.
async fn list<T: DeserializeOwned>(
    api: &ApiServer,
    path: &str,
    selector: &str,
    resource: &str,
    max: usize,
) -> Result<Vec<T>, ApiError> {
    let mut found = Vec::new();
    let mut next = String::new();
    loop {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &PAGE_LEN.to_string());
        if !selector.is_empty() {
            query.append_pair("labelSelector", selector);
        }
        if !next.is_empty() {
            query.append_pair("continue", &next);
        }
        let path = format!("{path}?{}", query.finish());
        let page: Page<T> = api.read(Call::list(path, resource)).await?;
        found.extend(page.items);
        next = page.metadata.next;
        if next.is_empty() {
            return Ok(found);
        }
        if found.len() >= max {
            tracing::warn!(resource, max, "there are more than are looked at");
            return Ok(found);
        }
    }
}
