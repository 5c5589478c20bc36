//! What annotations ask for beyond upstream, as far as files tell.

use super::*;

/// Pods of the target by owner: those of its ReplicaSet, and none of a Job or of another Deployment's, whose labels are the same. 90% of
/// 60% for two pods ask for 3.
#[test]
fn pods_are_selected_by_owner_where_the_files_have_owners() {
    let metadata = "metadata: {name: web, namespace: shop";
    let owned = format!("{metadata}, annotations: {{autoscaling.sextant.dev/pods: owned}}");
    let autoscaler = AUTOSCALER.replace(metadata, &owned);
    let pods_of = |owners: [&str; 3]| -> String {
        let mut text = pods();
        for (pod, owner) in ["web-1", "web-2", "web-3"].iter().zip(owners) {
            let from = format!("{{name: {pod}, namespace: shop");
            let owner = format!("{from}, ownerReferences: [{{{owner}, controller: true}}]");
            text = text.replace(&from, &owner);
        }
        text
    };
    let set = |name: &str, uid: &str, deployment: &str| {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "shop", "uid": uid,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": format!("of-{deployment}"), "controller": true}]},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}}})
        .to_string()
    };
    let deployment = DEPLOYMENT.replace("namespace: shop}", "namespace: shop, uid: of-web}");
    let ours = "apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: r1";
    let job = "apiVersion: batch/v1, kind: Job, name: load, uid: j";
    let names = |inputs: &Inputs| match &inputs.pods {
        PodSet::Matched(pods) => pods.iter().map(|pod| pod.name.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let sets = [set("web-1", "r1", "web"), set("api-1", "r2", "api")];
    let files = |pods: &str, sets: &[String]| {
        let mut files =
            vec![autoscaler.clone(), deployment.clone(), usage("450m"), pods.to_owned()];
        files.extend(sets.iter().cloned());
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        only(&objects(&files))
    };
    let theirs = "apiVersion: apps/v1, kind: ReplicaSet, name: api-1, uid: r2";
    for other in [job, theirs] {
        let (inputs, notes) = files(&pods_of([ours, ours, other]), &sets);
        assert_eq!(names(&inputs), ["web-1", "web-2"], "{other}");
        let Some(MetricAnswer::Pods(readings)) = &inputs.metrics[0] else { panic!() };
        assert_eq!(readings.len(), 2);
        assert!(
            !notes.iter().any(|note| note.contains("ReplicaSet") || note.contains("ownerRef")),
            "{notes:?}"
        );
        let explanation = explain(&inputs);
        assert_eq!(explanation.desired_replicas, 3);
        let told = "Beyond upstream: pods that the selector matches and the target does not own, left out: 1 (web-3).";
        check(&explanation.to_string(), &[told]);
    }
    // A ReplicaSet of this name that was replaced by another one.
    let before = "apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: r0";
    let (inputs, notes) = files(&pods_of([ours, before, job]), &sets);
    assert_eq!(names(&inputs), ["web-1", "web-2"]);
    let unknown = "the files do not tell whose these ReplicaSets are, and their pods are taken for the target's: web-1";
    assert!(notes.contains(&String::from(unknown)), "{notes:?}");
    // What a person wrote has no uids.
    let by_name = "apiVersion: apps/v1, kind: ReplicaSet, name: web-1";
    let (inputs, _) = files(&pods_of([by_name, by_name, "kind: Job, name: load"]), &sets);
    assert_eq!(names(&inputs), ["web-1", "web-2"]);
    // Pods without any owners say nothing.
    let (inputs, notes) = files(&pods(), &sets);
    assert_eq!((names(&inputs).len(), &inputs.beyond.left_out), (3, &None));
    let unknown =
        "the pods in the files have no ownerReferences: all pods that the selector matches count";
    assert!(notes.contains(&String::from(unknown)), "{notes:?}");
}

/// What only a controller remembers is said to be unknown where annotations go by it.
#[test]
fn a_memory_that_annotations_go_by_is_said_to_be_unknown() {
    let notes_with = |annotations: &str| {
        let metadata = "metadata: {name: web, namespace: shop";
        let with = format!("{metadata}, annotations: {{{annotations}}}");
        let autoscaler = AUTOSCALER.replace(metadata, &with);
        only(&objects(&[&autoscaler, DEPLOYMENT, &pods(), &usage("450m")])).1
    };
    let plain = notes_with("a: b");
    assert_eq!(plain.len(), 1, "{plain:?}");
    let fallback = notes_with("autoscaling.sextant.dev/fallback: hold");
    let expected = "how long metrics have been lost is not known, nor what they proposed last: a loss counts from now on, and the fallback comes 3m later";
    assert_eq!((fallback.len(), fallback[1].as_str()), (2, expected));
    let budget = notes_with("autoscaling.sextant.dev/flap-budget: \"1\"");
    let expected = "how often replicas have turned is not known: the flap budget (1 turn within 1h) is taken to be unused";
    assert_eq!((budget.len(), budget[1].as_str()), (2, expected));
}

#[test]
fn a_steered_autoscaler_is_decided_from_its_annotation() {
    let plain = spec::autoscaler(documents(AUTOSCALER).unwrap().remove(0)).unwrap();
    let mut steered = serde_json::to_value(crate::steer::steered(&plain).unwrap()).unwrap();
    let saved = |steered: &Value| {
        let mut object = steered.clone();
        object["apiVersion"] = json!("autoscaling/v2");
        object["kind"] = json!("HorizontalPodAutoscaler");
        only(&objects(&[&object.to_string(), DEPLOYMENT, &pods(), &usage("450m")]))
    };
    let (inputs, notes) = saved(&steered);
    assert_eq!(explain(&inputs).desired_replicas, 5);
    assert!(notes.iter().any(|note| note.starts_with("the autoscaler is steered: decided from")));
    steered["metadata"]["annotations"][crate::steer::ANNOTATION] = json!("{");
    let (_, notes) = saved(&steered);
    let broken = "the autoscaler is steered, and the controller decides nothing, as metadata.annotations[autoscaling.sextant.dev/steered-spec]: ";
    assert!(notes.iter().any(|note| note.starts_with(broken)), "{notes:?}");
}

/// 90% of 60% for 3 pods ask for 5.
#[test]
fn what_annotations_ask_for_is_told() {
    let told_with = |annotations: &str| {
        let metadata = "metadata: {name: web, namespace: shop";
        let with = format!("{metadata}, annotations: {{{annotations}}}");
        let autoscaler = AUTOSCALER.replace(metadata, &with);
        told(&[&autoscaler, DEPLOYMENT, &pods(), &usage("450m")])
    };
    let text = told_with("autoscaling.sextant.dev/paused-replicas: \"4\"");
    check(
        &text,
        &[
            "Beyond upstream: paused at 4 replicas instead of 5.",
            "=> Deployment web is scaled from 3 to 4: paused at this number.",
        ],
    );
    // It is 21:00 in Berlin.
    let rule = r#"{\"timezone\": \"Europe/Berlin\", \"rules\": [{\"start\": \"0 20 * * *\", \"end\": \"0 23 * * *\", \"minReplicas\": 6}]}"#;
    let text = told_with(&format!("autoscaling.sextant.dev/cron: \"{rule}\""));
    check(&text, &["Beyond upstream: bounds by schedule: 6 to 10 instead of 2 to 10."]);
    let text = told_with(
        "autoscaling.sextant.dev/forecast: apply, autoscaling.sextant.dev/forecast-query: up",
    );
    check(&text, &["Beyond upstream: there is no forecast: files have no history."]);
    let text = told_with("autoscaling.sextant.dev/flap-budget: many");
    assert!(text.contains("  Warning  InvalidAnnotation"), "{text}");
}
