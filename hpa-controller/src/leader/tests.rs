//! Candidates against an API server in memory, in the time of the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use model::{Clock, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::uptime::Uptime;
use super::{Election, ElectionError, ElectionOptions, Leadership};
use crate::fake_objects::{FakeObjects, Link, Wire};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/hpa";
const NOW: i64 = 1_700_000_000_123;

/// Goes with the time of the test, and may be wrong.
struct WallClock {
    began: Instant,
    skew_ms: AtomicI64,
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap();
        NOW + passed + self.skew_ms.load(Ordering::SeqCst)
    }
}

struct Candidate {
    leadership: Leadership,
    shutdown: CancellationToken,
    run: JoinHandle<Result<(), ElectionError>>,
    wire: Wire,
    clock: Arc<WallClock>,
    /// Seconds that the machine slept.
    suspended: Arc<AtomicU64>,
}

fn candidate(objects: &FakeObjects, identity: &str) -> Candidate {
    let (client, wire) = objects.client();
    let options = ElectionOptions::new("kube-system", "hpa", identity);
    let clock = Arc::new(WallClock { began: Instant::now(), skew_ms: AtomicI64::new(0) });
    let suspended = Arc::new(AtomicU64::new(0));
    let (began, slept) = (Instant::now(), Arc::clone(&suspended));
    let uptime = Uptime::new(move || {
        // Not 0, as on any machine.
        Duration::from_secs(1_000 + slept.load(Ordering::SeqCst)) + began.elapsed()
    });
    let election = Election::with_clocks(client, options, Arc::clone(&clock) as _, uptime).unwrap();
    let (leadership, shutdown) = (election.leadership(), CancellationToken::new());
    let run = tokio::spawn(election.run(shutdown.clone()));
    Candidate { leadership, shutdown, run, wire, clock, suspended }
}

fn spec(objects: &FakeObjects) -> Value {
    objects.get(LEASE).unwrap()["spec"].take()
}

