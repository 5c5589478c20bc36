//! Memory from one leader to the next.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, ManualClock};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fake_objects::{FakeObjects, Link, Wire};
use crate::inputs::{Memory, Recommendation, ScaleEvent};
use crate::leader::Leadership;
use crate::state::{ConfigMapOptions, HpaKey, StateOptions, StateStore};

const NOW: i64 = 1_700_000_000_000;
const FIRST: &str = "/api/v1/namespaces/autoscaling/configmaps/hpa-state-0";

fn options() -> StateOptions {
    StateOptions::new(Duration::from_secs(15), Duration::from_secs(300))
}

fn store(objects: &FakeObjects, clock: &Arc<ManualClock>) -> (Arc<StateStore>, Wire) {
    let (client, wire) = objects.client();
    let places = ConfigMapOptions {
        client,
        namespace: "autoscaling".into(),
        prefix: "hpa".into(),
        write_timeout: Duration::from_secs(3),
    };
    let options = StateOptions { config_maps: Some(places), ..options() };
    (Arc::new(StateStore::new(options, Arc::clone(clock) as Arc<dyn Clock>)), wire)
}

fn in_directory(path: &std::path::Path) -> StateStore {
    let options = StateOptions { directory: Some(path.to_path_buf()), ..options() };
    StateStore::new(options, Arc::new(ManualClock::new(NOW)))
}

fn memory(replicas: i32) -> Memory {
    Memory {
        recommendations: Some(vec![Recommendation { replicas, at: NOW - 1_000 }]),
        scale_up_events: vec![ScaleEvent { change: 2, at: NOW - 5_000, outdated: false }],
        ..Memory::default()
    }
}

fn key(name: &str) -> HpaKey {
    HpaKey::new("shop", name)
}

#[tokio::test]
async fn the_next_leader_knows_what_the_last_one_knew() {
    let (objects, clock) = (FakeObjects::default(), Arc::new(ManualClock::new(NOW)));
    let (first, _) = store(&objects, &clock);
    assert!(first.load().await.unwrap().is_empty());
    first.remember(&key("front"), "u1", &memory(3));
    first.remember(&key("back"), "u2", &memory(4));
    first.remember(&key("gone"), "u3", &memory(5));
    first.forget(&key("gone"));
    first.write(&Leadership::always()).await.unwrap();

    clock.advance(20_000);
    let (second, _) = store(&objects, &clock);
    let known = second.load().await.unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!(known[&(key("front"), "u1".into())], memory(3));
    assert_eq!(known[&(key("back"), "u2".into())], memory(4));

    // It decides about one of them before it writes: the other is not lost.
    second.remember(&key("front"), "u1", &memory(9));
    second.write(&Leadership::always()).await.unwrap();
    let (third, _) = store(&objects, &clock);
    let known = third.load().await.unwrap();
    assert_eq!(known[&(key("front"), "u1".into())], memory(9));
    assert_eq!(known[&(key("back"), "u2".into())], memory(4));

    // An hour later it says nothing any more, and is dropped.
    clock.advance(3_601_000);
    let (fourth, _) = store(&objects, &clock);
    assert!(fourth.load().await.unwrap().is_empty());
    fourth.write(&Leadership::always()).await.unwrap();
    assert_eq!(objects.get(FIRST).unwrap()["data"]["state.jsonl"], "");
}

#[tokio::test]
async fn writing_before_reading_reads_first() {
    let (objects, clock) = (FakeObjects::default(), Arc::new(ManualClock::new(NOW)));
    let (first, _) = store(&objects, &clock);
    first.remember(&key("front"), "u1", &memory(3));
    first.remember(&key("back"), "u2", &memory(4));
    first.write(&Leadership::always()).await.unwrap();

    let (second, wire) = store(&objects, &clock);
    wire.set(Link::Down);
    let error = second.load().await.unwrap_err().to_string();
    assert!(error.starts_with("config map autoscaling/hpa-state-0: "), "{error}");
    second.remember(&key("front"), "u1", &memory(9));
    second.write(&Leadership::always()).await.unwrap_err();
    wire.set(Link::Fine);
    second.write(&Leadership::always()).await.unwrap();
    let known = second.load().await.unwrap();
    assert_eq!(known[&(key("front"), "u1".into())], memory(9));
    assert_eq!(known[&(key("back"), "u2".into())], memory(4));
}

