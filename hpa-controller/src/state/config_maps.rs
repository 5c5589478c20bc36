//! Memory in `ConfigMap`s: each holds the lines of some autoscalers, and an autoscaler stays in the one that it is in.
//!
//! They are numbered from 0 without gaps and none is ever deleted, so that reading them needs no permission to list, and writing
//! none to delete.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use super::compact::Saved;
use super::directory::{hash, joined, parse};
use super::{HpaKey, StateError};
use crate::leader::Leadership;

/// Bytes of state in one; the API server takes 1 MiB.
const SHARD_BYTES_MAX: usize = 768 << 10;
/// How many there are at most: room for some 80,000 autoscalers. `deploy/hpa-controller.yaml` names them.
const SHARDS_MAX: usize = 16;
/// The key in their data.
pub(crate) const DATA_KEY: &str = "state.jsonl";
/// The label that they have: whose they are.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Time for one request that reads.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the `ConfigMap`s are.
#[derive(Clone)]
pub struct ConfigMapOptions {
    /// Who reads and writes them.
    pub client: kube::Client,
    /// Their namespace: the controller's own.
    pub namespace: String,
    /// What their names begin with: `<prefix>-state-0`, `<prefix>-state-1`, …
    pub prefix: String,
    /// Time for one write: what may pass between the end of a leadership and the next.
    pub write_timeout: Duration,
}

impl std::fmt::Debug for ConfigMapOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigMapOptions")
            .field("namespace", &self.namespace)
            .field("prefix", &self.prefix)
            .field("write_timeout", &self.write_timeout)
            .finish_non_exhaustive()
    }
}

/// The `ConfigMap`s and who is in which.
pub(super) struct ConfigMaps {
    api: Api<ConfigMap>,
    namespace: String,
    prefix: String,
    write_timeout: Duration,
    assigned: HashMap<HpaKey, usize>,
    shards: Vec<Shard>,
}

/// What is known of one.
#[derive(Clone, Debug, Default)]
struct Shard {
    /// `None`: there is none yet, as far as is known.
    resource_version: Option<String>,
    /// Hash of what we wrote last.
    written: Option<u64>,
}

/// What became of a write.
enum Put {
    /// The new version.
    Written(Option<String>),
    /// Not as it was thought to be.
    Changed,
    /// Leadership has ended; nothing was sent.
    NotAllowed,
}

impl ConfigMaps {
    pub(super) fn new(options: ConfigMapOptions) -> Self {
        let ConfigMapOptions { client, namespace, prefix, write_timeout } = options;
        let api = Api::namespaced(client, &namespace);
        let (assigned, shards) = (HashMap::new(), Vec::new());
        Self { api, namespace, prefix, write_timeout, assigned, shards }
    }

    /// What they say.
    pub(super) async fn read(&mut self) -> Result<Vec<Saved>, StateError> {
        let mut found = Vec::new();
        let mut shards = Vec::new();
        let mut assigned = HashMap::default();
        while shards.len() < SHARDS_MAX {
            let name = self.name(shards.len());
            let Some(map) = self.in_time(&name, READ_TIMEOUT, self.api.get_opt(&name)).await?
            else {
                break;
            };
            let text = map.data.as_ref().and_then(|data| data.get(DATA_KEY));
            let text = text.map(String::as_str).unwrap_or_default();
            for saved in parse(text, &format!("config map {}/{name}", self.namespace)) {
                assigned.insert(saved.key(), shards.len());
                found.push(saved);
            }
            shards.push(Shard { resource_version: map.metadata.resource_version, written: None });
        }
        (self.shards, self.assigned) = (shards, assigned);
        Ok(found)
    }

    /// Writes those that change.
    pub(super) async fn write(
        &mut self,
        lines: &BTreeMap<HpaKey, String>,
        leadership: &Leadership,
    ) -> Result<(), StateError> {
        let (texts, left_out) = pack(&mut self.assigned, lines);
        if left_out > 0 {
            tracing::warn!(
                autoscalers = left_out,
                config_maps = SHARDS_MAX,
                "there is no room for the state of all autoscalers"
            );
        }
        let count = texts.len().max(self.shards.len());
        self.shards.resize_with(count, Shard::default);
        for at in 0..count {
            let text = texts.get(at).map(String::as_str).unwrap_or_default();
            let new = hash(text);
            if self.shards[at].written != Some(new) {
                let Some(resource_version) = self.put(at, text, leadership).await? else {
                    return Ok(());
                };
                self.shards[at] = Shard { resource_version, written: Some(new) };
            }
        }
        Ok(())
    }

    /// Writes one and says its new version; `None` if leadership has ended. If somebody else wrote it meanwhile, what that one says
    /// is of no matter: only the leader knows, and we are it, or our next write is refused.
    async fn put(
        &self,
        at: usize,
        text: &str,
        leadership: &Leadership,
    ) -> Result<Option<Option<String>>, StateError> {
        let name = self.name(at);
        let mut version = self.shards[at].resource_version.clone();
        for is_first in [true, false] {
            match self.try_put(&name, text, version, leadership).await? {
                Put::Written(version) => return Ok(Some(version)),
                Put::NotAllowed => return Ok(None),
                Put::Changed if !is_first || !leadership.may_write() => break,
                Put::Changed => {}
            }
            let found = self.in_time(&name, READ_TIMEOUT, self.api.get_opt(&name)).await?;
            version = found.and_then(|map| map.metadata.resource_version);
        }
        let name = format!("{}/{name}", self.namespace);
        let conflict = kube::core::Status::failure("changed by another", "Conflict").with_code(409);
        let source = Box::new(kube::Error::Api(conflict.boxed()));
        Err(StateError::ConfigMap { name, source })
    }

