//! Objects that were saved to files, as `kubectl get -o yaml` and `-o json` print them, and what an autoscaler among them is decided
//! from.
//!
//! What is in the files is taken for all that there is: a kind of metrics that no file has comes from an API that is not available.

mod answers;
mod inputs;
mod kinds;
mod owned;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use model::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::kinds::{CustomValue, ExternalValue, Keyed, PodSaved, ScaleObject, UsageSaved, Workload};
use crate::inputs::Gates;
use crate::spec::{self, ReadError, set_defaults, validate};
use crate::state::Logged;
use crate::words::span;

/// Longest text that is read.
pub const TEXT_BYTES_MAX: usize = 256 << 20;
/// Most objects of all files together.
const OBJECTS_MAX: usize = 500_000;
/// Samples older than this are worth a word.
const STALE_MS: i64 = 300_000;
/// YAML as deep as this; what the API server takes is far from it.
const DEPTH_MAX: usize = 64;
/// Scalars, maps and lists of one file: half a million objects have fewer, and a bomb of aliases more.
const NODES_MAX: usize = 50_000_000;

/// Why files cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// It is neither YAML nor JSON.
    #[error("{file}: {message}")]
    Syntax {
        /// Which file.
        file: String,
        /// Where and why.
        message: String,
    },
    /// A file is too large.
    #[error("{file}: longer than {TEXT_BYTES_MAX} bytes")]
    TooLong {
        /// Which file.
        file: String,
    },
    /// There are too many objects.
    #[error("{place}: more than {OBJECTS_MAX} objects")]
    TooMany {
        /// Where it went over the limit.
        place: Place,
    },
    /// A field does not hold what it should.
    #[error("{place}: {error}")]
    Field {
        /// Which object.
        place: Place,
        /// Which field.
        error: ReadError,
    },
    /// Two objects of the same name differ.
    #[error("{place}: {what} is in {first} too, and differs there")]
    Twice {
        /// The second.
        place: Place,
        /// Which object.
        what: String,
        /// The first.
        first: Place,
    },
}

/// Where an object was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: Arc<str>,
    /// Counted from 1; what is empty between two `---` does not count.
    document: usize,
    item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ", items[{item}]"))
    }
}

/// An autoscaler that was saved, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaler {
    /// Its namespace; `default` if it does not say.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// It as `autoscaling/v2`.
    pub object: HorizontalPodAutoscaler,
}

type Named<T> = BTreeMap<(String, String), (Place, T)>;

/// All that the files hold.
#[derive(Debug, Default)]
pub struct Objects {
    count: usize,
    autoscalers: Named<Autoscaler>,
    pods: Named<PodSaved>,
    scales: Named<ScaleObject>,
    /// Those of one name differ in kind.
    workloads: BTreeMap<(String, String), Vec<(Place, Workload)>>,
    /// `None`: no such metrics in any file.
    usages: Option<BTreeMap<(String, String), UsageSaved>>,
    custom: Option<Vec<Vec<CustomValue>>>,
    external: Option<Vec<Vec<ExternalValue>>>,
    logged: Vec<Logged>,
}

