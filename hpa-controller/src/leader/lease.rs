//! What a Lease says and how it is written: pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use model::Timestamp;

use super::ElectionOptions;

/// Who holds `lease`; empty if nobody does.
pub(super) fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// How long after a sign of life its holder may be at work, in the holder's own words.
pub(super) fn duration(lease: &Lease) -> Duration {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A first Lease.
pub(super) fn created(options: &ElectionOptions, now: Timestamp) -> Lease {
    let metadata = ObjectMeta {
        namespace: Some(options.namespace.clone()),
        name: Some(options.name.clone()),
        ..ObjectMeta::default()
    };
    let spec = held(LeaseSpec::default(), options, now, 0);
    Lease { metadata, spec: Some(spec) }
}

/// `lease` as held by us: renewed, or taken from whoever held it. What else it says stays, its resource version too.
pub(super) fn taken(lease: &Lease, options: &ElectionOptions, now: Timestamp) -> Lease {
    let before = lease.spec.clone().unwrap_or_default();
    let transitions = before.lease_transitions.unwrap_or(0);
    let spec = if holder(lease) == options.identity {
        LeaseSpec { renew_time: Some(time(now)), ..before }
    } else {
        held(before, options, now, transitions.saturating_add(1))
    };
    let seconds = options.lease_seconds();
    let spec = LeaseSpec { lease_duration_seconds: seconds, ..spec };
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

/// `lease` as held by nobody, free to be taken at once.
pub(super) fn released(lease: &Lease, now: Timestamp) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(String::new()),
        // Upstream's; the API server does not take 0.
        lease_duration_seconds: Some(1),
        acquire_time: Some(time(now)),
        renew_time: Some(time(now)),
        ..lease.spec.clone().unwrap_or_default()
    };
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

fn held(
    before: LeaseSpec,
    options: &ElectionOptions,
    now: Timestamp,
    transitions: i32,
) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(options.identity.clone()),
        lease_duration_seconds: options.lease_seconds(),
        acquire_time: Some(time(now)),
        renew_time: Some(time(now)),
        lease_transitions: Some(transitions),
        ..before
    }
}

/// A time of day that is out of all bounds becomes the epoch: nobody decides by it.
fn time(now: Timestamp) -> MicroTime {
    MicroTime(jiff::Timestamp::from_millisecond(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}
