//! TokenReview and the SubjectAccessReviews, answered from the tokens and rules.

use serde_json::{Value, json};

use super::access::{Access, Action, User};

/// Answers a review of `kind`; `None` if it is no review.
pub(crate) fn answer(access: &Access, user: &User, kind: &str, mut review: Value) -> Option<Value> {
    let spec = &review["spec"];
    let status = match kind {
        "TokenReview" => {
            let token = spec["token"].as_str().unwrap_or_default();
            match access.user_of_token(token) {
                Some(user) => json!({ "authenticated": true, "user": user.to_json() }),
                None => json!({ "user": {}, "error": "[invalid bearer token]" }),
            }
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let names = |value: &Value| -> Vec<String> {
                let names = value.as_array().into_iter().flatten();
                names.filter_map(Value::as_str).map(String::from).collect()
            };
            let subject = User {
                name: String::from(spec["user"].as_str().unwrap_or_default()),
                groups: names(&spec["groups"]),
                ..User::default()
            };
            decision(access, &subject, spec)
        }
        "SelfSubjectAccessReview" => decision(access, user, spec),
        _ => return None,
    };
    review["status"] = status;
    Some(review)
}

fn decision(access: &Access, subject: &User, spec: &Value) -> Value {
    if access.allows(subject, &action(spec)) {
        json!({ "allowed": true, "reason": "a rule allows it" })
    } else {
        json!({ "allowed": false })
    }
}

fn action(spec: &Value) -> Action {
    let path = &spec["nonResourceAttributes"];
    let resource = &spec["resourceAttributes"];
    let text = |value: &Value| String::from(value.as_str().unwrap_or_default());
    if path.is_object() {
        let (path, verb) = (text(&path["path"]), text(&path["verb"]));
        return Action { verb, path, ..Action::default() };
    }
    let subresource = text(&resource["subresource"]);
    let mut name = text(&resource["resource"]);
    if !subresource.is_empty() {
        name = format!("{name}/{subresource}");
    }
    Action {
        verb: text(&resource["verb"]),
        group: text(&resource["group"]),
        resource: name,
        namespace: text(&resource["namespace"]),
        name: text(&resource["name"]),
        path: String::new(),
    }
}
