//! What utilization is measured against: the requests of each pod, in thousandths.

use std::sync::Arc;

use crate::inputs::{ContainerRequests, Gates, PodFacts, PodPhase};

/// The request of each of `pods` for `resource`, or that of the container of a name, in order.
///
/// `None` stands for a pod that has completed and has no request. Upstream fails there, so that the pod of a job which happens
/// to have the labels of the target stops its autoscaler for as long as the job is kept. Here such a pod does not count.
///
/// # Errors
/// Any other pod lacks one. All pods are looked at, also those that do not count.
pub fn requests(
    pods: &[Arc<PodFacts>],
    resource: &str,
    container: Option<&str>,
    gates: Gates,
) -> Result<Vec<Option<i64>>, String> {
    let request = |pod: &Arc<PodFacts>| match request(pod, resource, container, gates) {
        Err(_) if pod.phase == Some(PodPhase::Succeeded) => Ok(None),
        outcome => outcome.map(Some),
    };
    pods.iter().map(request).collect()
}

fn request(
    pod: &PodFacts,
    resource: &str,
    container: Option<&str>,
    gates: Gates,
) -> Result<i64, String> {
    let name = &pod.name;
    if let Some(wanted) = container {
        let Some(found) = running(pod).find(|c| c.name == wanted) else {
            return Err(format!("container {wanted} not found in Pod {name}"));
        };
        return of_container(found, resource, name);
    }
    if gates.pod_level_resources && has_pod_level_requests(pod) {
        return of_pod(pod, resource)
            .ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
    }
    running(pod).try_fold(0, |sum: i64, c| Ok(sum.saturating_add(of_container(c, resource, name)?)))
}

/// Containers that run for as long as the pod does.
fn running(pod: &PodFacts) -> impl Iterator<Item = &ContainerRequests> {
    pod.containers.iter().chain(pod.init_containers.iter().filter(|c| c.restarts_always))
}

fn of_container(container: &ContainerRequests, resource: &str, pod: &str) -> Result<i64, String> {
    container.requests_milli.get(resource).copied().ok_or_else(|| {
        format!("missing request for {resource} in container {} of Pod {pod}", container.name)
    })
}

fn has_pod_level_requests(pod: &PodFacts) -> bool {
    let requests = pod.requests_milli.as_ref();
    requests.is_some_and(|requests| requests.keys().any(|resource| at_pod_level(resource)))
}

/// Resources that a pod as a whole may request.
fn at_pod_level(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// The effective request of a pod: its own if it has one, else what its containers need at their peak; overhead comes on top.
fn of_pod(pod: &PodFacts, resource: &str) -> Option<i64> {
    let own = pod.requests_milli.as_ref().filter(|_| at_pod_level(resource));
    let own = own.and_then(|requests| requests.get(resource)).copied();
    let overhead = pod.overhead_milli.get(resource).copied();
    plus(own.or_else(|| of_containers(pod, resource)), overhead)
}

/// The larger of what containers need once all run, and of what any init container needs beside those before it that keep
/// running.
fn of_containers(pod: &PodFacts, resource: &str) -> Option<i64> {
    let of = |c: &ContainerRequests| c.requests_milli.get(resource).copied();
    let (mut sidecars, mut peak) = (None, None);
    for init in &pod.init_containers {
        let with_sidecars = plus(sidecars, of(init));
        if init.restarts_always {
            sidecars = with_sidecars;
        }
        peak = peak.max(with_sidecars);
    }
    let running = pod.containers.iter().fold(sidecars, |sum, c| plus(sum, of(c)));
    running.max(peak)
}

/// The sum, where `None` is no request rather than a request of nothing.
fn plus(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (one, other) => one.or(other),
    }
}
