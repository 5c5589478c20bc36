//! The memory of all autoscalers, kept where the next leader finds it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::compact::{Ages, Saved};
use super::config_maps::{ConfigMapOptions, ConfigMaps};
use super::directory::{Directory, parse};
use super::{HpaKey, StateError};
use crate::inputs::Memory;
use crate::leader::Leadership;

/// The longest stabilization window that an autoscaler may have.
const WINDOW_MAX: Duration = Duration::from_secs(3_600);
/// The least time without a decision after which recommendations count as unknown: a failover with all of its waits is shorter.
const GAP_MIN: Duration = Duration::from_secs(120);
/// Rounds that an autoscaler may miss before its recommendations count as unknown.
const GAP_PERIODS: u32 = 4;

/// Where memory is kept, and for how long it counts.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// `ConfigMap`s that all replicas see.
    pub config_maps: Option<ConfigMapOptions>,
    /// A folder.
    pub directory: Option<PathBuf>,
    /// Time between two writes; what was decided within the last of them is lost with a leader that dies.
    pub interval: Duration,
    /// Recommendations older than this matter to no stabilization window.
    pub retention: Duration,
    /// After this long without a decision recommendations are taken as unknown.
    pub gap_max: Duration,
}

impl StateOptions {
    /// Time between two writes.
    pub const INTERVAL: Duration = Duration::from_secs(15);

    /// Options for a controller that decides every `sync_period` and looks back by `downscale_stabilization` where an autoscaler
    /// does not say; nothing is kept anywhere yet.
    #[must_use]
    pub fn new(sync_period: Duration, downscale_stabilization: Duration) -> Self {
        Self {
            config_maps: None,
            directory: None,
            interval: Self::INTERVAL,
            retention: WINDOW_MAX.max(downscale_stabilization),
            gap_max: GAP_MIN.max(sync_period.saturating_mul(GAP_PERIODS)),
        }
    }

    /// Until when what is kept counts.
    pub(crate) const fn ages(&self) -> Ages {
        Ages { retention: self.retention, gap_max: self.gap_max }
    }
}

/// What the lines of `text`, found at `place`, say of one autoscaler at `now`, and when that was written; `None` if nothing that counts.
pub(crate) fn saved_in(
    text: &str,
    place: &str,
    key: &HpaKey,
    uid: &str,
    now: Timestamp,
    ages: Ages,
) -> Option<(Memory, Timestamp)> {
    let saved = parse(text, place).into_iter().filter(|saved| saved.key() == *key);
    let saved = saved.filter(|saved| *saved.uid == *uid).max_by_key(|saved| saved.at)?;
    Some((saved.restore(now, ages)?, saved.at))
}

/// The memory of all autoscalers. It is read once leadership is gained, and written by the leader alone.
pub struct StateStore {
    interval: Duration,
    ages: Ages,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    /// Held while anything is read or written, so that the two do not mix.
    places: tokio::sync::Mutex<Places>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<HpaKey, Saved>,
    /// What earlier processes left is among the entries; before, writing would destroy it.
    loaded: bool,
}

struct Places {
    config_maps: Option<ConfigMaps>,
    directory: Option<Directory>,
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateStore").field("ages", &self.ages).finish_non_exhaustive()
    }
}

impl StateStore {
    /// A store that has read nothing yet.
    #[must_use]
    pub fn new(options: StateOptions, clock: Arc<dyn Clock>) -> Self {
        let StateOptions { config_maps, directory, interval, retention, gap_max } = options;
        let places = Places {
            config_maps: config_maps.map(ConfigMaps::new),
            directory: directory.map(Directory::new),
        };
        Self {
            interval,
            ages: Ages { retention, gap_max },
            clock,
            kept: Mutex::default(),
            places: tokio::sync::Mutex::new(places),
        }
    }

    /// What earlier processes left, by autoscaler and uid. What is too old to matter is left out, what cannot be read is warned of
    /// by name and left out. Call it when leadership is gained and before anything is decided.
    ///
    /// # Errors
    /// Nothing is known of what was left: the place cannot be reached. Nothing is written until it can.
    pub async fn load(&self) -> Result<HashMap<(HpaKey, String), Memory>, StateError> {
        let mut places = self.places.lock().await;
        self.load_from(&mut places).await?;
        let now = self.clock.now();
        let kept = self.kept.lock();
        let restored = kept.entries.iter().filter_map(|(key, saved)| {
            let memory = saved.restore(now, self.ages)?;
            Some(((key.clone(), String::from(&*saved.uid)), memory))
        });
        Ok(restored.collect())
    }

