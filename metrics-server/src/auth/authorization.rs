//! Decides whether who asks may have what they ask for, as the API server sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use metrics_api::{GroupResource, Status};

use super::ReviewError;
use super::answers::Answers;
use super::request_info::RequestInfo;
use super::user::{MASTERS, User};

/// Reviews of access that are kept; upstream's bound.
const REVIEWS_MAX: usize = 8 << 10;

/// Knows who may do what.
pub trait AccessReviewer: Send + Sync {
    /// Reviews one access.
    fn review<'a>(
        &'a self,
        spec: &'a SubjectAccessReviewSpec,
    ) -> BoxFuture<'a, Result<SubjectAccessReviewStatus, ReviewError>>;
}

/// How to decide who may do what.
pub struct AuthorizationOptions {
    /// Who knows; without one nobody may do what the options below do not allow.
    pub access: Option<Arc<dyn AccessReviewer>>,
    /// Paths that everyone may ask for.
    pub always_allow_paths: AllowedPaths,
    /// Groups that may do everything; `system:masters` upstream.
    pub always_allow_groups: Vec<String>,
    /// How long it is kept that something is allowed; 10 s upstream.
    pub allowed_ttl: Duration,
    /// How long it is kept that something is not; 10 s upstream.
    pub denied_ttl: Duration,
}

impl AuthorizationOptions {
    /// Upstream's defaults.
    #[must_use]
    pub fn new(access: Option<Arc<dyn AccessReviewer>>) -> Self {
        Self {
            access,
            always_allow_paths: AllowedPaths::default(),
            always_allow_groups: vec![String::from(MASTERS)],
            allowed_ttl: Duration::from_secs(10),
            denied_ttl: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for AuthorizationOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationOptions")
            .field("always_allow_paths", &self.always_allow_paths)
            .field("always_allow_groups", &self.always_allow_groups)
            .finish_non_exhaustive()
    }
}

/// Paths that everyone may ask for, `--authorization-always-allow-paths`. Resources are never among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPaths {
    exact: Vec<String>,
    prefixes: Vec<String>,
}

/// A path with a `*` that is not its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only trailing * allowed in {0:?}")]
pub struct PathPatternError(String);

impl AllowedPaths {
    /// Reads paths; one that ends in `*` stands for all that begin so. A slash at the beginning may be left out.
    ///
    /// # Errors
    /// [`PathPatternError`]
    pub fn new(paths: &[String]) -> Result<Self, PathPatternError> {
        let mut allowed = Self { exact: Vec::new(), prefixes: Vec::new() };
        for path in paths {
            let path = path.strip_prefix('/').unwrap_or(path);
            let prefix = path.strip_suffix('*');
            if prefix.unwrap_or(path).contains('*') {
                return Err(PathPatternError(String::from(path)));
            }
            match prefix {
                Some(prefix) => allowed.prefixes.push(String::from(prefix)),
                None => allowed.exact.push(String::from(path)),
            }
        }
        Ok(allowed)
    }

    fn contains(&self, path: &str) -> bool {
        let path = path.strip_prefix('/').unwrap_or(path);
        self.exact.iter().any(|exact| exact == path)
            || self.prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()))
    }
}

impl Default for AllowedPaths {
    /// The three probes.
    fn default() -> Self {
        let exact = ["healthz", "readyz", "livez"].map(String::from);
        Self { exact: exact.into(), prefixes: Vec::new() }
    }
}

/// Decides whether who asks may have what they ask for.
pub struct Authorizer {
    options: AuthorizationOptions,
    reviews: Answers<Result<SubjectAccessReviewStatus, ReviewError>>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authorizer").field(&self.options).finish()
    }
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They may.
    Allowed,
    /// They may not.
    Denied {
        /// What the API server says about it; may be empty.
        reason: String,
    },
}

impl Authorizer {
    /// Decides as `options` say.
    #[must_use]
    pub fn new(options: AuthorizationOptions) -> Self {
        Self { options, reviews: Answers::new(REVIEWS_MAX) }
    }

