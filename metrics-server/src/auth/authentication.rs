//! Finds out who asks: the front proxy's word, a client certificate, a bearer token, or nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use futures_util::future::BoxFuture;
use http::PeerCertificates;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use model::Clock;

use super::ReviewError;
use super::answers::Answers;
use super::certificates::{self, SubjectError};
use super::trust::{FrontProxy, TrustStore, UserHeaders};
use super::user::User;

/// Reviews of tokens that are kept; upstream's bound.
const TOKENS_MAX: usize = 32 << 10;

/// Knows whose a bearer token is.
pub trait TokenReviewer: Send + Sync {
    /// Reviews `token`, which must be meant for one of `audiences` if there are any.
    fn review<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>>;
}

/// How to find out who asks.
pub struct AuthenticationOptions {
    /// Whom to believe.
    pub trust: Arc<TrustStore>,
    /// Who knows tokens; without one every token is ignored.
    pub tokens: Option<Arc<dyn TokenReviewer>>,
    /// Whom tokens must be meant for; if empty, the API server decides.
    pub audiences: Vec<String>,
    /// How long a review of a token is kept; 10 s upstream.
    pub token_ttl: Duration,
    /// Tells whether certificates are valid yet, and still.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for AuthenticationOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationOptions")
            .field("trust", &self.trust)
            .field("audiences", &self.audiences)
            .field("token_ttl", &self.token_ttl)
            .finish_non_exhaustive()
    }
}

/// Finds out who asks.
pub struct Authenticator {
    options: AuthenticationOptions,
    reviews: Answers<Result<Option<User>, TokenError>>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authenticator").field(&self.options).finish()
    }
}

/// Why credentials are not good. A client learns only that they are not.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// Nobody whom we believe vouches for the certificate.
    #[error("client certificate: {0}")]
    Certificate(rustls::Error),
    /// The front proxy's certificate is good, but of another name.
    #[error("x509: subject with cn={0} is not in the allowed list")]
    FrontProxyName(String),
    /// The certificate is good, but names nobody.
    #[error("{0}")]
    Subject(String),
    /// The token is not good, or nobody can tell.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl From<SubjectError> for AuthenticationError {
    fn from(error: SubjectError) -> Self {
        Self::Subject(error.to_string())
    }
}

/// Why a token is not good.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The API server does not know it.
    #[error("invalid bearer token")]
    Invalid,
    /// The API server says what is wrong with it.
    #[error("invalid bearer token: {0}")]
    Rejected(String),
    /// The API server could not be asked.
    #[error("cannot review a bearer token: {0}")]
    Review(#[from] ReviewError),
}

impl Authenticator {
    /// Authenticates as `options` say.
    #[must_use]
    pub fn new(options: AuthenticationOptions) -> Self {
        Self { options, reviews: Answers::new(TOKENS_MAX) }
    }

    /// Finds out who sent a request, by its headers and by what it presented, and takes the credentials out of the
    /// headers.
    ///
    /// Credentials are tried in turn, and the first good ones decide. Bad ones never make a client anonymous.
    ///
    /// # Errors
    /// All that was wrong with the credentials, when some were given and none are good.
    pub async fn authenticate(
        &self,
        headers: &mut HeaderMap,
        presented: Option<&PeerCertificates>,
    ) -> Result<User, Vec<AuthenticationError>> {
        let trust = self.options.trust.current();
        let mut errors = Vec::new();
        let mut found = None;
        if let (Some(presented), Some(proxy)) = (presented, &trust.front_proxy) {
            keep(self.by_front_proxy(proxy, presented, headers), &mut found, &mut errors);
        }
        if let (None, Some(presented), Some(clients)) = (&found, presented, &trust.clients) {
            let now = self.options.clock.now();
            let user = clients
                .verify(&presented.0, now)
                .map_err(AuthenticationError::Certificate)
                .and_then(|()| Ok(certificates::user(&presented.0[0])?));
            keep(user, &mut found, &mut errors);
        }
        if let (None, Some(reviewer)) = (&found, &self.options.tokens) {
            let user = match bearer_token(headers) {
                Some(token) => self.by_token(reviewer.as_ref(), &token).await.map(Some),
                None => Ok(None),
            };
            keep(user.map_err(AuthenticationError::from), &mut found, &mut errors);
        }
        let user = match found {
            Some(user) => user.authenticated(),
            None if errors.is_empty() => User::anonymous(),
            None => return Err(errors),
        };
        headers.remove(header::AUTHORIZATION);
        UserHeaders::standard().strip(headers);
        if let Some(proxy) = &trust.front_proxy {
            proxy.headers.strip(headers);
        }
        Ok(user)
    }

    fn by_front_proxy(
        &self,
        proxy: &FrontProxy,
        presented: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<Option<User>, AuthenticationError> {
        let now = self.options.clock.now();
        let verified = proxy.authorities.verify(&presented.0, now);
        verified.map_err(AuthenticationError::Certificate)?;
        if !proxy.allowed_names.is_empty() {
            let name = certificates::common_name(&presented.0[0])?;
            if !proxy.allowed_names.contains(&name) {
                return Err(AuthenticationError::FrontProxyName(name));
            }
        }
        Ok(proxy.headers.user(headers))
    }

    async fn by_token(
        &self,
        reviewer: &dyn TokenReviewer,
        token: &str,
    ) -> Result<User, TokenError> {
        let ask = async {
            let user = self.review(reviewer, token).await;
            // As upstream: that a token is not known is kept, that something went wrong is not.
            let ttl = if user.is_ok() { self.options.token_ttl } else { Duration::ZERO };
            (user, ttl)
        };
        self.reviews.get(&[token.as_bytes()], ask).await?.ok_or(TokenError::Invalid)
    }

    async fn review(
        &self,
        reviewer: &dyn TokenReviewer,
        token: &str,
    ) -> Result<Option<User>, TokenError> {
        let wanted = &self.options.audiences;
        let review = reviewer.review(token, wanted).await?;
        if !wanted.is_empty() {
            // An API server that knows nothing of audiences answers none: then the token is good for its own, which
            // are taken to be ours.
            let answered = review.audiences.unwrap_or_default();
            if !answered.is_empty() && !answered.iter().any(|audience| wanted.contains(audience)) {
                return Ok(None);
            }
        }
        if review.authenticated != Some(true) {
            return match review.error.filter(|error| !error.is_empty()) {
                Some(error) => Err(TokenError::Rejected(error)),
                None => Ok(None),
            };
        }
        let user = review.user.unwrap_or_default();
        Ok(Some(User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_else(BTreeMap::new),
        }))
    }
}

