//! What a request asks for, in the terms that Kubernetes authorizes by.
//!
//! The path is decoded once, here. A path that two readers could take for different resources (an encoded slash, an
//! empty or a dotted segment) is refused, and so is a parameter given twice on which the verb or the name depends:
//! the authorizer and the handler must not see different things.

use std::borrow::Cow;

use axum::http::{Method, Uri};
use metrics_api::{FieldSelector, METRICS_GROUP};
use percent_encoding::percent_decode_str;

/// Segments of a path that are looked at; longer ones are refused.
const SEGMENTS_MAX: usize = 32;
/// Query parameters on which verb and name depend.
const DECISIVE: [&str; 3] = ["watch", "fieldSelector", "labelSelector"];

/// What a request asks for; an extension of every request that a handler sees.
///
/// The fields are those of the Kubernetes API server's own `RequestInfo`; those that do not apply are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether this is about an API resource, rather than a path.
    pub is_resource: bool,
    /// The path, decoded.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; of a path the HTTP method in
    /// lower case.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// Its version.
    pub version: String,
    /// The namespace.
    pub namespace: String,
    /// The resource, in the plural.
    pub resource: String,
    /// The part of the resource.
    pub subresource: String,
    /// The object: of the path, or that to which a field selector restricts a list.
    pub name: String,
}

/// Why a request is refused before anyone looks at who asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// The path can be read in several ways.
    #[error("the path is not in its canonical form")]
    Path,
    /// A parameter is there more than once.
    #[error("the parameter {0:?} may be given only once")]
    Parameter(&'static str),
    /// A path with a special verb and nothing behind it.
    #[error("unable to determine kind and namespace from the path")]
    NoResource,
}

