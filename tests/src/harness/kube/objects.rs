//! Creates, updates, patches and deletes objects, with the checks that clients rely on.

use std::sync::Arc;

use model::{Clock, SystemClock};
use serde_json::{Map, Value, json};

use super::autoscaler;
use super::error::{ApiError, ApiResult};
use super::fields::{self, Applied, Write, Writer};
use super::kinds::{Kind, Kinds};
use super::patch;
use super::route::{Query, ResourcePath};
use super::selector::{FieldSelector, LabelSelector};
use super::store::{ObjectKey, Store, Stored};
use super::view;

/// What a subresource lets a write change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status, if that is a subresource.
    Main,
    /// The status alone.
    Status,
}

/// Objects and their kinds.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) store: Store,
    pub(crate) kinds: Kinds,
}

pub(crate) fn rfc3339(ms: i64) -> String {
    let seconds = jiff::Timestamp::from_second(ms.div_euclid(1000)).unwrap_or_default();
    seconds.to_string()
}

/// Which objects a list, watch or deletion is about.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) namespace: String,
    /// Of a watch of one object.
    pub(crate) name: String,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    pub(crate) fn parse(path: &ResourcePath, query: &Query) -> ApiResult<Self> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default());
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default());
        let unparsable = |what: &str| {
            ApiError::bad_request(format!("unable to parse requirement of the {what}"))
        };
        Ok(Self {
            namespace: path.namespace.clone(),
            name: path.name.clone(),
            labels: labels.ok_or_else(|| unparsable("label selector"))?,
            fields: fields.ok_or_else(|| unparsable("field selector"))?,
        })
    }

    /// Whether contents matter.
    pub(crate) fn is_by_content(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub(crate) fn selects_key(&self, key: &ObjectKey) -> bool {
        (self.namespace.is_empty() || self.namespace == key.0)
            && (self.name.is_empty() || self.name == key.1)
    }

    pub(crate) fn selects(&self, object: &Stored) -> bool {
        if !self.selects_key(&object.key) {
            return false;
        }
        if !self.is_by_content() {
            return true;
        }
        let value = object.value();
        self.labels.selects(&value) && self.fields.selects(&value)
    }
}

impl Objects {
    pub(crate) fn get(&self, kind: &Kind, path: &ResourcePath) -> ApiResult<Value> {
        let key = (path.namespace.clone(), path.name.clone());
        let object = self.store.get(&kind.collection, &key).ok_or_else(|| not_found(kind, path))?;
        Ok(view::from_stored(kind, object.value()))
    }

