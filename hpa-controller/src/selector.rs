//! Selectors as objects, written in their text form.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// An operator that no selector has; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid label selector operator")]
pub(crate) struct UnknownOperator(String);

/// The text of a selector: requirements in the order of their keys, values sorted. One that selects everything is empty.
///
/// # Errors
/// [`UnknownOperator`]
pub(crate) fn text(selector: &LabelSelector) -> Result<String, UnknownOperator> {
    let mut requirements: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        requirements.push((key, format!("{key}={value}")));
    }
    for expression in selector.match_expressions.iter().flatten() {
        let key = expression.key.as_str();
        let list = || {
            let mut values = expression.values.clone().unwrap_or_default();
            values.sort_unstable();
            values.dedup();
            values.join(",")
        };
        let text = match expression.operator.as_str() {
            "In" => format!("{key} in ({})", list()),
            "NotIn" => format!("{key} notin ({})", list()),
            "Exists" => String::from(key),
            "DoesNotExist" => format!("!{key}"),
            other => return Err(UnknownOperator(String::from(other))),
        };
        requirements.push((key, text));
    }
    requirements.sort_by(|a, b| a.0.cmp(b.0));
    let texts: Vec<String> = requirements.into_iter().map(|(_, text)| text).collect();
    Ok(texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let selector: LabelSelector = serde_json::from_str(json).unwrap();
        let text = text(&selector).unwrap();
        assert_eq!(text, expected);
        assert!(text.parse::<metrics_api::LabelSelector>().is_ok());
    }

    #[test]
    fn texts_are_those_of_go() {
        check("{}", "");
        check(r#"{"matchLabels":{"b":"2","a":"1"}}"#, "a=1,b=2");
        check(
            r#"{"matchLabels":{"m":"1"},"matchExpressions":[
                {"key":"z","operator":"NotIn","values":["y","x"]},{"key":"a","operator":"Exists"},
                {"key":"b","operator":"DoesNotExist"},{"key":"c","operator":"In","values":["2","1"]}]}"#,
            "a,!b,c in (1,2),m=1,z notin (x,y)",
        );
    }

    #[test]
    fn an_unknown_operator_is_named() {
        let json = r#"{"matchExpressions":[{"key":"a","operator":"Near"}]}"#;
        let selector: LabelSelector = serde_json::from_str(json).unwrap();
        assert_eq!(
            text(&selector).unwrap_err().to_string(),
            "\"Near\" is not a valid label selector operator"
        );
    }
}
