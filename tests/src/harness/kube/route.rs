//! What a request asks for, read from its method, path and query as a real API server does.

use std::collections::BTreeMap;

use hyper::Method;

use super::access::Action;
use super::selector::FieldSelector;

/// A path below `/api/v1` or `/apis/GROUP/VERSION`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty for the group and version itself.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl ResourcePath {
    /// `None` if the path is elsewhere, or of a group without a version.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.trim_matches('/').split('/').filter(|s| !s.is_empty());
        let (group, version) = match segments.next()? {
            "api" => ("", segments.next()?),
            "apis" => (segments.next()?, segments.next()?),
            _ => return None,
        };
        let mut path =
            Self { group: String::from(group), version: String::from(version), ..Self::default() };
        let rest: Vec<_> = segments.map(decode).collect();
        let rest: Vec<_> = rest.iter().map(String::as_str).collect();
        // `namespaces/NS` alone is the namespace as an object, and so are its subresources.
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", _, "status" | "finalize"] | ["namespaces", _] => ("", rest.as_slice()),
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        path.namespace = String::from(namespace);
        let mut rest = rest.iter();
        path.resource = rest.next().copied().map(String::from).unwrap_or_default();
        path.name = rest.next().copied().map(String::from).unwrap_or_default();
        path.subresource = rest.copied().collect::<Vec<_>>().join("/");
        Some(path)
    }

    /// The resource, with its subresource behind a slash.
    pub(crate) fn qualified_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }

    /// The action for authorization.
    pub(crate) fn action(&self, method: &Method, query: &Query) -> Action {
        let mut name = self.name.clone();
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if name.is_empty() => "deletecollection",
            Method::DELETE => "delete",
            _ if !name.is_empty() => "get",
            _ => {
                let selector = query.get("fieldSelector").and_then(FieldSelector::parse);
                if let Some(selected) = selector.as_ref().and_then(FieldSelector::name) {
                    name = String::from(selected);
                }
                if query.is_true("watch") { "watch" } else { "list" }
            }
        };
        Action {
            verb: String::from(verb),
            group: self.group.clone(),
            resource: self.qualified_resource(),
            // A namespace is within itself.
            namespace: if self.group.is_empty() && self.resource == "namespaces" {
                self.name.clone()
            } else {
                self.namespace.clone()
            },
            name,
            path: String::new(),
        }
    }
}

/// The parameters behind the `?`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            fields.insert(decode(&name.replace('+', " ")), decode(&value.replace('+', " ")));
        }
        Self(fields)
    }

    /// A parameter that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| matches!(value.as_str(), "true" | "1" | ""))
    }
}

/// Replaces `%XX`.
pub(crate) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let hex = (*byte == b'%').then(|| after.get(..2)).flatten();
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: [&str; 6]) {
        let p = ResourcePath::parse(path).unwrap();
        let parts = [&p.group, &p.version, &p.namespace, &p.resource, &p.name, &p.subresource];
        assert_eq!(parts.map(String::as_str), expected, "{path}");
    }

    #[test]
    fn paths_name_resources() {
        check("/api/v1", ["", "v1", "", "", "", ""]);
        check("/api/v1/nodes/n1", ["", "v1", "", "nodes", "n1", ""]);
        check("/api/v1/namespaces", ["", "v1", "", "namespaces", "", ""]);
        check("/api/v1/namespaces/x", ["", "v1", "", "namespaces", "x", ""]);
        check("/api/v1/namespaces/x/status", ["", "v1", "", "namespaces", "x", "status"]);
        check("/api/v1/namespaces/x/pods", ["", "v1", "x", "pods", "", ""]);
        check(
            "/apis/apps/v1/namespaces/x/deployments/d/scale",
            ["apps", "v1", "x", "deployments", "d", "scale"],
        );
        check("/apis/apps/v1/deployments", ["apps", "v1", "", "deployments", "", ""]);
        for path in ["/", "/apis", "/apis/apps", "/api", "/version"] {
            assert_eq!(ResourcePath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn actions_are_named_as_authorizers_know_them() {
        let verb = |method, path: &str, query: &str| {
            let action = ResourcePath::parse(path).unwrap().action(&method, &Query::parse(query));
            format!("{} {} {} {}", action.verb, action.resource, action.namespace, action.name)
        };
        assert_eq!(verb(Method::GET, "/api/v1/namespaces/x/pods", ""), "list pods x ");
        assert_eq!(verb(Method::GET, "/api/v1/pods", "watch=1"), "watch pods  ");
        assert_eq!(
            verb(
                Method::GET,
                "/api/v1/namespaces/x/configmaps",
                "watch=true&fieldSelector=metadata.name%3Dc"
            ),
            "watch configmaps x c"
        );
        assert_eq!(
            verb(Method::PUT, "/api/v1/namespaces/x/pods/p/status", ""),
            "update pods/status x p"
        );
        assert_eq!(
            verb(Method::DELETE, "/api/v1/namespaces/x/pods", ""),
            "deletecollection pods x "
        );
    }
}