    /// Creates what a client sends.
    pub(crate) fn create(
        &self,
        kind: &Kind,
        path: &ResourcePath,
        query: &Query,
        object: Value,
        write: Write<'_>,
    ) -> ApiResult<Value> {
        check_type(kind, &object)?;
        let mut object = view::to_stored(kind, object);
        let metadata = metadata(&mut object);
        metadata.remove("managedFields");
        if metadata.get("resourceVersion").is_some_and(|version| version != "") {
            return Err(ApiError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        metadata.remove("resourceVersion");
        if kind.namespaced {
            check_namespace(metadata, &path.namespace)?;
            let namespace = self.kinds.find("", "v1", "namespaces");
            let namespaces = namespace.map(|n| n.collection.clone()).unwrap_or_default();
            let key = (String::new(), path.namespace.clone());
            if self.store.get(&namespaces, &key).is_none() {
                return Err(ApiError::not_found("", "namespaces", &path.namespace));
            }
        } else {
            metadata.remove("namespace");
        }
        let name = match metadata.get("name").and_then(Value::as_str).filter(|n| !n.is_empty()) {
            Some(name) => String::from(name),
            None => {
                let generate = metadata.get("generateName").and_then(Value::as_str);
                let generate = generate.filter(|prefix| !prefix.is_empty()).ok_or_else(|| {
                    let why = "metadata.name: Required value: name or generateName is required";
                    ApiError::invalid(&kind.group, &kind.kind, "", why)
                })?;
                format!("{generate}{:05x}", self.store.next_object())
            }
        };
        metadata.insert(String::from("name"), name.as_str().into());
        if kind.has_status && kind.resource != "nodes" {
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        self.set_defaults(kind, &mut object);
        check_content(kind, &object)?;
        write.record(&self.kinds, kind, (None, &mut object), SystemClock.now())?;
        let key = (path.namespace.clone(), name);
        let exists = || ApiError::already_exists(&kind.group, &kind.resource, &key.1);
        if query.get("dryRun").is_some() {
            let there = self.store.get(&kind.collection, &key).is_some();
            return if there { Err(exists()) } else { Ok(view::from_stored(kind, object)) };
        }
        let created = self.store.change(&kind.collection, &key, |old, version| {
            if old.is_some() {
                return Err(exists());
            }
            set_version(&mut object, version);
            Ok(Some(Some(object)))
        })?;
        Ok(self.after_change(kind, created))
    }

    fn set_defaults(&self, kind: &Kind, object: &mut Value) {
        let number = self.store.next_object();
        let metadata = metadata(object);
        metadata.insert(String::from("uid"), uid(number).into());
        let now = rfc3339(SystemClock.now());
        metadata.insert(String::from("creationTimestamp"), now.into());
        if kind.has_status && !matches!(kind.resource.as_str(), "nodes" | "pods" | "namespaces") {
            metadata.insert(String::from("generation"), 1.into());
        }
        if kind.group == "apps" && kind.scale.is_some() && object["spec"]["replicas"].is_null() {
            object["spec"]["replicas"] = 1.into();
        }
        if kind.resource == "pods" && kind.group.is_empty() && object["status"].is_null() {
            object["status"] = json!({ "phase": "Pending", "qosClass": "BestEffort" });
        }
    }

    /// Puts an object there as it is, status included, whatever was there: for tests, not for clients. Nobody is noted as its writer.
    pub(crate) fn put(&self, kind: &Kind, mut object: Value) -> Value {
        let fields = metadata(&mut object);
        let namespace = if kind.namespaced {
            let namespace = fields.entry("namespace").or_insert_with(|| "default".into());
            String::from(namespace.as_str().unwrap_or_default())
        } else {
            String::new()
        };
        let name = String::from(fields.get("name").and_then(Value::as_str).unwrap_or_default());
        let mut object = view::to_stored(kind, object);
        let key = (namespace, name);
        let put = self.store.change(&kind.collection, &key, |old, version| {
            match old.map(|old| old.value()) {
                Some(old) => {
                    inherit(&old, &mut object);
                    fields::carry_over(&old, &mut object);
                }
                None => {
                    let fields = metadata(&mut object);
                    fields.entry("uid").or_insert_with(|| uid(version | 1 << 40).into());
                    let created = fields.entry("creationTimestamp");
                    created.or_insert_with(|| rfc3339(SystemClock.now()).into());
                }
            }
            set_version(&mut object, version);
            Ok::<_, ApiError>(Some(Some(object)))
        });
        self.after_change(kind, put.expect("putting is never refused"))
    }

    /// Changes an object in place as [`put`](Self::put) would, with nothing in between; `None` if it is not there.
    pub(crate) fn edit(
        &self,
        kind: &Kind,
        path: &ResourcePath,
        edit: impl FnOnce(&mut Value),
    ) -> Option<Value> {
        let key = (path.namespace.clone(), path.name.clone());
        let edited = self.store.change(&kind.collection, &key, |old, version| {
            let old = old.ok_or(())?.value();
            let mut object = view::from_stored(kind, old.clone());
            edit(&mut object);
            let mut object = view::to_stored(kind, object);
            inherit(&old, &mut object);
            set_version(&mut object, version);
            Ok::<_, ()>(Some(Some(object)))
        });
        edited.ok().map(|edited| self.after_change(kind, edited))
    }

    /// Replaces an object, or its status, by what a client sends.
    pub(crate) fn update(
        &self,
        kind: &Kind,
        path: &ResourcePath,
        query: &Query,
        part: Part,
        object: Value,
        writer: &Writer,
    ) -> ApiResult<Value> {
        check_type(kind, &object)?;
        let mut object = view::to_stored(kind, object);
        if kind.namespaced {
            check_namespace(metadata(&mut object), &path.namespace)?;
        }
        check_name(&object, path)?;
        let unconditional = object["metadata"]["resourceVersion"].as_str().unwrap_or("").is_empty();
        let is_custom = kind.group.contains('.') && !kind.group.ends_with(".k8s.io");
        if unconditional && (kind.resource == "leases" || is_custom) {
            let why =
                "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
            return Err(ApiError::invalid(&kind.group, &kind.kind, &path.name, why));
        }
        self.replace(kind, path, query, part, Write::Update(writer), |_| Ok(object))
    }

    /// Patches an object or its status.
    pub(crate) fn patch(
        &self,
        kind: &Kind,
        path: &ResourcePath,
        query: &Query,
        part: Part,
        (body, content_type): (&[u8], &str),
        writer: &Writer,
    ) -> ApiResult<Value> {
        self.replace(kind, path, query, part, Write::Update(writer), |old| {
            let old = view::from_stored(kind, old.clone());
            let patched = patch::apply(&old, body, content_type)?;
            Ok(view::to_stored(kind, patched))
        })
    }

    /// Server-side apply of `config` to an object or its status. Says too whether this has made the object.
    pub(crate) fn apply(
        &self,
        kind: &Kind,
        path: &ResourcePath,
        query: &Query,
        part: Part,
        config: &Value,
        writer: &Writer,
    ) -> ApiResult<(bool, Value)> {
        if query.get("fieldManager").is_none() {
            let why = "fieldManager: Required value: is required for apply patch";
            return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", why));
        }
        check_type(kind, config)?;
        check_name(config, path)?;
        let applied = Applied { config, force: query.is_true("force"), writer };
        let key = (path.namespace.clone(), path.name.clone());
        let is_there = self.store.get(&kind.collection, &key).is_some();
        if part == Part::Main && writer.subresource.is_empty() && !is_there {
            let created = self.create(kind, path, query, config.clone(), Write::Apply(&applied))?;
            return Ok((true, created));
        }
        let written = self.replace(kind, path, query, part, Write::Apply(&applied), |old| {
            let old = view::from_stored(kind, old.clone());
            Ok(view::to_stored(kind, applied.merged(kind, &old)))
        })?;
        Ok((false, written))
    }

    /// Replaces an object by what `new` makes of it, both as kept.
    pub(crate) fn replace(
        &self,
        kind: &Kind,
        path: &ResourcePath,
        query: &Query,
        part: Part,
        write: Write<'_>,
        new: impl FnOnce(&Value) -> ApiResult<Value>,
    ) -> ApiResult<Value> {
        let key = (path.namespace.clone(), path.name.clone());
        let mut tried = None;
        let dry_run = query.get("dryRun").is_some();
        let changed = self.store.change(&kind.collection, &key, |old, version| {
            let old = old.ok_or_else(|| not_found(kind, path))?.value();
            let new = merged(kind, part, &old, new(&old)?)?;
            let mut new = match (new, write) {
                (Some(new), _) => new,
                // Who wants what is there already has it from now on.
                (None, Write::Apply(_)) => old.clone(),
                (None, Write::Update(_)) => return Ok(None),
            };
            if part == Part::Main {
                check_content(kind, &new)?;
            }
            write.record(&self.kinds, kind, (Some(&old), &mut new), SystemClock.now())?;
            if new == old {
                return Ok(None);
            }
            if dry_run {
                tried = Some(new);
                return Ok(None);
            }
            if is_finalized(&new) {
                return Ok(Some(None));
            }
            set_version(&mut new, version);
            Ok(Some(Some(new)))
        })?;
        Ok(match tried {
            Some(tried) => view::from_stored(kind, tried),
            None => self.after_change(kind, changed),
        })
    }

    /// Deletes an object; `Some` is what is left of it while finalizers hold it.
    pub(crate) fn delete(
        &self,
        kind: &Kind,
        path: &ResourcePath,
        query: &Query,
        options: &Value,
    ) -> ApiResult<Value> {
        let key = (path.namespace.clone(), path.name.clone());
        let mut deleted = Value::Null;
        let dry_run = query.get("dryRun").is_some() || !options["dryRun"].is_null();
        let left = self.store.change(&kind.collection, &key, |old, version| {
            let old = old.ok_or_else(|| not_found(kind, path))?.value();
            for field in ["uid", "resourceVersion"] {
                let wanted = &options["preconditions"][field];
                if !wanted.is_null() && *wanted != old["metadata"][field] {
                    let what = format!(
                        "{field} in precondition: {wanted}, {field} in object meta: {}",
                        old["metadata"][field]
                    );
                    let (group, resource) = (&kind.group, &kind.resource);
                    return Err(ApiError::precondition(group, resource, &path.name, &what));
                }
            }
            deleted = old.clone();
            if dry_run {
                return Ok(None);
            }
            let finalizers = old["metadata"]["finalizers"].as_array();
            if finalizers.is_none_or(Vec::is_empty) {
                return Ok(Some(None));
            }
            if !old["metadata"]["deletionTimestamp"].is_null() {
                return Ok(None);
            }
            let mut dying = old;
            dying["metadata"]["deletionTimestamp"] = rfc3339(SystemClock.now()).into();
            dying["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            set_version(&mut dying, version);
            Ok(Some(Some(dying)))
        })?;
        if let Some(left) = left {
            return Ok(view::from_stored(kind, left.value()));
        }
        if kind.resource == "customresourcedefinitions" {
            self.kinds.undefine(&deleted);
        }
        Ok(json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {
                "name": path.name,
                "group": kind.group,
                "kind": kind.resource,
                "uid": deleted["metadata"]["uid"],
            },
        }))
    }

    fn after_change(&self, kind: &Kind, object: Option<Arc<Stored>>) -> Value {
        let Some(object) = object else { return Value::Null };
        let object = object.value();
        if kind.resource == "customresourcedefinitions" && self.kinds.define(&object).is_some() {
            let names = object["spec"]["names"].clone();
            let is_established = object.pointer("/status/acceptedNames") == Some(&names);
            if !is_established {
                let mut established = object;
                established["status"] = json!({
                    "acceptedNames": names,
                    "conditions": [
                        { "type": "NamesAccepted", "status": "True", "reason": "NoConflicts" },
                        { "type": "Established", "status": "True", "reason": "InitialNamesAccepted" },
                    ],
                });
                return self.put(kind, established);
            }
        }
        view::from_stored(kind, object)
    }
}

/// What a write of `part` makes of `old`; `None` if nothing changes.
fn merged(kind: &Kind, part: Part, old: &Value, mut new: Value) -> ApiResult<Option<Value>> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let conflict = || ApiError::conflict(&kind.group, &kind.resource, name);
    let given = |field: &str| new["metadata"][field].as_str().filter(|value| !value.is_empty());
    if given("resourceVersion").is_some_and(|version| old["metadata"]["resourceVersion"] != version)
    {
        return Err(conflict());
    }
    if let Some(uid) = given("uid").filter(|uid| old["metadata"]["uid"] != *uid) {
        let what = format!(
            "UID in precondition: {uid}, UID in object meta: {}",
            old["metadata"]["uid"].as_str().unwrap_or_default()
        );
        return Err(ApiError::precondition(&kind.group, &kind.resource, name, &what));
    }
    if part == Part::Status {
        let mut with_status = old.clone();
        with_status["status"] = new["status"].take();
        // Of most kinds a write of the status changes nothing else; of an autoscaler it takes the metadata that is sent.
        if autoscaler::is_kind(kind) {
            inherit(old, &mut new);
            fields::carry_over(old, &mut new);
            new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            with_status["metadata"] = new["metadata"].take();
        }
        return Ok((with_status != *old).then_some(with_status));
    }
    inherit(old, &mut new);
    fields::carry_over(old, &mut new);
    if kind.has_status && kind.resource != "nodes" {
        match old.get("status") {
            Some(status) => new["status"] = status.clone(),
            None => {
                new.as_object_mut().map(|fields| fields.remove("status"));
            }
        }
    }
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    if new == *old {
        return Ok(None);
    }
    let content = |object: &Value| {
        let fields = object.as_object().into_iter().flatten();
        let fields = fields.filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"));
        fields.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>()
    };
    if let Some(generation) = old["metadata"]["generation"].as_i64() {
        let changed = content(old) != content(&new);
        new["metadata"]["generation"] = (generation + i64::from(changed)).into();
    }
    Ok(Some(new))
}

/// Keeps what a write cannot change.
fn inherit(old: &Value, new: &mut Value) {
    let metadata = metadata(new);
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(String::from(field), value.clone()),
            None => metadata.remove(field),
        };
    }
}

