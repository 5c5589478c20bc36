//! Whom the server believes: the authorities of clients and of the front proxy, and how the front proxy names users.
//!
//! All of it may change while we run. What is there is replaced only by what is usable.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderName};
use http::TlsError;
use percent_encoding::percent_decode_str;

use super::certificates::Authorities;
use super::user::User;

/// The front proxy in front of us: the API server that aggregates us.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Who vouches for its certificate.
    pub authorities: Authorities,
    /// How it names users.
    pub headers: UserHeaders,
    /// The common names that its certificate may have. If empty, any.
    pub allowed_names: Vec<String>,
}

/// The headers by which a front proxy names a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserHeaders {
    /// The first of these with a value is the name.
    pub username: Vec<HeaderName>,
    /// The first of these with a value is the identifier.
    pub uid: Vec<HeaderName>,
    /// All values of all of these are groups.
    pub group: Vec<HeaderName>,
    /// What follows one of these prefixes, which are in lower case, is the key of an extra.
    pub extra_prefix: Vec<String>,
}

impl UserHeaders {
    /// `X-Remote-User` and its siblings.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            username: vec![HeaderName::from_static("x-remote-user")],
            uid: vec![HeaderName::from_static("x-remote-uid")],
            group: vec![HeaderName::from_static("x-remote-group")],
            extra_prefix: vec![String::from("x-remote-extra-")],
        }
    }

    /// The user that `headers` name, if they do.
    #[must_use]
    pub fn user(&self, headers: &HeaderMap) -> Option<User> {
        let name = first_value(headers, &self.username)?;
        let uid = first_value(headers, &self.uid).unwrap_or_default();
        let groups = self.group.iter().flat_map(|group| headers.get_all(group));
        let groups =
            groups.map(|value| text(value.as_bytes())).filter(|value| !value.is_empty()).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_prefix {
            for (header, value) in headers {
                if let Some(key) = header.as_str().strip_prefix(prefix.as_str()) {
                    let values = extra.entry(unescaped_key(key)).or_default();
                    values.push(text(value.as_bytes()));
                }
            }
        }
        Some(User { name, uid, groups, extra })
    }

    /// Takes the headers that could name a user out of `headers`, so that nobody behind us is tempted to read them.
    pub fn strip(&self, headers: &mut HeaderMap) {
        for header in self.username.iter().chain(&self.uid).chain(&self.group) {
            headers.remove(header);
        }
        let of_extras = |header: &&HeaderName| {
            self.extra_prefix.iter().any(|prefix| header.as_str().starts_with(prefix.as_str()))
        };
        let extras: Vec<_> = headers.keys().filter(of_extras).cloned().collect();
        for header in extras {
            headers.remove(header);
        }
    }
}

fn first_value(headers: &HeaderMap, names: &[HeaderName]) -> Option<String> {
    let mut values = names.iter().filter_map(|name| headers.get(name));
    values.find(|value| !value.is_empty()).map(|value| text(value.as_bytes()))
}

/// Names may be outside ASCII. What is not UTF-8 keeps its length but names nobody that a role is bound to.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Decodes the key of an extra; one that is malformed is taken as it is.
pub(super) fn unescaped_key(key: &str) -> String {
    let bytes = key.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let malformed =
        bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !(hex(at + 1) && hex(at + 2)));
    let decoded = percent_decode_str(key).decode_utf8();
    match decoded {
        Ok(decoded) if !malformed => decoded.into_owned(),
        _ => String::from(key),
    }
}

/// What is believed at one time.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Who vouches for clients that come with a certificate.
    pub clients: Option<Authorities>,
    /// The front proxy.
    pub front_proxy: Option<FrontProxy>,
}

/// What is believed now.
#[derive(Debug, Default)]
pub struct TrustStore(RwLock<Arc<Trust>>);

impl TrustStore {
    /// Believes `trust` from the start.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self(RwLock::new(Arc::new(trust)))
    }

    /// What is believed now.
    #[must_use]
    pub fn current(&self) -> Arc<Trust> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Believes `trust` from now on.
    pub fn replace(&self, trust: Trust) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
    }
}

/// Why a part of the configuration cannot be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Certificates are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A value is not a list of strings in JSON.
    #[error("{key}: {source}")]
    List {
        /// The key of the config map.
        key: &'static str,
        /// What is wrong with the value.
        source: serde_json::Error,
    },
    /// A value is not the name of a header, or empty.
    #[error("{key}: {value:?} is not the name of a header")]
    Header {
        /// The key of the config map, or the flag.
        key: &'static str,
        /// The value.
        value: String,
    },
}

/// Reads the clients' authorities from the data of the config map; `None` if it names none.
///
/// # Errors
/// [`TrustError`]
pub fn clients_from(data: &BTreeMap<String, String>) -> Result<Option<Authorities>, TrustError> {
    authorities(data, "client-ca-file")
}