#[tokio::test]
async fn only_what_changed_is_written_and_only_by_the_leader() {
    let (objects, clock) = (FakeObjects::default(), Arc::new(ManualClock::new(NOW)));
    let (store, _) = store(&objects, &clock);
    store.load().await.unwrap();
    store.write(&Leadership::always()).await.unwrap();
    assert_eq!(objects.paths(), [""; 0]);
    store.remember(&key("front"), "u1", &memory(3));
    objects.take_log();
    let candidate = {
        let (client, _) = objects.client();
        let options = crate::leader::ElectionOptions::new("n", "l", "i");
        crate::leader::Election::new(client, options).unwrap().leadership()
    };
    store.write(&candidate).await.unwrap();
    assert_eq!(objects.take_log(), [""; 0]);
    store.write(&Leadership::always()).await.unwrap();
    assert_eq!(objects.take_log(), [format!("POST {FIRST}")]);
    store.write(&Leadership::always()).await.unwrap();
    assert_eq!(objects.take_log(), [""; 0]);
    // Edited by hand, or by a leader that does not know yet: written over.
    objects.edit(FIRST, |map| map["data"]["state.jsonl"] = json!("nonsense"));
    store.remember(&key("front"), "u1", &memory(4));
    store.write(&Leadership::always()).await.unwrap();
    let text = objects.get(FIRST).unwrap()["data"]["state.jsonl"].clone();
    assert!(text.as_str().unwrap().contains("[[4,1000]]"), "{text}");
    objects.delete(FIRST);
    store.remember(&key("front"), "u1", &memory(5));
    store.write(&Leadership::always()).await.unwrap();
    assert!(objects.get(FIRST).is_some());
}

#[tokio::test]
async fn broken_lines_are_passed_over() {
    let (objects, clock) = (FakeObjects::default(), Arc::new(ManualClock::new(NOW)));
    let (first, _) = store(&objects, &clock);
    first.remember(&key("front"), "u1", &memory(3));
    first.write(&Leadership::always()).await.unwrap();
    objects.edit(FIRST, |map| {
        let text = map["data"]["state.jsonl"].as_str().unwrap();
        let broken = format!("{{\"namespace\":\"x\n\n{text}[]\n{}", &text[..40]);
        map["data"]["state.jsonl"] = json!(broken);
    });
    let (second, _) = store(&objects, &clock);
    let known = second.load().await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[&(key("front"), "u1".into())], memory(3));
    objects.edit(FIRST, |map| drop(map.as_object_mut().unwrap().remove("data")));
    let (third, _) = store(&objects, &clock);
    assert!(third.load().await.unwrap().is_empty());
}

#[tokio::test]
async fn those_who_do_not_lead_know_the_counts_that_were_published() {
    let (objects, clock) = (FakeObjects::default(), Arc::new(ManualClock::new(NOW)));
    let (leader, _) = store(&objects, &clock);
    let (follower, wire) = store(&objects, &clock);
    assert_eq!(follower.counts().await.unwrap(), []);
    leader.remember_count(&key("front"), "u1", &memory(3), Some(7));
    leader.remember(&key("back"), "u2", &memory(4));
    leader.write(&Leadership::always()).await.unwrap();
    clock.advance(10_000);
    assert_eq!(follower.counts().await.unwrap(), [(key("front"), 7, NOW)]);
    leader.remember_count(&key("front"), "u1", &memory(3), None);
    leader.write(&Leadership::always()).await.unwrap();
    assert_eq!(follower.counts().await.unwrap(), []);
    wire.set(Link::Down);
    assert!(follower.counts().await.is_err());
    // To have looked is no reason not to read all of it when the time has come.
    wire.set(Link::Fine);
    assert_eq!(follower.load().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_written_every_interval_and_at_the_end() {
    let (objects, clock) = (FakeObjects::default(), Arc::new(ManualClock::new(NOW)));
    let (store, _) = store(&objects, &clock);
    store.load().await.unwrap();
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(Arc::clone(&store).run(Leadership::always(), shutdown.clone()));
    store.remember(&key("front"), "u1", &memory(3));
    tokio::time::sleep(Duration::from_millis(14_900)).await;
    assert_eq!(objects.get(FIRST), None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let written = objects.get(FIRST).unwrap();
    store.remember(&key("front"), "u1", &memory(4));
    shutdown.cancel();
    run.await.unwrap();
    assert_ne!(objects.get(FIRST).unwrap(), written);
}

#[tokio::test]
async fn a_folder_serves_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = in_directory(&path);
    assert!(first.load().await.unwrap().is_empty());
    first.remember(&key("front"), "u1", &memory(3));
    first.write(&Leadership::always()).await.unwrap();
    // What a crash leaves beside.
    std::fs::write(path.join("state.jsonl.tmp"), "{").unwrap();
    let known = in_directory(&path).load().await.unwrap();
    assert_eq!(known[&(key("front"), "u1".into())], memory(3));
    // Bytes that are no text are no reason to stop.
    let mut bytes = std::fs::read(path.join("state.jsonl")).unwrap();
    bytes.splice(0..0, [0xff, 0xfe, b'\n']);
    std::fs::write(path.join("state.jsonl"), bytes).unwrap();
    assert_eq!(in_directory(&path).load().await.unwrap().len(), 1);
    // A folder that cannot be one is named.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = in_directory(&file).load().await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}/state.jsonl: ", file.display())), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_write_is_waited_for_as_long_as_another_leader_may_not_begin() {
    let (objects, clock) = (FakeObjects::default(), Arc::new(ManualClock::new(NOW)));
    let (store, wire) = store(&objects, &clock);
    store.load().await.unwrap();
    store.remember(&key("front"), "u1", &memory(3));
    wire.set(Link::Hanging);
    let begin = tokio::time::Instant::now();
    store.write(&Leadership::always()).await.unwrap_err();
    assert_eq!(begin.elapsed().as_secs(), 3);
}
