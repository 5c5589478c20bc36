//! What `sextant hpa explain` says about a live cluster is what the controller then does.

use serde_json::Value;
use tests::harness::wait_for;

use super::fixture::{AUTOSCALER, LIMIT, Shop, tool};

/// As the controllers of these tests are told.
const SETTINGS: [&str; 2] = [
    "--horizontal-pod-autoscaler-downscale-stabilization=3s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
];

#[test]
fn what_is_explained_is_what_happens() {
    let shop = Shop::start();
    let kubeconfig = shop.cluster.api.admin_kubeconfig(shop.folder.path());
    let explain = |arguments: &[&str]| {
        let command = ["hpa", "explain", "shop/web", "--kubeconfig", kubeconfig.to_str().unwrap()];
        tool(&[&command[..], &SETTINGS, arguments].concat(), "")
    };
    let json = || serde_json::from_str::<Value>(&explain(&["-o", "json"])).unwrap();

    let before = shop.autoscaler();
    shop.set_demand(4);
    // The whole demand shows once all samples are from after the change: two pods that request 500m each use 1 core together.
    let explained = wait_for("the whole demand", LIMIT, || match json() {
        explained if explained["metrics"][0]["proposal"]["utilizationPercent"] == 100 => {
            Ok(explained)
        }
        explained => Err(explained.to_string()),
    });
    let metric = &explained["metrics"][0];
    assert_eq!(explained["desiredReplicas"], 4);
    assert_eq!(explained["currentReplicas"], 2);
    assert_eq!(explained["rescale"], true);
    assert_eq!(explained["action"], "scale_up");
    assert_eq!(
        explained["reason"],
        "cpu resource utilization (percentage of request) above target"
    );
    assert_eq!(metric["proposal"]["replicas"], 4);
    assert_eq!(metric["proposal"]["pods"]["ready"].as_array().map(Vec::len), Some(2));
    let story = explain(&[]);
    for told in ["shop/web", "100", "cpu"] {
        assert!(story.contains(told), "{told}: {story}");
    }
    assert_eq!(shop.autoscaler(), before, "it only reads");
    assert!(shop.scale_writes().is_empty());

    let controller = shop.control(&[]);
    shop.wait_for_replicas(4, &controller);
    let counts: Vec<_> = shop.scale_writes().iter().map(|w| w.written_replicas()).collect();
    assert_eq!(counts.first(), Some(&Some(4)), "at once, as it was explained: {counts:?}");

    // Where it stays, and what the controller says of it.
    let settled = wait_for("rest", LIMIT, || match json() {
        explained if explained["currentReplicas"] == 4 && explained["rescale"] == false => {
            Ok(explained)
        }
        explained => Err(explained.to_string()),
    });
    assert_eq!(settled["desiredReplicas"], 4);
    let url = format!("--controller=http://{}", controller.address());
    let asked = |arguments: &[&str]| {
        tool(&[&["hpa", "explain", "shop/web", &url][..], arguments].concat(), "")
    };
    // The next decision may come in between.
    wait_for("the same decision", LIMIT, || {
        let logged = controller.get("/api/v1/hpa/shop/web/explain")?.json();
        let told: Value = serde_json::from_str(&asked(&["-o", "json"])).unwrap();
        if told == logged { Ok(()) } else { Err(format!("{told:#} for {logged:#}")) }
    });
    wait_for("the same story", LIMIT, || {
        let logged = controller.get("/api/v1/hpa/shop/web/explain?format=text")?.body;
        let told = asked(&[]);
        if told.trim_end() == logged.trim_end() { Ok(()) } else { Err(format!("{told}\n{logged}")) }
    });

    // Any decision that it has logged is decided to the same answer again.
    let logged = controller.get("/api/v1/hpa/shop/web?format=logged&limit=3").unwrap().body;
    let again: Value =
        serde_json::from_str(&tool(&["hpa", "explain", "-f", "-", "-o", "json"], &logged)).unwrap();
    let decisions = again.as_array().cloned().unwrap_or_else(|| vec![again.clone()]);
    let logged: Value = serde_json::from_str(&logged).unwrap();
    let logged = logged["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), logged.len());
    for one in logged {
        let decision = &one["decision"];
        let at = |again: &Value| {
            let at: jiff::Timestamp = again["at"].as_str().unwrap().parse().unwrap();
            at.as_millisecond()
        };
        let same = decisions.iter().find(|again| Some(at(again)) == one["at"].as_i64()).unwrap();
        for field in ["desiredReplicas", "currentReplicas", "rescale", "proposedReplicas"] {
            assert_eq!(same[field], decision[field], "{field}: {same:#}");
        }
        assert_eq!(same["notes"], Value::Null, "a different result would be noted: {same:#}");
    }
}

#[test]
fn an_autoscaler_that_is_not_there_is_an_error_that_names_it() {
    let shop = Shop::start();
    shop.cluster.api.delete(AUTOSCALER);
    let kubeconfig = shop.cluster.api.admin_kubeconfig(shop.folder.path());
    let arguments = ["hpa", "explain", "shop/web", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let failed = tests::harness::run_to_end(&arguments.map(String::from));
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("horizontalpodautoscalers.autoscaling \"web\" not found"),
        "{}",
        failed.stderr
    );
}
