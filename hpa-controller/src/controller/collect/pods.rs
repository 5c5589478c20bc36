//! The pods that an autoscaler selects, and whose they are.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;

use super::lists::{Listed, Of, list};
use crate::beyond::{LeftOut, owners};
use crate::controller::api_server::{ApiServer, segment};
use crate::controller::scale::{From, Scales};
use crate::controller::watch::{Feed, HpaObject, PodFeed, PodObject, Pods, Workload};
use crate::inputs::PodSet;
use crate::state::HpaKey;

/// Pods that are looked at.
const PODS_MAX: usize = 20_000;
/// `ReplicaSet`s that are looked at.
const SETS_MAX: usize = 20_000;
/// Other autoscalers of the namespace whose selectors are looked at.
const OTHERS_MAX: usize = 500;
/// Requests at a time.
const CONCURRENT: usize = 16;

/// What a selector comes to.
#[derive(Debug)]
pub(super) struct Selected {
    pub pods: PodSet,
    /// Pods that the selector matches and the target does not own; `None` unless that was asked.
    pub left_out: Option<LeftOut>,
    /// The names of all of them.
    pub out: BTreeSet<String>,
}

impl Selected {
    /// No pods, as none were asked for.
    pub(super) const fn none() -> Self {
        Self::of(PodSet::Matched(Vec::new()))
    }

    const fn of(pods: PodSet) -> Self {
        Self { pods, left_out: None, out: BTreeSet::new() }
    }
}

/// The pods of a selector, and whether other autoscalers select any of them. With `owner`, the uid of the target, those that it owns.
pub(super) async fn select(
    api: &ApiServer,
    scales: &Scales,
    key: &HpaKey,
    selector: &str,
    owner: Option<&str>,
    notes: &mut Vec<String>,
) -> Selected {
    if let Err(complaint) = selector.parse::<metrics_api::LabelSelector>() {
        return Selected::of(PodSet::InvalidSelector(complaint.to_string()));
    }
    let path = format!("/api/v1/namespaces/{}/pods", segment(&key.namespace));
    let of = Of { path: &path, selector, resource: "pods", max: PODS_MAX };
    let Listed { items, is_cut } = match list::<PodObject>(api, of).await {
        Ok(listed) => listed,
        Err(error) => return Selected::of(PodSet::Failed(error.to_string())),
    };
    if is_cut {
        notes.push(format!("only the first {} pods are looked at", items.len()));
    }
    let index = Arc::new(Pods::default());
    let mut feed = PodFeed::new(Arc::clone(&index), None);
    feed.begin();
    for pod in items {
        feed.apply(pod, true);
    }
    match owner {
        Some(target) => owned(api, key, selector, target, &index).await,
        None => {
            others(api, scales, key, &index, notes).await;
            Selected::of(index.select(&key.namespace, &key.name, selector))
        }
    }
}

/// The pods whose chain of owners leads to the target. That others select them too does not matter.
async fn owned(
    api: &ApiServer,
    key: &HpaKey,
    selector: &str,
    target: &str,
    index: &Pods,
) -> Selected {
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", segment(&key.namespace));
    let resource = "replicasets.apps";
    let of = Of { path: &path, selector: "", resource, max: SETS_MAX };
    let sets: HashSet<String> = match list::<Workload>(api, of).await {
        Ok(Listed { is_cut: true, .. }) => {
            let why = format!("the owners of pods are not known: more than {SETS_MAX} ReplicaSets");
            return Selected::of(PodSet::Failed(why));
        }
        Ok(Listed { items, .. }) => {
            let own = items.into_iter().filter(|set| set.owner.as_deref() == Some(target));
            own.filter_map(|set| set.metadata.uid).collect()
        }
        Err(error) => {
            let why = format!("the owners of pods are not known: {error}");
            return Selected::of(PodSet::Failed(why));
        }
    };
    let parent = |owner: &str| sets.contains(owner).then_some(target);
    let owned = |owner: Option<&str>| owners::owns(target, owner, parent);
    let (pods, left_out, out) = index.select_owned(&key.namespace, &key.name, selector, owned);
    Selected { pods, left_out: Some(left_out), out }
}

/// Notes which pods other autoscalers select.
async fn others(
    api: &ApiServer,
    scales: &Scales,
    key: &HpaKey,
    index: &Pods,
    notes: &mut Vec<String>,
) {
    let namespace = segment(&key.namespace);
    let path = format!("/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers");
    let resource = "horizontalpodautoscalers.autoscaling";
    let of = Of { path: &path, selector: "", resource, max: OTHERS_MAX };
    match list::<HpaObject>(api, of).await {
        Ok(Listed { items, is_cut }) => {
            if is_cut {
                notes.push(format!(
                    "whether other autoscalers select the same pods is looked for among {} of the namespace only",
                    items.len()
                ));
            }
            register(scales, key, index, items).await;
        }
        // Who may read one autoscaler need not be allowed to list them.
        Err(error) => notes.push(format!(
            "whether other autoscalers select the same pods is not known, it is taken that none does: {error}"
        )),
    }
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
