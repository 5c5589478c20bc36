//! Selectors of metrics, in the notation that upstream's messages have: Go's for a pointer to the structure.

use std::fmt::{self, Write};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Writes a selector as Go prints `*metav1.LabelSelector`.
#[derive(Clone, Copy, Debug)]
pub struct GoNotation<'a>(pub Option<&'a LabelSelector>);

impl fmt::Display for GoNotation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(selector) = self.0 else { return f.write_str("nil") };
        f.write_str("&LabelSelector{MatchLabels:map[string]string{")?;
        for (name, value) in selector.match_labels.iter().flatten() {
            write!(f, "{name}: {value},")?;
        }
        f.write_str("},MatchExpressions:[]LabelSelectorRequirement{")?;
        for one in selector.match_expressions.iter().flatten() {
            let values = one.values.as_deref().unwrap_or_default();
            write!(
                f,
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[",
                one.key, one.operator
            )?;
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    f.write_char(' ')?;
                }
                f.write_str(value)?;
            }
            f.write_str("],},")?;
        }
        f.write_str("},}")
    }
}

/// Checks the requirements of a metric's selector: all that the API server lets through and upstream refuses. Asked for as they are they
/// would mean something else to the server of the metric: `notin ()` selects nearly everything.
///
/// # Errors
/// An operator is none of a label selector's, or has values that it cannot have.
pub(super) fn check(selector: Option<&LabelSelector>) -> Result<(), String> {
    let expressions = selector.and_then(|selector| selector.match_expressions.as_deref());
    for one in expressions.unwrap_or_default() {
        let values = one.values.as_deref().unwrap_or_default();
        let why = match one.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                "null: for 'in', 'notin' operators, values set can't be empty".to_owned()
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let values: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
                format!(
                    "[{}]: values set must be empty for exists and does not exist",
                    values.join(",")
                )
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => continue,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        return Err(format!("values: Invalid value: {why}"));
    }
    Ok(())
}