async fn seconds(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

/// Waits until `leadership` may write and says how long that took. Fails if two may meanwhile.
async fn until_leading(leadership: &Leadership, other: &Leadership) -> f64 {
    let began = Instant::now();
    while !leadership.may_write() {
        assert!(began.elapsed() < Duration::from_secs(120), "it never leads");
        sleep(Duration::from_millis(10)).await;
        assert!(!(leadership.may_write() && other.may_write()), "two may write");
    }
    began.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn the_lease_reads_as_that_of_any_controller() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    assert!(!a.leadership.may_write());
    a.leadership.acquired().await;
    let first = json!({
        "holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": "2023-11-14T22:13:20.123000Z", "renewTime": "2023-11-14T22:13:20.123000Z",
    });
    assert_eq!(spec(&objects), first);
    // A renewal moves one time alone, and asks nothing first.
    objects.take_log();
    seconds(2.001).await;
    let mut renewed = first;
    renewed["renewTime"] = json!("2023-11-14T22:13:22.123000Z");
    assert_eq!(spec(&objects), renewed);
    assert_eq!(objects.take_log(), [format!("PUT {LEASE}")]);
    // Given back at the end.
    a.shutdown.cancel();
    a.run.await.unwrap().unwrap();
    assert!(!a.leadership.may_write());
    let released = spec(&objects);
    assert_eq!(released["holderIdentity"], "");
    assert_eq!(
        (&released["leaseDurationSeconds"], &released["leaseTransitions"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_is_followed_at_once() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.leadership.acquired().await;
    let b = candidate(&objects, "b");
    seconds(120.0).await;
    assert!(a.leadership.may_write() && !b.leadership.may_write());
    a.shutdown.cancel();
    a.run.await.unwrap().unwrap();
    let took = until_leading(&b.leadership, &a.leadership).await;
    assert!(took <= 4.5, "{took}");
    let spec = spec(&objects);
    assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("b"), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_when_its_lease_expires() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.leadership.acquired().await;
    let b = candidate(&objects, "b");
    seconds(60.0).await;
    a.run.abort();
    // It is the passing of time alone that ends it.
    let took = until_leading(&b.leadership, &a.leadership).await;
    // b saw the last sign of life up to 4.4 s ago, and looks again up to 4.4 s after the lease has expired.
    assert!((10.5..=19.5).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_stopped_does_not_write_when_it_goes_on() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.leadership.acquired().await;
    a.wire.set(Link::Hanging);
    let began = Instant::now();
    a.leadership.lost().await;
    // Its last renewal began when it took the lease.
    assert_eq!(began.elapsed().as_secs(), 10);
    let error = a.run.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "leader election lost: lease kube-system/hpa was not renewed within 10s: no answer within 5s"
    );
    // The wire works again, but what was lost stays lost.
    a.wire.set(Link::Fine);
    seconds(5.0).await;
    assert!(!a.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_does_not_take_its_lease_for_fresh() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.leadership.acquired().await;
    seconds(60.0).await;
    assert!(a.leadership.may_write());
    a.suspended.store(11, Ordering::SeqCst);
    assert!(!a.leadership.may_write());
    // The next renewal works, and comes too late.
    let error = a.run.await.unwrap().unwrap_err();
    assert!(matches!(error, ElectionError::Deadline { .. }), "{error}");
    assert!(!a.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_deadline_is_survived() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.leadership.acquired().await;
    seconds(60.0).await;
    for link in [Link::Down, Link::Hanging, Link::Deaf] {
        a.wire.set(link);
        // The last success was up to 2 s ago, the next attempt comes up to 2 s after.
        seconds(4.9).await;
        a.wire.set(Link::Fine);
        seconds(30.0).await;
        assert!(a.leadership.may_write(), "{link:?}");
        assert_eq!(spec(&objects)["leaseTransitions"], 0);
    }
    a.wire.set(Link::Down);
    let error = a.run.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("was not renewed within 10s: ") && error.contains("refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_edited_lease_is_renewed_and_keeps_what_was_edited() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.leadership.acquired().await;
    objects.edit(LEASE, |lease| lease["metadata"]["labels"] = json!({"by": "hand"}));
    seconds(30.0).await;
    assert!(a.leadership.may_write());
    assert_eq!(objects.get(LEASE).unwrap()["metadata"]["labels"], json!({"by": "hand"}));
    objects.delete(LEASE);
    seconds(5.0).await;
    assert!(a.leadership.may_write());
    assert_eq!(spec(&objects)["holderIdentity"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_took_is_not_taken_back() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.leadership.acquired().await;
    seconds(30.0).await;
    objects.edit(LEASE, |lease| {
        lease["spec"]["holderIdentity"] = json!("z");
        lease["spec"]["leaseDurationSeconds"] = json!(0);
    });
    let lost = ElectionError::Taken { lease: "kube-system/hpa".into(), holder: "z".into() };
    assert_eq!(a.run.await.unwrap(), Err(lost));
    assert!(!a.leadership.may_write());
    assert_eq!(spec(&objects)["holderIdentity"], "z");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_disagree_change_nothing() {
    for skew_ms in [-7_200_000, 7_200_000] {
        let objects = FakeObjects::default();
        let a = candidate(&objects, "a");
        a.leadership.acquired().await;
        let b = candidate(&objects, "b");
        b.clock.skew_ms.store(skew_ms, Ordering::SeqCst);
        seconds(90.0).await;
        assert!(a.leadership.may_write() && !b.leadership.may_write());
        a.run.abort();
        let took = until_leading(&b.leadership, &a.leadership).await;
        assert!((10.5..=19.5).contains(&took), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_taken_only_after_it_was_watched() {
    let objects = FakeObjects::default();
    objects.put(
        LEASE,
        json!({
            "metadata": {"name": "hpa", "namespace": "kube-system"},
            "spec": {
                "holderIdentity": "z", "leaseDurationSeconds": 30, "leaseTransitions": 7,
                "acquireTime": "2020-01-01T00:00:00.000000Z", "renewTime": "2020-01-01T00:00:00.000000Z",
            },
        }),
    );
    let (a, b) = (candidate(&objects, "a"), candidate(&objects, "b"));
    let began = Instant::now();
    tokio::select! {
        () = a.leadership.acquired() => {}
        () = b.leadership.acquired() => {}
    }
    // Its holder said 30 s, whatever ours are.
    let took = began.elapsed().as_secs_f64();
    assert!((30.0..=34.5).contains(&took), "{took}");
    seconds(30.0).await;
    assert_ne!(a.leadership.may_write(), b.leadership.may_write());
    assert_eq!(spec(&objects)["leaseTransitions"], 8);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_election_that_has_ended() {
    let objects = FakeObjects::default();
    for by_panic in [false, true] {
        let a = candidate(&objects, "a");
        a.wire.set(Link::Down);
        seconds(5.0).await;
        let waiting = tokio::spawn({
            let leadership = a.leadership.clone();
            async move { leadership.acquired().await }
        });
        seconds(5.0).await;
        assert!(!waiting.is_finished());
        match by_panic {
            // Dropped as by a panic.
            true => a.run.abort(),
            false => a.shutdown.cancel(),
        }
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
        assert!(!a.leadership.may_write());
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_without_an_api_server_ends_on_request() {
    let objects = FakeObjects::default();
    let a = candidate(&objects, "a");
    a.wire.set(Link::Down);
    seconds(60.0).await;
    a.shutdown.cancel();
    assert_eq!(a.run.await.unwrap(), Ok(()));
    assert_eq!(objects.paths(), [""; 0]);
}

#[test]
fn options_leave_time_to_step_down() {
    let fine = ElectionOptions::new("n", "l", "i");
    assert_eq!(fine.check(), Ok(()));
    let second = Duration::from_secs(1);
    for (options, flag) in [
        (
            ElectionOptions { lease_duration: 10 * second, ..fine.clone() },
            "--leader-elect-lease-duration must be greater",
        ),
        (
            ElectionOptions { lease_duration: second / 2, ..fine.clone() },
            "--leader-elect-lease-duration must be whole",
        ),
        (
            ElectionOptions { lease_duration: 31 * second / 2, ..fine.clone() },
            "--leader-elect-lease-duration must be whole",
        ),
        (
            ElectionOptions { renew_deadline: 12 * second / 5, ..fine.clone() },
            "--leader-elect-renew-deadline",
        ),
        (
            ElectionOptions { retry_period: Duration::ZERO, ..fine.clone() },
            "--leader-elect-retry-period",
        ),
        (ElectionOptions { name: String::new(), ..fine.clone() }, "--leader-elect-resource-name "),
        (
            ElectionOptions { namespace: String::new(), ..fine.clone() },
            "--leader-elect-resource-namespace",
        ),
        (ElectionOptions { identity: String::new(), ..fine }, "identity"),
    ] {
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains(flag), "{error}");
    }
}

#[tokio::test]
async fn without_an_election_one_leads() {
    let leadership = Leadership::always();
    assert!(leadership.may_write());
    leadership.acquired().await;
    assert_eq!(leadership.remaining(), Some(Duration::MAX));
    let lost = futures_util::FutureExt::now_or_never(leadership.lost());
    assert_eq!(lost, None);
}
