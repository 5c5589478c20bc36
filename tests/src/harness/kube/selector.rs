//! Label and field selectors.

use serde_json::Value;

/// A parsed label selector; empty selects all.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    ///
    /// `None` if it is none of these.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if !part.is_empty() {
                requirements.push(Requirement::parse(part)?);
            }
        }
        Some(Self(requirements))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|requirement| {
            let value = labels[requirement.key.as_str()].as_str();
            let is_in = |values: &[String]| value.is_some_and(|v| values.iter().any(|w| w == v));
            match &requirement.test {
                Test::In(values) => is_in(values),
                Test::NotIn(values) => !is_in(values),
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
            }
        })
    }
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        if let Some(key) = text.strip_prefix('!') {
            return Self::new(key, Test::Missing);
        }
        let one = |value: &str| vec![String::from(value.trim())];
        if let Some((key, value)) = text.split_once("!=") {
            return Self::new(key, Test::NotIn(one(value)));
        }
        if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return Self::new(key, Test::In(one(value)));
        }
        let Some((key, rest)) = text.split_once(char::is_whitespace) else {
            return Self::new(text, Test::Exists);
        };
        let (operator, values) = rest.trim().split_once('(')?;
        let values = values.trim_end().strip_suffix(')')?.split(',');
        let values = values.map(|value| String::from(value.trim())).collect();
        match operator.trim() {
            "in" => Self::new(key, Test::In(values)),
            "notin" => Self::new(key, Test::NotIn(values)),
            _ => None,
        }
    }

    fn new(key: &str, test: Test) -> Option<Self> {
        let key = key.trim();
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        let key = (!key.is_empty() && key.bytes().all(valid)).then(|| String::from(key))?;
        Some(Self { key, test })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A parsed field selector; empty selects all.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldSelector(Vec<(Vec<String>, bool, String)>);

impl FieldSelector {
    /// Parses `status.phase=Running,spec.nodeName!=n1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else {
                let (path, value) = part.split_once("==").or_else(|| part.split_once('='))?;
                (path, true, value)
            };
            let path = path.trim().split('.').map(String::from).collect();
            fields.push((path, equal, String::from(value.trim())));
        }
        Some(Self(fields))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name that `metadata.name=` asks for.
    pub(crate) fn name(&self) -> Option<&str> {
        let mut equal = self.0.iter().filter(|(_, equal, _)| *equal);
        let field = equal.find(|(path, _, _)| path.iter().eq(["metadata", "name"]))?;
        Some(field.2.as_str())
    }

    pub(crate) fn selects(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, equal, wanted)| {
            let value = path.iter().fold(object, |value, field| &value[field.as_str()]);
            let same = match value {
                Value::String(value) => value == wanted,
                Value::Null => wanted.is_empty(),
                // A number or a boolean is compared as JSON writes it.
                value => serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *value),
            };
            same == *equal
        })
    }
}

/// A `metav1.LabelSelector` object, or a map of labels, as the text that [`LabelSelector::parse`] reads.
pub(crate) fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return String::from(text);
    }
    let structured =
        selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let labels = if structured { &selector["matchLabels"] } else { selector };
    let labels = labels.as_object().into_iter().flatten();
    let mut parts: Vec<_> = labels
        .filter_map(|(key, value)| Some((key.clone(), format!("{key}={}", value.as_str()?))))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values = expression["values"].as_array().into_iter().flatten();
        let mut values: Vec<_> = values.filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => String::from(key),
        };
        parts.push((String::from(key), part));
    }
    parts.sort();
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: &Value) -> bool {
        LabelSelector::parse(selector)
            .unwrap()
            .selects(&json!({ "metadata": { "labels": labels } }))
    }

    #[test]
    fn label_selectors_have_six_forms() {
        let labels = json!({ "app": "web", "tier": "front", "empty": "" });
        for selector in [
            "",
            "app",
            "app=web",
            "app==web",
            "app = web , tier=front",
            "app!=db",
            "missing!=web",
            "!missing",
            "app in (db, web)",
            "app notin (db,cache),tier",
            "missing notin (web)",
            "empty=",
        ] {
            assert!(selects(selector, &labels), "{selector}");
        }
        for selector in ["missing", "app=db", "!app", "app in (db)", "app notin (web)", "missing="]
        {
            assert!(!selects(selector, &labels), "{selector}");
        }
        for selector in ["app>", "a b c", "app in web", "=x"] {
            assert!(LabelSelector::parse(selector).is_none(), "{selector}");
        }
    }

    #[test]
    fn field_selectors_compare_texts() {
        let object = json!({ "metadata": { "name": "a" }, "status": { "phase": "Running" } });
        let selects = |text: &str| FieldSelector::parse(text).unwrap().selects(&object);
        assert!(selects("metadata.name=a,status.phase!=Failed"));
        assert!(selects("spec.nodeName="));
        assert!(!selects("status.phase=Failed"));
        assert!(!selects("status.phase!=Running"));
        assert_eq!(FieldSelector::parse("metadata.name=a").unwrap().name(), Some("a"));
    }

    #[test]
    fn selectors_of_scales_are_texts() {
        let selector = json!({
            "matchLabels": { "b": "2", "a": "1" },
            "matchExpressions": [{ "key": "c", "operator": "In", "values": ["y", "x"] }],
        });
        assert_eq!(selector_text(&selector), "a=1,b=2,c in (x,y)");
        assert_eq!(selector_text(&json!({ "app": "old" })), "app=old");
        assert_eq!(selector_text(&json!("app=text")), "app=text");
    }
}
