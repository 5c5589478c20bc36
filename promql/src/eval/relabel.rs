//! `label_replace` and `label_join`.

use model::{Labels, LabelsBuilder, METRIC_NAME, Regex};

use super::block::{Block, Merger, Sink};
use super::evaluator::Evaluator;
use super::failure::{ExecutionError, QueryFailure};
use super::plan::VectorPlan;
use super::steps::Steps;

/// How a label is made from others.
#[derive(Debug)]
pub(super) enum Relabel<'q> {
    /// Where the source matches, the target becomes the expanded replacement.
    Replace { target: &'q str, replacement: &'q str, source: &'q str, regex: Regex },
    /// The target becomes the joined values of the sources.
    Join { target: &'q str, separator: &'q str, sources: Vec<&'q str> },
}

impl<'q> Relabel<'q> {
    /// From the arguments of `label_replace` after the vector.
    ///
    /// # Errors
    /// [`ExecutionError`] when the expression or the target is malformed.
    pub(super) fn replace(texts: &[&'q str]) -> Result<Self, ExecutionError> {
        let [target, replacement, source, expression] = *texts else {
            // The type check has counted the arguments.
            return Err(ExecutionError::Regex(String::new()));
        };
        let regex = Regex::anchored(expression)
            .map_err(|_| ExecutionError::Regex(String::from(expression)))?;
        check_target(target, "label_replace")?;
        Ok(Self::Replace { target, replacement, source, regex })
    }

    /// From the arguments of `label_join` after the vector.
    ///
    /// # Errors
    /// [`ExecutionError`] when a label name is malformed.
    pub(super) fn join(texts: &[&'q str]) -> Result<Self, ExecutionError> {
        let [target, separator, sources @ ..] = texts else {
            // The type check has counted the arguments.
            return Err(ExecutionError::SourceLabel(String::new()));
        };
        if let Some(source) = sources.iter().find(|source| source.is_empty()) {
            return Err(ExecutionError::SourceLabel(String::from(*source)));
        }
        check_target(target, "label_join")?;
        Ok(Self::Join { target, separator, sources: sources.to_vec() })
    }

    fn target(&self) -> &'q str {
        match self {
            Self::Replace { target, .. } | Self::Join { target, .. } => target,
        }
    }

    /// The new labels; `None` when they stay as they are.
    fn apply(&self, labels: &Labels) -> Option<Labels> {
        let value = |name: &str| labels.get(name).unwrap_or_default();
        let new = match self {
            Self::Replace { replacement, source, regex, .. } => {
                let captures = regex.captures(value(source))?;
                let mut expanded = String::new();
                captures.expand(replacement, &mut expanded);
                expanded
            }
            Self::Join { separator, sources, .. } => {
                sources.iter().map(|source| value(source)).collect::<Vec<_>>().join(separator)
            }
        };
        let mut builder = LabelsBuilder::from_labels(labels);
        builder.set(self.target(), new);
        Some(builder.build())
    }
}

fn check_target(name: &str, function: &'static str) -> Result<(), ExecutionError> {
    if name.is_empty() {
        return Err(ExecutionError::DestinationLabel { function, name: String::new() });
    }
    Ok(())
}

/// Hands the series of `input` to `sink` under their new labels.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    input: &VectorPlan<'_>,
    relabel: &Relabel<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let mut merger = Merger::new(Block::new(steps.count, evaluator.context)?);
    evaluator.stream(input, steps, &mut |mut series, row| {
        if let Some(labels) = relabel.apply(&series.labels) {
            series.labels = labels;
            if relabel.target() == METRIC_NAME {
                series.drop_name = false;
            }
        }
        merger.push(series, row).map(|_| ())
    })?;
    merger.into_block().stream(sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(relabel: &Relabel<'_>, expected: Option<&str>) {
        let labels = Labels::from_pairs([("__name__", "m"), ("src", "a-1"), ("b", "x")]).unwrap();
        let got = relabel.apply(&labels).map(|labels| labels.to_string());
        assert_eq!(got.as_deref(), expected);
    }

    #[test]
    fn replacing() {
        let replace = |texts: [&'static str; 4]| Relabel::replace(&texts).unwrap();
        check(
            &replace(["dst", "$2-${1}", "src", "(.*)-(.*)"]),
            Some(r#"{__name__="m", b="x", dst="1-a", src="a-1"}"#),
        );
        check(&replace(["dst", "x", "src", "a"]), None);
        check(&replace(["src", "", "src", ".*"]), Some(r#"{__name__="m", b="x"}"#));
        // Go's syntax and templates: `\d` is ASCII, a name takes all letters that follow.
        check(
            &replace(["dst", "x", "src", r"a-\d"]),
            Some(r#"{__name__="m", b="x", dst="x", src="a-1"}"#),
        );
        check(&replace(["b", "$1x", "src", "(.*)"]), Some(r#"{__name__="m", src="a-1"}"#));
        check(
            &replace(["b", "$$1", "src", r"\Qa-\E\d"]),
            Some(r#"{__name__="m", b="$1", src="a-1"}"#),
        );
        check(&replace(["b", "$9", "none", ""]), Some(r#"{__name__="m", src="a-1"}"#));
        assert!(Relabel::replace(&["d", "", "s", "("]).is_err());
        assert!(Relabel::replace(&["", "", "s", "a"]).is_err());
    }

    #[test]
    fn joining() {
        let join = |texts: &[&'static str]| Relabel::join(texts).unwrap();
        check(
            &join(&["dst", "/", "src", "b", "none"]),
            Some(r#"{__name__="m", b="x", dst="a-1/x/", src="a-1"}"#),
        );
        check(&join(&["b", "/"]), Some(r#"{__name__="m", src="a-1"}"#));
        assert!(Relabel::join(&["d", "/", ""]).is_err());
    }
}
