//! Who has written which fields of an object, in `metadata.managedFields`, as kube-apiserver keeps it.
//!
//! A write takes the fields that it changes from whoever had them. A write that changes nothing leaves no trace. [`apply`] is
//! server-side apply, by which a writer has the fields that it names, and is refused those of others.

mod apply;
mod compare;
mod set;

pub(crate) use apply::{Applied, parse_config};

use model::Timestamp;
use serde_json::{Value, json};

use self::compare::{Differences, differences};
use self::set::FieldSet;
use super::error::{ApiError, ApiResult};
use super::kinds::{Kind, Kinds};
use super::objects::rfc3339;
use super::route::Query;
use super::view;

/// Bytes of a writer's name at most.
const MANAGER_BYTES_MAX: usize = 128;

/// Writers of updates that an object remembers; the oldest become one.
const UPDATERS_MAX: usize = 10;

/// What the oldest writers are called together.
const OLDEST: &str = "ancient-changes";

/// Fields that nobody has: the server's, and those that say what the object is.
const NOBODYS: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Who writes.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    /// Its name.
    pub(crate) manager: String,
    /// What it writes to: `status`, `scale`, or empty for the object itself.
    pub(crate) subresource: String,
}

impl Writer {
    /// The writer that a request names, or that its `User-Agent` begins with.
    pub(crate) fn of_request(
        query: &Query,
        user_agent: &str,
        subresource: &str,
    ) -> ApiResult<Self> {
        let subresource = String::from(subresource);
        let Some(named) = query.get("fieldManager") else {
            return Ok(Self { manager: prefix(user_agent), subresource });
        };
        let refuse = |why: String| {
            let why = format!("fieldManager: {why}");
            ApiError::invalid("meta.k8s.io", "PatchOptions", "", &why)
        };
        if named.len() > MANAGER_BYTES_MAX {
            let why = format!("Too long: may not be more than {MANAGER_BYTES_MAX} bytes");
            return Err(refuse(why));
        }
        if named.chars().any(char::is_control) {
            let why = format!("Invalid value: {named:?}: should only contain printable characters");
            return Err(refuse(why));
        }
        Ok(Self { manager: String::from(named), subresource })
    }

    /// The server's own controllers.
    pub(crate) fn server(subresource: &str) -> Self {
        Self { manager: String::from("kube-apiserver"), subresource: String::from(subresource) }
    }
}

/// How something is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write<'a> {
    /// By creating, replacing or patching.
    Update(&'a Writer),
    /// By server-side apply.
    Apply(&'a Applied<'a>),
}

impl Write<'_> {
    /// Notes that this has made `new` of `old`, both as kept; `old` is absent if it was not there.
    ///
    /// # Errors
    /// Of an apply, its conflicts.
    pub(crate) fn record(
        self,
        kinds: &Kinds,
        kind: &Kind,
        objects: (Option<&Value>, &mut Value),
        now: Timestamp,
    ) -> ApiResult<()> {
        match self {
            Self::Update(writer) => {
                record_update(kinds, kind, writer, objects, now);
                Ok(())
            }
            Self::Apply(applied) => applied.record(kinds, kind, objects, now),
        }
    }
}

/// What a `User-Agent` has before the first slash, as far as a name may be long.
fn prefix(user_agent: &str) -> String {
    let mut prefix = String::new();
    let name = user_agent.split('/').next().unwrap_or_default();
    for character in name.chars().filter(|character| !character.is_control()) {
        if prefix.len() + character.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        prefix.push(character);
    }
    prefix
}

/// What somebody has written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) applied: bool,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: String,
    pub(super) fields: FieldSet,
}

impl Entry {
    fn of_json(json: &Value) -> Self {
        let text = |field: &str| String::from(json[field].as_str().unwrap_or_default());
        Self {
            manager: text("manager"),
            applied: json["operation"] == "Apply",
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::from_json(&json["fieldsV1"]),
        }
    }

    fn to_json(&self) -> Value {
        let mut json = json!({
            "manager": self.manager,
            "operation": if self.applied { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_json(),
        });
        if !self.subresource.is_empty() {
            json["subresource"] = self.subresource.as_str().into();
        }
        json
    }

    /// Whether what is written in this way goes here. Who applies has one entry for all versions.
    fn is_of(&self, writer: &Writer, applied: bool, api_version: &str) -> bool {
        self.manager == writer.manager
            && self.subresource == writer.subresource
            && self.applied == applied
            && (applied || self.api_version == api_version)
    }
}

/// Who has what of an object.
pub(super) fn entries_of(object: &Value) -> Vec<Entry> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries.into_iter().flatten().map(Entry::of_json).collect()
}

fn put_entries(object: &mut Value, mut entries: Vec<Entry>) {
    let by_time = |entry: &Entry| {
        // Operations are in the order of their names.
        let operation = !entry.applied;
        let Entry { time, manager, api_version, subresource, .. } = entry;
        let of = [time, manager, api_version, subresource].map(Clone::clone);
        (operation, of)
    };
    entries.sort_by_key(by_time);
    let entries: Vec<_> = entries.iter().map(Entry::to_json).collect();
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert(String::from("managedFields"), entries.into());
    }
}

