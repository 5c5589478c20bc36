//! Follows a watch for as long as the process runs.
//!
//! A watch that breaks or expires is taken up again by the client library; what was deleted meanwhile shows by its absence from the
//! next list.

use std::fmt::Debug;
use std::pin::pin;

use futures_util::{Stream, StreamExt};
use kube::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use telemetry::IntCounter;

use super::retry::Retry;

/// Seconds that a watch lasts. The server ends it then, and the client library takes one that says nothing for five seconds longer for
/// broken and begins anew; until then what it knows may be old without anybody noticing. To go on with a watch costs the server no
/// list.
const WATCH_SECONDS: u32 = 10;
/// The same where there are many watches, so that they do not begin all the time.
const WATCH_SECONDS_MAX: u32 = 30;

/// How to watch, for a process that watches each kind in as many `scopes`.
pub(in crate::controller) fn watch_options(scopes: usize) -> watcher::Config {
    let seconds = u32::try_from(scopes).unwrap_or(u32::MAX);
    watcher::Config::default().timeout(seconds.clamp(WATCH_SECONDS, WATCH_SECONDS_MAX))
}

/// Takes what a watch says.
pub(in crate::controller) trait Feed<K> {
    /// A list begins.
    fn begin(&mut self);
    /// An object exists; `listed` if a list says so.
    fn apply(&mut self, object: K, listed: bool);
    /// An object is gone.
    fn delete(&mut self, object: K);
    /// The list is complete: what was not in it is gone.
    fn end(&mut self);
    /// What is known may be old from now on, until anything else is told.
    fn failed(&mut self);
}

/// Tells `feed` what `events` say, without end.
pub(in crate::controller) async fn follow<K, F: Feed<K>>(
    resource: &'static str,
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    mut feed: F,
    errors: IntCounter,
) where
    K: Resource + Clone + Debug + Send + 'static,
{
    let mut events = pin!(events.backoff(Retry::default()));
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(resource, "watching works again");
                }
                match event {
                    Event::Init => feed.begin(),
                    Event::InitApply(object) => feed.apply(object, true),
                    Event::Apply(object) => feed.apply(object, false),
                    Event::Delete(object) => feed.delete(object),
                    Event::InitDone => feed.end(),
                }
            }
            Err(error) => {
                errors.inc();
                failing = true;
                feed.failed();
                tracing::warn!(resource, %error, "watching failed and will be tried again");
            }
        }
    }
}
