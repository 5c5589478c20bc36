//! Server-side apply: a writer says what it wants of an object, has those fields, and is refused fields of others.

use model::Timestamp;
use serde_json::{Map, Value};

use super::compare::{Items, element, fields_of, is_atomic, items_of};
use super::set::FieldSet;
use super::{Entry, Writer, entries_of, put_entries, seen_differences, strip};
use crate::harness::kube::error::{ApiError, ApiResult};
use crate::harness::kube::kinds::{Kind, Kinds};
use crate::harness::kube::objects::rfc3339;

/// Reads the body of an apply.
pub(crate) fn parse_config(body: &[u8]) -> ApiResult<Value> {
    let bad = |why: &str| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let text = std::str::from_utf8(body).map_err(|error| bad(&error.to_string()))?;
    let config: Value = serde_saphyr::from_str(text).map_err(|error| bad(&error.to_string()))?;
    if !config["metadata"]["managedFields"].is_null() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    Ok(config)
}

/// What a writer wants of an object, as clients of the kind see it.
#[derive(Debug)]
pub(crate) struct Applied<'a> {
    pub(crate) config: &'a Value,
    /// Whether fields of others are taken.
    pub(crate) force: bool,
    pub(crate) writer: &'a Writer,
}

impl Applied<'_> {
    fn fields(&self) -> FieldSet {
        let mut fields = fields_of("", self.config);
        strip(&mut fields);
        fields
    }

    fn is_mine(&self, entry: &Entry, kind: &Kind) -> bool {
        entry.is_of(self.writer, true, &kind.api_version())
    }

    /// What the object becomes: with what is wanted, without what this writer wanted before, alone, and no longer does.
    /// `old` is as clients see it.
    pub(crate) fn merged(&self, kind: &Kind, old: &Value) -> Value {
        let mut new = old.clone();
        overlay("", &mut new, self.config);
        let entries = entries_of(old);
        let (mine, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| self.is_mine(entry, kind));
        let mut unwanted = FieldSet::default();
        mine.iter().for_each(|entry| unwanted.insert_all(&entry.fields));
        unwanted.remove_all(&self.fields());
        others.iter().for_each(|entry| unwanted.remove_all(&entry.fields));
        remove("", &mut new, &unwanted);
        new
    }

    /// Notes that this has made `new` of `old`, both as kept.
    ///
    /// # Errors
    /// The conflicts with others, unless they are overruled.
    pub(crate) fn record(
        &self,
        kinds: &Kinds,
        kind: &Kind,
        (old, new): (Option<&Value>, &mut Value),
        now: Timestamp,
    ) -> ApiResult<()> {
        let mut entries = entries_of(new);
        let (mine, fields) = (self.writer, self.fields());
        let mut conflicts = Vec::new();
        for entry in entries.iter_mut().filter(|entry| !self.is_mine(entry, kind)) {
            let differences = seen_differences(kinds, kind, &entry.api_version, (old, new));
            let taken = entry.fields.common(&differences.written);
            if !taken.is_empty() && !self.force {
                conflicts.extend(taken.paths().into_iter().map(|path| (who(entry), path)));
            }
            entry.fields.remove_all(&taken);
            entry.fields.remove_all(&differences.removed);
        }
        if !conflicts.is_empty() {
            return Err(ApiError::apply_conflict(&conflicts));
        }
        let api_version = kind.api_version();
        let before = entries.iter().position(|entry| self.is_mine(entry, kind));
        match before.map(|at| entries.remove(at)) {
            // Time goes on only if something changes.
            Some(same) if same.fields == fields && old == Some(&*new) => entries.push(same),
            _ => entries.push(Entry {
                manager: mine.manager.clone(),
                applied: true,
                api_version,
                subresource: mine.subresource.clone(),
                time: rfc3339(now),
                fields,
            }),
        }
        entries.retain(|entry| !entry.fields.is_empty());
        put_entries(new, entries);
        Ok(())
    }
}

/// A writer, in a message.
fn who(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if !entry.applied {
        text.push_str(&format!(" using {}", entry.api_version));
    }
    text
}

