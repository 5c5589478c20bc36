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

/// Checks the operators of a metric's selector: all that the API server lets through and its client does not.
///
/// # Errors
/// An operator is none of a label selector's.
pub(super) fn check(selector: Option<&LabelSelector>) -> Result<(), String> {
    let expressions = selector.and_then(|selector| selector.match_expressions.as_deref());
    for one in expressions.unwrap_or_default() {
        if !matches!(one.operator.as_str(), "In" | "NotIn" | "Exists" | "DoesNotExist") {
            return Err(format!("{:?} is not a valid label selector operator", one.operator));
        }
    }
    Ok(())
}