impl RequestInfo {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Ambiguous`]
    pub fn of(method: &Method, uri: &Uri) -> Result<Self, Ambiguous> {
        let segments = path_segments(uri.path())?;
        let query = Query::read(uri.query().unwrap_or_default())?;
        let mut path: String = segments.iter().flat_map(|one| ["/", one]).collect();
        if uri.path().ends_with('/') {
            path.push('/');
        }
        let about_path =
            Self { path, verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        // Groupless resources (`/api/v1/…`) count as resources too, so that they are never authorized as a path.
        let (group, rest) = match segments.as_slice() {
            [prefix, rest @ ..] if prefix == "api" && rest.len() >= 2 => ("", rest),
            [prefix, group, rest @ ..] if prefix == "apis" && rest.len() >= 2 => (&**group, rest),
            _ => return Ok(about_path),
        };
        let mut info = Self { is_resource: true, group: String::from(group), ..about_path };
        info.version = String::from(&*rest[0]);
        let mut rest = &rest[1..];
        if matches!(&*rest[0], "proxy" | "watch") {
            if rest.len() < 2 {
                return Err(Ambiguous::NoResource);
            }
            info.verb = String::from(&*rest[0]);
            rest = &rest[1..];
        } else {
            info.verb = String::from(verb(method));
        }
        if let ["namespaces", namespace, behind @ ..] =
            rest.iter().map(|one| &**one).collect::<Vec<_>>().as_slice()
        {
            info.namespace = String::from(*namespace);
            if behind.first().is_some_and(|first| !matches!(*first, "status" | "finalize")) {
                rest = &rest[2..];
            }
        }
        let part = |index: usize| rest.get(index).map(|one| String::from(&**one));
        info.resource = part(0).unwrap_or_default();
        info.name = part(1).unwrap_or_default();
        if info.verb != "proxy" {
            info.subresource = part(2).unwrap_or_default();
        }
        if info.name.is_empty() && info.verb == "get" {
            info.verb = String::from(if query.watch { "watch" } else { "list" });
            info.name = query.name.unwrap_or_default();
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = String::from("deletecollection");
        }
        Ok(info)
    }

    /// Whether the answer may go on for as long as the client likes: a watch of what can be watched. Custom and external
    /// metrics answer a watch once, as they do a list.
    #[must_use]
    pub fn is_long_running(&self) -> bool {
        self.is_resource && self.verb == "watch" && self.group == METRICS_GROUP
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The segments of a path, each decoded once: what is authorized. A handler that takes a path apart itself uses this, so
/// that both see the same. One slash at the end is let go, as upstream does.
///
/// # Errors
/// [`Ambiguous::Path`]
pub fn path_segments(path: &str) -> Result<Vec<Cow<'_, str>>, Ambiguous> {
    let inner = path.strip_prefix('/').ok_or(Ambiguous::Path)?;
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return if path == "/" { Ok(Vec::new()) } else { Err(Ambiguous::Path) };
    }
    let decoded = inner.split('/').map(|segment| {
        let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| Ambiguous::Path)?;
        let odd = matches!(&*decoded, "" | "." | "..")
            || decoded.contains(|c: char| c == '/' || c == '\\' || c.is_control());
        if odd { Err(Ambiguous::Path) } else { Ok(decoded) }
    });
    let decoded: Vec<_> = decoded.take(SEGMENTS_MAX + 1).collect::<Result<_, _>>()?;
    if decoded.len() > SEGMENTS_MAX { Err(Ambiguous::Path) } else { Ok(decoded) }
}

#[derive(Default)]
struct Query {
    watch: bool,
    /// The one name that a field selector lets through.
    name: Option<String>,
}

impl Query {
    fn read(query: &str) -> Result<Self, Ambiguous> {
        let mut read = Self::default();
        let mut seen = [false; DECISIVE.len()];
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(index) = DECISIVE.iter().position(|name| *name == key) else { continue };
            if std::mem::replace(&mut seen[index], true) {
                return Err(Ambiguous::Parameter(DECISIVE[index]));
            }
            match &*key {
                // Anything but these two is true, an empty value included.
                "watch" => read.watch = !matches!(&*value.to_ascii_lowercase(), "false" | "0"),
                "fieldSelector" => read.name = exact_name(&value),
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The name that `selector` demands of an object, if it does and if that is a name. The handler reads a selector by the
/// same parser, and refuses one that this does not understand.
fn exact_name(selector: &str) -> Option<String> {
    let selector: FieldSelector = selector.parse().ok()?;
    let name = selector.name()?;
    let is_name = !matches!(name, "" | "." | "..") && !name.contains(['/', '%']);
    is_name.then(|| String::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(request: &str) -> Result<RequestInfo, Ambiguous> {
        let (method, target) = request.split_once(' ').unwrap();
        RequestInfo::of(&method.parse().unwrap(), &target.parse().unwrap())
    }

    /// `verb group/version namespace resource/subresource name`, each `-` when empty.
    fn check(request: &str, expected: &str) {
        let info = info(request).unwrap();
        let or_dash = |text: &str| if text.is_empty() { String::from("-") } else { text.into() };
        let found = format!(
            "{} {}/{} {} {}/{} {}",
            or_dash(&info.verb),
            or_dash(&info.group),
            or_dash(&info.version),
            or_dash(&info.namespace),
            or_dash(&info.resource),
            or_dash(&info.subresource),
            or_dash(&info.name),
        );
        assert!(info.is_resource, "{request}");
        assert_eq!(found, expected, "{request}");
    }

    #[test]
    fn resources_are_made_out() {
        let m = "/apis/metrics.k8s.io/v1beta1";
        for (request, expected) in [
            (format!("GET {m}/nodes"), "list metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("GET {m}/nodes/"), "list metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("HEAD {m}/nodes/n1"), "get metrics.k8s.io/v1beta1 - nodes/- n1"),
            (format!("GET {m}/nodes?watch=1"), "watch metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("GET {m}/nodes?watch"), "watch metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("GET {m}/nodes?watch=FALSE"), "list metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("GET {m}/nodes?watch=0"), "list metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("GET {m}/nodes?w%61tch=true"), "watch metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("GET {m}/nodes/n1?watch=1"), "get metrics.k8s.io/v1beta1 - nodes/- n1"),
            (format!("GET {m}/watch/nodes"), "watch metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("GET {m}/namespaces/a/pods"), "list metrics.k8s.io/v1beta1 a pods/- -"),
            (format!("GET {m}/namespaces/a/pods/p"), "get metrics.k8s.io/v1beta1 a pods/- p"),
            (format!("GET {m}/namespaces/a%62/pods/p"), "get metrics.k8s.io/v1beta1 ab pods/- p"),
            (format!("GET {m}/namespaces/a"), "get metrics.k8s.io/v1beta1 a namespaces/- a"),
            (format!("GET {m}/namespaces"), "list metrics.k8s.io/v1beta1 - namespaces/- -"),
            (
                format!("GET {m}/namespaces/a/status"),
                "get metrics.k8s.io/v1beta1 a namespaces/status a",
            ),
            (format!("POST {m}/nodes"), "create metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("PUT {m}/nodes/n"), "update metrics.k8s.io/v1beta1 - nodes/- n"),
            (format!("PATCH {m}/nodes/n"), "patch metrics.k8s.io/v1beta1 - nodes/- n"),
            (format!("DELETE {m}/nodes/n"), "delete metrics.k8s.io/v1beta1 - nodes/- n"),
            (format!("DELETE {m}/nodes"), "deletecollection metrics.k8s.io/v1beta1 - nodes/- -"),
            (format!("OPTIONS {m}/nodes"), "- metrics.k8s.io/v1beta1 - nodes/- -"),
            (String::from("GET /api/v1/nodes/n/proxy"), "get -/v1 - nodes/proxy n"),
            (
                String::from("GET /apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pods/*/rps"),
                "get custom.metrics.k8s.io/v1beta2 a pods/rps *",
            ),
            (
                String::from("GET /apis/custom.metrics.k8s.io/v1beta2/namespaces/a/metrics/rps"),
                "get custom.metrics.k8s.io/v1beta2 a metrics/- rps",
            ),
            (
                String::from("GET /apis/external.metrics.k8s.io/v1beta1/namespaces/a/queue"),
                "list external.metrics.k8s.io/v1beta1 a queue/- -",
            ),
        ] {
            check(&request, expected);
        }
    }

    #[test]
    fn a_field_selector_for_one_name_is_a_name() {
        let m = "/apis/metrics.k8s.io/v1beta1/nodes?fieldSelector=";
        for (selector, name) in [
            ("metadata.name%3Dn1", "n1"),
            ("metadata.name=n1", "n1"),
            ("metadata.name==n1,metadata.namespace=a", "n1"),
            ("metadata.name!=n1", "-"),
            ("metadata.name=a/b", "-"),
            ("metadata.name=..", "-"),
            ("metadata.name=", "-"),
            ("metadata.name", "-"),
            ("metadata.name=a=b", "-"),
            (r"metadata.name=a\,b", "a,b"),
            ("metadata.namespace=a", "-"),
        ] {
            let selector = selector.replace('\\', "%5C");
            let expected = format!("list metrics.k8s.io/v1beta1 - nodes/- {name}");
            check(&format!("GET {m}{selector}"), &expected);
        }
        check(
            &format!("GET {m}metadata.name=n&watch=1"),
            "watch metrics.k8s.io/v1beta1 - nodes/- n",
        );
    }

    #[test]
    fn watches_of_nodes_and_pods_are_long_running() {
        for (request, expected) in [
            ("GET /apis/metrics.k8s.io/v1beta1/nodes?watch=1", true),
            ("GET /apis/metrics.k8s.io/v1beta1/watch/namespaces/a/pods", true),
            ("GET /apis/metrics.k8s.io/v1beta1/nodes", false),
            ("GET /apis/external.metrics.k8s.io/v1beta1/namespaces/a/queue?watch=1", false),
            ("GET /apis/custom.metrics.k8s.io/v1beta2/watch/namespaces/a/pods/*/rps", false),
            ("GET /metrics?watch=1", false),
        ] {
            assert_eq!(info(request).unwrap().is_long_running(), expected, "{request}");
        }
    }

    #[test]
    fn other_paths_are_paths() {
        for (request, verb, path) in [
            ("GET /", "get", "/"),
            ("GET /metrics?x=y", "get", "/metrics"),
            ("POST /livez/ping", "post", "/livez/ping"),
            ("GET /apis", "get", "/apis"),
            ("GET /apis/metrics.k8s.io/v1beta1", "get", "/apis/metrics.k8s.io/v1beta1"),
            ("GET /apis/", "get", "/apis/"),
            ("GET /openapi/v2", "get", "/openapi/v2"),
            ("GET /api/v1", "get", "/api/v1"),
            ("GET /live%7A", "get", "/livez"),
        ] {
            let info = info(request).unwrap();
            assert_eq!((info.is_resource, &*info.verb, &*info.path), (false, verb, path));
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let m = "/apis/metrics.k8s.io/v1beta1";
        for path in [
            format!("{m}//nodes"),
            format!("//{m}/nodes"),
            format!("{m}/nodes//"),
            format!("{m}/namespaces/a%2Fpods"),
            format!("{m}/namespaces/a/../b/pods"),
            format!("{m}/namespaces/%2e%2E/pods"),
            format!("{m}/namespaces/./pods"),
            format!("{m}/namespaces/a%5Cb/pods"),
            format!("{m}/namespaces/a%00/pods"),
            format!("{m}/namespaces/%ff/pods"),
            "/a".repeat(33),
        ] {
            assert_eq!(info(&format!("GET {path}")), Err(Ambiguous::Path), "{path}");
        }
        // Neither a separator nor a plus sign means anything in a path.
        check(
            &format!("GET {m}/namespaces/a&b+c/pods"),
            "list metrics.k8s.io/v1beta1 a&b+c pods/- -",
        );
        // Decoded once and once only.
        check(
            &format!("GET {m}/namespaces/a%252Fb/pods"),
            "list metrics.k8s.io/v1beta1 a%2Fb pods/- -",
        );
        for (query, parameter) in [
            ("watch=0&watch=1", "watch"),
            ("fieldSelector=metadata.name=a&fieldSelector=", "fieldSelector"),
            ("labelSelector=a&x=1&labelSelector=b", "labelSelector"),
        ] {
            let found = info(&format!("GET {m}/nodes?{query}"));
            assert_eq!(found, Err(Ambiguous::Parameter(parameter)), "{query}");
        }
        assert_eq!(info(&format!("GET {m}/watch")), Err(Ambiguous::NoResource));
        let star = RequestInfo::of(&Method::OPTIONS, &Uri::from_static("*"));
        assert_eq!(star, Err(Ambiguous::Path));
    }
}