impl Objects {
    /// Adds what one file holds: YAML of any number of documents or JSON. `file` is its name in errors.
    ///
    /// # Errors
    /// Names file, document and field of what cannot be read.
    pub fn read(&mut self, file: &str, text: &str) -> Result<(), ObjectsError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ObjectsError::TooLong { file: file.to_owned() });
        }
        let syntax = |message| ObjectsError::Syntax { file: file.to_owned(), message };
        let name: Arc<str> = Arc::from(file);
        for (at, document) in documents(text).map_err(syntax)?.into_iter().enumerate() {
            let place = Place { file: Arc::clone(&name), document: at + 1, item: None };
            self.document(place, document)?;
        }
        Ok(())
    }

    /// The autoscalers, by namespace and name.
    pub fn autoscalers(&self) -> impl Iterator<Item = &Autoscaler> {
        self.autoscalers.values().map(|(_, autoscaler)| autoscaler)
    }

    /// Decisions of a controller that were saved with all that they were made from, in the order of the files.
    #[must_use]
    pub fn logged(&self) -> &[Logged] {
        &self.logged
    }

    /// When the newest sample of any metric was taken, in milliseconds since the epoch.
    fn newest_sample(&self) -> Option<Timestamp> {
        let usages = self.usages.iter().flat_map(BTreeMap::values).map(|usage| usage.timestamp);
        let custom = self.custom.iter().flatten().flatten().map(|value| value.timestamp);
        let external = self.external.iter().flatten().flatten().map(|value| value.timestamp);
        usages.chain(custom).chain(external).max()
    }

    /// What is to be noted about a decision at `now`, the present time, if all samples are old: pods that were starting then run for long by
    /// now.
    #[must_use]
    pub fn stale(&self, now: Timestamp) -> Option<String> {
        let newest = self.newest_sample()?;
        let age = now.saturating_sub(newest);
        (age > STALE_MS).then(|| {
            let newest = super::document::rfc3339(newest);
            let age = span(age);
            format!(
                "decided as of the present time, {age} after the newest sample; --now={newest} decides as of then"
            )
        })
    }

    fn document(&mut self, place: Place, mut document: Value) -> Result<(), ObjectsError> {
        let text = |value: &Value, field: &str| {
            value[field].as_str().map(str::to_owned).unwrap_or_default()
        };
        if self.saved_decisions(&place, &mut document)? {
            return Ok(());
        }
        let (version, kind) = (text(&document, "apiVersion"), text(&document, "kind"));
        let Some(of) = kind.strip_suffix("List").filter(|_| document["items"].is_array()) else {
            return self.object(place, &version, &kind, document);
        };
        match (group(&version), of) {
            ("metrics.k8s.io", "PodMetrics") => drop(self.usages.get_or_insert_default()),
            ("custom.metrics.k8s.io", "MetricValue") => {
                let values = self.values(&place, &mut document)?;
                self.custom.get_or_insert_default().push(values);
                return Ok(());
            }
            ("external.metrics.k8s.io", "ExternalMetricValue") => {
                let values = self.values(&place, &mut document)?;
                self.external.get_or_insert_default().push(values);
                return Ok(());
            }
            _ => {}
        }
        let Value::Array(items) = document["items"].take() else { return Ok(()) };
        for (at, item) in items.into_iter().enumerate() {
            let place = Place { item: Some(at), ..place.clone() };
            // Items of a typed list need not say what they are.
            let (own_version, own_kind) = (text(&item, "apiVersion"), text(&item, "kind"));
            let version = if own_version.is_empty() { &version } else { &own_version };
            let kind = if own_kind.is_empty() { of } else { &own_kind };
            self.object(place, version, kind, item)?;
        }
        Ok(())
    }

    /// The items of a list of values.
    fn values<T: DeserializeOwned>(
        &mut self,
        place: &Place,
        document: &mut Value,
    ) -> Result<Vec<T>, ObjectsError> {
        let values: Vec<T> = read(place, document["items"].take(), "items")?;
        self.count(place, values.len())?;
        Ok(values)
    }

    fn count(&mut self, place: &Place, objects: usize) -> Result<(), ObjectsError> {
        self.count += objects;
        if self.count > OBJECTS_MAX {
            return Err(ObjectsError::TooMany { place: place.clone() });
        }
        Ok(())
    }

    fn object(
        &mut self,
        place: Place,
        version: &str,
        kind: &str,
        mut object: Value,
    ) -> Result<(), ObjectsError> {
        self.count(&place, 1)?;
        if kind.is_empty() || !object.is_object() {
            let error =
                ReadError { path: String::from("kind"), message: String::from("there is none") };
            return Err(ObjectsError::Field { place, error });
        }
        match (group(version), kind) {
            ("autoscaling", "HorizontalPodAutoscaler") => {
                object["apiVersion"] = Value::from(version);
                let autoscaler = spec::autoscaler(object)
                    .map_err(|error| ObjectsError::Field { place: place.clone(), error })?;
                put(&mut self.autoscalers, place, kind, Autoscaler::new(autoscaler))
            }
            ("autoscaling", "Scale") => {
                let scale: ScaleObject = read(&place, object, "")?;
                put(&mut self.scales, place, kind, scale)
            }
            ("", "Pod") => {
                let pod: PodSaved = read(&place, object, "")?;
                put(&mut self.pods, place, kind, pod)
            }
            ("metrics.k8s.io", "PodMetrics") => {
                let usage: UsageSaved = read(&place, object, "")?;
                let usages = self.usages.get_or_insert_default();
                let key = (usage.namespace.clone(), usage.pod.to_string());
                // Of several samples of a pod the newest is what the API would say.
                if usages.get(&key).is_none_or(|known| known.timestamp <= usage.timestamp) {
                    usages.insert(key, usage);
                }
                Ok(())
            }
            ("custom.metrics.k8s.io", "MetricValue") => {
                let value = read(&place, object, "")?;
                self.custom.get_or_insert_default().push(vec![value]);
                Ok(())
            }
            ("external.metrics.k8s.io", "ExternalMetricValue") => {
                let value = read(&place, object, "")?;
                self.external.get_or_insert_default().push(vec![value]);
                Ok(())
            }
            _ => self.workload(place, version, kind, object),
        }
    }

    /// Anything with replicas may be a target.
    fn workload(
        &mut self,
        place: Place,
        version: &str,
        kind: &str,
        object: Value,
    ) -> Result<(), ObjectsError> {
        let workload = Workload::new(group(version), kind, object)
            .map_err(|error| ObjectsError::Field { place: place.clone(), error })?;
        let Some(workload) = workload else { return Ok(()) };
        let named = self.workloads.entry(workload.key()).or_default();
        match named.iter().find(|(_, known)| known.is_of_the_kind_of(&workload)) {
            None => named.push((place, workload)),
            Some((_, known)) if *known == workload => {}
            Some((first, _)) => {
                let what = format!("{kind} {}/{}", workload.namespace, workload.name);
                return Err(ObjectsError::Twice { place, what, first: first.clone() });
            }
        }
        Ok(())
    }

    /// Decisions with their inputs, one or the controller's answer to `/api/v1/hpa/NAMESPACE/NAME?format=logged`.
    fn saved_decisions(
        &mut self,
        place: &Place,
        document: &mut Value,
    ) -> Result<bool, ObjectsError> {
        let is_logged = |value: &Value| value.get("inputs").is_some_and(Value::is_object);
        if is_logged(document) {
            self.logged.push(read(place, document.take(), "")?);
            return Ok(true);
        }
        let decisions = document.get_mut("decisions").filter(|decisions| {
            decisions.as_array().is_some_and(|decisions| decisions.iter().any(is_logged))
        });
        let Some(decisions) = decisions else { return Ok(false) };
        let logged: Vec<Logged> = read(place, decisions.take(), "decisions")?;
        self.count(place, logged.len())?;
        self.logged.extend(logged);
        Ok(true)
    }
}

