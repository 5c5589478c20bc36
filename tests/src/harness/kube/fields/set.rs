//! Sets of fields as `fieldsV1` writes them: a tree whose keys are `f:NAME`, `k:{KEYS}` and `v:VALUE`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields. A field may be in it together with fields below it, or without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the field that the tree is about is in the set itself.
    pub(super) is_member: bool,
    pub(super) below: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// A field alone.
    pub(super) fn leaf() -> Self {
        Self { is_member: true, below: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }

    /// Puts a set below this field, unless it is empty.
    pub(super) fn put(&mut self, element: String, set: FieldSet) {
        if !set.is_empty() {
            self.below.insert(element, set);
        }
    }

    pub(super) fn insert_all(&mut self, others: &FieldSet) {
        self.is_member |= others.is_member;
        for (element, set) in &others.below {
            self.below.entry(element.clone()).or_default().insert_all(set);
        }
    }

    pub(super) fn remove_all(&mut self, others: &FieldSet) {
        self.is_member &= !others.is_member;
        for (element, set) in &others.below {
            if let Some(mine) = self.below.get_mut(element) {
                mine.remove_all(set);
                if mine.is_empty() {
                    self.below.remove(element);
                }
            }
        }
    }

    /// What is in both.
    pub(super) fn common(&self, others: &FieldSet) -> FieldSet {
        let mut common =
            Self { is_member: self.is_member && others.is_member, below: BTreeMap::new() };
        for (element, set) in &self.below {
            if let Some(other) = others.below.get(element) {
                common.put(element.clone(), set.common(other));
            }
        }
        common
    }

    /// The fields in it, as messages name them: `.spec.maxReplicas`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.add_paths("", &mut paths);
        paths
    }

    fn add_paths(&self, path: &str, paths: &mut Vec<String>) {
        if self.is_member {
            paths.push(String::from(path));
        }
        for (element, set) in &self.below {
            let path = match element.split_once(':') {
                Some(("f", name)) => format!("{path}.{name}"),
                // `k:{"type":"Ready"}` is `[type="Ready"]`.
                Some(("k", keys)) => {
                    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                    let keys: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    format!("{path}[{}]", keys.join(","))
                }
                Some((_, value)) => format!("{path}[={value}]"),
                None => format!("{path}[{element}]"),
            };
            set.add_paths(&path, paths);
        }
    }

    /// Reads a `fieldsV1`.
    pub(super) fn from_json(json: &Value) -> Self {
        let fields = json.as_object();
        let mut set = Self::default();
        for (element, value) in fields.into_iter().flatten() {
            if element == "." {
                set.is_member = true;
                continue;
            }
            let is_leaf = value.as_object().is_none_or(Map::is_empty);
            let below = if is_leaf { Self::leaf() } else { Self::from_json(value) };
            set.below.insert(element.clone(), below);
        }
        set
    }

    /// Writes a `fieldsV1`.
    pub(super) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if self.is_member && !self.below.is_empty() {
            fields.insert(String::from("."), Value::Object(Map::new()));
        }
        for (element, set) in &self.below {
            fields.insert(element.clone(), set.to_json());
        }
        Value::Object(fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An example of the API's documentation on server-side apply, in small.
    fn example() -> Value {
        json!({
            "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
            "f:status": { "f:conditions": {
                ".": {},
                "k:{\"type\":\"Ready\"}": { ".": {}, "f:status": {}, "f:type": {} },
            } },
        })
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(FieldSet::from_json(&example()).to_json(), example());
    }

    #[test]
    fn fields_have_names() {
        let conditions = ".status.conditions";
        assert_eq!(
            FieldSet::from_json(&example()).paths(),
            [
                String::from(".metadata.labels"),
                String::from(".metadata.labels.app"),
                String::from(conditions),
                format!("{conditions}[type=\"Ready\"]"),
                format!("{conditions}[type=\"Ready\"].status"),
                format!("{conditions}[type=\"Ready\"].type"),
            ]
        );
    }

    #[test]
    fn sets_are_added_taken_away_and_cut() {
        let (a, b) = (json!({ "f:a": {}, "f:b": {} }), json!({ "f:b": {}, "f:c": { "f:d": {} } }));
        let (a, b) = (FieldSet::from_json(&a), FieldSet::from_json(&b));
        let mut both = a.clone();
        both.insert_all(&b);
        assert_eq!(both.paths(), [".a", ".b", ".c.d"]);
        assert_eq!(a.common(&b).paths(), [".b"]);
        both.remove_all(&b);
        assert_eq!(both.paths(), [".a"]);
        both.remove_all(&a);
        assert!(both.is_empty());
    }
}
