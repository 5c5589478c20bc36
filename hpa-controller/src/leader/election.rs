//! The election: take the Lease when it is free, renew it, step down.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use model::{Clock, SystemClock};
use telemetry::{IntCounterVec, IntGaugeVec, Opts, Registry, register};
use tokio_util::sync::CancellationToken;

use super::leadership::Leadership;
use super::lease::{created, duration, holder, released, taken};
use super::uptime::Uptime;
use super::{ElectionOptions, JITTER_FACTOR};

/// How often giving the Lease back is tried.
const RELEASE_ATTEMPTS: u32 = 3;

/// Why there is no leadership, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElectionError {
    /// An option is out of range.
    #[error("{0}")]
    Options(&'static str),
    /// The Lease could not be renewed in time.
    #[error("leader election lost: lease {lease} was not renewed within {deadline:?}: {cause}")]
    Deadline {
        /// `namespace/name`.
        lease: String,
        /// The renew deadline.
        deadline: Duration,
        /// What the last attempt ran into.
        cause: String,
    },
    /// Another holds the Lease that was ours.
    #[error("leader election lost: lease {lease} is held by {holder:?}")]
    Taken {
        /// `namespace/name`.
        lease: String,
        /// Who holds it.
        holder: String,
    },
    /// The election ended by a fault of its own.
    #[error("leader election ended: {0}")]
    Ended(String),
}

/// A candidate.
pub struct Election {
    leases: Api<Lease>,
    options: ElectionOptions,
    leadership: Leadership,
    clock: Arc<dyn Clock>,
    uptime: Uptime,
    metrics: Option<ElectionMetrics>,
    observed: Option<Observed>,
    /// Something was sent that may have made us the holder.
    tried: bool,
}

/// The Lease as it was last seen, and when it was first seen like that.
struct Observed {
    lease: Lease,
    since: Duration,
}

/// What became of one attempt.
enum Attempt {
    /// The Lease is ours from the start of the write on.
    Ours { since: Duration },
    /// It is another's, or another was faster.
    Others,
    /// It is not known.
    Failed(String),
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Drop for Election {
    /// Nobody waits for a candidate that is no more, even if it ended by a panic.
    fn drop(&mut self) {
        self.leadership.over();
    }
}

impl Election {
    /// A candidate that does nothing yet.
    ///
    /// # Errors
    /// [`ElectionError::Options`]
    pub fn new(client: kube::Client, options: ElectionOptions) -> Result<Self, ElectionError> {
        Self::with_clocks(client, options, Arc::new(SystemClock), Uptime::of_machine())
    }

    /// `clock` is for the times that the Lease shows, `uptime` for everything that is decided.
    pub(super) fn with_clocks(
        client: kube::Client,
        options: ElectionOptions,
        clock: Arc<dyn Clock>,
        uptime: Uptime,
    ) -> Result<Self, ElectionError> {
        options.check()?;
        Ok(Self {
            leases: Api::namespaced(client, &options.namespace),
            leadership: Leadership::pending(uptime.clone()),
            options,
            clock,
            uptime,
            metrics: None,
            observed: None,
            tried: false,
        })
    }

    /// Shows in `registry` who leads, under the names that client-go uses.
    #[must_use]
    pub fn with_metrics(mut self, registry: &Registry) -> Self {
        self.metrics = Some(ElectionMetrics::new(registry, &self.options.name));
        self
    }

    /// Whether this candidate leads.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Takes part until leadership was lost, or until `shutdown` is cancelled: then it steps down and gives the Lease back, so
    /// that another need not wait. Cancel it when nothing writes any more: another may begin at that moment.
    ///
    /// # Errors
    /// Leadership was lost.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), ElectionError> {
        let lost = shutdown.run_until_cancelled(self.take_part()).await;
        self.leadership.end();
        if let Some(metrics) = &self.metrics {
            metrics.leading(false);
        }
        match lost {
            Some(error) => Err(error),
            None => {
                self.release().await;
                Ok(())
            }
        }
    }

