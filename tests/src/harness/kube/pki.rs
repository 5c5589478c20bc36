//! Certificate authorities of a cluster and what they issue.
//!
//! A cluster has one authority per purpose, as kubeadm sets them up: they must not be interchangeable, and tests show
//! that a certificate of one is refused where another is asked for.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The key, PKCS #8 PEM.
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    /// The chain as rustls takes it: one certificate, since authorities issue directly.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The key as rustls takes it.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

/// What a certificate says.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// The common name: the user's name, of a client certificate.
    pub common_name: &'a str,
    /// Organizations, two at most: the user's groups, of a client certificate.
    pub organizations: &'a [&'a str],
    /// DNS names that a server answers for.
    pub dns_names: &'a [&'a str],
    /// Addresses that a server answers for.
    pub addresses: &'a [IpAddr],
    /// Whether it ran out, in 2001.
    pub expired: bool,
}

/// An authority that issues certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// A new authority called `name`.
    ///
    /// # Panics
    /// If the system has no random numbers.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("the system has random numbers");
        let certificate = params.self_signed(&key).expect("the parameters are complete");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate: der, pem }
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A store in which this authority alone is trusted.
    ///
    /// # Panics
    /// Never: the certificate was made here.
    #[must_use]
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority's certificate is one");
        Arc::new(roots)
    }

    /// Issues a certificate that serves both servers and clients.
    ///
    /// # Panics
    /// If a DNS name is none, or the system has no random numbers.
    #[must_use]
    pub fn issue(&self, subject: &Subject<'_>) -> Identity {
        let key = KeyPair::generate().expect("the system has random numbers");
        self.issue_for(subject, &key)
    }

    /// As [`issue`](Self::issue), for a key that exists: many certificates can share one.
    ///
    /// # Panics
    /// If a DNS name is none.
    #[must_use]
    pub fn issue_for(&self, subject: &Subject<'_>, key: &KeyPair) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // A name of rcgen has one value per attribute type, and two ways to write this type.
        let types = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
        assert!(subject.organizations.len() <= types.len(), "two organizations at most");
        for (kind, organization) in types.into_iter().zip(subject.organizations) {
            params.distinguished_name.push(kind, *organization);
        }
        params.distinguished_name.push(DnType::CommonName, subject.common_name);
        let names = subject.dns_names.iter().map(|name| {
            SanType::DnsName((*name).try_into().expect("the test gives names that are valid"))
        });
        let addresses = subject.addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names = names.chain(addresses).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if subject.expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let certificate = params.signed_by(key, &self.issuer).expect("the parameters are complete");
        Identity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }
}

/// The authorities of a cluster.
#[derive(Debug)]
pub struct Pki {
    /// Signs the API server's serving certificate; the `ca.crt` of kubeconfigs and service accounts.
    pub cluster: Authority,
    /// Signs users' client certificates.
    pub client: Authority,
    /// Signs the certificate by which the API server's proxy is recognised.
    pub request_header: Authority,
    /// Signs kubelets' serving certificates.
    pub kubelet: Authority,
}

impl Pki {
    /// New authorities.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cluster: Authority::new("kubernetes"),
            client: Authority::new("kubernetes-client-ca"),
            request_header: Authority::new("kubernetes-front-proxy-ca"),
            kubelet: Authority::new("kubernetes-kubelet-ca"),
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}
