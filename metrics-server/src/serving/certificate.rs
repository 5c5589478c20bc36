//! The certificate that is served: given in files, or made here.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use http::CertificateSource;
use model::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The names of the files in the directory, those of upstream's `--cert-dir`.
const PAIR_NAME: &str = "apiserver";
/// How the common name of an authority that is made here begins; the time follows. By this we know our own certificates.
const CA_NAME_PREFIX: &str = "metrics-server-ca@";
/// How long a certificate that is made here is valid. Long, because nothing but a restart makes a new one.
const VALID_MS: i64 = 10 * 365 * DAY_MS;
/// One that is valid for less than this at start is made anew.
const LEFT_MS_MIN: i64 = 30 * DAY_MS;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServingCertificate {
    /// `--tls-cert-file` and `--tls-private-key-file`, re-read when they change.
    Files {
        /// PEM: the certificate, then those that lead to its authority.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
    /// Made here, by an authority that is made here too and forgotten at once.
    SelfMade {
        /// `--cert-dir`: kept there and used again, if it can be written. Files of these names that were not made here
        /// are served as if they had been given.
        directory: Option<PathBuf>,
        /// DNS names and IP addresses, besides `localhost` and the loopback addresses.
        names: Vec<String>,
    },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name is none.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The time of day is out of all range.
    #[error("cannot make a certificate: the clock shows {0} ms since 1970")]
    Clock(Timestamp),
}

/// A certificate that was made here.
#[derive(Clone, PartialEq, Eq)]
pub struct SelfMade {
    /// PEM: the certificate, then its authority's.
    pub chain: String,
    /// The authority's alone, PEM.
    pub ca: String,
    /// PEM.
    key: String,
}

impl std::fmt::Debug for SelfMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelfMade").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl ServingCertificate {
    /// What the listener is to serve, and the authority that clients must trust if it was made here.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn source(
        &self,
        now: Timestamp,
    ) -> Result<(CertificateSource, Option<String>), CertificateError> {
        match self {
            Self::Files { certificate, key } => {
                let (certificate, key) = (certificate.clone(), key.clone());
                Ok((CertificateSource::Files { certificate, key }, None))
            }
            Self::SelfMade { directory, names } => {
                let names = with_loopback(names);
                let made = match directory {
                    Some(directory) => match kept(directory, &names, now)? {
                        Kept::Ours(made) => made,
                        Kept::Foreign { certificate, key } => {
                            return Ok((CertificateSource::Files { certificate, key }, None));
                        }
                    },
                    None => SelfMade::new(&names, now)?,
                };
                let source = CertificateSource::Pem {
                    certificate: made.chain.into_bytes(),
                    key: made.key.into_bytes(),
                };
                Ok((source, Some(made.ca)))
            }
        }
    }
}

fn with_loopback(names: &[String]) -> Vec<String> {
    let mut all = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    all.extend(names.iter().cloned());
    all.sort();
    all.dedup();
    all
}

impl SelfMade {
    /// Makes a certificate for `names`, DNS names and IP addresses, and an authority that issues it.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn new(names: &[String], now: Timestamp) -> Result<Self, CertificateError> {
        let mut ca = valid(CertificateParams::default(), now)?;
        ca.distinguished_name = named(&format!("{CA_NAME_PREFIX}{}", now / 1000));
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let mut own = valid(CertificateParams::new(names)?, now)?;
        own.distinguished_name = named(&format!("metrics-server@{}", now / 1000));
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        own.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let own = own.signed_by(&key, &ca)?;
        let ca = ca.pem();
        Ok(Self { chain: format!("{}{ca}", own.pem()), ca, key: key.serialize_pem() })
    }

    /// Takes up what was made before, if it still serves.
    fn read(chain: String, key: String, names: &[String], now: Timestamp) -> Option<Self> {
        let certificates = http::certificates(chain.as_bytes(), PAIR_NAME).ok()?;
        let [own, _] = certificates.as_slice() else { return None };
        let pair = KeyPair::from_pem(&key).ok()?;
        if !serves(own, &pair, names, now) {
            return None;
        }
        let ca = format!("{}\n", blocks(&chain).last()?);
        Some(Self { chain, ca, key })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Valid from yesterday on, since clocks differ.
fn valid(
    mut params: CertificateParams,
    now: Timestamp,
) -> Result<CertificateParams, CertificateError> {
    let date = |ms: Timestamp| {
        let time = jiff::Timestamp::from_millisecond(ms);
        let date = time.map_err(|_| CertificateError::Clock(now))?;
        let date = jiff::tz::Offset::UTC.to_datetime(date);
        let (year, month, day) = (date.year(), date.month(), date.day());
        let (month, day) = (month.unsigned_abs(), day.unsigned_abs());
        Ok::<_, CertificateError>(rcgen::date_time_ymd(i32::from(year), month, day))
    };
    params.not_before = date(now.saturating_sub(DAY_MS))?;
    params.not_after = date(now.saturating_add(VALID_MS))?;
    Ok(params)
}

/// The certificates of a PEM text, each with its frame.
pub(super) fn blocks(pem: &str) -> Vec<&str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = pem;
    while let Some(begin) = rest.find(BEGIN) {
        let Some(end) = rest[begin..].find(END) else { break };
        let end = begin + end + END.len();
        found.push(&rest[begin..end]);
        rest = &rest[end..];
    }
    found
}