    /// Writes what was as `version` says, if that is allowed, which is asked just before.
    async fn try_put(
        &self,
        name: &str,
        text: &str,
        version: Option<String>,
        leadership: &Leadership,
    ) -> Result<Put, StateError> {
        let map = self.map(name, text, version);
        let params = PostParams::default();
        if !leadership.may_write() {
            return Ok(Put::NotAllowed);
        }
        self.in_time(name, self.write_timeout, async {
            let sent = match &map.metadata.resource_version {
                Some(_) => self.api.replace(name, &params, &map).await,
                None => self.api.create(&params, &map).await,
            };
            match sent {
                // Gone meanwhile, changed, or made by another.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    Ok(Put::Changed)
                }
                other => other.map(|written| Put::Written(written.metadata.resource_version)),
            }
        })
        .await
    }

    fn map(&self, name: &str, text: &str, version: Option<String>) -> ConfigMap {
        let label = (String::from(MANAGED_BY), self.prefix.clone());
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(self.namespace.clone()),
                name: Some(String::from(name)),
                labels: Some(BTreeMap::from([label])),
                resource_version: version,
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(String::from(DATA_KEY), String::from(text))])),
            ..ConfigMap::default()
        }
    }

    fn name(&self, at: usize) -> String {
        format!("{}-state-{at}", self.prefix)
    }

    async fn in_time<T>(
        &self,
        name: &str,
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, StateError> {
        let name = || format!("{}/{name}", self.namespace);
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer
                .map_err(|source| StateError::ConfigMap { name: name(), source: Box::new(source) }),
            Err(_) => Err(StateError::Timeout { name: name(), limit }),
        }
    }
}

/// The text of each shard, and how many lines found no room. A line stays in its shard while it fits, so that a write that is
/// interrupted between two shards loses nobody who did not move.
fn pack(
    assigned: &mut HashMap<HpaKey, usize>,
    lines: &BTreeMap<HpaKey, String>,
) -> (Vec<String>, usize) {
    assigned.retain(|key, _| lines.contains_key(key));
    let mut sizes = [0_usize; SHARDS_MAX];
    let mut homeless = Vec::new();
    for (key, line) in lines {
        match assigned.get(key) {
            Some(at) if sizes[*at] + line.len() < SHARD_BYTES_MAX => sizes[*at] += line.len() + 1,
            _ => homeless.push((key, line.len() + 1)),
        }
    }
    let mut left_out = 0;
    for (key, length) in homeless {
        match sizes.iter().position(|size| size + length <= SHARD_BYTES_MAX) {
            Some(at) => {
                sizes[at] += length;
                assigned.insert(key.clone(), at);
            }
            None => {
                assigned.remove(key);
                left_out += 1;
            }
        }
    }
    let used = sizes.iter().rposition(|size| *size > 0).map_or(0, |last| last + 1);
    let text = |shard| {
        let own = lines.iter().filter(|(key, _)| assigned.get(*key) == Some(&shard));
        joined(own.map(|(_, line)| line))
    };
    ((0..used).map(text).collect(), left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(sizes: &[(&str, usize)]) -> BTreeMap<HpaKey, String> {
        let line = |(name, size): &(&str, usize)| (HpaKey::new("n", name), "x".repeat(*size));
        sizes.iter().map(line).collect()
    }

    #[test]
    fn who_fits_stays_and_who_does_not_moves() {
        const HALF: usize = SHARD_BYTES_MAX / 2 - 1;
        let mut assigned = HashMap::new();
        let shard = |assigned: &HashMap<HpaKey, usize>, name: &str| {
            assigned.get(&HpaKey::new("n", name)).copied()
        };
        let (texts, left_out) = pack(&mut assigned, &lines(&[("b", HALF), ("c", HALF), ("d", 10)]));
        assert_eq!((texts.len(), left_out), (2, 0));
        assert_eq!(["b", "c", "d"].map(|name| shard(&assigned, name)), [Some(0), Some(0), Some(1)]);
        // One that comes first in order does not push anyone out.
        let (texts, _) =
            pack(&mut assigned, &lines(&[("a", 10), ("b", HALF), ("c", HALF), ("d", 10)]));
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| shard(&assigned, name)),
            [Some(1), Some(0), Some(0), Some(1)]
        );
        assert!(texts.iter().all(|text| text.len() <= SHARD_BYTES_MAX));
        // Room that became free is used; a shard that is empty is written as such.
        let (texts, _) = pack(&mut assigned, &lines(&[("b", HALF + 1), ("c", HALF), ("e", 10)]));
        assert_eq!(["b", "c", "e"].map(|name| shard(&assigned, name)), [Some(0), Some(1), Some(0)]);
        assert_eq!(texts.len(), 2);
        let (texts, _) = pack(&mut assigned, &lines(&[]));
        assert_eq!((texts.len(), assigned.len()), (0, 0));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let names: Vec<_> = (0..SHARDS_MAX + 2).map(|i| format!("{i:02}")).collect();
        let sizes: Vec<_> = names.iter().map(|name| (name.as_str(), SHARD_BYTES_MAX - 1)).collect();
        let mut assigned = HashMap::new();
        let (texts, left_out) = pack(&mut assigned, &lines(&sizes));
        assert_eq!((texts.len(), left_out, assigned.len()), (SHARDS_MAX, 2, SHARDS_MAX));
        let (texts, left_out) = pack(&mut HashMap::new(), &lines(&[("a", SHARD_BYTES_MAX)]));
        assert_eq!((texts.len(), left_out), (0, 1));
    }
}