fn keep(
    result: Result<Option<User>, AuthenticationError>,
    found: &mut Option<User>,
    errors: &mut Vec<AuthenticationError>,
) {
    match result {
        Ok(user) => *found = user,
        Err(error) => errors.push(error),
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer_token(headers: &HeaderMap) -> Option<String> {
    // What is not UTF-8 is still a token, and a bad one.
    let value = String::from_utf8_lossy(headers.get(header::AUTHORIZATION)?.as_bytes());
    let mut parts = value.trim().splitn(3, ' ');
    let scheme = parts.next()?;
    let token = parts.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| String::from(token))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::authentication::v1::UserInfo;
    use model::ManualClock;

    use super::*;

    /// Knows `good`, rejects `bad` with a reason, does not know others; `down` is a failure.
    #[derive(Default)]
    struct Reviewer {
        asked: Mutex<Vec<String>>,
        audiences: Option<Vec<String>>,
    }

    impl TokenReviewer for Reviewer {
        fn review<'a>(
            &'a self,
            token: &'a str,
            _audiences: &'a [String],
        ) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>> {
            self.asked.lock().unwrap().push(String::from(token));
            let mut status = TokenReviewStatus {
                authenticated: Some(token == "good"),
                audiences: self.audiences.clone(),
                ..TokenReviewStatus::default()
            };
            match token {
                "good" => {
                    status.user =
                        Some(UserInfo { username: Some("jane".into()), ..UserInfo::default() });
                }
                "bad" => status.error = Some(String::from("expired")),
                "down" => return Box::pin(async { Err(ReviewError::TimedOut) }),
                _ => {}
            }
            Box::pin(async { Ok(status) })
        }
    }

    fn authenticator(reviewer: &Arc<Reviewer>, audiences: &[&str]) -> Authenticator {
        Authenticator::new(AuthenticationOptions {
            trust: Arc::default(),
            tokens: Some(Arc::clone(reviewer) as _),
            audiences: audiences.iter().map(|one| String::from(*one)).collect(),
            token_ttl: Duration::from_secs(10),
            clock: Arc::new(ManualClock::new(0)),
        })
    }

    async fn ask(authenticator: &Authenticator, authorization: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        let user = authenticator.authenticate(&mut headers, None).await;
        assert_eq!(headers.is_empty(), user.is_ok(), "credentials are taken out");
        user.map(|user| format!("{} {}", user.name, user.groups.join(",")))
            .map_err(|errors| errors[0].to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_reviewed_and_the_reviews_kept() {
        let reviewer = Arc::new(Reviewer::default());
        let authenticator = authenticator(&reviewer, &[]);
        let jane = Ok(String::from("jane system:authenticated"));
        for header in ["Bearer good", "bearer good", "  BEARER good  ", "Bearer good more"] {
            assert_eq!(ask(&authenticator, header).await, jane, "{header}");
        }
        let invalid = Err(String::from("invalid bearer token"));
        assert_eq!(ask(&authenticator, "Bearer unknown").await, invalid);
        assert_eq!(ask(&authenticator, "Bearer unknown").await, invalid);
        for _ in 0..2 {
            let rejected = ask(&authenticator, "Bearer bad").await.unwrap_err();
            assert_eq!(rejected, "invalid bearer token: expired");
            let down = ask(&authenticator, "Bearer down").await.unwrap_err();
            assert_eq!(down, "cannot review a bearer token: the API server did not answer in time");
        }
        // Known and unknown once each, what went wrong every time.
        let asked = reviewer.asked.lock().unwrap().clone();
        assert_eq!(asked, ["good", "unknown", "bad", "down", "bad", "down"]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(ask(&authenticator, "Bearer good").await, jane);
        assert_eq!(reviewer.asked.lock().unwrap().len(), 7);
    }

    #[tokio::test]
    async fn what_is_no_bearer_token_is_nobody() {
        let authenticator = authenticator(&Arc::default(), &[]);
        for header in ["", "Bearer", "Bearer  good", "Basic good", "Bearergood"] {
            let anonymous = Ok(String::from("system:anonymous system:unauthenticated"));
            assert_eq!(ask(&authenticator, header).await, anonymous, "{header}");
        }
    }

    #[tokio::test]
    async fn audiences_must_meet() {
        for (answered, expected) in [(None, true), (Some("ours"), true), (Some("other"), false)] {
            let audiences = answered.map(|one| vec![String::from(one)]);
            let reviewer = Arc::new(Reviewer { audiences, ..Reviewer::default() });
            let answer = ask(&authenticator(&reviewer, &["ours", "x"]), "Bearer good").await;
            assert_eq!(answer.is_ok(), expected, "{answered:?}");
        }
    }
}
