//! How labels and Kubernetes resources belong together.

use std::collections::BTreeMap;

use model::Regex;

use super::config::{ConfigError, GroupResource, ResourceMapping};
use super::mapping::{ApiResource, ResourceMap, qualified, sanitized};
use super::template::{Template, Value};

/// The fields that a template for labels has.
const FIELDS: [&str; 2] = ["Group", "Resource"];

/// The resource that namespaces are.
const NAMESPACES: &str = "namespaces";

/// Converts label names to resources and back.
#[derive(Clone, Debug)]
pub(crate) struct LabelMapping {
    overrides: BTreeMap<String, GroupResource>,
    template: Option<LabelTemplate>,
}

#[derive(Clone, Debug)]
struct LabelTemplate {
    template: Template,
    /// The template with groups where group and resource stand.
    pattern: Regex,
    has_group: bool,
}

/// Why a resource has no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLabel {
    /// Nothing in the rule says which.
    #[error("no label is configured for resource {0}")]
    NotConfigured(String),
    /// The template gives something that is not a label name.
    #[error("the template makes {label:?} of resource {resource}, which is not a label name")]
    NotAName {
        /// The resource.
        resource: String,
        /// What the template gives.
        label: String,
    },
    /// The template cannot be rendered.
    #[error("unable to convert resource {resource} into label: {reason}")]
    Template {
        /// The resource.
        resource: String,
        /// Why.
        reason: String,
    },
}

impl LabelMapping {
    /// Reads a mapping; `place` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for templates that are not understood or do not contain the resource.
    pub(crate) fn new(config: &ResourceMapping, place: &str) -> Result<Self, ConfigError> {
        for label in config.overrides.keys() {
            if !model::is_legacy_label_name(label) {
                return Err(ConfigError::Value {
                    place: format!("{place}.overrides"),
                    reason: format!("{label:?} is not a label name"),
                });
            }
        }
        let template = match config.template.as_str() {
            "" => None,
            source => Some(LabelTemplate::new(source).map_err(|reason| ConfigError::Value {
                place: format!("{place}.template"),
                reason,
            })?),
        };
        Ok(Self { overrides: config.overrides.clone(), template })
    }

    /// The resource that a label of this name holds the name of.
    pub(crate) fn resource<'m>(
        &self,
        label: &str,
        map: &'m ResourceMap,
    ) -> Option<&'m ApiResource> {
        if let Some(GroupResource { group, resource }) = self.overrides.get(label) {
            return map.resolve(group, resource);
        }
        let template = self.template.as_ref()?;
        let captures = template.pattern.captures(label)?;
        let group = captures.name("group").unwrap_or_default();
        let found = map.resolve_label(group, captures.name("resource")?);
        // A group with underscores can be split in more than one way.
        found.or_else(|| template.has_group.then(|| template.resource(label, map)).flatten())
    }

    /// Labels that stand for a resource that is not in `map`: they have no effect.
    pub(crate) fn unresolved<'m>(
        &'m self,
        map: &'m ResourceMap,
    ) -> impl Iterator<Item = (&'m str, String)> {
        let unresolved = self
            .overrides
            .iter()
            .filter(|(_, own)| map.resolve(&own.group, &own.resource).is_none());
        unresolved.map(|(label, own)| (label.as_str(), qualified(&own.group, &own.resource)))
    }

    /// The label that holds the names of `resource`.
    ///
    /// # Errors
    /// [`NoLabel`]
    pub(crate) fn label(
        &self,
        resource: &ApiResource,
        map: &ResourceMap,
    ) -> Result<String, NoLabel> {
        let overridden = self.overrides.iter().find(|(_, own)| {
            map.resolve(&own.group, &own.resource).is_some_and(|own| own == resource)
        });
        if let Some((label, _)) = overridden {
            return Ok(label.clone());
        }
        let Some(LabelTemplate { template, .. }) = &self.template else {
            return Err(NoLabel::NotConfigured(resource.qualified()));
        };
        let rendered = render(template, &sanitized(&resource.group), &resource.singular);
        let label = rendered
            .map_err(|reason| NoLabel::Template { resource: resource.qualified(), reason })?;
        if !model::is_legacy_label_name(&label) {
            return Err(NoLabel::NotAName { resource: resource.qualified(), label });
        }
        Ok(label)
    }

    /// The label that holds namespaces.
    ///
    /// # Errors
    /// [`NoLabel`]
    pub(crate) fn namespace_label(&self, map: &ResourceMap) -> Result<String, NoLabel> {
        let key = GroupResource { group: String::new(), resource: String::from(NAMESPACES) };
        match map.get(&key) {
            Some(namespaces) => self.label(namespaces, map),
            None => Err(NoLabel::NotConfigured(String::from(NAMESPACES))),
        }
    }
}

