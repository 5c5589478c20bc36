//! Failures on demand, and the log of requests.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::access::User;
use super::route::ResourcePath;

/// Requests that are remembered.
const RECORDS_MAX: usize = 200_000;

/// Bytes of their bodies; the oldest requests are forgotten sooner than that there are more.
const BODIES_BYTES_MAX: usize = 64 << 20;

/// What happens to a request instead of, or before, its answer.
#[derive(Clone, Debug)]
pub enum Effect {
    /// It is refused with this status.
    Status(u16),
    /// It is answered, later.
    Delay(Duration),
    /// It is never answered; the connection stays open.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// It is answered with these bytes and this content type, status 200.
    Body(String, Vec<u8>),
}

/// A failure of some requests.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The verb (`get`, `list`, `watch`, `create`, …); `None` is any.
    pub verb: Option<&'static str>,
    /// What the path begins with.
    pub path: String,
    /// How many requests it hits; `None` is all until [`clear_faults`](super::ApiServer::clear_faults).
    pub times: Option<u32>,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Every request whose path begins with `path`.
    #[must_use]
    pub fn new(path: &str, effect: Effect) -> Self {
        Self { verb: None, path: String::from(path), times: None, effect }
    }

    /// Requests of one verb only.
    #[must_use]
    pub fn verb(mut self, verb: &'static str) -> Self {
        self.verb = Some(verb);
        self
    }

    /// The next `times` requests only.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }
}

/// The faults that are in force; the first that matches hits.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn inject(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(crate) fn hit(&self, verb: &str, path: &str) -> Option<Effect> {
        let mut faults = self.0.lock();
        let matches = |fault: &Fault| {
            path.starts_with(&fault.path) && fault.verb.is_none_or(|wanted| wanted == verb)
        };
        let at = faults.iter().position(matches)?;
        let effect = faults[at].effect.clone();
        if let Some(times) = &mut faults[at].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                faults.remove(at);
            }
        }
        Some(effect)
    }
}

/// A request that was answered or refused.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// When it was answered, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The verb, as for authorization; of paths that are no resource, the method in lower case.
    pub verb: String,
    /// The path.
    pub path: String,
    /// The query, encoded.
    pub query: String,
    /// Who asked.
    pub user: User,
    /// Its `User-Agent`.
    pub user_agent: String,
    /// Its `Accept`.
    pub accept: String,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// What was sent.
    pub body: Bytes,
}

impl RequestRecord {
    /// What it was about: `deployments/scale`; the path, if that is of no resource.
    #[must_use]
    pub fn resource(&self) -> String {
        match ResourcePath::parse(&self.path) {
            Some(path) if !path.resource.is_empty() => path.qualified_resource(),
            _ => self.path.clone(),
        }
    }

    /// The replicas that it asked a scale subresource for; `None` if it was anything else, or changed nothing of that kind.
    #[must_use]
    pub fn written_replicas(&self) -> Option<i64> {
        let writes = matches!(self.verb.as_str(), "update" | "patch");
        let is_scale = ResourcePath::parse(&self.path)?.subresource == "scale";
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        // Go leaves a zero out.
        (writes && is_scale).then(|| body["spec"]["replicas"].as_i64().unwrap_or(0))
    }
}

#[derive(Debug, Default)]
struct Records {
    all: VecDeque<RequestRecord>,
    bodies_bytes: usize,
}

/// The last requests.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Records>);

impl Log {
    pub(crate) fn push(&self, record: RequestRecord) {
        let mut records = self.0.lock();
        records.bodies_bytes += record.body.len();
        records.all.push_back(record);
        while records.all.len() > RECORDS_MAX || records.bodies_bytes > BODIES_BYTES_MAX {
            let Some(oldest) = records.all.pop_front() else { break };
            records.bodies_bytes -= oldest.body.len();
        }
    }

    pub(crate) fn all(&self) -> Vec<RequestRecord> {
        self.0.lock().all.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        *self.0.lock() = Records::default();
    }
}