/// Reads the front proxy from the data of the config map; `None` if it names no authorities for one.
///
/// # Errors
/// [`TrustError`]
pub fn front_proxy_from(data: &BTreeMap<String, String>) -> Result<Option<FrontProxy>, TrustError> {
    let Some(authorities) = authorities(data, "requestheader-client-ca-file")? else {
        return Ok(None);
    };
    let names = |key: &'static str| header_names(key, &list(data, key)?);
    let prefix_key = "requestheader-extra-headers-prefix";
    let headers = UserHeaders {
        username: names("requestheader-username-headers")?,
        uid: names("requestheader-uid-headers")?,
        group: names("requestheader-group-headers")?,
        extra_prefix: header_prefixes(prefix_key, &list(data, prefix_key)?)?,
    };
    let allowed_names = list(data, "requestheader-allowed-names")?;
    Ok(Some(FrontProxy { authorities, headers, allowed_names }))
}

fn authorities(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Option<Authorities>, TrustError> {
    let pem = data.get(key).filter(|pem| !pem.trim().is_empty());
    Ok(pem.map(|pem| Authorities::from_pem(pem.as_bytes(), key)).transpose()?)
}

fn list(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, TrustError> {
    match data.get(key).map(String::as_str) {
        None | Some("") => Ok(Vec::new()),
        Some(text) => {
            let list: Option<_> =
                serde_json::from_str(text).map_err(|source| TrustError::List { key, source })?;
            Ok(list.unwrap_or_default())
        }
    }
}

/// Names of headers; `key` says where they come from.
///
/// # Errors
/// [`TrustError::Header`]
pub(super) fn header_names(
    key: &'static str,
    names: &[String],
) -> Result<Vec<HeaderName>, TrustError> {
    let parse = |name: &String| {
        HeaderName::try_from(name.trim())
            .map_err(|_| TrustError::Header { key, value: name.clone() })
    };
    names.iter().map(parse).collect()
}

/// Prefixes of names of headers; `key` says where they come from. An empty one would turn every header into an extra.
///
/// # Errors
/// [`TrustError::Header`]
pub(super) fn header_prefixes(
    key: &'static str,
    prefixes: &[String],
) -> Result<Vec<String>, TrustError> {
    let names = header_names(key, prefixes)?;
    Ok(names.iter().map(|name| String::from(name.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn headers_name_a_user() {
        let mut sent = headers(&[
            ("x-remote-user", "system:serviceaccount:kube-system:hpa"),
            ("x-remote-group", "system:serviceaccounts"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-group", ""),
            ("x-remote-extra-example.com%2fscopes", "a"),
            ("x-remote-extra-example.com%2fscopes", "b"),
            ("x-remote-extra-100%25", "c"),
            ("x-remote-extra-50%", "d"),
            ("x-remote-uid", "7"),
            ("x-other", "stays"),
        ]);
        let user = UserHeaders::standard().user(&sent).unwrap();
        let owned = |all: &[&str]| all.iter().copied().map(String::from).collect::<Vec<_>>();
        assert_eq!(
            user,
            User {
                name: "system:serviceaccount:kube-system:hpa".into(),
                uid: "7".into(),
                groups: owned(&["system:serviceaccounts", "system:authenticated"]),
                extra: BTreeMap::from([
                    ("example.com/scopes".into(), owned(&["a", "b"])),
                    ("100%".into(), owned(&["c"])),
                    ("50%".into(), owned(&["d"])),
                ]),
            }
        );
        UserHeaders::standard().strip(&mut sent);
        assert_eq!(sent, headers(&[("x-other", "stays")]));
    }

    #[test]
    fn without_a_name_there_is_no_user() {
        let standard = UserHeaders::standard();
        assert_eq!(standard.user(&headers(&[("x-remote-group", "system:masters")])), None);
        assert_eq!(standard.user(&headers(&[("x-remote-user", "")])), None);
        // The default of the flags does not trust a header that older API servers do not strip.
        let no_uid = UserHeaders { uid: Vec::new(), ..standard };
        let user = no_uid.user(&headers(&[("x-remote-user", "a"), ("x-remote-uid", "7")]));
        assert_eq!(user.unwrap().uid, "");
    }

    #[test]
    fn the_config_map_is_read() {
        let data = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| (String::from(*k), String::from(*v))).collect()
        };
        assert!(clients_from(&data(&[])).unwrap().is_none());
        assert!(front_proxy_from(&data(&[("client-ca-file", "x")])).unwrap().is_none());
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let good = data(&[
            ("requestheader-client-ca-file", &ca),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]);
        let proxy = front_proxy_from(&good).unwrap().unwrap();
        assert_eq!(proxy.allowed_names, ["front-proxy-client"]);
        let without_uid = UserHeaders { uid: Vec::new(), ..UserHeaders::standard() };
        assert_eq!(proxy.headers, without_uid);
        for (key, value, complaint) in [
            ("requestheader-client-ca-file", "junk", "requestheader-client-ca-file: no usable"),
            ("requestheader-allowed-names", "front", "requestheader-allowed-names: expected"),
            (
                "requestheader-extra-headers-prefix",
                r#"[" "]"#,
                r#"requestheader-extra-headers-prefix: " " is not the name of a header"#,
            ),
        ] {
            let mut bad = good.clone();
            bad.insert(String::from(key), String::from(value));
            let error = front_proxy_from(&bad).unwrap_err().to_string();
            assert!(error.starts_with(complaint), "{error}");
        }
    }
}
