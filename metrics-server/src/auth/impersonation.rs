//! Acting as somebody else, for those who may: the `Impersonate-*` headers.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use metrics_api::Status;

use super::authorization::{Authorizer, Decision, forbidden};
use super::request_info::RequestInfo;
use super::trust::unescaped_key;
use super::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";
/// Things that one request may ask to be; each is a question to the API server.
const CLAIMS_MAX: usize = 64;

/// Whom `headers` ask to act as, if they do and if `user` may, and takes these headers out.
///
/// # Errors
/// The answer to those who may not, or whose request makes no sense.
pub(super) async fn impersonated(
    authorizer: &Authorizer,
    user: &User,
    headers: &mut HeaderMap,
) -> Result<Option<User>, Status> {
    let claims = Claims::read(headers);
    if claims.is_empty() {
        return Ok(None);
    }
    if claims.user.is_empty() {
        return Err(Status::bad_request("requested impersonation without impersonating a user"));
    }
    let asked = claims.questions();
    if asked.len() > CLAIMS_MAX {
        return Err(Status::bad_request("requested to impersonate too much at once"));
    }
    for info in asked {
        let decision = authorizer.authorize(user, &info).await;
        let reason = match decision {
            Ok(Decision::Allowed) => continue,
            Ok(Decision::Denied { reason }) => reason,
            Err(error) => {
                tracing::warn!(%error, user = user.name, "cannot tell who may impersonate");
                String::new()
            }
        };
        return Err(forbidden(user, &info, &reason));
    }
    strip(headers);
    Ok(Some(claims.user()))
}

