//! The real `kubectl` shows what it shows beside upstream's controller, and the controller explains itself.

use serde_json::Value;
use tests::harness::kube::Kubectl;
use tests::harness::wait_for;

use super::super::fixture::rows;
use super::fixture::{AUTOSCALER, LIMIT, Shop};

#[test]
fn kubectl_shows_what_was_decided() {
    let shop = Shop::start();
    let admin = shop.cluster.api.admin_kubeconfig(shop.folder.path());
    let Some(kubectl) = Kubectl::find(&admin) else { return };
    shop.cluster.api.delete(AUTOSCALER);
    let controller = shop.control(&[]);
    let options = ["--min=2", "--max=10", "--cpu-percent=50"];
    let _ =
        kubectl.run(&[&["autoscale", "deployment", "web", "-n", "shop"], &options[..]].concat());
    let row = || {
        let table = kubectl.run(&["get", "hpa", "-n", "shop", "--no-headers"]);
        rows(&table)[0].rsplit_once(' ').unwrap().0.to_owned()
    };
    let wait_for_row = |wanted: &str| {
        wait_for(wanted, LIMIT, || match row() {
            row if row == wanted => Ok(()),
            row => Err(format!("{row}\n{}", controller.log())),
        });
    };
    wait_for_row("web Deployment/web cpu: 50%/50% 2 10 2");
    shop.set_demand(4);
    shop.wait_for_replicas(4, &controller);
    wait_for_row("web Deployment/web cpu: 50%/50% 2 10 4");

    let describe = || rows(&kubectl.run(&["describe", "hpa", "web", "-n", "shop"]));
    let settled = "AbleToScale True ReadyForNewScale recommended size matches current size";
    let described = wait_for(settled, LIMIT, || {
        let rows = describe();
        if rows.iter().any(|row| row == settled) { Ok(rows) } else { Err(format!("{rows:#?}")) }
    });
    for line in [
        "Reference: Deployment/web",
        "resource cpu on pods (as a percentage of request): 50% (250m) / 50%",
        "Min replicas: 2",
        "Max replicas: 10",
        "Deployment pods: 4 current / 4 desired",
        "ScalingActive True ValidMetricFound the HPA was able to successfully calculate a replica \
         count from cpu resource utilization (percentage of request)",
        "ScalingLimited False DesiredWithinRange the desired count is within the acceptable range",
    ] {
        assert!(described.iter().any(|row| row == line), "{line}: {described:#?}");
    }
    let rescale = "horizontal-pod-autoscaler New size: 4; reason: cpu resource utilization \
                   (percentage of request) above target";
    assert!(
        described
            .iter()
            .any(|row| { row.starts_with("Normal SuccessfulRescale") && row.ends_with(rescale) }),
        "{described:#?}"
    );

    let yaml = kubectl.run(&["get", "hpa", "web", "-n", "shop", "-o", "yaml"]);
    for line in [
        "  currentMetrics:",
        "        averageUtilization: 50",
        "        averageValue: 250m",
        "  currentReplicas: 4",
        "  desiredReplicas: 4",
    ] {
        assert!(yaml.lines().any(|found| found == line), "{line}: {yaml}");
    }
    assert!(yaml.contains("  lastScaleTime: \""), "{yaml}");
    assert!(!yaml.contains("observedGeneration"), "1.36 never sets it: {yaml}");
}

#[test]
fn the_controller_explains_its_last_decision() {
    let shop = Shop::start();
    let controller = shop.control(&[]);
    shop.set_demand(4);
    shop.wait_for_replicas(4, &controller);
    let explained: Value = wait_for("an explanation", LIMIT, || {
        let answer = controller.get("/api/v1/hpa/shop/web/explain")?;
        match answer.status {
            200 if answer.json()["currentReplicas"] == 4 => Ok(answer.json()),
            _ => Err(format!("{} {}", answer.status, answer.body)),
        }
    });
    for field in ["desiredReplicas", "currentReplicas", "rescale", "metrics", "conditions"] {
        assert!(!explained[field].is_null(), "{field}: {explained:#}");
    }
    let text = controller.get("/api/v1/hpa/shop/web/explain?format=text").unwrap().body;
    assert!(text.contains("cpu"), "{text}");
    assert!(!controller.decisions("shop", "web").unwrap().is_null());
    assert!(controller.decisions("shop", "absent").is_err());
}