fn is_finalized(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null()
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}

fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("just made one")
}

fn set_version(object: &mut Value, version: u64) {
    object["metadata"]["resourceVersion"] = version.to_string().into();
}

fn uid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn not_found(kind: &Kind, path: &ResourcePath) -> ApiError {
    ApiError::not_found(&kind.group, &kind.resource, &path.name)
}

fn check_type(kind: &Kind, object: &Value) -> ApiResult<()> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let expected = kind.api_version();
    if !api_version.is_empty() && api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version \
             ({expected})"
        )));
    }
    let name = object["kind"].as_str().unwrap_or_default();
    if !name.is_empty() && name != kind.kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({name}) does not match the expected kind ({})",
            kind.kind
        )));
    }
    if object.is_object() { Ok(()) } else { Err(ApiError::bad_request("not an object")) }
}

/// What a real server refuses of objects whose content matters here.
fn check_content(kind: &Kind, object: &Value) -> ApiResult<()> {
    if !autoscaler::is_kind(kind) {
        return Ok(());
    }
    let errors = autoscaler::validate(object);
    let why = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(&kind.group, &kind.kind, name, &why).because(&errors))
}

fn check_name(object: &Value, path: &ResourcePath) -> ApiResult<()> {
    if object["metadata"]["name"] == path.name {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({}) does not match the name on the URL ({})",
        object["metadata"]["name"].as_str().unwrap_or_default(),
        path.name
    )))
}

fn check_namespace(metadata: &mut Map<String, Value>, namespace: &str) -> ApiResult<()> {
    let given = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if namespace.is_empty() {
        return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
    }
    metadata.insert(String::from("namespace"), namespace.into());
    Ok(())
}