fn strip(headers: &mut HeaderMap) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            matches!(name, USER | UID | GROUP) || name.starts_with(EXTRA_PREFIX)
        })
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[derive(Debug, Default)]
struct Claims {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Claims {
    fn read(headers: &HeaderMap) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let first = |name: &str| headers.get(name).map(|v| text(v.as_bytes())).unwrap_or_default();
        let groups = headers.get_all(GROUP).iter().map(|value| text(value.as_bytes())).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            if let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) {
                extra.entry(unescaped_key(key)).or_default().push(text(value.as_bytes()));
            }
        }
        Self { user: first(USER), uid: first(UID), groups, extra }
    }

    fn is_empty(&self) -> bool {
        self.user.is_empty()
            && self.uid.is_empty()
            && self.groups.is_empty()
            && self.extra.is_empty()
    }

    /// The namespace and the name of the service account that is claimed.
    fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) =
            self.user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains(':'))
            .then_some((namespace, name))
    }

    /// What must be allowed.
    fn questions(&self) -> Vec<RequestInfo> {
        let about = |resource: &str, name: &str| RequestInfo {
            is_resource: true,
            verb: String::from("impersonate"),
            resource: String::from(resource),
            name: String::from(name),
            ..RequestInfo::default()
        };
        let authentication = |resource: &str, subresource: &str, name: &str| RequestInfo {
            group: String::from("authentication.k8s.io"),
            version: String::from("v1"),
            subresource: String::from(subresource),
            ..about(resource, name)
        };
        let mut all = vec![match self.service_account() {
            Some((namespace, name)) => {
                RequestInfo { namespace: String::from(namespace), ..about("serviceaccounts", name) }
            }
            None => about("users", &self.user),
        }];
        all.extend(self.groups.iter().map(|group| about("groups", group)));
        for (key, values) in &self.extra {
            all.extend(values.iter().map(|value| authentication("userextras", key, value)));
        }
        if !self.uid.is_empty() {
            all.push(authentication("uids", "", &self.uid));
        }
        all
    }

    fn user(self) -> User {
        let mut groups = self.groups.clone();
        if groups.is_empty()
            && let Some((namespace, _)) = self.service_account()
        {
            groups.push(String::from("system:serviceaccounts"));
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        let everyone = if self.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        let settled = groups.iter().any(|group| group == everyone || group == UNAUTHENTICATED);
        if !settled {
            groups.push(String::from(everyone));
        }
        User { name: self.user, uid: self.uid, groups, extra: self.extra }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::HeaderName;
    use futures_util::future::BoxFuture;
    use k8s_openapi::api::authorization::v1::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};

    use super::super::ReviewError;
    use super::super::authorization::{AccessReviewer, AuthorizationOptions};
    use super::*;

    /// Allows everything but to be in the group `forbidden`.
    #[derive(Default)]
    struct Reviewer(Mutex<Vec<String>>);

    impl AccessReviewer for Reviewer {
        fn review<'a>(
            &'a self,
            spec: &'a SubjectAccessReviewSpec,
        ) -> BoxFuture<'a, Result<SubjectAccessReviewStatus, ReviewError>> {
            let asked = spec.resource_attributes.clone().unwrap();
            let text = [
                asked.verb,
                asked.group,
                asked.namespace,
                asked.resource,
                asked.subresource,
                asked.name.clone(),
            ];
            let text = text.map(Option::unwrap_or_default).join(" ");
            self.0.lock().unwrap().push(text);
            Box::pin(async move {
                let allowed = asked.name.as_deref() != Some("forbidden");
                Ok(SubjectAccessReviewStatus { allowed, ..SubjectAccessReviewStatus::default() })
            })
        }
    }

    async fn ask(pairs: &[(&'static str, &str)]) -> (Result<Option<User>, Status>, Vec<String>) {
        let reviewer = Arc::new(Reviewer::default());
        let options = AuthorizationOptions::new(Some(Arc::clone(&reviewer) as _));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let user = User { name: "jane".into(), ..User::default() };
        let result = impersonated(&Authorizer::new(options), &user, &mut headers).await;
        assert!(result.is_err() || headers.is_empty(), "{headers:?}");
        let asked = reviewer.0.lock().unwrap().clone();
        (result, asked)
    }

    #[tokio::test]
    async fn every_claim_is_asked_about() {
        let (user, asked) = ask(&[
            ("impersonate-user", "joe"),
            ("impersonate-group", "dev"),
            ("impersonate-extra-scopes", "view"),
            ("impersonate-uid", "7"),
        ])
        .await;
        let user = user.unwrap().unwrap();
        assert_eq!((&*user.name, &*user.uid), ("joe", "7"));
        assert_eq!(user.groups, ["dev", AUTHENTICATED]);
        assert_eq!(user.extra["scopes"], ["view"]);
        assert_eq!(
            asked,
            [
                "impersonate   users  joe",
                "impersonate   groups  dev",
                "impersonate authentication.k8s.io  userextras scopes view",
                "impersonate authentication.k8s.io  uids  7",
            ]
        );
    }

    #[tokio::test]
    async fn service_accounts_have_their_groups() {
        let name = "system:serviceaccount:shop:web";
        let (user, asked) = ask(&[("impersonate-user", name)]).await;
        let groups = ["system:serviceaccounts", "system:serviceaccounts:shop", AUTHENTICATED];
        assert_eq!(user.unwrap().unwrap().groups, groups);
        assert_eq!(asked, ["impersonate  shop serviceaccounts  web"]);
        let (user, _) = ask(&[("impersonate-user", ANONYMOUS)]).await;
        assert_eq!(user.unwrap().unwrap().groups, [UNAUTHENTICATED]);
    }

    #[tokio::test]
    async fn what_is_not_allowed_is_refused() {
        assert_eq!(ask(&[]).await.0, Ok(None));
        let (refused, _) =
            ask(&[("impersonate-user", "joe"), ("impersonate-group", "forbidden")]).await;
        assert_eq!(
            refused.unwrap_err().message,
            r#"groups "forbidden" is forbidden: User "jane" cannot impersonate resource "groups" in API group "" at the cluster scope"#
        );
        let (senseless, _) = ask(&[("impersonate-group", "system:masters")]).await;
        assert_eq!(senseless.unwrap_err().code, 400);
    }
}
