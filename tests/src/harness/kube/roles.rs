//! Rules from manifests: what the roles in them allow the service accounts that they are bound to.

use serde_json::Value;

use super::access::{Access, Rule, User};

/// Allows what a manifest of several documents allows. Other objects in it are passed over.
///
/// # Panics
/// If it is no YAML, or binds a role that is not in it.
pub(crate) fn allow_manifest(access: &Access, manifest: &str) {
    let documents: Vec<Value> =
        manifest.split("\n---\n").filter_map(|text| serde_saphyr::from_str(text).ok()).collect();
    let text = |value: &Value| String::from(value.as_str().unwrap_or_default());
    for binding in &documents {
        if !matches!(binding["kind"].as_str(), Some("ClusterRoleBinding" | "RoleBinding")) {
            continue;
        }
        let reference = &binding["roleRef"];
        let role = documents.iter().find(|object| {
            object["kind"] == reference["kind"] && object["metadata"]["name"] == reference["name"]
        });
        let role = role.unwrap_or_else(|| panic!("no role for {reference}"));
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let user = User::service_account(&text(&subject["namespace"]), &text(&subject["name"]));
            for rule in role["rules"].as_array().into_iter().flatten() {
                for mut allowed in rules(&user.name, rule) {
                    if binding["kind"] == "RoleBinding" {
                        allowed = allowed.within(&text(&binding["metadata"]["namespace"]));
                    }
                    access.allow(allowed);
                }
            }
        }
    }
}

/// A rule for each API group, or one for paths.
fn rules(user: &str, rule: &Value) -> Vec<Rule> {
    let list = |field: &str| -> Vec<&str> {
        rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let verbs = Rule::allow(user, &list("verbs"));
    let groups = list("apiGroups");
    if groups.is_empty() {
        return vec![verbs.paths(&list("nonResourceURLs"))];
    }
    let (resources, names) = (list("resources"), list("resourceNames"));
    groups.iter().map(|group| verbs.clone().on(group, &resources).named(&names)).collect()
}