/// Whether a certificate is that of `key`, bears all `names` and is valid for some time yet.
fn serves(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
    names: &[String],
    now: Timestamp,
) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    if parsed.public_key().raw != key.subject_public_key_info() {
        return false;
    }
    let validity = parsed.validity();
    let left = validity.not_after.timestamp().saturating_mul(1000).saturating_sub(now);
    if left < LEFT_MS_MIN || validity.not_before.timestamp().saturating_mul(1000) > now {
        return false;
    }
    let Ok(Some(borne)) = parsed.subject_alternative_name() else { return false };
    names.iter().all(|name| {
        let address = name.parse::<IpAddr>().ok().map(octets);
        borne.value.general_names.iter().any(|borne| match (borne, &address) {
            (GeneralName::DNSName(dns), None) => dns == name,
            (GeneralName::IPAddress(ip), Some(address)) => ip == address,
            _ => false,
        })
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What is in the directory.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// A certificate that was made here, now or before.
    Ours(SelfMade),
    /// Files that somebody else put there.
    Foreign { certificate: PathBuf, key: PathBuf },
}

/// The certificate in `directory`; if there is none or one of ours that does not serve, another is made and put there.
/// That it cannot be put there is no reason not to serve it: the next start makes another one.
fn kept(directory: &Path, names: &[String], now: Timestamp) -> Result<Kept, CertificateError> {
    let chain_path = directory.join(format!("{PAIR_NAME}.crt"));
    let key_path = directory.join(format!("{PAIR_NAME}.key"));
    let (chain, key) = (read(&chain_path)?, read(&key_path)?);
    // We write the certificate first, so a key alone is not ours either.
    let is_ours = chain.as_deref().map_or(key.is_none(), is_made_here);
    if !is_ours {
        tracing::info!(directory = %directory.display(), "serving the certificate that was put there");
        return Ok(Kept::Foreign { certificate: chain_path, key: key_path });
    }
    if let (Some(chain), Some(key)) = (chain, key)
        && let Some(made) = SelfMade::read(chain, key, names, now)
    {
        return Ok(Kept::Ours(made));
    }
    let made = SelfMade::new(names, now)?;
    let written = fs::create_dir_all(directory)
        .and_then(|()| write(&chain_path, &made.chain, 0o644))
        .and_then(|()| write(&key_path, &made.key, 0o600));
    match written {
        Ok(()) => tracing::info!(directory = %directory.display(), "made a certificate"),
        Err(error) => {
            tracing::warn!(%error, directory = %directory.display(), "cannot keep the certificate that was made");
        }
    }
    Ok(Kept::Ours(made))
}

/// Whether the first certificate of `chain` was issued by an authority that was made here.
fn is_made_here(chain: &str) -> bool {
    let Ok(certificates) = http::certificates(chain.as_bytes(), PAIR_NAME) else { return false };
    let Some((_, parsed)) =
        certificates.first().and_then(|own| X509Certificate::from_der(own).ok())
    else {
        return false;
    };
    let mut names = parsed.issuer().iter_common_name().filter_map(|name| name.as_str().ok());
    names.any(|name| name.starts_with(CA_NAME_PREFIX))
}

fn read(path: &Path) -> Result<Option<String>, CertificateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificateError::Read { path: path.to_path_buf(), source }),
    }
}

