//! Who of several controllers acts: a Lease that one of them holds, as the controllers of Kubernetes elect their leader.
//!
//! [`Election`] keeps the Lease; [`Leadership`] says whether this process may write. The answer turns to no by the passing of time
//! alone, so that a leader that was stopped, starved or cut off from the API server does not write once the renew deadline has
//! passed, whether or not any of its tasks has run since.

mod election;
mod leadership;
mod lease;
#[cfg(test)]
mod tests;
mod uptime;

use std::time::Duration;

pub use election::{Election, ElectionError};
pub use leadership::Leadership;

/// How much longer than the retry period a candidate may wait, and what the renew deadline must exceed it by; upstream's.
const JITTER_FACTOR: f64 = 1.2;

/// How a leader is elected. The defaults are those of kube-controller-manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// What the holder is called; unique among the candidates.
    pub identity: String,
    /// How long others wait for a sign of life before they take the Lease, in whole seconds.
    pub lease_duration: Duration,
    /// For how long the leader acts after the start of its last successful renewal.
    pub renew_deadline: Duration,
    /// Pause between two renewals, and between two attempts of those who wait.
    pub retry_period: Duration,
}

impl ElectionOptions {
    /// The lease duration of kube-controller-manager.
    pub const LEASE_DURATION: Duration = Duration::from_secs(15);
    /// The renew deadline of kube-controller-manager.
    pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
    /// The retry period of kube-controller-manager.
    pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

    /// Options with upstream's times.
    #[must_use]
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: String::from(namespace),
            name: String::from(name),
            identity: String::from(identity),
            lease_duration: Self::LEASE_DURATION,
            renew_deadline: Self::RENEW_DEADLINE,
            retry_period: Self::RETRY_PERIOD,
        }
    }

    /// Whether the times leave a leader that fails to renew enough of them to step down before another takes over.
    ///
    /// # Errors
    /// [`ElectionError::Options`] names the flag of the option.
    pub fn check(&self) -> Result<(), ElectionError> {
        let wrong = |text: &'static str| Err(ElectionError::Options(text));
        if self.identity.is_empty() {
            return wrong("the identity of a candidate must not be empty");
        }
        if self.name.is_empty() {
            return wrong("--leader-elect-resource-name must not be empty");
        }
        if self.namespace.is_empty() {
            return wrong("--leader-elect-resource-namespace must not be empty");
        }
        if self.lease_duration < Duration::from_secs(1) || self.lease_seconds().is_none() {
            return wrong("--leader-elect-lease-duration must be whole seconds, at least 1s");
        }
        if self.lease_duration <= self.renew_deadline {
            return wrong(
                "--leader-elect-lease-duration must be greater than --leader-elect-renew-deadline",
            );
        }
        if self.retry_period.is_zero() {
            return wrong("--leader-elect-retry-period must be greater than 0");
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER_FACTOR) {
            return wrong(
                "--leader-elect-renew-deadline must be greater than 1.2 times --leader-elect-retry-period",
            );
        }
        Ok(())
    }

    /// The lease duration as the Lease states it, if it can.
    fn lease_seconds(&self) -> Option<i32> {
        let whole = self.lease_duration.subsec_nanos() == 0;
        i32::try_from(self.lease_duration.as_secs()).ok().filter(|_| whole)
    }
}
