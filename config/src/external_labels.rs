//! `external_labels`: the one place of the file where `$NAME` and `${NAME}` stand for environment variables.

use model::{Labels, LabelsBuilder};

use crate::error::Problem;
use crate::file::LabelMap;

/// Builds the label set, with variables looked up by `variable`; an unknown one is empty.
pub(crate) fn build(
    written: &LabelMap,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Labels, Problem> {
    let mut labels = LabelsBuilder::new();
    for (name, value) in written {
        if name.is_empty() {
            return Err(Problem::LabelName(name.clone()));
        }
        labels.set(name, expand(value.as_deref().unwrap_or_default(), &variable));
    }
    Ok(labels.build())
}

/// Replaces `$name` and `${name}`; `$$` is a dollar sign, and a dollar sign before anything else is dropped with it when
/// it opens a brace that names nothing, as Go's `os.Expand` does.
fn expand(text: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = match rest.strip_prefix('{') {
            Some(braced) => match braced.split_once('}') {
                Some((name, after)) => (name, after),
                // An open brace that is never closed is eaten.
                None => ("", braced),
            },
            None => rest.split_at(name_bytes(rest)),
        };
        if name == "$" {
            out.push('$');
        } else if name.is_empty() && !rest.starts_with('{') {
            // Not a variable: the sign stands for itself.
            out.push('$');
        } else {
            out.push_str(&variable(name).unwrap_or_default());
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Bytes of the name that `text` starts with: a special character, or letters, digits and underscores.
fn name_bytes(text: &str) -> usize {
    match text.bytes().next() {
        Some(b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9') => 1,
        _ => text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let variable = |name: &str| (name == "HOST").then(|| String::from("node-1"));
        assert_eq!(expand(text, &variable), expected, "{text}");
    }

    #[test]
    fn variables() {
        check("plain", "plain");
        check("$HOST", "node-1");
        check("a-${HOST}-b", "a-node-1-b");
        check("$HOST.example", "node-1.example");
        check("$NOBODY", "");
        check("x$$y", "x$y");
        check("${$}", "$");
        check("cost: 5$", "cost: 5$");
        check("a$ b", "a$ b");
        check("${open", "open");
        check("é$HOST", "énode-1");
    }
}
