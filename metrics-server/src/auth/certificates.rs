//! Client certificates: who vouches for them, and whom they name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::TlsError;
use model::Timestamp;
use ring::digest;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, Validity, X509Certificate, X509Version};

use super::user::User;

/// The attribute of a subject that carries the user's identifier.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";
/// The extra by which an API server tells credentials apart.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Certificate authorities that vouch for clients.
#[derive(Clone)]
pub struct Authorities(Arc<[Authority]>);

struct Authority {
    /// Knows this authority alone: a root has no validity in rustls, so that one out of it must be left out as a whole.
    verifier: Arc<dyn ClientCertVerifier>,
    validity: Validity,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

impl Authorities {
    /// Reads a PEM bundle; `what` names it in errors. Certificates that may not issue others are left out with a
    /// warning as long as one is left.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn from_pem(pem: &[u8], what: &str) -> Result<Self, TlsError> {
        let certificates = http::certificates(pem, what)?;
        let authorities: Arc<[_]> = certificates.iter().filter_map(Authority::new).collect();
        if authorities.is_empty() {
            let reason = String::from("none of them is an authority's");
            return Err(TlsError::Certificates { what: String::from(what), reason });
        }
        let ignored = certificates.len() - authorities.len();
        if ignored > 0 {
            tracing::warn!(bundle = what, ignored, "certificates that cannot be an authority");
        }
        Ok(Self(authorities))
    }

    /// Whether one of them issued the first certificate of `chain`, through the others of it if need be, for use by a
    /// client, and whether all are valid at `now`, the authority's included.
    ///
    /// # Errors
    /// What is wrong with the chain.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), rustls::Error> {
        let [own, intermediates @ ..] = chain else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let since_epoch = Duration::from_millis(u64::try_from(now).unwrap_or(0));
        let time = UnixTime::since_unix_epoch(since_epoch);
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let mut reason = unknown.clone();
        for authority in self.0.iter().filter(|authority| authority.is_valid_at(now)) {
            match authority.verifier.verify_client_cert(own, intermediates, time) {
                Ok(_) => return Ok(()),
                // That of the authority which issued it says more than that of the others.
                Err(error) if reason == unknown => reason = error,
                Err(_) => {}
            }
        }
        Err(reason)
    }
}

impl Authority {
    /// `None` if `certificate` may not issue others.
    fn new(certificate: &CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        if !may_issue(&parsed) {
            return None;
        }
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).ok()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Some(Self { verifier: verifier.build().ok()?, validity: parsed.validity().clone() })
    }

    fn is_valid_at(&self, now: Timestamp) -> bool {
        let Validity { not_before, not_after } = &self.validity;
        let seconds = now.div_euclid(1000);
        (not_before.timestamp()..=not_after.timestamp()).contains(&seconds)
    }
}

/// Whether the holder of a certificate is meant to issue others. rustls takes any root for an authority, and a bundle may
/// hold a certificate that was issued to somebody who must not name users. Those before X.509 version 3 cannot tell.
fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    let is_authority = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => certificate.version() != X509Version::V3,
        Err(_) => false,
    };
    let may_sign = match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    is_authority && may_sign
}

/// Why a verified certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubjectError {
    #[error("the subject of the client certificate cannot be read")]
    Malformed,
    #[error("expected 1 UID in the subject of the client certificate, but found {0}")]
    Uids(usize),
    #[error("the UID in the subject of the client certificate is empty")]
    EmptyUid,
}

/// The subject's common name, the last if there are several; empty if there is none.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Result<String, SubjectError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| SubjectError::Malformed)?;
    let names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    Ok(names.last().map(String::from).unwrap_or_default())
}

