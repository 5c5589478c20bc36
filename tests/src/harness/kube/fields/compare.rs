//! Which fields of an object differ from those of another, and which fields an object has.
//!
//! What the API's schemas say of lists and maps is here as far as it concerns objects that clients of this server write; a list that is
//! not known is one field, as for a type whose schema says nothing.

use serde_json::{Map, Value};

use super::set::FieldSet;

/// How the items of a list are told apart.
pub(super) enum Items {
    /// They are not: the list is one field.
    Atomic,
    /// By these fields.
    Keyed(&'static [&'static str]),
    /// By what they are.
    Set,
}

/// Lists whose items have keys, and the keys.
const KEYED: [(&str, &[&str]); 12] = [
    ("conditions", &["type"]),
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ports", &["containerPort", "protocol"]),
    ("imagePullSecrets", &["name"]),
    ("addresses", &["type"]),
    ("hostAliases", &["ip"]),
    ("ownerReferences", &["uid"]),
];

/// Maps whose keys are the user's: each is a field itself besides its entries.
const MAPS: [&str; 8] = [
    "labels",
    "annotations",
    "data",
    "binaryData",
    "nodeSelector",
    "requests",
    "limits",
    "capacity",
];

/// How the items of the list in the field `name` are told apart.
pub(super) fn items_of(name: &str) -> Items {
    if name == "finalizers" {
        return Items::Set;
    }
    let found = KEYED.iter().find(|(list, _)| *list == name);
    found.map_or(Items::Atomic, |(_, keys)| Items::Keyed(keys))
}

/// Whether the object in the field `name` is one field.
pub(super) fn is_atomic(name: &str) -> bool {
    matches!(
        name,
        "selector" | "fieldRef" | "secretKeyRef" | "configMapKeyRef" | "resourceFieldRef"
    )
}

/// The name of an item among those of its list; `None` if it has not what they are told apart by.
pub(super) fn element(item: &Value, items: &Items) -> Option<String> {
    match items {
        Items::Atomic => None,
        Items::Set => Some(format!("v:{item}")),
        Items::Keyed(keys) => {
            let mut named = Map::new();
            for key in *keys {
                let value = item.get(*key).cloned().or_else(|| {
                    // The only key with a default.
                    (*key == "protocol").then(|| Value::from("TCP"))
                });
                named.insert(String::from(*key), value?);
            }
            Some(format!("k:{}", Value::Object(named)))
        }
    }
}

/// The items of a list by name; `None` if it is one field.
fn named<'a>(name: &str, list: &'a [Value]) -> Option<Vec<(String, &'a Value)>> {
    let items = items_of(name);
    list.iter().map(|item| Some((element(item, &items)?, item))).collect()
}

fn present(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(_, value)| !value.is_null())
}

/// All fields of what is in the field `name`.
pub(super) fn fields_of(name: &str, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    match value {
        Value::Object(fields) if !is_atomic(name) => {
            for (key, value) in present(fields) {
                set.put(format!("f:{key}"), fields_of(key, value));
            }
            set.is_member = MAPS.contains(&name) || set.below.is_empty();
        }
        Value::Array(list) => {
            set.is_member = true;
            for (element, item) in named(name, list).unwrap_or_default() {
                let mut below = fields_of("", item);
                below.is_member = true;
                set.put(element, below);
            }
        }
        _ => set.is_member = true,
    }
    set
}

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// In the new one, with another value or none before.
    pub(super) written: FieldSet,
    /// In the old one alone.
    pub(super) removed: FieldSet,
}

impl Differences {
    fn put(&mut self, element: &str, below: Differences) {
        self.written.put(String::from(element), below.written);
        self.removed.put(String::from(element), below.removed);
    }
}

/// What differs between what is in the field `name` before and after.
pub(super) fn differences(name: &str, old: Option<&Value>, new: Option<&Value>) -> Differences {
    let mut found = Differences::default();
    let (old, new) = (old.filter(|old| !old.is_null()), new.filter(|new| !new.is_null()));
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => found.written = fields_of(name, new),
        (Some(old), None) => found.removed = fields_of(name, old),
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) if !is_atomic(name) => {
            for (key, value) in present(old) {
                found.put(&format!("f:{key}"), differences(key, Some(value), new.get(key)));
            }
            for (key, value) in present(new) {
                if old.get(key).is_none_or(Value::is_null) {
                    found.put(&format!("f:{key}"), differences(key, None, Some(value)));
                }
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            let (Some(old), Some(new)) = (named(name, old), named(name, new)) else {
                found.written = FieldSet::leaf();
                return found;
            };
            let find = |items: &[(String, &Value)], element: &str| {
                items.iter().any(|(other, _)| other == element)
            };
            for (element, item) in &old {
                let new = new.iter().find(|(other, _)| other == element).map(|(_, item)| *item);
                let mut below = differences("", Some(item), new);
                below.removed.is_member |= new.is_none();
                found.put(element, below);
            }
            for (element, item) in new.iter().filter(|(element, _)| !find(&old, element)) {
                let mut below = differences("", None, Some(item));
                below.written.is_member = true;
                found.put(element, below);
            }
        }
        (Some(old), Some(new)) => {
            found.removed = fields_of(name, old);
            found.written = fields_of(name, new);
            found.removed.remove_all(&found.written);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(old: &Value, new: &Value, written: &[&str], removed: &[&str]) {
        let found = differences("", Some(old), Some(new));
        assert_eq!(found.written.paths(), written, "written");
        assert_eq!(found.removed.paths(), removed, "removed");
    }

    #[test]
    fn fields_are_compared_each() {
        check(
            &json!({ "a": 1, "b": { "c": 1, "d": 2 }, "gone": { "e": 1 } }),
            &json!({ "a": 1, "b": { "c": 2, "d": 2 }, "n": null, "new": { "f": {} } }),
            &[".b.c", ".new.f"],
            &[".gone.e"],
        );
    }

    #[test]
    fn lists_with_keys_are_compared_by_item_and_others_as_one() {
        check(
            &json!({ "metrics": [1, 2], "conditions": [
                { "type": "A", "status": "True" },
                { "type": "B", "status": "True" },
            ] }),
            &json!({ "metrics": [1, 3], "conditions": [
                { "type": "C", "status": "True" },
                { "type": "A", "status": "False" },
            ] }),
            &[
                ".conditions[type=\"A\"].status",
                ".conditions[type=\"C\"]",
                ".conditions[type=\"C\"].status",
                ".conditions[type=\"C\"].type",
                ".metrics",
            ],
            &[
                ".conditions[type=\"B\"]",
                ".conditions[type=\"B\"].status",
                ".conditions[type=\"B\"].type",
            ],
        );
    }

    #[test]
    fn maps_are_fields_besides_their_entries() {
        let labels = json!({ "labels": { "app": "web" } });
        check(&json!({}), &labels, &[".labels", ".labels.app"], &[]);
        check(&labels, &json!({ "labels": { "app": "db" } }), &[".labels.app"], &[]);
        let selector = json!({ "selector": { "matchLabels": { "a": "b" } } });
        check(&json!({}), &selector, &[".selector"], &[]);
    }
}
