//! A `ConfigMap`, as far as it is read: its name and its data. Everything else is dropped while it is parsed, as are entries beyond the bounds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{EXPRESSION_BYTES_MAX, EXPRESSIONS_MAX};

/// What of a `ConfigMap` is read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ExpressionMap {
    #[serde(default, deserialize_with = "meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) data: Data,
}

impl ExpressionMap {
    /// Its namespace and name.
    pub(super) fn name(&self) -> Option<(&str, &str)> {
        Some((self.metadata.namespace.as_deref()?, self.metadata.name.as_deref()?))
    }
}

/// The entries, at most [`EXPRESSIONS_MAX`]: the first by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// By key; `None` for a text of more than [`EXPRESSION_BYTES_MAX`] bytes.
    pub(super) entries: BTreeMap<String, Option<String>>,
    /// Whether there were more.
    pub(super) is_cut: bool,
}

impl Data {
    fn insert(&mut self, key: String, text: Cow<'_, str>) {
        let text = (text.len() <= EXPRESSION_BYTES_MAX).then(|| text.into_owned());
        self.entries.insert(key, text);
        if self.entries.len() > EXPRESSIONS_MAX {
            self.entries.pop_last();
            self.is_cut = true;
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the data of a ConfigMap")
            }

            fn visit_unit<E>(self) -> Result<Data, E> {
                Ok(Data::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
                let mut data = Data::default();
                while let Some((key, text)) = map.next_entry::<String, Cow<'de, str>>()? {
                    data.insert(key, text);
                }
                Ok(data)
            }
        }

        deserializer.deserialize_any(Entries)
    }
}

#[cfg(test)]
impl<'a> FromIterator<(&'a str, &'a str)> for Data {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(entries: I) -> Self {
        let mut data = Self::default();
        for (key, text) in entries {
            data.insert(key.to_owned(), Cow::Borrowed(text));
        }
        data
    }
}

/// Of the metadata what a watch needs: annotations and field managers may be larger than the data.
fn meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary {
        name: Option<String>,
        namespace: Option<String>,
        resource_version: Option<String>,
    }

    let Summary { name, namespace, resource_version } = Summary::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() })
}

impl Resource for ExpressionMap {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Cow::Borrowed("ConfigMap")
    }

    fn group((): &()) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn version((): &()) -> Cow<'_, str> {
        Cow::Borrowed("v1")
    }

    fn plural((): &()) -> Cow<'_, str> {
        Cow::Borrowed("configmaps")
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_read_is_not_kept() {
        let long = "x".repeat(EXPRESSION_BYTES_MAX + 1);
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "load", "namespace": "shop", "resourceVersion": "7",
                "annotations": {"a": "b"}, "managedFields": [{"manager": "kubectl"}]},
            "data": {"rps": "sum(\"a\")\n", "long": long},
            "binaryData": {"blob": "AAAA"},
        });
        let map: ExpressionMap = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(map.name(), Some(("shop", "load")));
        assert_eq!(map.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!((&map.metadata.annotations, &map.metadata.managed_fields), (&None, &None));
        assert_eq!(map.data.entries["rps"].as_deref(), Some("sum(\"a\")\n"));
        assert_eq!(map.data.entries["long"], None);
        // As a client reads it, and without data.
        let map: ExpressionMap = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!(map.data.entries.len(), 2);
        for empty in [r#"{"metadata": {"name": "a"}}"#, r#"{"data": null}"#] {
            let map: ExpressionMap = serde_json::from_str(empty).unwrap();
            assert!(map.data.entries.is_empty() && map.name().is_none());
        }
    }

    #[test]
    fn the_first_keys_count() {
        let keys: Vec<String> = (0..=EXPRESSIONS_MAX).map(|n| format!("m{n:04}")).collect();
        let data: Data = keys.iter().rev().map(|key| (key.as_str(), "up")).collect();
        assert!(data.is_cut);
        assert_eq!(data.entries.len(), EXPRESSIONS_MAX);
        assert!(data.entries.contains_key("m0255") && !data.entries.contains_key("m0256"));
    }
}