impl LabelTemplate {
    fn new(source: &str) -> Result<Self, String> {
        let template = Template::parse(source, &FIELDS).map_err(|error| error.to_string())?;
        let expression = render(&template, "(?P<group>.+?)", "(?P<resource>.+?)")?;
        if !expression.contains("(?P<resource>") {
            return Err(String::from("must include at least `<<.Resource>>`"));
        }
        let pattern = Regex::anchored(&expression).map_err(|error| error.to_string())?;
        let has_group = expression.contains("(?P<group>");
        Ok(Self { template, pattern, has_group })
    }

    /// The resource that the template makes `label` of.
    fn resource<'m>(&self, label: &str, map: &'m ResourceMap) -> Option<&'m ApiResource> {
        map.iter().find(|resource| {
            let rendered = render(&self.template, &sanitized(&resource.group), &resource.singular);
            rendered.is_ok_and(|rendered| rendered == label)
        })
    }
}

fn render(template: &Template, group: &str, resource: &str) -> Result<String, String> {
    let fields = [("Group", Value::from(group)), ("Resource", Value::from(resource))];
    template.render(&fields).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(yaml: &str) -> Result<LabelMapping, ConfigError> {
        LabelMapping::new(&serde_saphyr::from_str(yaml).unwrap(), "resources")
    }

    #[test]
    fn labels_become_resources_and_back() {
        let map = ResourceMap::builtin();
        let overrides =
            "{overrides: {ns: {resource: namespace}, d: {group: apps, resource: deployment}}}";
        let prefixed = "{template: 'kube_<<.Group>>_<<.Resource>>'}";
        let conditional = "{template: '<< if .Group >><< .Group >>_<< end >><< .Resource >>'}";
        for (yaml, label, expected) in [
            (overrides, "ns", Some("namespaces")),
            (overrides, "d", Some("deployments.apps")),
            (overrides, "pod", None),
            ("{template: '<<.Resource>>'}", "pod", Some("pods")),
            ("{template: '<<.Resource>>'}", "instance", None),
            (
                "{template: '<<.Resource>>', overrides: {pod: {resource: node}}}",
                "pod",
                Some("nodes"),
            ),
            (prefixed, "kube_apps_deployment", Some("deployments.apps")),
            (prefixed, "kube_networking_k8s_io_ingress", Some("ingresses.networking.k8s.io")),
            (conditional, "apps_deployment", Some("deployments.apps")),
        ] {
            let mapping = mapping(yaml).unwrap();
            let found = mapping.resource(label, &map);
            assert_eq!(found.map(ApiResource::qualified).as_deref(), expected, "{yaml} {label}");
            if let Some(found) = found {
                assert_eq!(mapping.label(found, &map).as_deref(), Ok(label), "{yaml}");
            }
        }
        let some = mapping("{overrides: {a: {group: apps, resource: pod}, pod: {resource: pod}}}");
        let unresolved: Vec<_> = some.as_ref().unwrap().unresolved(&map).collect();
        assert_eq!(unresolved, [("a", String::from("pod.apps"))]);
        let only = mapping(overrides).unwrap();
        assert_eq!(only.namespace_label(&map).as_deref(), Ok("ns"));
        let pods = map.resolve("", "pod").unwrap();
        assert_eq!(only.label(pods, &map), Err(NoLabel::NotConfigured(String::from("pods"))));
    }

    #[test]
    fn mistakes_are_found_when_the_mapping_is_read() {
        for (yaml, reason) in [
            ("{template: 'kube_<<.Group>>'}", "must include at least"),
            ("{template: '<<.Name>>'}", "there is no field .Name"),
            ("{template: '(<<.Resource>>'}", "missing closing )"),
            ("{overrides: {'a-b': {resource: pod}}}", "is not a label name"),
        ] {
            let error = mapping(yaml).unwrap_err().to_string();
            assert!(error.starts_with("resources.") && error.contains(reason), "{yaml}: {error}");
        }
    }
}
