//! Looks whether another controller writes the status of the same autoscaler.
//!
//! Two controllers that scale one target undo each other's work. The server tells who writes the status of an object, and when
//! that one last did (`metadata.managedFields`); times are compared with earlier times of the same writer only, so that no two
//! clocks have to agree. Where the server does not tell, a status that changed without our doing means the same.
//!
//! Every replica of an installation writes under one name, which its Lease gives it: a new leader is no rival of the one before, and
//! another installation is.
//!
//! A writer whose last word is younger than two sync periods when the autoscaler is first looked at may still be at work: it is
//! waited for without a fuss. One that writes afterwards is a rival: the autoscaler is left alone until the rival has been silent
//! for [`SILENCE_MS`], and twice as long each time it comes back, up to [`SILENCE_MAX_MS`].

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use model::Timestamp;

use super::watch::HpaObject;
use crate::decide::differs;

/// For how long a rival has to be silent before the autoscaler is acted upon again.
pub(super) const SILENCE_MS: i64 = 600_000;
/// The longest that is waited.
const SILENCE_MAX_MS: i64 = 2 * 3_600_000;

/// What is known of others who write one autoscaler's status.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    looked: bool,
    /// Writers and when they last wrote, as the server says.
    writers: Vec<(String, Option<String>)>,
    /// The status as it was last read or written here, and what was sent without an answer.
    known: Option<HorizontalPodAutoscalerStatus>,
    sent: Option<HorizontalPodAutoscalerStatus>,
    until: Option<Timestamp>,
    silence_ms: i64,
}

/// Whether the autoscaler may be acted upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody else writes.
    Clear,
    /// A rival has just shown: its name, and for how long it has to be silent, in milliseconds.
    Found(String, i64),
    /// A rival has not been silent for long enough.
    Waiting,
}

impl Rivals {
    /// Looks at an autoscaler before it is evaluated. `ours` is what this installation is called as a writer.
    pub(super) fn look(
        &mut self,
        hpa: &HpaObject,
        ours: &str,
        period_ms: i64,
        now: Timestamp,
    ) -> Verdict {
        let rival = self.rival(hpa, ours);
        let first = !std::mem::replace(&mut self.looked, true);
        self.note(hpa, ours);
        if first {
            let youngest = self.writers.iter().filter_map(|(_, time)| ms(time.as_deref()?)).max();
            // Its clock may be ahead of ours.
            let until = youngest.map(|at| at.min(now).saturating_add(2 * period_ms));
            self.until = until.filter(|until| *until > now);
        } else if let Some(rival) = rival {
            let was_waiting = self.until.is_some_and(|until| now < until) && self.silence_ms > 0;
            if !was_waiting {
                self.silence_ms = match self.silence_ms {
                    0 => SILENCE_MS,
                    before => (before * 2).min(SILENCE_MAX_MS),
                };
            }
            self.until = Some(now.saturating_add(self.silence_ms));
            return if was_waiting {
                Verdict::Waiting
            } else {
                Verdict::Found(rival, self.silence_ms)
            };
        }
        match self.until {
            Some(until) if now < until => Verdict::Waiting,
            _ => Verdict::Clear,
        }
    }

    /// A status is about to be sent.
    pub(super) fn sending(&mut self, status: &HorizontalPodAutoscalerStatus) {
        self.sent = Some(status.clone());
    }

    /// What the server answered to our write is ours, whatever it says.
    pub(super) fn note(&mut self, hpa: &HpaObject, ours: &str) {
        self.known = Some(hpa.status.clone());
        let others = hpa.status_writers.iter().filter(|writer| writer.manager != ours);
        self.writers = others.map(|writer| (writer.manager.clone(), writer.time.clone())).collect();
        self.writers.sort_unstable();
        if self.sent.as_ref().is_some_and(|sent| !differs(sent, &hpa.status)) {
            self.sent = None;
        }
    }

    /// Who has written since the last look.
    fn rival(&self, hpa: &HpaObject, ours: &str) -> Option<String> {
        if hpa.tells_writers {
            let others = hpa.status_writers.iter().filter(|writer| writer.manager != ours);
            let mut news = others.filter(|writer| {
                let entry = (writer.manager.clone(), writer.time.clone());
                self.writers.binary_search(&entry).is_err()
            });
            return news.next().map(|writer| writer.manager.clone());
        }
        let is_known =
            |known: &Option<_>| known.as_ref().is_some_and(|known| !differs(known, &hpa.status));
        let changed = self.known.is_some() && !is_known(&self.known) && !is_known(&self.sent);
        changed.then(|| String::from("another controller"))
    }
}