/// Writes a file whole or not at all. Its mode is set before anything is in it.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// 2026-01-01
    const NOW: Timestamp = 1_767_225_600_000;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| String::from(*one)).collect()
    }

    #[test]
    fn certificates_are_kept_for_as_long_as_they_serve() {
        let folder = tempfile::tempdir().unwrap();
        let at = |now, all: &[&str]| match kept(folder.path(), &names(all), now).unwrap() {
            Kept::Ours(made) => made,
            foreign => panic!("{foreign:?}"),
        };
        let first = at(NOW, &["localhost", "127.0.0.1"]);
        assert_eq!(at(NOW + DAY_MS, &["localhost"]), first);
        assert_eq!(at(NOW + VALID_MS - 32 * DAY_MS, &["localhost"]), first);
        let later = at(NOW + VALID_MS - 28 * DAY_MS, &["localhost"]);
        assert_ne!(later, first, "it is about to expire");
        let renamed = at(NOW + VALID_MS, &["metrics-server.kube-system.svc", "10.0.0.1"]);
        assert_ne!(renamed, later, "it does not bear the names");
        let mode = fs::metadata(folder.path().join("apiserver.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // As if the process had died between the two files.
        let other = SelfMade::new(&names(&["localhost"]), NOW + VALID_MS).unwrap();
        fs::write(folder.path().join("apiserver.key"), &other.key).unwrap();
        let whole = at(NOW + VALID_MS, &["metrics-server.kube-system.svc"]);
        assert_ne!(whole.key, other.key);
        fs::remove_file(folder.path().join("apiserver.key")).unwrap();
        assert_ne!(at(NOW + VALID_MS, &["localhost"]), whole);
    }

    #[test]
    fn what_others_put_there_is_served_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) =
            (folder.path().join("apiserver.crt"), folder.path().join("apiserver.key"));
        let pair = KeyPair::generate().unwrap();
        let given = CertificateParams::new(names(&["elsewhere"])).unwrap();
        let given = given.self_signed(&pair).unwrap().pem();
        for (chain, secret) in [
            (Some(given.as_str()), Some(pair.serialize_pem())),
            (Some(given.as_str()), None),
            (None, Some(pair.serialize_pem())),
            (Some("junk"), Some(pair.serialize_pem())),
        ] {
            for (path, text) in [(&certificate, chain), (&key, secret.as_deref())] {
                let _ = fs::remove_file(path);
                if let Some(text) = text {
                    fs::write(path, text).unwrap();
                }
            }
            let serving = ServingCertificate::SelfMade {
                directory: Some(folder.path().to_path_buf()),
                names: Vec::new(),
            };
            let (source, ca) = serving.source(NOW).unwrap();
            let expected =
                CertificateSource::Files { certificate: certificate.clone(), key: key.clone() };
            assert_eq!((format!("{source:?}"), ca), (format!("{expected:?}"), None));
            assert_eq!(fs::read_to_string(&certificate).ok().as_deref(), chain);
            assert_eq!(fs::read_to_string(&key).ok(), secret);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let made = kept(&file.join("below"), &names(&["localhost"]), NOW);
        assert!(matches!(made, Err(CertificateError::Read { .. })), "{made:?}");
        let absent = Path::new("/proc/self/nowhere");
        assert!(kept(absent, &names(&["localhost"]), NOW).is_ok());
    }

    #[test]
    fn blocks_are_found_whatever_is_between_them() {
        let made = SelfMade::new(&names(&["localhost"]), NOW).unwrap();
        let text = format!("subject=x\n{}\nmore\n", made.chain.replace('\n', "\r\n"));
        let found = blocks(&text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].replace("\r\n", "\n"), made.ca.trim_end());
        assert_eq!(blocks("-----BEGIN CERTIFICATE-----\nabc"), Vec::<&str>::new());
    }
}