    /// Ends with the reason why leadership was lost.
    async fn take_part(&mut self) -> ElectionError {
        tracing::info!(
            lease = self.lease(),
            identity = self.options.identity,
            "waiting for the lease"
        );
        let since = loop {
            match self.attempt().await {
                Attempt::Ours { since } => break since,
                Attempt::Others => {}
                Attempt::Failed(error) => {
                    tracing::warn!(lease = self.lease(), error, "cannot take the lease");
                }
            }
            tokio::time::sleep(jittered(self.options.retry_period)).await;
        };
        self.leadership.gain(since + self.options.renew_deadline);
        if let Some(metrics) = &self.metrics {
            metrics.leading(true);
        }
        tracing::info!(lease = self.lease(), identity = self.options.identity, "leading");
        let leadership = self.leadership.clone();
        let mut cause = String::from("no attempt was made");
        tokio::select! {
            // A renewal that ends together with the deadline is late.
            biased;
            () = leadership.lost() => {}
            holder = self.keep_renewing(&mut cause) => {
                return ElectionError::Taken { lease: self.lease(), holder };
            }
        }
        let deadline = self.options.renew_deadline;
        ElectionError::Deadline { lease: self.lease(), deadline, cause }
    }

    /// Renews until another holds the Lease; says who. `cause` is what the last attempt ran into.
    async fn keep_renewing(&mut self, cause: &mut String) -> String {
        loop {
            tokio::time::sleep(self.options.retry_period).await;
            match self.attempt().await {
                Attempt::Ours { since } => {
                    if !self.leadership.extend(since + self.options.renew_deadline) {
                        *cause = String::from("the renewal came too late");
                        // The caller sees the loss, which is final.
                        std::future::pending::<()>().await;
                    }
                    *cause = String::from("no further attempt was made");
                }
                Attempt::Others => match self.observed.as_ref().map(|o| holder(&o.lease)) {
                    Some(other) if !other.is_empty() && other != self.options.identity => {
                        return String::from(other);
                    }
                    _ => *cause = String::from("the lease was changed by another"),
                },
                Attempt::Failed(error) => {
                    tracing::warn!(lease = self.lease(), error, "cannot renew the lease");
                    *cause = error;
                }
            }
        }
    }

    /// Tries once to make or keep the Lease ours.
    async fn attempt(&mut self) -> Attempt {
        // Whoever holds it need not ask what it says: if it was changed, the write is refused.
        if let Some(observed) = &self.observed
            && holder(&observed.lease) == self.options.identity
        {
            let renewed = taken(&observed.lease, &self.options, self.clock.now());
            match self.write(renewed).await {
                Attempt::Others => {}
                decided => return decided,
            }
        }
        if let Some(metrics) = &self.metrics {
            metrics.slow();
        }
        let found = match self.in_time(self.leases.get_opt(&self.options.name)).await {
            Ok(found) => found,
            Err(error) => return Attempt::Failed(error),
        };
        let Some(found) = found else {
            return self.create().await;
        };
        self.observe(found);
        let Some(observed) = &self.observed else { return Attempt::Others };
        let other = holder(&observed.lease);
        let valid = observed.since + duration(&observed.lease) > self.uptime.now();
        // A leader does not take back what another has taken, valid or not: that one may be writing.
        let stays = valid || self.leadership.may_write();
        if !other.is_empty() && other != self.options.identity && stays {
            return Attempt::Others;
        }
        self.write(taken(&observed.lease, &self.options, self.clock.now())).await
    }