/// Puts what is wanted over what is there.
fn overlay(name: &str, place: &mut Value, wanted: &Value) {
    match wanted {
        Value::Object(wanted) if !is_atomic(name) => {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            for (key, value) in wanted.iter().filter(|(_, value)| !value.is_null()) {
                overlay(key, &mut place[key.as_str()], value);
            }
        }
        Value::Array(wanted) => {
            let items = items_of(name);
            let is_keyed = !matches!(items, Items::Atomic);
            let Some(list) = place.as_array_mut().filter(|_| is_keyed) else {
                *place = Value::Array(wanted.clone());
                return;
            };
            for item in wanted {
                let named = element(item, &items);
                let there = list.iter_mut().find(|there| element(there, &items) == named);
                match there.filter(|_| named.is_some()) {
                    Some(there) => overlay("", there, item),
                    None => list.push(item.clone()),
                }
            }
        }
        _ => *place = wanted.clone(),
    }
}

/// Takes fields away, and what then is empty.
fn remove(name: &str, place: &mut Value, unwanted: &FieldSet) {
    let is_gone = |below: &FieldSet, value: &Value| {
        let is_empty = value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        below.is_member && (below.below.is_empty() || is_empty)
    };
    match place {
        Value::Object(fields) => {
            for (element, below) in &unwanted.below {
                let Some(key) = element.strip_prefix("f:") else { continue };
                let Some(value) = fields.get_mut(key) else { continue };
                remove(key, value, below);
                if is_gone(below, value) {
                    fields.remove(key);
                }
            }
        }
        Value::Array(list) => {
            let items = items_of(name);
            list.retain_mut(|item| {
                let below = element(item, &items).and_then(|named| unwanted.below.get(&named));
                below.is_none_or(|below| {
                    remove("", item, below);
                    !is_gone(below, item)
                })
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn apply(object: &Value, manager: &str, config: &Value, force: bool) -> ApiResult<Value> {
        let kinds = Kinds::new();
        let kind = kinds.of("apps/v1", "Deployment").unwrap();
        let writer = Writer { manager: String::from(manager), subresource: String::new() };
        let applied = Applied { config, force, writer: &writer };
        let mut new = applied.merged(&kind, object);
        applied.record(&kinds, &kind, (Some(object), &mut new), NOW)?;
        Ok(new)
    }

    fn deployment(spec: &Value) -> Value {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": spec })
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_goes() {
        let first =
            deployment(&json!({ "replicas": 2, "containers": [{ "name": "a" }, { "name": "b" }] }));
        let object = apply(&deployment(&Value::Null), "me", &first, false).unwrap();
        assert_eq!(object["spec"], first["spec"]);
        let second = deployment(&json!({ "containers": [{ "name": "b", "image": "i" }] }));
        let object = apply(&object, "me", &second, false).unwrap();
        assert_eq!(object["spec"], second["spec"]);
        let again = apply(&object, "me", &second, false).unwrap();
        assert_eq!(again, object, "nothing has changed");
    }

    #[test]
    fn fields_of_others_are_refused_shared_or_taken() {
        let mine = deployment(&json!({ "replicas": 2, "paused": true }));
        let object = apply(&deployment(&Value::Null), "me", &mine, false).unwrap();
        let other = deployment(&json!({ "replicas": 3 }));
        let refused = apply(&object, "other", &other, false).unwrap_err().status();
        assert_eq!(refused["code"], 409);
        let message = "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas";
        assert_eq!(refused["message"], message);
        assert_eq!(refused["details"]["causes"][0]["reason"], "FieldManagerConflict");

        // The same value is no conflict, and then belongs to both: it stays when one gives it up.
        let same = deployment(&json!({ "replicas": 2 }));
        let shared = apply(&object, "other", &same, false).unwrap();
        let shared = apply(&shared, "me", &deployment(&json!({ "paused": true })), false).unwrap();
        assert_eq!(shared["spec"], mine["spec"]);

        let taken = apply(&object, "other", &other, true).unwrap();
        assert_eq!(taken["spec"], json!({ "replicas": 3, "paused": true }));
        let has = |manager: &str| {
            let entries = entries_of(&taken).into_iter();
            entries
                .filter(|entry| entry.manager == manager)
                .flat_map(|entry| entry.fields.paths())
                .collect::<Vec<_>>()
        };
        assert_eq!(has("me"), [".spec.paused"]);
        assert_eq!(has("other"), [".spec.replicas"]);
    }
}