/// The user that a certificate names by its subject: the common name, in the groups that are its organizations. `None`
/// without a common name.
pub(super) fn user(certificate: &CertificateDer<'_>) -> Result<Option<User>, SubjectError> {
    let name = common_name(certificate)?;
    if name.is_empty() {
        return Ok(None);
    }
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| SubjectError::Malformed)?;
    let subject = parsed.subject();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    let groups = groups.map(String::from).collect();
    let uids: Vec<_> = subject
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == UID_OID)
        .collect();
    let uid = match uids.as_slice() {
        [] => String::new(),
        [uid] => match uid.as_str() {
            Ok("") => return Err(SubjectError::EmptyUid),
            Ok(uid) => String::from(uid),
            Err(_) => return Err(SubjectError::Malformed),
        },
        several => return Err(SubjectError::Uids(several.len())),
    };
    let fingerprint = digest::digest(&digest::SHA256, certificate);
    let hex: String = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let credential = (String::from(CREDENTIAL_ID), vec![format!("X509SHA256={hex}")]);
    Ok(Some(User { name, uid, groups, extra: BTreeMap::from([credential]) }))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
        ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    };

    use super::*;

    fn certificate(subject: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn uid_attribute() -> DnType {
        DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2])
    }

    #[test]
    fn the_subject_is_the_user() {
        let der = certificate(&[
            (DnType::OrganizationName, "system:masters"),
            (DnType::CommonName, "kubernetes-admin"),
            (uid_attribute(), "42"),
        ]);
        let user = user(&der).unwrap().unwrap();
        assert_eq!(
            (&*user.name, &*user.uid, user.groups.as_slice()),
            ("kubernetes-admin", "42", ["system:masters".into()].as_slice())
        );
        let id = &user.extra[CREDENTIAL_ID][0];
        assert_eq!((id.len(), id.starts_with("X509SHA256=")), (11 + 64, true), "{id}");
    }

    #[test]
    fn subjects_that_name_nobody() {
        assert_eq!(user(&certificate(&[(DnType::OrganizationName, "system:masters")])), Ok(None));
        let empty = certificate(&[(DnType::CommonName, "a"), (uid_attribute(), "")]);
        assert_eq!(user(&empty), Err(SubjectError::EmptyUid));
        assert_eq!(user(&CertificateDer::from(vec![1, 2, 3])), Err(SubjectError::Malformed));
    }

    /// 2026-01-01
    const NOW: Timestamp = 1_767_225_600_000;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn issuer(is_ca: IsCa, usages: &[KeyUsagePurpose], until: i32) -> Issuer {
        let mut params = CertificateParams::default();
        params.is_ca = is_ca;
        params.key_usages = usages.to_vec();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn issued_by(issuer: &Issuer) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        vec![params.signed_by(&key, issuer).unwrap().der().clone()]
    }

    fn authorities(all: &[&Issuer]) -> Result<Authorities, TlsError> {
        let bundle: String = all.iter().map(|one| one.pem()).collect();
        Authorities::from_pem(bundle.as_bytes(), "bundle")
    }

    #[test]
    fn only_authorities_vouch() {
        let unconstrained = IsCa::Ca(BasicConstraints::Unconstrained);
        let good = issuer(unconstrained, &[KeyUsagePurpose::KeyCertSign], 2030);
        let any_usage = issuer(unconstrained, &[], 2030);
        let silent = issuer(IsCa::NoCa, &[], 2030);
        let none = issuer(IsCa::ExplicitNoCa, &[KeyUsagePurpose::KeyCertSign], 2030);
        let other_usage = issuer(unconstrained, &[KeyUsagePurpose::DigitalSignature], 2030);
        let trusted = authorities(&[&none, &good, &silent, &any_usage, &other_usage]).unwrap();
        for one in [&good, &any_usage] {
            assert_eq!(trusted.verify(&issued_by(one), NOW), Ok(()));
        }
        for one in [&silent, &none, &other_usage] {
            let refused = trusted.verify(&issued_by(one), NOW).unwrap_err();
            assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
            let error = authorities(&[one]).unwrap_err().to_string();
            assert!(error.ends_with("none of them is an authority's"), "{error}");
        }
    }

    #[test]
    fn authorities_vouch_while_they_are_valid() {
        let ca = issuer(IsCa::Ca(BasicConstraints::Unconstrained), &[], 2027);
        let other = issuer(IsCa::Ca(BasicConstraints::Unconstrained), &[], 2030);
        let trusted = authorities(&[&ca, &other]).unwrap();
        let client = issued_by(&ca);
        assert_eq!(trusted.verify(&client, NOW), Ok(()));
        let two_years_later = NOW + 2 * 365 * 86_400_000;
        assert!(trusted.verify(&client, two_years_later).is_err());
        assert_eq!(trusted.verify(&issued_by(&other), two_years_later), Ok(()));
    }
}