    /// Whether `user` may do what `info` says.
    ///
    /// Selectors of a request are not part of the question, which makes it broader: an authorizer that allows an access
    /// only together with a selector denies it.
    ///
    /// # Errors
    /// Nobody can tell, so the answer is no, and the fault is not the client's.
    pub async fn authorize(
        &self,
        user: &User,
        info: &RequestInfo,
    ) -> Result<Decision, ReviewError> {
        if self.options.always_allow_groups.iter().any(|group| user.is_in(group)) {
            return Ok(Decision::Allowed);
        }
        if !info.is_resource && self.options.always_allow_paths.contains(&info.path) {
            return Ok(Decision::Allowed);
        }
        let Some(reviewer) = &self.options.access else {
            return Ok(Decision::Denied { reason: String::new() });
        };
        let spec = question(user, info);
        let key = serde_json::to_vec(&spec).map_err(|error| {
            // No map of the question has keys other than strings.
            ReviewError::Unreachable(error.to_string())
        })?;
        let ask = async {
            let status = reviewer.review(&spec).await;
            let ttl = match &status {
                Ok(status) if status.allowed => self.options.allowed_ttl,
                Ok(_) => self.options.denied_ttl,
                Err(_) => Duration::ZERO,
            };
            (status, ttl)
        };
        let status = self.reviews.get(&[&key], ask).await?;
        match (status.allowed, status.denied == Some(true)) {
            (true, true) => Err(ReviewError::Contradiction),
            (true, false) => Ok(Decision::Allowed),
            (false, _) => Ok(Decision::Denied { reason: status.reason.unwrap_or_default() }),
        }
    }
}

