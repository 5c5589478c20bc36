//! What a decision about a saved autoscaler is made from.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use metrics_api::LabelSelector;
use model::Timestamp;

use super::answers::matches;
use super::kinds::PodSaved;
use super::owned::Owned;
use super::{Autoscaler, Objects, group, within};
use crate::beyond::{self, owners};
use crate::decide::plan;
use crate::explain::{STEERED, memory_unknown};
use crate::inputs::{Constants, Inputs, Memory, PodSet, ScaleReading};
use crate::steer;

impl Objects {
    /// What a controller that has just started would decide from, as what it decided before is not in the files; and what was assumed
    /// for want of knowledge, a sentence each.
    #[must_use]
    pub fn inputs(
        &self,
        autoscaler: &Autoscaler,
        constants: &Constants,
        now: Timestamp,
    ) -> (Inputs, Vec<String>) {
        let annotations = autoscaler.object.metadata.annotations.as_ref();
        let (policy, wrong) = annotations.map(beyond::parse).unwrap_or_default();
        let mut notes = memory_unknown(&policy);
        let (spec, status) = meant(autoscaler, &mut notes);
        let target = self.target(autoscaler);
        let scale = target.as_ref().map(|(scale, _)| (*scale).clone()).map_err(Clone::clone);
        let mut left_out = None;
        let mut out = BTreeSet::new();
        let mut pods = PodSet::Matched(Vec::new());
        let mut requests = Vec::new();
        if let Ok((scale, uid)) = &target {
            requests = plan(constants, &autoscaler.namespace, &spec, &status, scale);
            pods = match self.select(autoscaler, scale, policy.owned_pods) {
                Err(set) => set,
                Ok(selected) if policy.owned_pods => {
                    let split = Owned { objects: self, autoscaler, uid }.split(&selected);
                    notes.extend(split.note);
                    (left_out, out) = (split.left_out, split.out);
                    PodSet::Matched(split.pods)
                }
                Ok(selected) => {
                    PodSet::Matched(selected.iter().map(|pod| Arc::clone(&pod.facts)).collect())
                }
            };
            if let PodSet::Matched(pods) = &pods {
                notes.extend(unlike(scale, pods.len()));
            }
        }
        let metrics = requests.iter().map(|request| {
            let (mut answer, note) = self.answer(request.as_ref()?);
            notes.extend(note);
            owners::without(&mut answer, &out);
            Some(answer)
        });
        let metrics = metrics.collect();
        // What was is not in the files.
        let forecast = policy.forecast.as_ref().map(|_| Err(String::from("files have no history")));
        let beyond = beyond::gather(&policy, &wrong, forecast, left_out, now);
        let inputs = Inputs {
            constants: constants.clone(),
            namespace: autoscaler.namespace.clone(),
            name: autoscaler.name.clone(),
            spec,
            status,
            scale,
            pods,
            metrics,
            memory: Memory::default(),
            beyond,
        };
        (inputs, notes)
    }

    /// The target's scale and its uid, which is empty if nothing tells it; or what the API server would say.
    fn target(&self, autoscaler: &Autoscaler) -> Result<(&ScaleReading, &str), String> {
        let target = &autoscaler.object.spec.scale_target_ref;
        let key = (autoscaler.namespace.clone(), target.name.clone());
        let version = target.api_version.as_deref().unwrap_or_default();
        let wanted = group(version);
        let named = self.workloads.get(&key).map(Vec::as_slice).unwrap_or_default();
        let workload = named.iter().map(|(_, workload)| workload).find(|workload| {
            workload.kind == target.kind && (workload.group == wanted || version.is_empty())
        });
        if let Some((_, scale)) = self.scales.get(&key) {
            let uid = workload.map_or("", |workload| &workload.uid);
            return Ok((&scale.reading, if scale.uid.is_empty() { uid } else { &scale.uid }));
        }
        workload.map(|workload| (&workload.reading, workload.uid.as_str())).ok_or_else(|| {
            let plural = format!("{}s/scale", target.kind.to_lowercase());
            let dot = if wanted.is_empty() { "" } else { "." };
            format!("{plural}{dot}{wanted} {:?} not found", target.name)
        })
    }

    /// The pods of a scale's selector, unless another autoscaler has one of them too; of no matter where owners say whose they are.
    fn select<'o>(
        &'o self,
        autoscaler: &'o Autoscaler,
        scale: &ScaleReading,
        owned: bool,
    ) -> Result<Vec<&'o PodSaved>, PodSet> {
        let selector: LabelSelector =
            scale.selector.parse().map_err(|complaint: metrics_api::SelectorError| {
                PodSet::InvalidSelector(complaint.to_string())
            })?;
        if selector.is_empty() {
            return Ok(Vec::new());
        }
        let pods = within(&self.pods, &autoscaler.namespace).map(|(_, pod)| pod);
        let selected: Vec<_> = pods.filter(|pod| matches(&selector, &pod.labels)).collect();
        if owned {
            return Ok(selected);
        }
        let mut others = Vec::new();
        for (_, other) in within(&self.autoscalers, &autoscaler.namespace) {
            let selector =
                self.target(other).ok().and_then(|(scale, _)| scale.selector.parse().ok());
            let selector = selector.filter(|selector: &LabelSelector| !selector.is_empty());
            others.extend(selector.map(|selector| (&other.name, selector)));
        }
        let mut claimants = BTreeSet::new();
        for pod in &selected {
            let claim = others.iter().filter(|(_, selector)| matches(selector, &pod.labels));
            claimants.extend(claim.map(|(name, _)| *name));
        }
        if claimants.len() > 1 {
            let name = |name| format!("{}/{name}", autoscaler.namespace);
            return Err(PodSet::Ambiguous(claimants.into_iter().map(name).collect()));
        }
        Ok(selected)
    }
}

/// What the autoscaler is decided from: of one that is steered, what its owner means.
fn meant(
    autoscaler: &Autoscaler,
    notes: &mut Vec<String>,
) -> (HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus) {
    let HorizontalPodAutoscaler { metadata, spec, status } = &autoscaler.object;
    let status = status.clone().unwrap_or_default();
    let annotations = metadata.annotations.as_ref();
    match annotations.and_then(|annotations| steer::real_spec(annotations, spec)) {
        None => (spec.clone(), status),
        Some(Ok(meant)) => {
            notes.push(String::from(STEERED));
            (meant, steer::own_status(&status))
        }
        Some(Err(error)) => {
            notes.push(format!(
                "the autoscaler is steered, and the controller decides nothing, as {error}: this is what the cluster's own controller decides"
            ));
            (spec.clone(), status)
        }
    }
}

/// A target whose pods were not all saved, or whose selector selects more than its own.
fn unlike(scale: &ScaleReading, pods: usize) -> Option<String> {
    let replicas = usize::try_from(scale.status_replicas).unwrap_or_default();
    (pods != replicas && !scale.selector.is_empty()).then(|| {
        format!(
            "of the pods of the target's selector {}, {} saved; it has {replicas}",
            scale.selector,
            if pods == 1 { String::from("1 was") } else { format!("{pods} were") }
        )
    })
}