    async fn create(&mut self) -> Attempt {
        let lease = created(&self.options, self.clock.now());
        let since = self.uptime.now();
        self.tried = true;
        let params = PostParams::default();
        let sent = self.in_time(async {
            match self.leases.create(&params, &lease).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                other => other.map(Some),
            }
        });
        self.written(sent.await, since)
    }

    /// Writes `lease` over what its resource version says.
    async fn write(&mut self, lease: Lease) -> Attempt {
        let since = self.uptime.now();
        self.tried = true;
        let params = PostParams::default();
        let sent = self.in_time(async {
            match self.leases.replace(&self.options.name, &params, &lease).await {
                // Changed meanwhile, or gone.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
                other => other.map(Some),
            }
        });
        self.written(sent.await, since)
    }

    fn written(&mut self, outcome: Result<Option<Lease>, String>, since: Duration) -> Attempt {
        match outcome {
            Ok(Some(lease)) => {
                self.observe(lease);
                Attempt::Ours { since }
            }
            Ok(None) => Attempt::Others,
            Err(error) => Attempt::Failed(error),
        }
    }

    /// Remembers what the Lease says. Only a change is a sign of life, and when it came is what our own clock says: those of
    /// other machines may go wrong.
    fn observe(&mut self, lease: Lease) {
        let same = self.observed.as_ref().filter(|observed| observed.lease.spec == lease.spec);
        let since = same.map_or_else(|| self.uptime.now(), |observed| observed.since);
        let before = self.observed.as_ref().map(|observed| holder(&observed.lease));
        let now = holder(&lease);
        if before != Some(now) && !now.is_empty() && now != self.options.identity {
            tracing::info!(lease = self.lease(), leader = now, "another leads");
        }
        self.observed = Some(Observed { lease, since });
    }

    /// Gives the Lease back if it is ours. If that fails, others wait until it expires.
    async fn release(&mut self) {
        if !self.tried {
            return;
        }
        for _ in 0..RELEASE_ATTEMPTS {
            // What was last sent may have arrived or not, so that it is asked first.
            let found = self.in_time(self.leases.get_opt(&self.options.name)).await;
            let lease = match found {
                Ok(Some(lease)) if holder(&lease) == self.options.identity => lease,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(lease = self.lease(), error, "cannot give the lease back");
                    return;
                }
            };
            let lease = released(&lease, self.clock.now());
            let params = PostParams::default();
            let sent = self.leases.replace(&self.options.name, &params, &lease);
            match self.in_time(sent).await {
                Ok(_) => {
                    tracing::info!(lease = self.lease(), "gave the lease back");
                    return;
                }
                Err(error) => {
                    tracing::debug!(lease = self.lease(), error, "cannot give the lease back");
                }
            }
        }
    }

    /// Waits for an answer for half of the renew deadline, as client-go does, so that one request that hangs leaves time for another.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, String> {
        let limit = (self.options.renew_deadline / 2).max(Duration::from_secs(1));
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.options.namespace, self.options.name)
    }
}

/// `period` and up to 1.2 times as much again, so that candidates that began together do not stay together.
fn jittered(period: Duration) -> Duration {
    // Each state has random keys: enough of a coin for this.
    let random = RandomState::new().build_hasher().finish();
    let fraction = f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    period.mul_f64(1.0 + fraction * JITTER_FACTOR)
}

/// client-go's metrics of an election.
struct ElectionMetrics {
    name: String,
    leading: IntGaugeVec,
    slow: IntCounterVec,
}

impl ElectionMetrics {
    fn new(registry: &Registry, name: &str) -> Self {
        let leading = Opts::new(
            "leader_election_master_status",
            "Whether this process holds the lease that name says: 1 or 0.",
        );
        let slow = Opts::new(
            "leader_election_slowpath_total",
            "Attempts to take or renew the lease that asked the API server what it says first.",
        );
        let metrics = Self {
            name: String::from(name),
            leading: register(registry, IntGaugeVec::new(leading, &["name"])),
            slow: register(registry, IntCounterVec::new(slow, &["name"])),
        };
        metrics.leading(false);
        metrics
    }

    fn leading(&self, yes: bool) {
        self.leading.with_label_values(&[&self.name]).set(i64::from(yes));
    }

    fn slow(&self) {
        self.slow.with_label_values(&[&self.name]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_within_its_bounds() {
        let period = Duration::from_secs(2);
        let waits: Vec<_> = (0..100).map(|_| jittered(period)).collect();
        assert!(waits.iter().all(|w| (period..=period.mul_f64(2.2)).contains(w)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