    async fn read(places: &mut Places) -> Result<Vec<Saved>, StateError> {
        let mut found = Vec::new();
        if let Some(config_maps) = &mut places.config_maps {
            found.append(&mut config_maps.read().await?);
        }
        if let Some(directory) = &places.directory {
            found.append(&mut directory.read().await?);
        }
        Ok(found)
    }

    async fn load_from(&self, places: &mut Places) -> Result<(), StateError> {
        let found = Self::read(places).await?;
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        for saved in found {
            if saved.is_expired(now, self.ages) {
                continue;
            }
            // What this process remembers is newer than anything that it may find; of two places the newer counts.
            let entry = kept.entries.entry(saved.key());
            let entry = entry.or_insert_with(|| saved.clone());
            if entry.at < saved.at {
                *entry = saved;
            }
        }
        kept.loaded = true;
        Ok(())
    }

    /// Keeps what was decided about `key` in mind; it is written soon.
    pub fn remember(&self, key: &HpaKey, uid: &str, memory: &Memory) {
        self.remember_count(key, uid, memory, None);
    }

    /// [`Self::remember`], with the count that was published for an autoscaler whose cluster's own controller is steered.
    pub fn remember_count(&self, key: &HpaKey, uid: &str, memory: &Memory, count: Option<i32>) {
        let mut saved = Saved::new(key, uid, memory, self.clock.now(), self.ages);
        saved.count = count;
        self.kept.lock().entries.insert(key.clone(), saved);
    }

    /// The counts that the leader has written down, for a process that does not lead: which autoscaler, replicas, and when they were
    /// decided.
    ///
    /// # Errors
    /// The place cannot be reached.
    pub async fn counts(&self) -> Result<Vec<(HpaKey, i32, Timestamp)>, StateError> {
        let mut newest: HashMap<HpaKey, Saved> = HashMap::new();
        for saved in Self::read(&mut *self.places.lock().await).await? {
            let entry = newest.entry(saved.key()).or_insert_with(|| saved.clone());
            if entry.at < saved.at {
                *entry = saved;
            }
        }
        let counts =
            newest.into_iter().filter_map(|(key, saved)| Some((key, saved.count?, saved.at)));
        Ok(counts.collect())
    }

    /// Drops what is known of an autoscaler that is no more.
    pub fn forget(&self, key: &HpaKey) {
        self.kept.lock().entries.remove(key);
    }

    /// Writes what was remembered, every interval while `leadership` lasts, and once more when `shutdown` is cancelled. Cancel that
    /// before the election's, which ends leadership.
    pub async fn run(self: Arc<Self>, leadership: Leadership, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = leadership.acquired() => {}
        }
        loop {
            let stop = tokio::select! {
                () = leadership.lost() => return,
                () = shutdown.cancelled() => true,
                () = tokio::time::sleep(self.interval) => false,
            };
            if let Err(error) = self.write(&leadership).await {
                tracing::warn!(%error, "the state of autoscalers is not kept");
            }
            if stop {
                return;
            }
        }
    }

    /// Writes what was remembered.
    ///
    /// # Errors
    /// The first thing that went wrong; what can be written elsewhere is.
    pub async fn write(&self, leadership: &Leadership) -> Result<(), StateError> {
        let mut places = self.places.lock().await;
        if !self.kept.lock().loaded {
            self.load_from(&mut places).await?;
        }
        let lines = self.lines(self.clock.now());
        let mut outcome = Ok(());
        let Places { config_maps, directory } = &mut *places;
        if let Some(directory) = directory
            && leadership.may_write()
        {
            outcome = directory.write(&lines).await;
        }
        if let Some(config_maps) = config_maps {
            outcome = outcome.and(config_maps.write(&lines, leadership).await);
        }
        outcome
    }

    /// A line for each autoscaler, in order. What is too old to matter is dropped for good.
    fn lines(&self, now: Timestamp) -> BTreeMap<HpaKey, String> {
        let mut kept = self.kept.lock();
        kept.entries.retain(|_, saved| !saved.is_expired(now, self.ages));
        let lines = kept.entries.iter().filter_map(|(key, saved)| {
            // Of strings and integers, so that it does not fail.
            Some((key.clone(), serde_json::to_string(saved).ok()?))
        });
        lines.collect()
    }
}
