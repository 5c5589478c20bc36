//! What a decision about one autoscaler would be made from right now, asked of a cluster once and without watches.
//!
//! It is what the controller decides from: the specification that is meant where the cluster's own controller is steered, pods by owner,
//! forecasts, and what earlier decisions left behind. What cannot be known is told in [`Collected::notes`]; nothing is answered
//! otherwise without a word.

mod lists;
mod pods;
mod remembered;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Timestamp};

use self::pods::Selected;
use super::api_server::{ApiError, ApiServer};
use super::evaluate::answer;
use super::mapping::Mappings;
use super::scale::{From, Scales, field_manager};
use super::status;
use super::watch::HpaObject;
use crate::beyond::owners;
use crate::decide::{keeping_one, plan};
use crate::explain::{STEERED, memory_unknown};
use crate::forecast::{self, ForecastReading};
use crate::inputs::{Constants, Inputs, Memory, PodSet, ScaleReading};
use crate::sources::{History, MetricsSource};
use crate::state::HpaKey;
use crate::steer;

/// Requests a second, and at once: those of a person who waits.
const QPS: f64 = 200.0;
const BURST: u32 = 400;

/// The `ConfigMap`s in which a controller keeps what it remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateMaps {
    /// Their namespace; `None` if any may be.
    pub namespace: Option<String>,
    /// What their names begin with: the name of the controller's Lease.
    pub prefix: String,
}

/// What is asked, and how.
pub struct CollectOptions<'a> {
    /// Settings of the controller.
    pub constants: &'a Constants,
    /// What metrics say now.
    pub source: &'a dyn MetricsSource,
    /// What they said, for forecasts; `None` if nobody can be asked.
    pub history: Option<&'a dyn History>,
    /// Where the controller keeps what it remembers.
    pub state: StateMaps,
    /// Its sync period, which says for how long what it remembers counts.
    pub sync_period: Duration,
    /// The time of day.
    pub clock: &'a dyn Clock,
}

impl fmt::Debug for CollectOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectOptions")
            .field("constants", &self.constants)
            .field("state", &self.state)
            .field("sync_period", &self.sync_period)
            .finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Collected {
    /// What a decision is made from.
    pub inputs: Inputs,
    /// The autoscaler's uid.
    pub uid: String,
    /// What is not known or was assumed, a sentence each.
    pub notes: Vec<String>,
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
    /// It is steered, and what it is to be decided from cannot be read: the controller decides nothing either.
    #[error("horizontalpodautoscaler {key} is steered, but {why}")]
    Steered {
        /// Which.
        key: HpaKey,
        /// What is wrong with the annotation.
        why: String,
    },
}

/// Collects what a decision about an autoscaler would be made from. What cannot be read besides the autoscaler itself is part of the
/// answer, as the decision would say so, or is told in a note. Only reads.
///
/// # Errors
/// [`CollectError`]
pub async fn collect(
    client: &kube::Client,
    key: &HpaKey,
    options: &CollectOptions<'_>,
) -> Result<Collected, CollectError> {
    let api = ApiServer::new(client.clone(), QPS, BURST);
    let mut notes = Vec::new();
    let hpa = status::read(&api, key)
        .await
        .map_err(|source| CollectError::Autoscaler { key: key.clone(), source })?;
    let hpa = meant(key, hpa, &mut notes)?;
    let mappings = Arc::new(Mappings::new(api.clone()));
    let scales = Scales::new(api.clone(), mappings, Arc::default(), field_manager(None));
    let found = scales.read(&key.namespace, &hpa.spec.scale_target_ref, From::Server).await;
    let constants = options.constants;
    let plan = match &found {
        Ok(found) => plan(constants, &key.namespace, &hpa.spec, &hpa.status, &found.scale.reading),
        Err(_) => Vec::new(),
    };
    let Selected { pods, left_out, out } = match &found {
        Ok(found) if !plan.is_empty() => {
            let ScaleReading { selector, .. } = &found.scale.reading;
            let owner = hpa.beyond.0.owned_pods.then_some(&*found.scale.uid);
            pods::select(&api, &scales, key, selector, owner, &mut notes).await
        }
        _ => Selected::none(),
    };
    let mut metrics = vec![None; plan.len()];
    if matches!(pods, PodSet::Matched(_)) {
        for (metric, request) in metrics.iter_mut().zip(&plan) {
            if let Some(request) = request {
                let mut answer = answer(options.source, request).await;
                owners::without(&mut answer, &out);
                *metric = Some(answer);
            }
        }
    }
    let memory = memory(&api, key, &hpa, options, &mut notes).await;
    let now = options.clock.now();
    let forecast = forecast(key, &hpa, options.history, now, &mut notes).await;
    let beyond = hpa.gather(forecast, left_out, now);
    let inputs = Inputs {
        constants: constants.clone(),
        namespace: String::from(&*key.namespace),
        name: String::from(&*key.name),
        spec: keeping_one(constants.gates, &hpa.spec),
        status: hpa.status.clone(),
        scale: found.map(|found| found.scale.reading).map_err(|error| error.to_string()),
        pods,
        metrics,
        memory,
        beyond,
    };
    Ok(Collected { inputs, uid: String::from(hpa.uid()), notes })
}

/// The autoscaler as it is to be decided about: of one that is steered, what its owner means.
fn meant(
    key: &HpaKey,
    mut hpa: HpaObject,
    notes: &mut Vec<String>,
) -> Result<HpaObject, CollectError> {
    let Some(steered) = hpa.steered.take() else { return Ok(hpa) };
    hpa.spec = steered.map_err(|why| CollectError::Steered { key: key.clone(), why })?;
    hpa.status = steer::own_status(&hpa.status);
    notes.push(String::from(STEERED));
    Ok(hpa)
}

/// What earlier decisions left behind, as far as a controller keeps it where it can be read.
async fn memory(
    api: &ApiServer,
    key: &HpaKey,
    hpa: &HpaObject,
    options: &CollectOptions<'_>,
    notes: &mut Vec<String>,
) -> Memory {
    match remembered::look(api, key, hpa.uid(), options).await {
        Ok(Some(found)) => {
            notes.push(found.note(options.clock.now()));
            found.memory
        }
        Ok(None) => {
            notes.extend(memory_unknown(&hpa.beyond.0));
            Memory::default()
        }
        Err(error) => {
            notes.extend(memory_unknown(&hpa.beyond.0));
            notes.push(format!("what a controller remembers cannot be looked for: {error}"));
            Memory::default()
        }
    }
}

/// The forecast, if one is asked for.
async fn forecast(
    key: &HpaKey,
    hpa: &HpaObject,
    history: Option<&dyn History>,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Option<Result<ForecastReading, String>> {
    let policy = hpa.beyond.0.forecast.as_ref()?;
    let history = history?;
    notes.push(String::from(
        "the forecast was fitted right now; the controller's may be some minutes older",
    ));
    Some(forecast::now(history, &key.namespace, policy, now).await)
}
