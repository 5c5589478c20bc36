//! Makes the API server trust a certificate that was made here: its authority goes into the `APIService` objects.
//!
//! This needs the permission to get and update the named `apiservices.apiregistration.k8s.io`, and is done only on
//! request. Replicas each have an authority of their own, so the bundle holds all of them, the newest last.
//!
//! The first object is that of `metrics.k8s.io`, which we are there for. Those of other groups may be missing, or lead to
//! another adapter, which would be cut off if the API server expected our certificate of it: only objects with the same
//! service as the first are changed.

use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::PostParams;
use model::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::blocks;

/// Authorities that a bundle holds; older ones are those of replicas that are long gone.
const AUTHORITIES_MAX: usize = 8;
/// How often an object that changes at the same time is tried again.
const CONFLICTS_MAX: u32 = 5;

/// Why an `APIService` does not trust us.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiServiceError {
    /// The API server refused, or cannot be reached.
    #[error("API service {name}: {source}")]
    Api {
        /// The object.
        name: String,
        /// What happened.
        source: Box<kube::Error>,
    },
    /// There is no such object, or none that we may read.
    #[error("API service {name}: {source}")]
    Absent {
        /// The object.
        name: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// Others keep changing the object.
    #[error("API service {name}: changed by others {CONFLICTS_MAX} times in a row")]
    Conflicts {
        /// The object.
        name: String,
    },
}

/// The namespace and the name of a service.
type ServiceKey = (String, String);

/// The DNS name under which the API server asks the service behind the first of `names`: a certificate must bear it. Tells
/// which of the others will be left as they are.
///
/// # Errors
/// [`ApiServiceError::Absent`] of the first, [`ApiServiceError::Api`] of any.
pub async fn service_name(
    client: &kube::Client,
    names: &[String],
) -> Result<Option<String>, ApiServiceError> {
    let [first, others @ ..] = names else { return Ok(None) };
    let api: Api<APIService> = Api::all(client.clone());
    let object = api.get(first).await.map_err(|error| unread(first, error))?;
    let Some(ours) = service_of(&object) else {
        tracing::warn!(api_service = first, "leads to no service, so it is left as it is");
        return Ok(None);
    };
    for name in others {
        match api.get(name).await {
            Ok(object) if service_of(&object).as_ref() == Some(&ours) => {}
            Ok(_) => {
                tracing::warn!(
                    api_service = name,
                    "leads to another service than {first}, so it is left as it is"
                );
            }
            Err(error) if is_absent(&error) => {
                tracing::warn!(api_service = name, %error, "left as it is");
            }
            Err(error) => return Err(failed(name, error)),
        }
    }
    let (namespace, service) = ours;
    Ok(Some(format!("{service}.{namespace}.svc")))
}

/// Adds the authority `ca` (PEM) to what each of `names` trusts, and makes it verify. All are tried, except those that
/// lead to another service than the first, and others than the first that are missing or may not be read.
///
/// # Errors
/// [`ApiServiceError`] of the first object that could not be changed.
pub async fn inject_ca(
    client: &kube::Client,
    names: &[String],
    ca: &str,
    now: Timestamp,
) -> Result<(), ApiServiceError> {
    let [first, others @ ..] = names else { return Ok(()) };
    let api: Api<APIService> = Api::all(client.clone());
    let object = api.get(first).await.map_err(|error| unread(first, error))?;
    let Some(ours) = service_of(&object) else { return Ok(()) };
    let mut outcome = inject_into(&api, first, &ours, ca, now).await;
    for name in others {
        let injected = match inject_into(&api, name, &ours, ca, now).await {
            Err(ApiServiceError::Absent { name, source }) => {
                tracing::debug!(api_service = name, error = %source, "left as it is");
                Ok(())
            }
            injected => injected,
        };
        outcome = outcome.and(injected);
    }
    outcome
}