impl Keyed for Autoscaler {
    fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }
}

impl Autoscaler {
    fn new(mut object: HorizontalPodAutoscaler) -> Self {
        set_defaults(&mut object.spec);
        Self {
            namespace: kinds::namespace(object.metadata.namespace.as_deref()),
            name: object.metadata.name.clone().unwrap_or_default(),
            object,
        }
    }

    /// What the API server would refuse it for.
    #[must_use]
    pub fn invalid(&self, gates: &Gates) -> Vec<String> {
        validate(&self.object, gates).iter().map(ToString::to_string).collect()
    }
}

fn put<T: Keyed + PartialEq>(
    known: &mut Named<T>,
    place: Place,
    kind: &str,
    object: T,
) -> Result<(), ObjectsError> {
    let key = object.key();
    match known.get(&key) {
        Some((first, same)) if *same != object => {
            let what = format!("{kind} {}/{}", key.0, key.1);
            Err(ObjectsError::Twice { place, what, first: first.clone() })
        }
        Some(_) => Ok(()),
        None => {
            known.insert(key, (place, object));
            Ok(())
        }
    }
}

/// What of `named` is in a namespace.
fn within<'a, T>(
    named: &'a BTreeMap<(String, String), T>,
    namespace: &'a str,
) -> impl Iterator<Item = &'a T> {
    let from = (namespace.to_owned(), String::new());
    named.range(from..).take_while(move |(key, _)| key.0 == namespace).map(|(_, one)| one)
}

/// An object, or a part of one at `path`, as a type.
fn read<T: DeserializeOwned>(place: &Place, value: Value, path: &str) -> Result<T, ObjectsError> {
    spec::typed(value, path).map_err(|error| ObjectsError::Field { place: place.clone(), error })
}

/// The group of an `apiVersion`; empty for the core group.
fn group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// The documents of a file that are not empty; or in which document what is wrong.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    // JSON is YAML too, but a reader of JSON keeps every digit and is faster.
    if text.trim_start().starts_with('{') {
        let mut values = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter() {
            let place = values.len() + 1;
            values.push(value.map_err(|error| format!("document {place}: {error}"))?);
        }
        return Ok(values);
    }
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        max_events: NODES_MAX,
        max_nodes: NODES_MAX,
        max_documents: OBJECTS_MAX,
        max_total_scalar_bytes: TEXT_BYTES_MAX,
    };
    let options = serde_saphyr::options! { with_snippet: false, budget: budget };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let place = error.location().map_or(1, |location| document_at(text, location.line()));
        format!("document {place}: {}", error.without_snippet())
    })
}

/// Which document, from 1 and without those that are empty, a line of YAML is in.
fn document_at(text: &str, line: u64) -> usize {
    let (mut documents, mut is_begun) = (0, false);
    let last = usize::try_from(line).unwrap_or(usize::MAX);
    for line in text.lines().take(last) {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) {
            is_begun = false;
        }
        let content = rest.unwrap_or(line).trim_start();
        if !is_begun && !content.is_empty() && !content.starts_with('#') {
            is_begun = true;
            documents += 1;
        }
    }
    documents.max(1)
}

#[cfg(test)]
mod tests;