/// Takes what an update says of its writers, or what was known if it says nothing. One empty entry means that nobody has anything.
pub(crate) fn carry_over(old: &Value, new: &mut Value) {
    let Some(metadata) = new["metadata"].as_object_mut() else { return };
    let said = metadata.remove("managedFields");
    let kept = match said.as_ref().and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::Object(empty)]) if empty.is_empty() => None,
        Some([_, ..]) => said,
        _ => old["metadata"].get("managedFields").cloned(),
    };
    metadata.extend(kept.map(|kept| (String::from("managedFields"), kept)));
}

/// The differences of two objects as kept, as clients of `api_version` see them, without what is nobody's.
fn seen_differences(
    kinds: &Kinds,
    kind: &Kind,
    api_version: &str,
    (old, new): (Option<&Value>, &Value),
) -> Differences {
    let other = kinds.of(api_version, &kind.kind);
    let kind = other.as_deref().unwrap_or(kind);
    let mut found = if view::is_as_stored(kind) {
        differences("", old, Some(new))
    } else {
        let seen = |object: &Value| view::from_stored(kind, object.clone());
        differences("", old.map(seen).as_ref(), Some(&seen(new)))
    };
    strip(&mut found.written);
    found
}

/// Takes away what is nobody's.
fn strip(fields: &mut FieldSet) {
    fields.is_member = false;
    for element in ["f:apiVersion", "f:kind"] {
        fields.below.remove(element);
    }
    if let Some(metadata) = fields.below.get_mut("f:metadata") {
        metadata.is_member = false;
        for name in NOBODYS {
            metadata.below.remove(&format!("f:{name}"));
        }
        if metadata.is_empty() {
            fields.below.remove("f:metadata");
        }
    }
}

/// Notes that `writer` has made `new` of `old`, both as kept; `old` is absent if it was not there.
fn record_update(
    kinds: &Kinds,
    kind: &Kind,
    writer: &Writer,
    (old, new): (Option<&Value>, &mut Value),
    now: Timestamp,
) {
    let mut entries = entries_of(new);
    let api_version = kind.api_version();
    let own = seen_differences(kinds, kind, &api_version, (old, new));
    for entry in &mut entries {
        if entry.api_version == api_version {
            give_up(entry, &own);
        } else {
            give_up(entry, &seen_differences(kinds, kind, &entry.api_version, (old, new)));
        }
    }
    if !own.written.is_empty() {
        let at = entries.iter().position(|entry| entry.is_of(writer, false, &api_version));
        let at = at.unwrap_or_else(|| {
            entries.push(Entry {
                manager: writer.manager.clone(),
                applied: false,
                api_version: api_version.clone(),
                subresource: writer.subresource.clone(),
                time: String::new(),
                fields: FieldSet::default(),
            });
            entries.len() - 1
        });
        entries[at].fields.insert_all(&own.written);
        entries[at].time = rfc3339(now);
    }
    entries.retain(|entry| !entry.fields.is_empty());
    forget_oldest(&mut entries);
    put_entries(new, entries);
}

fn give_up(entry: &mut Entry, differences: &Differences) {
    entry.fields.remove_all(&differences.written);
    entry.fields.remove_all(&differences.removed);
}