fn question(user: &User, info: &RequestInfo) -> SubjectAccessReviewSpec {
    let given = |text: &str| (!text.is_empty()).then(|| String::from(text));
    let mut spec = SubjectAccessReviewSpec {
        user: given(&user.name),
        uid: given(&user.uid),
        groups: (!user.groups.is_empty()).then(|| user.groups.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    if info.is_resource {
        spec.resource_attributes = Some(ResourceAttributes {
            group: given(&info.group),
            version: given(&info.version),
            namespace: given(&info.namespace),
            verb: given(&info.verb),
            resource: given(&info.resource),
            subresource: given(&info.subresource),
            name: given(&info.name),
            ..ResourceAttributes::default()
        });
    } else {
        spec.non_resource_attributes = Some(NonResourceAttributes {
            path: Some(info.path.clone()),
            verb: Some(info.verb.clone()),
        });
    }
    spec
}

/// The answer to somebody who may not.
#[must_use]
pub fn forbidden(user: &User, info: &RequestInfo, reason: &str) -> Status {
    let who = format!("User {:?} cannot {}", user.name, info.verb);
    let what = if info.is_resource {
        let slash = if info.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", info.resource, info.subresource);
        let scope = if info.namespace.is_empty() {
            String::from("at the cluster scope")
        } else {
            format!("in the namespace {:?}", info.namespace)
        };
        format!("resource {resource:?} in API group {:?} {scope}", info.group)
    } else {
        format!("path {:?}", info.path)
    };
    // Nothing that a client sends may look like HTML in a browser.
    let sentence = format!("{who} {what}");
    let sentence = sentence.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let colon = if reason.is_empty() { "" } else { ": " };
    let of = GroupResource { group: &info.group, resource: &info.resource };
    Status::forbidden(of, &info.name, format!("{sentence}{colon}{reason}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::http::{Method, Uri};
    use serde_json::json;

    use super::*;

    /// Allows what `jane` asks, fails for `down`, contradicts itself for `both`, denies the rest with a reason.
    #[derive(Default)]
    struct Reviewer(Mutex<Vec<SubjectAccessReviewSpec>>);

    impl AccessReviewer for Reviewer {
        fn review<'a>(
            &'a self,
            spec: &'a SubjectAccessReviewSpec,
        ) -> BoxFuture<'a, Result<SubjectAccessReviewStatus, ReviewError>> {
            self.0.lock().unwrap().push(spec.clone());
            let user = spec.user.clone().unwrap_or_default();
            Box::pin(async move {
                if user == "down" {
                    return Err(ReviewError::TimedOut);
                }
                Ok(SubjectAccessReviewStatus {
                    allowed: matches!(&*user, "jane" | "both"),
                    denied: Some(user == "both"),
                    reason: Some(String::from("no role")),
                    ..SubjectAccessReviewStatus::default()
                })
            })
        }
    }

    fn named(name: &str) -> User {
        User { name: name.into(), groups: vec!["g".into()], ..User::default() }
    }

    fn info(path: &str) -> RequestInfo {
        RequestInfo::of(&Method::GET, &path.parse::<Uri>().unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_server_is_asked_and_its_answers_kept() {
        let reviewer = Arc::new(Reviewer::default());
        let mut options = AuthorizationOptions::new(Some(Arc::clone(&reviewer) as _));
        options.denied_ttl = Duration::from_secs(5);
        let authorizer = Authorizer::new(options);
        let pods = info("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/web-0");
        let no = Ok(Decision::Denied { reason: "no role".into() });
        let times = || reviewer.0.lock().unwrap().len();
        for _ in 0..2 {
            assert_eq!(authorizer.authorize(&named("jane"), &pods).await, Ok(Decision::Allowed));
            assert_eq!(authorizer.authorize(&named("joe"), &pods).await, no);
        }
        assert_eq!(times(), 2);
        assert_eq!(
            serde_json::to_value(&reviewer.0.lock().unwrap()[0]).unwrap(),
            json!({
                "user": "jane",
                "groups": ["g"],
                "resourceAttributes": {
                    "group": "metrics.k8s.io",
                    "version": "v1beta1",
                    "namespace": "shop",
                    "verb": "get",
                    "resource": "pods",
                    "name": "web-0",
                },
            })
        );
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(authorizer.authorize(&named("jane"), &pods).await, Ok(Decision::Allowed));
        assert_eq!(authorizer.authorize(&named("joe"), &pods).await, no);
        assert_eq!(times(), 3, "the yes is kept longer than the no");
        for _ in 0..2 {
            let down = authorizer.authorize(&named("down"), &pods).await;
            assert_eq!(down, Err(ReviewError::TimedOut));
        }
        assert_eq!(times(), 5, "a failure is not kept");
        let both = authorizer.authorize(&named("both"), &pods).await;
        assert_eq!(both, Err(ReviewError::Contradiction));
        let metrics = info("/metrics");
        assert_eq!(authorizer.authorize(&named("jane"), &metrics).await, Ok(Decision::Allowed));
        assert_eq!(
            serde_json::to_value(&reviewer.0.lock().unwrap()[6].non_resource_attributes).unwrap(),
            json!({"path": "/metrics", "verb": "get"})
        );
    }

    #[tokio::test]
    async fn some_are_allowed_without_asking() {
        let authorizer = Authorizer::new(AuthorizationOptions::new(None));
        let denied = Decision::Denied { reason: String::new() };
        let master = User { groups: vec![MASTERS.into()], ..named("admin") };
        for (user, path, expected) in [
            (named("joe"), "/livez", &Decision::Allowed),
            (named("joe"), "/readyz", &Decision::Allowed),
            (named("joe"), "/healthz", &Decision::Allowed),
            (named("joe"), "/livez/ping", &denied),
            (named("joe"), "/livez/", &denied),
            (named("joe"), "/metrics", &denied),
            (named("joe"), "/apis/metrics.k8s.io/v1beta1/nodes", &denied),
            (master.clone(), "/metrics", &Decision::Allowed),
            (master, "/apis/metrics.k8s.io/v1beta1/nodes", &Decision::Allowed),
        ] {
            let decision = authorizer.authorize(&user, &info(path)).await.unwrap();
            assert_eq!(&decision, expected, "{} {path}", user.name);
        }
    }

    #[test]
    fn allowed_paths_may_be_prefixes() {
        let allowed = |paths: &[&str]| {
            AllowedPaths::new(&paths.iter().map(|one| String::from(*one)).collect::<Vec<_>>())
        };
        let paths = allowed(&["/metrics", "livez/*", "/"]).unwrap();
        for (path, expected) in [
            ("/metrics", true),
            ("/metrics/x", false),
            ("/livez/ping", true),
            ("/livez", false),
            ("/", true),
            ("/x", false),
        ] {
            assert_eq!(paths.contains(path), expected, "{path}");
        }
        assert_eq!(
            allowed(&["/a*b"]).unwrap_err().to_string(),
            r#"only trailing * allowed in "a*b""#
        );
        assert!(allowed(&["*"]).unwrap().contains("/anything"));
    }

    #[test]
    fn the_answer_to_those_who_may_not_has_the_words_of_the_api_server() {
        let mut watch = info("/apis/metrics.k8s.io/v1beta1/nodes?watch=1");
        let custom = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/shop/pods/web-0/rps";
        for (info, reason, message) in [
            (
                info("/apis/metrics.k8s.io/v1beta1/nodes"),
                "",
                r#"nodes.metrics.k8s.io is forbidden: User "x" cannot list resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#,
            ),
            (
                std::mem::take(&mut watch),
                "",
                r#"nodes.metrics.k8s.io is forbidden: User "x" cannot watch resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#,
            ),
            (
                info("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/web-0"),
                "RBAC: no",
                r#"pods.metrics.k8s.io "web-0" is forbidden: User "x" cannot get resource "pods" in API group "metrics.k8s.io" in the namespace "shop": RBAC: no"#,
            ),
            (
                info(custom),
                "",
                r#"pods.custom.metrics.k8s.io "web-0" is forbidden: User "x" cannot get resource "pods/rps" in API group "custom.metrics.k8s.io" in the namespace "shop""#,
            ),
            (info("/metrics"), "", r#"forbidden: User "x" cannot get path "/metrics""#),
            (info("/%3Cb%3E&"), "", r#"forbidden: User "x" cannot get path "/&lt;b&gt;&amp;""#),
        ] {
            let status = forbidden(&named("x"), &info, reason);
            assert_eq!((status.code, &*status.message), (403, message));
        }
    }
}