async fn inject_into(
    api: &Api<APIService>,
    name: &str,
    ours: &ServiceKey,
    ca: &str,
    now: Timestamp,
) -> Result<(), ApiServiceError> {
    for _ in 0..CONFLICTS_MAX {
        let mut object = api.get(name).await.map_err(|error| unread(name, error))?;
        if service_of(&object).as_ref() != Some(ours) {
            tracing::debug!(api_service = name, "leads to another service");
            return Ok(());
        }
        let spec = object.spec.get_or_insert_default();
        let old = spec.ca_bundle.take().map(|bytes| bytes.0).unwrap_or_default();
        let new = bundle(&String::from_utf8_lossy(&old), ca, now).into_bytes();
        if new == old && spec.insecure_skip_tls_verify != Some(true) {
            return Ok(());
        }
        spec.ca_bundle = Some(ByteString(new));
        spec.insecure_skip_tls_verify = None;
        // The resource version of what was read comes along, so that no other replica's authority is lost.
        match api.replace(name, &PostParams::default(), &object).await {
            Ok(_) => {
                tracing::info!(api_service = name, "trusts our certificate now");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(failed(name, error)),
        }
    }
    Err(ApiServiceError::Conflicts { name: String::from(name) })
}

fn service_of(object: &APIService) -> Option<ServiceKey> {
    let service = object.spec.as_ref()?.service.as_ref()?;
    Some((service.namespace.clone()?, service.name.clone()?))
}

/// Whether there is no such object, or none that we may read.
fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

fn unread(name: &str, error: kube::Error) -> ApiServiceError {
    if is_absent(&error) {
        return ApiServiceError::Absent { name: String::from(name), source: Box::new(error) };
    }
    failed(name, error)
}

fn failed(name: &str, error: kube::Error) -> ApiServiceError {
    ApiServiceError::Api { name: String::from(name), source: Box::new(error) }
}

/// `old` and `ca` without what has expired or is there twice, and not more than fit.
fn bundle(old: &str, ca: &str, now: Timestamp) -> String {
    let ours = blocks(ca);
    let mut kept: Vec<&str> = blocks(old)
        .into_iter()
        .filter(|block| !ours.contains(block) && is_valid(block, now))
        .collect();
    let room = AUTHORITIES_MAX.saturating_sub(ours.len());
    let surplus = kept.len().saturating_sub(room);
    kept.drain(..surplus);
    // Our own place is kept, so that nothing is written when nothing has changed.
    let in_order =
        blocks(old).into_iter().filter(|block| kept.contains(block) || ours.contains(block));
    let mut all: Vec<&str> = Vec::new();
    for block in in_order.chain(ours.iter().copied()) {
        if !all.contains(&block) {
            all.push(block);
        }
    }
    all.iter().flat_map(|block| [block, "\n"]).collect()
}

fn is_valid(block: &str, now: Timestamp) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(block.as_bytes()) else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return false };
    parsed.validity().not_after.timestamp().saturating_mul(1000) > now
}

#[cfg(test)]
mod tests {
    use super::super::certificate::SelfMade;
    use super::*;

    const NOW: Timestamp = 1_767_225_600_000;
    const DAY_MS: i64 = 86_400_000;

    fn ca(now: Timestamp) -> String {
        SelfMade::new(&[String::from("localhost")], now).unwrap().ca
    }

    #[test]
    fn bundles_hold_all_replicas_and_no_leftovers() {
        let (a, b) = (ca(NOW), ca(NOW));
        let one = bundle("", &a, NOW);
        assert_eq!(one, a);
        let two = bundle(&one, &b, NOW);
        assert_eq!(two, format!("{a}{b}"));
        assert_eq!(bundle(&two, &a, NOW), two, "nothing changes when nothing is new");
        assert_eq!(bundle(&format!("junk{two}"), &b, NOW), two);
        let in_eleven_years = NOW + 11 * 365 * DAY_MS;
        let c = ca(in_eleven_years);
        assert_eq!(bundle(&two, &c, in_eleven_years), c, "expired ones go");
        let many: Vec<_> = (0..10).map(|_| ca(NOW)).collect();
        assert_eq!(bundle(&many.concat(), &a, NOW), format!("{}{a}", many[3..].concat()));
    }
}