/// Makes one of the oldest writers of updates, of each version, until there are no more than [`UPDATERS_MAX`].
fn forget_oldest(entries: &mut Vec<Entry>) {
    while entries.iter().filter(|entry| !entry.applied).count() > UPDATERS_MAX {
        let updaters = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| !entry.applied && entry.manager != OLDEST);
        let oldest = updaters.min_by(|(_, a), (_, b)| a.time.cmp(&b.time)).map(|(at, _)| at);
        let Some(oldest) = oldest else { return };
        let mut oldest = entries.remove(oldest);
        let bucket = Writer { manager: String::from(OLDEST), subresource: String::new() };
        match entries.iter_mut().find(|entry| entry.is_of(&bucket, false, &oldest.api_version)) {
            Some(bucket) => {
                bucket.fields.insert_all(&oldest.fields);
                bucket.time = oldest.time;
            }
            None => {
                oldest.manager = bucket.manager;
                oldest.subresource = bucket.subresource;
                entries.push(oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn updated(
        object: &mut Value,
        (manager, subresource): (&str, &str),
        seconds: i64,
        edit: impl FnOnce(&mut Value),
    ) {
        let kinds = Kinds::new();
        let kind = kinds.of("autoscaling/v2", "HorizontalPodAutoscaler").unwrap();
        let writer =
            Writer { manager: String::from(manager), subresource: String::from(subresource) };
        let old = object.clone();
        edit(object);
        record_update(&kinds, &kind, &writer, (Some(&old), object), NOW + seconds * 1000);
    }

    fn autoscaler() -> Value {
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1" },
        })
    }

    #[test]
    fn the_last_writer_has_a_field() {
        let mut object = autoscaler();
        updated(&mut object, ("kubectl", ""), 0, |object| {
            object["spec"] = json!({ "minReplicas": 1, "maxReplicas": 5, "metrics": [{}] });
        });
        updated(&mut object, ("controller", "status"), 1, |object| {
            object["status"] = json!({
                "desiredReplicas": 2,
                "conditions": [{ "type": "AbleToScale", "status": "True" }],
            });
        });
        updated(&mut object, ("rival", "status"), 2, |object| {
            object["status"]["desiredReplicas"] = 3.into();
        });
        let expected = json!([
            {
                "manager": "kubectl",
                "operation": "Update",
                "apiVersion": "autoscaling/v2",
                "time": "2023-11-14T22:13:20Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": {
                    "f:maxReplicas": {}, "f:metrics": {}, "f:minReplicas": {},
                } },
            },
            {
                "manager": "controller",
                "operation": "Update",
                "apiVersion": "autoscaling/v2",
                "time": "2023-11-14T22:13:21Z",
                "subresource": "status",
                "fieldsType": "FieldsV1",
                "fieldsV1": { "f:status": { "f:conditions": {
                    ".": {},
                    "k:{\"type\":\"AbleToScale\"}": { ".": {}, "f:status": {}, "f:type": {} },
                } } },
            },
            {
                "manager": "rival",
                "operation": "Update",
                "apiVersion": "autoscaling/v2",
                "time": "2023-11-14T22:13:22Z",
                "subresource": "status",
                "fieldsType": "FieldsV1",
                "fieldsV1": { "f:status": { "f:desiredReplicas": {} } },
            },
        ]);
        assert_eq!(object["metadata"]["managedFields"], expected);

        // Who has lost everything is forgotten.
        updated(&mut object, ("controller", "status"), 3, |object| {
            object["status"]["desiredReplicas"] = 4.into();
        });
        let managers: Vec<_> = entries_of(&object).into_iter().map(|e| e.manager).collect();
        assert_eq!(managers, ["kubectl", "controller"]);
    }

    #[test]
    fn a_write_that_changes_nothing_leaves_no_trace() {
        let mut object = autoscaler();
        updated(&mut object, ("a", ""), 0, |object| object["spec"] = json!({ "maxReplicas": 5 }));
        let before = object.clone();
        updated(&mut object, ("b", ""), 1, |_| {});
        // Versions are the server's.
        updated(&mut object, ("b", ""), 1, |object| {
            object["metadata"]["resourceVersion"] = "2".into();
        });
        assert_eq!(object["metadata"]["managedFields"], before["metadata"]["managedFields"]);
    }

    #[test]
    fn fields_of_another_version_are_taken_in_that_version() {
        let mut object = autoscaler();
        object["spec"] = json!({ "maxReplicas": 5, "metrics": [] });
        let old = object.clone();
        let cpu = |percent: u64| {
            json!([{ "type": "Resource", "resource": {
                "name": "cpu",
                "target": { "type": "Utilization", "averageUtilization": percent },
            } }])
        };
        object["spec"]["metrics"] = cpu(50);
        let kinds = Kinds::new();
        let v1 = kinds.of("autoscaling/v1", "HorizontalPodAutoscaler").unwrap();
        let writer = Writer { manager: String::from("old"), subresource: String::new() };
        record_update(&kinds, &v1, &writer, (Some(&old), &mut object), NOW);
        let entries = entries_of(&object);
        assert_eq!(entries[0].api_version, "autoscaling/v1");
        assert_eq!(entries[0].fields.paths(), [".spec.targetCPUUtilizationPercentage"]);
        updated(&mut object, ("new", ""), 1, |object| object["spec"]["metrics"] = cpu(60));
        let entries = entries_of(&object);
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(entries[0].manager, "new");
        assert_eq!(entries[0].fields.paths(), [".spec.metrics"]);
    }

    #[test]
    fn the_oldest_of_many_writers_become_one() {
        let mut object = autoscaler();
        for n in 0..13 {
            updated(&mut object, (&format!("w{n}"), ""), n, |object| {
                object["metadata"]["labels"][format!("l{n}")] = "x".into();
            });
        }
        let entries = entries_of(&object);
        assert_eq!(entries.len(), 10);
        assert_eq!(entries[0].manager, "ancient-changes");
        let labels = ".metadata.labels";
        let expected: Vec<_> = std::iter::once(String::from(labels))
            .chain((0..4).map(|n| format!("{labels}.l{n}")))
            .collect();
        assert_eq!(entries[0].fields.paths(), expected);
    }

    #[test]
    fn writers_are_named_by_the_request_or_its_user_agent() {
        let of = |query: &str, agent: &str| {
            Writer::of_request(&Query::parse(query), agent, "").map(|writer| writer.manager)
        };
        assert_eq!(of("fieldManager=me", "kubectl/v1.36.0").unwrap(), "me");
        assert_eq!(
            of("", "kube-controller-manager/v1.36.0 (linux/amd64)").unwrap(),
            "kube-controller-manager"
        );
        assert_eq!(of("", &"x".repeat(200)).unwrap().len(), 128);
        assert_eq!(of(&format!("fieldManager={}", "x".repeat(129)), "").unwrap_err().code, 422);
    }
}
