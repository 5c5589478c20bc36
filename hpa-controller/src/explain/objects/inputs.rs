//! What a decision about a saved autoscaler is made from.

use std::collections::BTreeSet;
use std::sync::Arc;

use metrics_api::LabelSelector;
use model::Timestamp;

use super::answers::matches;
use super::{Autoscaler, Objects, group, within};
use crate::beyond;
use crate::decide::plan;
use crate::inputs::{Constants, Inputs, Memory, PodFacts, PodSet, ScaleReading};

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
        let spec = autoscaler.object.spec.clone();
        let status = autoscaler.object.status.clone().unwrap_or_default();
        let scale = self.scale(autoscaler);
        let mut notes = vec![String::from(crate::explain::MEMORY_UNKNOWN)];
        let (pods, requests) = match &scale {
            Ok(scale) => (
                self.select(autoscaler, scale),
                plan(constants, &autoscaler.namespace, &spec, &status, scale),
            ),
            Err(_) => (PodSet::Matched(Vec::new()), Vec::new()),
        };
        if let (Ok(scale), PodSet::Matched(pods)) = (&scale, &pods) {
            notes.extend(unlike(scale, pods.len()));
        }
        let metrics = requests.iter().map(|request| {
            let (answer, note) = self.answer(request.as_ref()?);
            notes.extend(note);
            Some(answer)
        });
        let metrics = metrics.collect();
        let annotations = autoscaler.object.metadata.annotations.clone().unwrap_or_default();
        let (policy, wrong) = beyond::parse(&annotations);
        // What was is not in the files, and neither is what each pod belongs to. How long metrics have been lost and how often
        // rescaling turned is memory, which is noted already.
        let forecast = policy.forecast.as_ref().map(|_| Err(String::from("files have no history")));
        if policy.owned_pods {
            notes.push(String::from(
                "owners of pods are not looked up in files: all pods that the selector matches count",
            ));
        }
        let beyond = beyond::gather(&policy, &wrong, forecast, None, now);
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

    /// The target's scale, or what the API server would say.
    fn scale(&self, autoscaler: &Autoscaler) -> Result<ScaleReading, String> {
        let target = &autoscaler.object.spec.scale_target_ref;
        let key = (autoscaler.namespace.clone(), target.name.clone());
        if let Some((_, scale)) = self.scales.get(&key) {
            return Ok(scale.reading.clone());
        }
        let version = target.api_version.as_deref().unwrap_or_default();
        let wanted = group(version);
        let named = self.workloads.get(&key).map(Vec::as_slice).unwrap_or_default();
        let workload = named.iter().map(|(_, workload)| workload).find(|workload| {
            workload.kind == target.kind && (workload.group == wanted || version.is_empty())
        });
        workload.map(|workload| workload.reading.clone()).ok_or_else(|| {
            let plural = format!("{}s/scale", target.kind.to_lowercase());
            let dot = if wanted.is_empty() { "" } else { "." };
            format!("{plural}{dot}{wanted} {:?} not found", target.name)
        })
    }

    /// The pods of a scale's selector, unless another autoscaler has one of them too.
    fn select(&self, autoscaler: &Autoscaler, scale: &ScaleReading) -> PodSet {
        let selector: LabelSelector = match scale.selector.parse() {
            Ok(selector) => selector,
            Err(complaint) => {
                let complaint: metrics_api::SelectorError = complaint;
                return PodSet::InvalidSelector(complaint.to_string());
            }
        };
        if selector.is_empty() {
            return PodSet::Matched(Vec::new());
        }
        let mut others = Vec::new();
        for (_, other) in within(&self.autoscalers, &autoscaler.namespace) {
            let selector = self.scale(other).ok().and_then(|scale| scale.selector.parse().ok());
            let selector = selector.filter(|selector: &LabelSelector| !selector.is_empty());
            others.extend(selector.map(|selector| (&other.name, selector)));
        }
        let mut claimants = BTreeSet::new();
        let mut selected: Vec<Arc<PodFacts>> = Vec::new();
        let pods = within(&self.pods, &autoscaler.namespace).map(|(_, pod)| pod);
        for pod in pods.filter(|pod| matches(&selector, &pod.labels)) {
            let claim = others.iter().filter(|(_, selector)| matches(selector, &pod.labels));
            claimants.extend(claim.map(|(name, _)| *name));
            selected.push(Arc::clone(&pod.facts));
        }
        if claimants.len() > 1 {
            let name = |name| format!("{}/{name}", autoscaler.namespace);
            return PodSet::Ambiguous(claimants.into_iter().map(name).collect());
        }
        PodSet::Matched(selected)
    }
}

/// A target whose pods were not all saved, or whose selector selects more than its own.
fn unlike(scale: &ScaleReading, pods: usize) -> Option<String> {
    let replicas = usize::try_from(scale.status_replicas).unwrap_or_default();
    (pods != replicas && !scale.selector.is_empty()).then(|| {
        format!(
            "of the pods of the target's selector {}, {pods} were saved; it has {replicas}",
            scale.selector
        )
    })
}
