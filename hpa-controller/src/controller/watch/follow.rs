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
    let mut events = pin!(events.default_backoff());
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
