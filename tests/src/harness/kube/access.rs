//! Who may do what: tokens and rules, shared by the API server and the kubelets.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A user, as authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The unique id, empty where there is none.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user with a name and groups.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: String::from(name),
            groups: groups.iter().copied().map(String::from).collect(),
            ..Self::default()
        }
    }

    /// A service account, with the groups that its tokens carry.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &[
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ],
        )
    }

    /// Who a request without credentials comes from.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// Whom a client certificate names; the chain is verified already.
    #[must_use]
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok());
        let groups: Vec<_> = organizations.chain(["system:authenticated"]).collect();
        Some(Self::new(name, &groups))
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut user = json!({ "username": self.name, "groups": self.groups });
        if !self.uid.is_empty() {
            user["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            user["extra"] = json!(self.extra);
        }
        user
    }
}

/// What a request wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// `get`, `list`, `watch`, `create`, …; of paths that are no resource, the method in lower case.
    pub verb: String,
    /// The API group, empty for the core.
    pub group: String,
    /// The resource, with its subresource behind a slash; empty if this is about a path.
    pub resource: String,
    /// The namespace, empty for all or none.
    pub namespace: String,
    /// The object's name, empty for all or none.
    pub name: String,
    /// The path, if this is not about a resource.
    pub path: String,
}

/// Allows its subject some actions. Each list allows what it names, and all if it has `*`.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    subject: String,
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespace: Option<String>,
    names: Vec<String>,
    paths: Vec<String>,
}

impl Rule {
    /// A rule about the user or group called `subject`, that allows nothing yet but the verbs.
    #[must_use]
    pub fn allow(subject: &str, verbs: &[&str]) -> Self {
        Self { subject: String::from(subject), verbs: owned(verbs), ..Self::default() }
    }

    /// Resources (and subresources, as `pods/log`) of a group, in all namespaces.
    #[must_use]
    pub fn on(mut self, group: &str, resources: &[&str]) -> Self {
        self.groups = owned(&[group]);
        self.resources = owned(resources);
        self
    }

    /// In one namespace only.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(String::from(namespace));
        self
    }

    /// Objects of these names only.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.names = owned(names);
        self
    }

    /// Paths that are no resource; a `*` at the end stands for any rest.
    #[must_use]
    pub fn paths(mut self, paths: &[&str]) -> Self {
        self.paths = owned(paths);
        self
    }

    fn allows(&self, user: &User, action: &Action) -> bool {
        let is_subject = self.subject == user.name || user.groups.contains(&self.subject);
        if !is_subject || !has(&self.verbs, &action.verb) {
            return false;
        }
        if action.resource.is_empty() {
            return self.paths.iter().any(|path| match path.strip_suffix('*') {
                Some(start) => action.path.starts_with(start),
                None => *path == action.path,
            });
        }
        has(&self.groups, &action.group)
            && self.resources.iter().any(|resource| names(resource, &action.resource))
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == action.namespace)
            && (self.names.is_empty() || has(&self.names, &action.name))
    }
}

fn owned(items: &[&str]) -> Vec<String> {
    items.iter().copied().map(String::from).collect()
}

/// Whether an entry of a rule, `pods`, `*` or `*/scale`, names a resource.
fn names(entry: &str, resource: &str) -> bool {
    match entry.strip_prefix('*') {
        Some(subresource) => resource.ends_with(subresource),
        None => entry == resource,
    }
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == item)
}

/// The tokens and rules of a cluster.
#[derive(Debug, Default)]
pub struct Access {
    tokens: RwLock<BTreeMap<String, User>>,
    rules: RwLock<Vec<Rule>>,
}

impl Access {
    /// No tokens; what `system:discovery` and `system:public-info-viewer` allow.
    #[must_use]
    pub fn new() -> Self {
        let access = Self::default();
        let public = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
        access.allow(Rule::allow("system:unauthenticated", &["get"]).paths(&public));
        let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
        access.allow(Rule::allow("system:authenticated", &["get"]).paths(&public));
        access.allow(Rule::allow("system:authenticated", &["get"]).paths(&discovery));
        let reviews = ["selfsubjectaccessreviews"];
        let review = Rule::allow("system:authenticated", &["create"]);
        access.allow(review.on("authorization.k8s.io", &reviews));
        access
    }

    /// Makes `token` stand for `user`.
    pub fn put_token(&self, token: &str, user: User) {
        self.tokens.write().insert(String::from(token), user);
    }

    /// Makes `token` stand for nobody.
    pub fn remove_token(&self, token: &str) {
        self.tokens.write().remove(token);
    }

    /// Whom a token stands for.
    #[must_use]
    pub fn user_of_token(&self, token: &str) -> Option<User> {
        self.tokens.read().get(token).cloned()
    }

    /// Adds a rule.
    pub fn allow(&self, rule: Rule) {
        self.rules.write().push(rule);
    }

    /// Takes away every rule about `subject`.
    pub fn revoke(&self, subject: &str) {
        self.rules.write().retain(|rule| rule.subject != subject);
    }

    /// Whether `user` may.
    #[must_use]
    pub fn allows(&self, user: &User, action: &Action) -> bool {
        user.groups.iter().any(|group| group == "system:masters")
            || self.rules.read().iter().any(|rule| rule.allows(user, action))
    }
}