fn ms(time: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_MS: i64 = 15_000;
    /// 2023-11-14T22:13:20Z
    const NOW: Timestamp = 1_700_000_000_000;

    fn hpa(replicas: i32, writers: &[(&str, &str)]) -> HpaObject {
        let writers: Vec<_> = writers
            .iter()
            .map(|(manager, time)| {
                serde_json::json!({"manager": manager, "subresource": "status", "time": time})
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "managedFields": writers},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
            "status": {"desiredReplicas": replicas},
        }))
        .unwrap()
    }

    const KCM: &str = "kube-controller-manager";
    const OURS: &str = "sextant-hpa-controller:sextant/a";
    const OLD: &str = "2023-11-14T21:00:00Z";

    #[test]
    fn a_controller_that_was_turned_off_is_no_rival() {
        let mut rivals = Rivals::default();
        let look = |rivals: &mut Rivals, hpa: &HpaObject| rivals.look(hpa, OURS, PERIOD_MS, NOW);
        assert_eq!(look(&mut rivals, &hpa(1, &[(KCM, OLD)])), Verdict::Clear);
        // We write, it does not.
        let ours = [(KCM, OLD), (OURS, "2023-11-14T22:13:21Z")];
        assert_eq!(look(&mut rivals, &hpa(2, &ours)), Verdict::Clear);
    }

    #[test]
    fn one_that_wrote_just_now_is_waited_for() {
        let mut rivals = Rivals::default();
        let recent = hpa(1, &[(KCM, "2023-11-14T22:13:10Z")]);
        assert_eq!(rivals.look(&recent, OURS, PERIOD_MS, NOW), Verdict::Waiting);
        assert_eq!(rivals.look(&recent, OURS, PERIOD_MS, NOW + 19_999), Verdict::Waiting);
        assert_eq!(rivals.look(&recent, OURS, PERIOD_MS, NOW + 20_000), Verdict::Clear);
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_make_us_wait_longer() {
        let mut rivals = Rivals::default();
        let ahead = hpa(1, &[(KCM, "2023-11-15T22:13:20Z")]);
        let look = |rivals: &mut Rivals, now| rivals.look(&ahead, OURS, PERIOD_MS, now);
        assert_eq!(look(&mut rivals, NOW), Verdict::Waiting);
        assert_eq!(look(&mut rivals, NOW + 2 * PERIOD_MS), Verdict::Clear);
    }

    #[test]
    fn another_installation_is_a_rival_and_an_earlier_leader_of_ours_is_not() {
        let mut rivals = Rivals::default();
        let earlier = hpa(1, &[(OURS, "2023-11-14T22:13:19Z")]);
        assert_eq!(rivals.look(&earlier, OURS, PERIOD_MS, NOW), Verdict::Clear);
        let late = hpa(2, &[(OURS, "2023-11-14T22:13:21Z")]);
        assert_eq!(rivals.look(&late, OURS, PERIOD_MS, NOW), Verdict::Clear);
        let other = "sextant-hpa-controller:other/a";
        let foreign = hpa(2, &[(OURS, "2023-11-14T22:13:21Z"), (other, "2023-11-14T22:13:22Z")]);
        let found = Verdict::Found(String::from(other), SILENCE_MS);
        assert_eq!(rivals.look(&foreign, OURS, PERIOD_MS, NOW), found);
    }

    #[test]
    fn one_that_writes_again_is_a_rival_until_it_has_been_silent() {
        let mut rivals = Rivals::default();
        assert_eq!(rivals.look(&hpa(1, &[(KCM, OLD)]), OURS, PERIOD_MS, NOW), Verdict::Clear);
        let first = hpa(1, &[(KCM, "2023-11-14T22:13:21Z")]);
        let found = Verdict::Found(String::from(KCM), SILENCE_MS);
        assert_eq!(rivals.look(&first, OURS, PERIOD_MS, NOW), found);
        let second = hpa(1, &[(KCM, "2023-11-14T22:13:36Z")]);
        assert_eq!(rivals.look(&second, OURS, PERIOD_MS, NOW + PERIOD_MS), Verdict::Waiting);
        let end = NOW + PERIOD_MS + SILENCE_MS;
        assert_eq!(rivals.look(&second, OURS, PERIOD_MS, end - 1), Verdict::Waiting);
        assert_eq!(rivals.look(&second, OURS, PERIOD_MS, end), Verdict::Clear);
        let third = hpa(1, &[(KCM, "2023-11-14T23:13:36Z")]);
        let found = Verdict::Found(String::from(KCM), 2 * SILENCE_MS);
        assert_eq!(rivals.look(&third, OURS, PERIOD_MS, end), found);
    }

    #[test]
    fn where_writers_are_not_told_a_strange_status_tells() {
        let mut rivals = Rivals::default();
        assert_eq!(rivals.look(&hpa(1, &[]), OURS, PERIOD_MS, NOW), Verdict::Clear);
        rivals.sending(&hpa(2, &[]).status);
        rivals.note(&hpa(2, &[]), OURS);
        assert_eq!(rivals.look(&hpa(2, &[]), OURS, PERIOD_MS, NOW), Verdict::Clear);
        // An answer that was lost.
        rivals.sending(&hpa(3, &[]).status);
        assert_eq!(rivals.look(&hpa(3, &[]), OURS, PERIOD_MS, NOW), Verdict::Clear);
        let found = Verdict::Found(String::from("another controller"), SILENCE_MS);
        assert_eq!(rivals.look(&hpa(4, &[]), OURS, PERIOD_MS, NOW), found);
    }
}
